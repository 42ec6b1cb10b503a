"""What the console reads from a real InfluxDB that the collector's store has filled."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from broker.contract.condition import Quantiles
from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateState
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.records import DeadLetter, Record, read_message
from dashboard.console.influx_reader import InfluxReader
from dashboard.console.readings import EVENTS_SHOWN, NoStoreYetError, Presence, Span, presence

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

_S = 1_000_000

Make = Callable[..., Record]
Open = Callable[..., InfluxStore]
Wait = Callable[[Callable[[], object]], None]
Put = Callable[..., None]


@pytest.fixture
def open_reader(influx: "InfluxServer") -> Iterator[Callable[[str], InfluxReader]]:
    """Return a function that opens a reader with a token; all are closed at the end."""
    readers: list[InfluxReader] = []

    def opened(token: str) -> InfluxReader:
        readers.append(InfluxReader(influx.url, influx.bucket, token))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.close()


@pytest.fixture
def reader(influx: "InfluxServer", open_reader: Callable[[str], InfluxReader]) -> InfluxReader:
    """A reader whose token may read and nothing else."""
    return open_reader(influx.reader_token)


@pytest.fixture
def put(open_store: Open, wait_until: Wait) -> Put:
    """Return a function that writes batches through the collector's store and waits until InfluxDB has them."""
    store = open_store()

    def write(*batches: list[Record | DeadLetter]) -> None:
        for batch in batches:
            store.write(list(batch))
        wait_until(lambda: store.waiting == 0)

    return write


def test_every_reading_of_an_empty_bucket_is_empty(reader: InfluxReader) -> None:
    now = time.time_ns() // 1000
    assert reader.live(now).nodes == ()
    assert reader.history(Span.MINUTES, now).events == ()
    assert reader.totals().stored == 0


def test_live_shows_each_node_with_its_last_word(
    reader: InfluxReader, put: Put, event: Make, telemetry: Make, status: Make
) -> None:
    now = time.time_ns() // 1000
    total = {Stage.TOTAL: Quantiles(count=9, p50=120_000, p95=170_000, p99=180_000)}
    put(
        [status(now - 90 * _S, now - 90 * _S, node="home/kitchen", muted=True)],
        [status(now - 60 * _S, now - 60 * _S, node="home/kitchen", source='<b>"x"</b>')],
        [event(number, now - (40 - number) * _S, node="home/kitchen") for number in range(1, 36)],
        [event(36, now - 3 * _S, node="home/kitchen", label=Label.PLEASANT, confidence=0.5)],
        [telemetry(1, now - 5 * _S, node="home/kitchen", latency_us=total, outbox_depth=7)],
        [event(1, now - 70 * _S, node="car/van")],
    )
    live = reader.live(now)
    van, kitchen = live.nodes
    assert (van.id, kitchen.id) == (NodeId("car", "van"), NodeId("home", "kitchen"))
    assert presence(van, now) is Presence.STALE
    assert presence(kitchen, now) is Presence.ONLINE
    assert kitchen.status is not None
    assert (kitchen.status.muted, kitchen.status.source) == (False, '<b>"x"</b>')
    assert kitchen.emotion is not None
    assert (kitchen.emotion.label, kitchen.emotion.seq, kitchen.emotion.time_us) == (Label.PLEASANT, 36, now - 3 * _S)
    assert kitchen.health is not None
    assert (kitchen.health.p50_us, kitchen.health.p95_us, kitchen.health.outbox_depth) == (120_000, 170_000, 7)
    assert [each.seq for each in live.events] == list(range(36, 36 - EVENTS_SHOWN, -1))


def test_live_shows_the_last_update_report_of_each_node(
    reader: InfluxReader, put: Put, status: Make, update: Make, trial: TrialFigures
) -> None:
    now = time.time_ns() // 1000
    put(
        [status(now, now), update(now - 90 * 86_400 * _S, node="car/van", state=UpdateState.IDLE, release=None)],
        [update(now - 9 * _S, progress=0.9), update(now - 5 * _S, state=UpdateState.TRIAL, progress=0.5, trial=trial)],
    )
    van, pi = reader.live(now).nodes
    assert van.update is not None
    assert (van.update.state, van.update.release, van.update.trial) == (UpdateState.IDLE, None, None)
    assert pi.update is not None
    assert (pi.update.state, pi.update.release, pi.update.reason) == (UpdateState.TRIAL, "factory/4", "")
    assert (pi.update.progress, pi.update.time_us, pi.model) == (0.5, now - 5 * _S, "factory/1")
    assert pi.update.trial is not None
    assert (pi.update.trial.classified, pi.update.trial.agreed, pi.update.trial.p95_us) == (80, 75, 6_900)


def test_live_reads_reports_of_which_none_names_a_release_or_has_a_trial(
    reader: InfluxReader, put: Put, update: Make
) -> None:
    put([update(time.time_ns() // 1000, state=UpdateState.IDLE, release=None)])
    (node,) = reader.live(time.time_ns() // 1000).nodes
    assert node.update is not None
    assert (node.update.release, node.update.trial) == (None, None)


def test_history_has_events_windows_and_stages(reader: InfluxReader, put: Put, event: Make, telemetry: Make) -> None:
    now = time.time_ns() // 1000
    start = now // Span.HOUR.bucket_us * Span.HOUR.bucket_us - 60 * _S
    windows = {Label.PLEASANT: 3, Label.UNCERTAIN: 1}
    latency = [{Stage.INFERENCE: Quantiles(count=1, p50=p50, p95=2 * p50, p99=9_000)} for p50 in (1_000, 3_000)]
    put(
        [event(1, now - 301 * _S), event(2, now - 299 * _S), event(3, now - 1 * _S)],
        [telemetry(n, start + n * 10 * _S, windows=windows, latency_us=latency[n % 2]) for n in range(1, 5)],
    )
    assert [each.seq for each in reader.history(Span.MINUTES, now).events] == [2, 3]
    history = reader.history(Span.HOUR, now)
    assert history.events == ()
    assert [each.from_us for each in history.windows] == [start, start + Span.HOUR.bucket_us]
    assert [each.counts[Label.PLEASANT] for each in history.windows] == [6, 6]
    (stage,) = history.stages
    assert (stage.stage, stage.p50_us, stage.p95_us) == (Stage.INFERENCE, 2_000, 4_000)


def test_totals_count_what_is_lost_per_node(reader: InfluxReader, put: Put, event: Make, telemetry: Make) -> None:
    now = time.time_ns() // 1000
    put(
        [read_message("nonsense", b"{}", now)],
        [event(number, now) for number in (1, 2, 2, 5)],
        [telemetry(1, now - _S, emitted=3, outbox_dropped=0), telemetry(2, now, emitted=6, outbox_dropped=1)],
        [event(number, now, node="lab/old") for number in (700, 701)],  # what was before is beyond the retention
        [telemetry(1, now, node="lab/old", emitted=701)],
    )
    totals = reader.totals()
    assert (totals.stored, totals.lost, totals.duplicates) == (5, 2, 0)
    assert (totals.redelivered, totals.dead_letters) == (None, 1)


def test_a_bucket_that_is_not_there_is_no_store_yet(
    influx: "InfluxServer", open_reader: Callable[[str], InfluxReader]
) -> None:
    influx.ask("DROP DATABASE sotto")
    with pytest.raises(StoreError, match=r"sotto") as caught:
        open_reader(influx.token).live(time.time_ns() // 1000)
    assert influx.token not in str(caught.value)


def test_a_wrong_token_is_an_error_in_words_without_the_token(open_reader: Callable[[str], InfluxReader]) -> None:
    with pytest.raises(StoreError, match="401") as caught:
        open_reader("reader:wrong").live(0)
    assert "wrong" not in str(caught.value)
    assert not isinstance(caught.value, NoStoreYetError)


def test_a_server_that_is_gone_is_an_error_in_words(influx: "InfluxServer", reader: InfluxReader) -> None:
    influx.stop()
    with pytest.raises(StoreError, match="does not answer"):
        reader.live(0)
    influx.start()
    assert reader.live(0).nodes == ()


def test_the_console_serves_what_is_in_influxdb(
    influx: "InfluxServer", put: Put, event: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put([event(1, time.time_ns() // 1000, node="home/kitchen", label=Label.PLEASANT)])
    config = tmp_path / "console.toml"
    config.write_text(f'[influxdb]\nurl = "{influx.url}"\nbucket = "{influx.bucket}"\ntoken_env = "READ_TOKEN"\n')
    monkeypatch.setenv("READ_TOKEN", influx.reader_token)
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard.console", "run", "--no-browser", "--port", "0", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        (node,) = httpx.get(f"{url}api/v1/nodes").json()["nodes"]
        process.terminate()
    assert (node["site"], node["node"], node["emotion"]["label"]) == ("home", "kitchen", "pleasant")
    assert process.returncode == 0

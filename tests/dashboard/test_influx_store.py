"""The InfluxDB store against a real InfluxDB: everything arrives once, whatever stops in between."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from broker.contract.decision import Label
from broker.contract.errors import SettingsError, StoreError
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.records import Record, Written, dead_letter
from dashboard.collector.settings import InfluxSettings
from dashboard.collector.spool import Spool

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

_TIME_US = 1_700_000_000_000_000
_STORED = 'SELECT count("label") AS n FROM "emotion"'

Make = Callable[..., Record]
Open = Callable[..., InfluxStore]
Wait = Callable[[Callable[[], object]], None]


_FORWARDER = """
import os, sys
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.settings import InfluxSettings
store = InfluxStore(InfluxSettings(url=sys.argv[1], bucket=sys.argv[2], org=sys.argv[3], spool_path=sys.argv[4]),
                    os.environ["TOKEN"])
sys.stdin.read()
"""


@pytest.fixture
def put_before(influx: "InfluxServer") -> Iterator[Callable[..., str]]:
    """Return a function that puts a proxy before the server and returns its URL.

    The proxy answers with the status that `refuse` gives for a body's size in bytes, or hands the request on when that
    is None; `wait` runs between the server's answer and the proxy's.
    """
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def put(refuse: Callable[[int], int | None], wait: Callable[[], object] = lambda: None) -> str:
        class Proxy(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = refuse(len(body))
                if status is None:
                    headers = {key: value for key, value in self.headers.items() if key != "Host"}
                    status = httpx.post(f"{influx.url}{self.path}", content=body, headers=headers).status_code
                    wait()
                self.send_response(status)
                text = b"" if status == 204 else b"<html>a proxy's own words</html>"
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        servers.append((server, threading.Thread(target=server.serve_forever)))
        servers[-1][1].start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield put
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def gate(put_before: Callable[..., str]) -> Iterator[str]:
    """A proxy's URL: it hands a write on to the server and never says so."""
    closed = threading.Event()
    yield put_before(lambda _: None, closed.wait)
    closed.set()


@pytest.fixture
def killed_forwarder(influx: "InfluxServer", gate: str, tmp_path: Path, event: Make, wait_until: Wait) -> int:
    """Kill a forwarder (SIGKILL) between the write to the store and its answer; return the events in the spool."""
    events = 700  # more than one batch
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, 10_000)
    spool.put([event(seq, _TIME_US + seq) for seq in range(1, events + 1)])
    spool.close()
    forwarder = subprocess.Popen(
        [sys.executable, "-c", _FORWARDER, gate, influx.bucket, influx.org, str(path)],
        env=os.environ | {"TOKEN": influx.token},
        stdin=subprocess.PIPE,
    )
    try:
        wait_until(lambda: influx.rows(_STORED))
    finally:
        forwarder.send_signal(signal.SIGKILL)
        forwarder.communicate()
    return events


def test_store_keeps_every_value_of_every_record(
    influx: "InfluxServer",
    open_store: Open,
    event: Make,
    telemetry: Make,
    status: Make,
) -> None:
    store = open_store()
    source = 'USB "mic" \\ 1,a=b\nfront'
    letter = dead_letter("sottovoce/v1/node/lab/pi-1/emotion", b"{secret", "no JSON", _TIME_US + 9)
    written = store.write(
        [
            event(1, _TIME_US, label=Label.PLEASANT, confidence=1.0),
            telemetry(7, _TIME_US),
            status(_TIME_US, _TIME_US + 3, source=source),
            letter,
        ]
    )
    assert written == Written(stored=2, dead_letters=1)
    store.close()
    (emotion,) = influx.rows('SELECT * FROM "emotion"')
    assert emotion == {
        "time": _TIME_US * 1_000 + 1,
        "site": "lab",
        "node": "pi-1",
        "boot_id": "0123456789abcdef",
        "seq": 1,
        "mono_us": 7_000_000,
        "clock_synced": True,
        "label": "pleasant",
        "confidence": 1.0,
        "model": "factory/1",
        "capture_us": 1_000,
        "resample_us": 200,
        "gate_us": 0,
        "features_us": 3_000,
        "inference_us": 500,
        "decision_us": 20,
        "total_us": 5_000,
    }
    (load,) = influx.rows('SELECT * FROM "telemetry"')
    assert (load["time"], load["outbox_id"], load["neutral"], load["uncertain"]) == (
        _TIME_US * 1_000 + 7,
        "fedcba9876543210",
        5,
        0,
    )
    assert (load["cpu_share"], load["temperature_c"], load["emitted"]) == (0.125, 51.5, 4)
    stages = influx.rows('SELECT "p50_us", "p95_us", "p99_us", "count" FROM "stage_latency" GROUP BY "stage"')
    assert [tuple(row.values()) for row in stages] == [
        (_TIME_US * 1_000 + 7, 3_000, 4_000, 4_500, 8, "features"),
        (_TIME_US * 1_000 + 7, 500, 700, 900, 8, "inference"),
    ]
    (state,) = influx.rows('SELECT * FROM "status"')
    assert (state["time"], state["time_us"], state["source"], state["online"]) == (
        (_TIME_US + 3) * 1_000,
        _TIME_US,
        source,
        True,
    )
    (dead,) = influx.rows('SELECT * FROM "dead_letter"')
    assert {key: dead[key] for key in ("topic", "reason", "size_bytes")} == {
        "topic": letter.topic,
        "reason": "no JSON",
        "size_bytes": 7,
    }
    assert "secret" not in json.dumps(dead)


def test_store_keeps_two_events_of_one_microsecond(influx: "InfluxServer", open_store: Open, event: Make) -> None:
    store = open_store()
    store.write([event(1, _TIME_US), event(2, _TIME_US), event(1, _TIME_US, node="lab/pi-2")])
    store.close()
    assert influx.rows(f'{_STORED} GROUP BY "node"') == [
        {"time": 0, "n": 2, "node": "pi-1"},
        {"time": 0, "n": 1, "node": "pi-2"},
    ]


def test_store_has_no_more_after_a_redelivery(
    influx: "InfluxServer", open_store: Open, event: Make, wait_until: Wait
) -> None:
    store = open_store()
    batch = [event(seq, _TIME_US + seq) for seq in range(1, 1_201)]
    store.write(batch)
    wait_until(lambda: store.waiting == 0)
    before = influx.rows('SELECT * FROM "emotion"')
    store.write([msgspec.structs.replace(each, received_us=1) for each in batch])
    wait_until(lambda: store.waiting == 0)
    assert len(before) == 1_200
    assert influx.rows('SELECT * FROM "emotion"') == before


def test_store_that_is_killed_gets_everything_when_it_is_back(
    influx: "InfluxServer", open_store: Open, event: Make, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)  # the libraries' own words too
    store = open_store()
    store.write([event(1, _TIME_US)])
    wait_until(lambda: store.waiting == 0)
    influx.stop(hard=True)
    for seq in range(2, 12):
        assert store.write([event(seq, _TIME_US + seq)]) == Written(stored=1)
    assert store.write([event(2, _TIME_US + 2)]) == Written(redelivered=1)
    wait_until(lambda: "does not answer" in caplog.text)
    assert store.waiting == 10
    influx.start()
    wait_until(lambda: store.waiting == 0)
    assert influx.rows(_STORED)[0]["n"] == 11
    wait_until(lambda: "takes points again" in caplog.text)
    assert [record.levelname for record in caplog.records if "spool keeps" in record.message] == ["WARNING"]
    assert influx.token.rpartition(":")[2] not in caplog.text


def test_store_closed_while_the_server_is_down_leaves_the_rest_to_the_next_start(
    influx: "InfluxServer", open_store: Open, event: Make
) -> None:
    influx.stop()
    store = open_store()
    store.write([event(seq, _TIME_US + seq) for seq in (1, 2, 3)])
    store.close()
    influx.start()
    open_store().close()
    assert influx.rows(_STORED)[0]["n"] == 3


def test_forwarder_killed_after_the_store_wrote_and_before_it_knew_loses_and_doubles_nothing(
    influx: "InfluxServer", killed_forwarder: int, open_store: Open, wait_until: Wait
) -> None:
    assert influx.rows(_STORED)[0]["n"] == 500  # its first batch
    store = open_store()
    assert store.waiting == killed_forwarder
    wait_until(lambda: store.waiting == 0)
    assert influx.rows(_STORED)[0]["n"] == killed_forwarder


def test_point_that_the_store_refuses_is_a_dead_letter_and_the_rest_arrives(
    influx: "InfluxServer", open_store: Open, event: Make, status: Make, tmp_path: Path
) -> None:
    influx.put(f'status,site=lab,node=other online="yes" {_TIME_US * 1_000}')  # someone else made the field a text
    store = open_store()
    store.write([*(event(seq, _TIME_US + seq) for seq in range(1, 21)), status(_TIME_US, _TIME_US)])
    store.close()
    assert influx.rows(_STORED)[0]["n"] == 20
    (dead,) = influx.rows('SELECT "topic", "reason" FROM "dead_letter"')
    assert dead["topic"] == "sottovoce/v1/node/lab/pi-1/status"
    assert "field type conflict" in dead["reason"]
    spool = Spool(tmp_path / "spool.sqlite", 100)
    assert (spool.rows, spool.counter("dead_letters")) == (0, 1)
    spool.close()


def test_event_beyond_the_retention_is_a_dead_letter_and_the_rest_arrives(
    influx: "InfluxServer", open_store: Open, event: Make
) -> None:
    now_us = time.time_ns() // 1_000
    store = open_store(bucket=influx.make_short_bucket())  # keeps an hour
    store.write([event(1, now_us), event(2, now_us - 86_400_000_000), event(3, now_us)])
    store.close()
    assert [row["seq"] for row in influx.rows('SELECT "seq" FROM "short"."emotion"')] == [1, 3]
    assert "retention" in influx.rows('SELECT "reason" FROM "short"."dead_letter"')[0]["reason"]


def test_dead_letter_that_the_store_refuses_is_kept_here_and_not_sent_for_ever(
    influx: "InfluxServer", open_store: Open, event: Make, tmp_path: Path
) -> None:
    influx.put(f'dead_letter size_bytes="many" {_TIME_US * 1_000}')
    store = open_store()
    store.write([dead_letter("a/b", b"x", "no JSON", _TIME_US), event(1, _TIME_US)])
    store.close()
    assert influx.rows(_STORED)[0]["n"] == 1
    spool = Spool(tmp_path / "spool.sqlite", 100)
    assert (spool.rows, spool.counter("dead_letters")) == (0, 1)
    spool.close()


def test_number_that_is_none_never_reaches_the_store(influx: "InfluxServer", open_store: Open, event: Make) -> None:
    store = open_store()
    store.write([event(1, _TIME_US, confidence=float("nan")), event(2, _TIME_US)])
    store.close()
    assert influx.rows('SELECT "seq", "confidence" FROM "emotion"') == [
        {"time": _TIME_US * 1_000 + 2, "seq": 2, "confidence": 0.75}
    ]
    assert "confidence" in influx.rows('SELECT "reason" FROM "dead_letter"')[0]["reason"]


@pytest.fixture(
    params=[
        ({"token": "writer:no-such-password"}, "put a valid one into SOTTOVOCE_INFLUXDB_TOKEN"),
        ({"token": "the reader's"}, "grant it to write to 'sotto/main'"),
        ({"bucket": "nope/main"}, "'nope/main'"),
        ({"bucket": "sotto/nope"}, "'sotto/nope'"),
    ],
    ids=["wrong token", "no right to write", "no database", "no retention policy"],
)
def mistake(request: pytest.FixtureRequest, influx: "InfluxServer") -> tuple[dict[str, str], str]:
    """Return what is wrong in the configuration, and what the operator must read."""
    wrong, advice = request.param
    return (wrong | {"token": influx.reader_token} if wrong.get("token") == "the reader's" else wrong), advice


def test_wrong_configuration_is_said_once_with_advice_and_nothing_is_lost(
    influx: "InfluxServer",
    open_store: Open,
    event: Make,
    mistake: tuple[dict[str, str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)  # the libraries' own words too
    wrong, advice = mistake
    store = open_store(**wrong)
    store.write([event(1, _TIME_US)])
    store.write([event(2, _TIME_US)])
    store.close()  # tries once more
    (said,) = [record for record in caplog.records if "spool keeps" in record.message]
    assert (said.levelname, advice in said.message) == ("ERROR", True)
    assert wrong.get("token", influx.token).rpartition(":")[2] not in caplog.text
    open_store().close()
    assert influx.rows(_STORED)[0]["n"] == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (502, ("WARNING", "cannot write now (502)")),
        (429, ("WARNING", "cannot write now (429)")),
        (301, ("ERROR", "does not answer as an InfluxDB does; compare influxdb.url, bucket and org with it (301)")),
        (400, ("ERROR", "does not answer as an InfluxDB does; compare influxdb.url, bucket and org with it (400)")),
    ],
)
def test_answer_of_something_else_than_influxdb_loses_nothing(
    put_before: Callable[..., str],
    open_store: Open,
    caplog: pytest.LogCaptureFixture,
    status: int,
    said: tuple[str, str],
) -> None:
    store = open_store(url=put_before(lambda _: status))
    store.write([dead_letter("a/b", b"x", "no JSON", _TIME_US)])
    store.close()
    (record,) = [each for each in caplog.records if "spool keeps" in each.message]
    assert (record.levelname, said[1] in record.message) == (said[0], True)
    assert store.waiting == 1


def test_batch_too_large_for_a_proxy_is_halved_until_it_passes(
    influx: "InfluxServer", put_before: Callable[..., str], open_store: Open, event: Make, wait_until: Wait
) -> None:
    store = open_store(url=put_before(lambda size: 413 if size > 2_000 else None))
    store.write([event(seq, _TIME_US + seq) for seq in range(1, 501)])
    wait_until(lambda: store.waiting == 0)
    assert influx.rows(_STORED)[0]["n"] == 500
    assert influx.rows('SELECT * FROM "dead_letter"') == []


def test_defect_of_the_forwarder_stops_the_collector_instead_of_filling_the_spool(
    open_store: Open, event: Make, tmp_path: Path, wait_until: Wait
) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 100)
    spool.put([dead_letter("a/b", b"x", "no JSON", _TIME_US)])
    spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as db, db:
        db.execute("UPDATE spool SET payload = x'00'")
    store = open_store()

    def has_failed() -> bool:
        try:
            store.write([event(1, _TIME_US)])
        except RuntimeError as error:
            return isinstance(error.__cause__, msgspec.DecodeError)
        return False

    wait_until(has_failed)


def test_full_spool_is_an_error_and_takes_more_when_the_store_is_back(
    influx: "InfluxServer", open_store: Open, event: Make, wait_until: Wait
) -> None:
    influx.stop()
    store = open_store(spool_most_rows=100)
    store.write([event(seq, _TIME_US + seq) for seq in range(1, 101)])
    with pytest.raises(StoreError, match="is full"):
        store.write([event(101, _TIME_US)])
    influx.start()
    wait_until(lambda: store.waiting == 0)
    store.write([event(101, _TIME_US)])
    wait_until(lambda: store.waiting == 0)
    assert influx.rows(_STORED)[0]["n"] == 101


@pytest.mark.parametrize("token", ["", "two\nlines", "schlüssel"])
def test_token_that_http_cannot_carry_is_refused_without_being_shown(tmp_path: Path, token: str) -> None:
    settings = InfluxSettings(url="http://127.0.0.1:1", bucket="b", spool_path=str(tmp_path / "spool.sqlite"))
    with pytest.raises(SettingsError, match="SOTTOVOCE_INFLUXDB_TOKEN: a token is one line") as error:
        InfluxStore(settings, token)
    assert not token or token not in str(error.value)

"""What becomes of a node's retained update report: one row a state, however often it comes and however it grows.

Over 300 lines, because SQLite, the spool, InfluxDB and the program are shown the same walk through the states.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.contract.commands import Reply
from broker.contract.errors import StoreError
from broker.contract.topics import REPLY, UPDATE, NodeId
from broker.contract.updates import TrialFigures, UpdateState
from broker.database import open_database
from broker.local import LocalBroker
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.records import DeadLetter, Record, Written, read_message
from dashboard.collector.spool import Spool
from dashboard.collector.sqlite_store import SqliteStore
from dashboard.sqlite_schema import FORM, SCHEMA

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

Make = Callable[..., Record]
Open = Callable[..., InfluxStore]
Wait = Callable[[Callable[[], object]], None]

_GUIDE = Path(__file__).parents[2] / "docs" / "storage.md"
_KITCHEN = NodeId("home", "kitchen")
_T0 = 1_700_000_000_000_000
_S = 1_000_000
_STAYS = "SELECT state, reason, progress, from_us, time_us FROM update_report ORDER BY id"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def open_sqlite(path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Return a function that opens the store, as each replica does; all are closed at the end."""
    stores: list[SqliteStore] = []

    def opened() -> SqliteStore:
        stores.append(SqliteStore(path))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def walk(update: Make, trial: TrialFigures) -> list[Record]:
    """Three minutes of a node that fetches a release, tries it and refuses it; the last report is the retained one."""
    fetching = [update(_T0 + second * _S, progress=second / 100) for second in range(101)]
    return [
        *fetching,
        update(_T0 + 110 * _S, state=UpdateState.VERIFYING),
        update(_T0 + 120 * _S, state=UpdateState.TRIAL),
        update(_T0 + 180 * _S, state=UpdateState.REJECTED, reason="they disagree", progress=1.0, trial=trial),
    ]


def _asked(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def test_a_reply_that_somebody_sends_here_is_a_dead_letter_and_a_report_is_none(update: Make) -> None:
    words = "there is no model to go back to"
    reply = Reply(boot_id="0" * 16, time_us=_T0, command="1" * 16, done=False, words=words)
    letter = read_message(REPLY.at(_KITCHEN), msgspec.json.encode(reply), _T0)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "a collector stores no Reply"
    report = update(_T0, node="home/kitchen")
    assert read_message(UPDATE.at(_KITCHEN), msgspec.json.encode(report.message), report.received_us) == report


def test_sqlite_keeps_a_row_for_each_state_and_progress_makes_none(
    path: Path, open_sqlite: Callable[[], SqliteStore], walk: list[Record]
) -> None:
    store = open_sqlite()
    for record in walk:
        assert store.write([record]) == Written()
    assert _asked(path, _STAYS) == [
        ("downloading", "", 1.0, _T0, _T0 + 100 * _S),
        ("verifying", "", 0.0, _T0 + 110 * _S, _T0 + 110 * _S),
        ("trial", "", 0.0, _T0 + 120 * _S, _T0 + 120 * _S),
        ("rejected", "they disagree", 1.0, _T0 + 180 * _S, _T0 + 180 * _S),
    ]


def test_sqlite_keeps_what_the_trial_showed_histograms_included(
    path: Path, open_sqlite: Callable[[], SqliteStore], walk: list[Record], trial: TrialFigures
) -> None:
    open_sqlite().write(walk)
    names = "windows, classified, agreed, p50_us, p95_us, scores, labels"
    *before, rejected = _asked(path, f"SELECT {names} FROM update_report ORDER BY id")
    assert set(before) == {(None,) * 7}
    *numbers, scores, labels = rejected
    assert numbers == [210, 80, 75, 4_100, 6_900]
    assert (tuple(json.loads(scores)), json.loads(labels)) == (trial.scores, {"neutral": 60, "pleasant": 20})


def test_sqlite_the_guides_question_names_who_refuses_at_present(
    path: Path, open_sqlite: Callable[[], SqliteStore], walk: list[Record], update: Make
) -> None:
    (question,) = re.findall(r'sqlite3 sottovoce\.sqlite "(SELECT .*?)"', _GUIDE.read_text("utf-8"), re.DOTALL)
    again = [msgspec.structs.replace(each, node=NodeId("car", "van")) for each in walk]
    open_sqlite().write([*walk, *again, update(_T0 + 999 * _S, node="car/van")])
    assert _asked(path, question) == [("lab", "pi-1", "factory/4", "they disagree")]


def test_sqlite_a_report_that_comes_again_changes_nothing(
    path: Path, open_sqlite: Callable[[], SqliteStore], walk: list[Record]
) -> None:
    store = open_sqlite()
    store.write(walk)
    before = _asked(path, "SELECT * FROM update_report")
    for again in (walk[-1], *walk):
        store.write([msgspec.structs.replace(again, received_us=1)])
    assert _asked(path, "SELECT * FROM update_report") == before


def test_sqlite_a_replica_that_lags_or_was_away_adds_nothing(
    path: Path, open_sqlite: Callable[[], SqliteStore], walk: list[Record]
) -> None:
    first, late = open_sqlite(), open_sqlite()
    first.write(walk[:40])
    late.write(walk[30:60])  # it came while the download was under way
    first.write(walk[40:])
    before = _asked(path, "SELECT * FROM update_report")
    late.write(walk[60:])
    late.write([walk[-1]])
    assert _asked(path, "SELECT * FROM update_report") == before
    assert len(before) == 4


def test_sqlite_another_reason_or_another_start_of_the_program_is_another_row(
    path: Path, open_sqlite: Callable[[], SqliteStore], update: Make
) -> None:
    idle = {"state": UpdateState.IDLE, "release": None}
    open_sqlite().write(
        [
            update(_T0, **idle),
            update(_T0 + _S, reason="the clock follows no time server", **idle),
            update(_T0 + 2 * _S, **idle),
            update(_T0 + 3 * _S, boot_id="f" * 16, **idle),
            update(_T0 + 3 * _S, node="lab/pi-2", **idle),
        ]
    )
    assert _asked(path, "SELECT node, count(*) FROM update_report GROUP BY node") == [("pi-1", 4), ("pi-2", 1)]


def test_sqlite_a_clock_that_was_set_back_hides_no_state_and_fills_no_disk(
    path: Path, open_sqlite: Callable[[], SqliteStore], update: Make
) -> None:
    store = open_sqlite()
    store.write([update(_T0, state=UpdateState.IDLE)])
    store.write([update(_T0 - 500 * _S + second * _S, progress=second / 10) for second in range(10)])
    store.write([update(_T0 - 400 * _S, state=UpdateState.VERIFYING)])
    rows = _asked(path, _STAYS)
    assert [(state, progress) for state, _, progress, *_ in rows] == [
        ("idle", 0.0),
        ("downloading", 0.9),
        ("verifying", 0.0),
    ]


def test_sqlite_a_store_of_before_keeps_its_rows_and_takes_reports(path: Path, event: Make, update: Make) -> None:
    with closing(open_database(path, SCHEMA, form=FORM, synchronous="FULL")) as older:
        older.execute("INSERT INTO counter VALUES ('kept', 7)")
    assert _asked(path, "SELECT 1 FROM sqlite_schema WHERE name = 'update_report'") == []
    for seq in (1, 2):  # the second start finds it done
        store = SqliteStore(path)
        store.write([event(seq, _T0 + seq), update(_T0 + seq * _S, progress=seq / 10)])
        store.close()
    assert _asked(path, "SELECT value FROM counter WHERE name = 'kept'") == [(7,)]
    assert _asked(path, "SELECT count(*) FROM emotion") == [(2,)]
    assert _asked(path, _STAYS) == [("downloading", "", 0.2, _T0 + _S, _T0 + 2 * _S)]
    with closing(open_database(path, SCHEMA, form=FORM, synchronous="FULL", read_only=True)) as older:
        assert older.execute("SELECT count(*) FROM emotion").fetchone() == (2,), "an older console reads it on"


def test_sqlite_a_file_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    open_database(path, "CREATE TABLE outbox (a);", form=FORM, synchronous="FULL").close()
    with pytest.raises(StoreError, match="is a database of something else"):
        SqliteStore(path)
    assert _asked(path, "SELECT name FROM sqlite_schema") == [("outbox",)]


def test_spool_sends_on_each_state_and_each_tenth_of_progress_once(path: Path, walk: list[Record]) -> None:
    spool = Spool(path, 1_000)
    for record in walk:
        assert spool.put([record, record]) == Written()
    sent = [row.what for row in spool.oldest(1_000)]
    assert sent == [*walk[:101:10], *walk[101:]]
    spool.close()
    spool = Spool(path, 1_000)  # the collector is back, and the broker has kept the last one
    spool.put([walk[-1]])
    assert spool.rows == len(sent)
    spool.close()


def test_spool_of_before_keeps_what_waits_and_takes_reports(path: Path, event: Make, update: Make) -> None:
    spool = Spool(path, 100)
    spool.put([event(1, _T0)])
    spool.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE last_update")
    spool = Spool(path, 100)
    spool.put([update(_T0)])
    assert [row.what for row in spool.oldest(10)] == [event(1, _T0), update(_T0)]
    spool.close()


def test_influxdb_has_one_point_of_a_report_however_many_replicas_hear_it(
    influx: "InfluxServer", open_store: Open, walk: list[Record], tmp_path: Path, wait_until: Wait
) -> None:
    first, second = open_store(), open_store(spool_path=str(tmp_path / "other.sqlite"))
    first.write(walk)
    wait_until(lambda: first.waiting == 0)
    before = influx.rows('SELECT * FROM "update"')
    second.write(walk)
    second.write([msgspec.structs.replace(walk[-1], received_us=_T0 + 999 * _S)])
    wait_until(lambda: second.waiting == 0)
    assert influx.rows('SELECT * FROM "update"') == before
    assert [row["progress"] for row in before if row["state"] == "downloading"] == [step / 10 for step in range(11)]
    assert len(before) == 14
    last = before[-1]
    assert (last["state"], last["reason"], last["release"]) == ("rejected", "they disagree", "factory/4")
    assert (last["classified"], last["agreed"], last["p95_us"], last["time_us"]) == (80, 75, 6_900, _T0 + 180 * _S)


def test_influxdb_that_keeps_less_than_a_retained_report_is_old_makes_no_dead_letter_of_it(
    influx: "InfluxServer", open_store: Open, update: Make
) -> None:
    now = time.time_ns() // 1_000
    store = open_store(bucket=influx.make_short_bucket())  # keeps an hour
    store.write([update(now - 86_400 * _S, node="lab/old"), update(now)])
    store.close()
    assert store.waiting == 0
    assert [row["node"] for row in influx.rows('SELECT * FROM "short"."update"')] == ["pi-1"]
    assert influx.rows('SELECT * FROM "short"."dead_letter"') == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    (tmp_path / "broker").mkdir()
    started = LocalBroker(tmp_path / "broker", [str(_KITCHEN), "collector", "second"], kind="mosquitto")
    started.start()
    yield started
    started.kill()


@pytest.fixture
def collect(broker: LocalBroker, path: Path, tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return a function that starts a collector of this name on the one store; it is subscribed on return."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> "subprocess.Popen[str]":
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'name = "{name}"\n[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntls = false\nusername = "{name}"\n'
            f'[sqlite]\npath = "{path}"\n'
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.collector", "run", "--config", config],
            env=os.environ | {"SOTTOVOCE_BROKER_PASSWORD": broker.passwords[name]},
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def say(broker: LocalBroker) -> Iterator[Callable[[Record], None]]:
    """Return a function that publishes a report as the node does, retained, and waits for the PUBACK."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="home.kitchen", protocol=paho.MQTTv5)
    client.username_pw_set(str(_KITCHEN), broker.passwords[str(_KITCHEN)])
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish(record: Record) -> None:
        payload = msgspec.json.encode(record.message)
        client.publish(UPDATE.at(record.node), payload, qos=1, retain=True).wait_for_publish(10)

    yield publish
    client.disconnect()
    client.loop_stop()


def test_collectors_that_come_and_go_store_a_retained_report_once(
    path: Path,
    collect: Callable[[str], "subprocess.Popen[str]"],
    say: Callable[[Record], None],
    update: Make,
    wait_until: Wait,
) -> None:
    report = update(_T0, node=str(_KITCHEN), state=UpdateState.TRIAL)
    first = collect("collector")
    say(report)
    wait_until(lambda: _asked(path, _STAYS))
    collect("second")
    first.terminate()
    assert first.wait(30) == 0
    collect("collector")
    say(update(_T0 + _S, node=str(_KITCHEN), state=UpdateState.REJECTED, reason="too slow"))
    wait_until(lambda: _asked(path, "SELECT 1 FROM update_report WHERE state = 'rejected'"))
    assert [row[:2] for row in _asked(path, _STAYS)] == [("trial", ""), ("rejected", "too slow")]
    assert _asked(path, "SELECT * FROM dead_letter") == []

"""What nodes say of their condition is kept; old files grow without losing a row, and old nodes go on being understood.

Old messages and old files are written out here as they were, not made from today's definitions.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from broker.contract.condition import (
    CaptureProblem,
    CaptureReport,
    CaptureState,
    Context,
    Drift,
    Exemption,
    MuteSource,
    Quantiles,
    Thresholds,
)
from broker.contract.errors import StoreError
from broker.contract.messages import EventLatency, Stage
from broker.contract.topics import EMOTION, STATUS, TELEMETRY, NodeId
from broker.database import open_database
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.records import Record, Written, read_message
from dashboard.collector.sqlite_store import SqliteStore
from dashboard.console.influx_reader import InfluxReader
from dashboard.console.readings import Span
from dashboard.console.sqlite_reader import SqliteReader
from dashboard.sqlite_schema import FORM, GROWN, SCHEMA

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

Make = Callable[..., Record]

_T0: Final = 1_700_000_000_000_000
_S: Final = 1_000_000
_BOOT: Final = "0123456789abcdef"
_PI: Final = NodeId("lab", "pi-1")
_KEY: Final = "site, node, boot_id"
_OLD_STATUS: Final[dict[str, Any]] = {
    "schema": 1,
    "boot_id": _BOOT,
    "time_us": _T0,
    "online": True,
    "reason": "birth",
    "versions": {"sottovoce": "0.1.0", "python": "3.11.2", "litert": "2.1.0"},
    "model": "factory/1",
    "context": "home",
    "source": "USB",
    "muted": False,
    "clock_synced": True,
}
_OLD_EVENT: Final[dict[str, Any]] = {
    "schema": 1,
    "boot_id": _BOOT,
    "time_us": _T0,
    "seq": 1,
    "mono_us": 7,
    "clock_synced": True,
    "label": "neutral",
    "confidence": 0.75,
    "model": "factory/1",
    "latency_us": {"capture": 1, "resample": 2, "features": 3, "inference": 4, "decision": 5, "total": 15},
}
_OLD_TELEMETRY: Final[dict[str, Any]] = {
    "schema": 1,
    "boot_id": _BOOT,
    "time_us": _T0,
    "seq": 1,
    "outbox_id": "f" * 16,
    "mono_us": 7,
    "clock_synced": True,
    "interval_us": 10 * _S,
    "windows": {"neutral": 5},
    "silent_windows": 3,
    "latency_us": {"total": {"count": 5, "p50": 10, "p95": 20, "p99": 30}},
    "emitted": 1,
    "outbox_dropped": 0,
    "outbox_depth": 2,
    "outbox_age_us": 9,
    "refused_events": 0,
    "dropped_blocks": 0,
    "reconnects": 0,
    "rss_bytes": 50_000_000,
    "cpu_share": 0.125,
    "temperature_c": None,
}
_OLD_ROWS: Final = f"""
INSERT INTO emotion ({_KEY}, seq, time_us, mono_us, clock_synced, label, confidence, model, capture_us, resample_us,
    features_us, inference_us, decision_us, total_us, received_us)
    VALUES ('lab', 'pi-1', '{_BOOT}', 1, {_T0}, 7, 1, 'neutral', 0.75, 'factory/1', 1, 2, 3, 4, 5, 15, {_T0});
INSERT INTO telemetry ({_KEY}, seq, time_us, clock_synced, interval_us, pleasant, neutral, unpleasant, uncertain,
    silent, outbox_id, emitted, outbox_dropped, outbox_depth, outbox_age_us, refused_events, dropped_blocks,
    reconnects, rss_bytes, cpu_share, received_us)
    VALUES ('lab', 'pi-1', '{_BOOT}', 1, {_T0}, 1, 10000000, 0, 5, 0, 0, 3, 'f', 1, 0, 2, 9, 0, 0, 0, 1, 0.1, {_T0});
INSERT INTO stage_latency ({_KEY}, seq, time_us, stage, count, p50_us, p95_us, p99_us)
    VALUES ('lab', 'pi-1', '{_BOOT}', 1, {_T0}, 'total', 5, 10, 20, 30);
INSERT INTO status ({_KEY}, time_us, online, reason, sottovoce, python, litert, model, context, source, muted,
    clock_synced, received_us)
    VALUES ('lab', 'pi-1', '{_BOOT}', {_T0}, 1, 'birth', '0.1.0', '3.11.2', '2.1.0', 'factory/1', 'home', 'USB', 0, 1,
    {_T0});
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def old_file(path: Path) -> Path:
    """A file of a collector that knew neither updates nor condition, with a row in each table."""
    with closing(open_database(path, SCHEMA, form=FORM, synchronous="FULL")) as db:
        db.executescript(_OLD_ROWS)
    return path


@pytest.fixture
def condition(event: Make, telemetry: Make, status: Make) -> list[Record]:
    """An event, telemetry and a status that say all that can be said."""
    latency = EventLatency(capture=1, resample=2, gate=40, features=3, inference=4, decision=5, total=55)
    quantiles = Quantiles(count=3, p50=300, p95=9_000_000, p99=9_000_000, histogram=(0, 1, 0, 1, *[0] * 11, 1))
    return [
        event(1, _T0, latency_us=latency),
        telemetry(
            1,
            _T0,
            gated_windows=4,
            clipped_windows=2,
            level_dbfs=-31.5,
            drift=Drift(mean_confidence=0.5, mean_entropy=0.75, divergence=0.25),
            capture=CaptureReport(
                state=CaptureState.RECOVERING, problem=CaptureProblem.BUSY, restarts=1, reopens=2, rescans=3
            ),
            throttled=True,
            latency_us={Stage.GATE: quantiles, Stage.TOTAL: quantiles},
        ),
        status(
            _T0,
            _T0,
            context=Context.CARE,
            employees_present=True,
            exemption=Exemption(reason="medical", reference="file 7"),
            notice_acknowledged=True,
            muted=True,
            muted_by=(MuteSource.BUTTON, MuteSource.QUIET_HOURS),
            capture=CaptureState.MUTED,
            problem=CaptureProblem.STUCK,
            thresholds=Thresholds(uncertain_below=0.45, speech_above=0.5),
        ),
    ]


def _asked(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def _grown(path: Path, table: str) -> list[tuple[Any, ...]]:
    return _asked(path, f"SELECT {', '.join(GROWN[table])} FROM {table}")


def _columns(path: Path) -> dict[str, set[Any]]:
    return {table: {row[1:] for row in _asked(path, f"PRAGMA table_info({table})")} for table in GROWN}


def _written(path: Path, *records: Record) -> Written:
    store = SqliteStore(path)
    try:
        return store.write(records)
    finally:
        store.close()


def _heard(topic: str, message: dict[str, Any]) -> Record:
    """Return what the collector makes of a message on the wire."""
    record = read_message(topic, json.dumps(message).encode(), _T0)
    assert isinstance(record, Record), record
    return record


def _of_an_old_node() -> list[Record]:
    return [
        _heard(EMOTION.at(_PI), _OLD_EVENT),
        _heard(TELEMETRY.at(_PI), _OLD_TELEMETRY),
        _heard(STATUS.at(_PI), _OLD_STATUS),
    ]


def test_sqlite_keeps_all_that_a_node_says_of_its_condition(path: Path, condition: list[Record]) -> None:
    _written(path, *condition)
    assert _grown(path, "emotion") == [(40,)]
    assert _grown(path, "telemetry") == [(4, 2, -31.5, 0.5, 0.75, 0.25, "recovering", "device busy", 1, 2, 3, 1)]
    assert _grown(path, "status") == [
        (1, "medical", "file 7", 1, "button, quiet hours", "muted", "only zeros", 0.45, 0.5)
    ]
    histograms = _asked(path, "SELECT stage, histogram FROM stage_latency ORDER BY stage")
    assert [(stage, json.loads(text)) for stage, text in histograms] == [
        ("gate", [0, 1, 0, 1, *[0] * 11, 1]),
        ("total", [0, 1, 0, 1, *[0] * 11, 1]),
    ]


def test_sqlite_a_file_of_before_keeps_its_rows_and_comes_to_the_same_as_a_new_one(
    old_file: Path, tmp_path: Path, event: Make
) -> None:
    before = {table: _asked(old_file, f"SELECT * FROM {table}") for table in GROWN}
    for seq in (2, 3):  # the second start finds it done
        assert _written(old_file, event(seq, _T0 + seq)) == Written(stored=1)
    _written(tmp_path / "new.sqlite")
    assert _columns(old_file) == _columns(tmp_path / "new.sqlite")
    for table, (row,) in before.items():
        (first, *_) = _asked(old_file, f"SELECT * FROM {table} ORDER BY time_us")
        assert first[: len(row)] == row
    assert _asked(old_file, "SELECT count(*) FROM emotion") == [(3,)]


def test_sqlite_rows_of_before_say_what_the_messages_said(old_file: Path, tmp_path: Path) -> None:
    _written(old_file)
    _written(tmp_path / "new.sqlite", *_of_an_old_node())
    for table in GROWN:
        assert _grown(old_file, table) == _grown(tmp_path / "new.sqlite", table)


def test_sqlite_a_retained_status_of_an_old_node_is_still_a_repetition(old_file: Path) -> None:
    _written(old_file, _heard(STATUS.at(_PI), _OLD_STATUS))
    assert _asked(old_file, "SELECT count(*) FROM status") == [(1,)]


def test_sqlite_an_older_collector_and_an_older_console_go_on_with_a_grown_file(
    path: Path, condition: list[Record]
) -> None:
    _written(path, *condition)
    with closing(open_database(path, SCHEMA, form=FORM, synchronous="FULL")) as older:
        older.executescript(_OLD_ROWS.replace("'pi-1'", "'pi-2'"))
    with closing(open_database(path, SCHEMA, form=FORM, synchronous="FULL", read_only=True)) as older:
        names = "node, online, reason, model, context, source, muted, clock_synced"
        assert older.execute(f"SELECT {names} FROM status ORDER BY id").fetchall() == [
            ("pi-1", 1, "birth", "factory/1", "care", "replay: synthetic", 1, 1),
            ("pi-2", 1, "birth", "factory/1", "home", "USB", 0, 1),
        ]


@pytest.mark.parametrize("change", [{"problem": CaptureProblem.STUCK}, {"muted_by": (MuteSource.COMMAND,)}])
def test_sqlite_a_status_that_differs_in_its_condition_alone_is_another_row(
    path: Path, status: Make, change: dict[str, Any]
) -> None:
    for each in ({}, change, change, {}):  # what a node no longer says must count as a change, too
        _written(path, status(_T0, _T0, **each))
    assert _asked(path, "SELECT count(*) FROM status") == [(3,)]


def test_console_reads_a_file_that_no_collector_has_grown_yet(old_file: Path) -> None:
    reader = SqliteReader(old_file)
    (node,) = reader.live(_T0 + _S).nodes
    assert node.status is not None
    assert (node.status.capture, node.status.muted_by, node.status.uncertain_below) == (
        CaptureState.LISTENING,
        (),
        None,
    )
    assert node.health is not None
    assert (node.health.silent, node.health.gated, node.health.classified, node.health.outbox_depth) == (3, 0, 5, 2)
    (figures,) = reader.figures(_PI, Span.HOUR, _T0 + _S)
    assert (figures.windows, figures.gated, figures.level_dbfs, figures.outbox_age_us) == (8, 0, None, 9)
    assert not figures.throttled


def test_a_store_with_a_problem_of_a_newer_version_is_an_error_in_words(path: Path, condition: list[Record]) -> None:
    _written(path, *condition)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE status SET problem = 'a cat'")
    with pytest.raises(StoreError, match=r"the store holds 'a cat', this version knows device lost, .* upgrade"):
        SqliteReader(path).live(_T0)


def test_influxdb_keeps_all_that_a_node_says_of_its_condition_and_points_of_before_are_read(
    influx: "InfluxServer", open_store: Callable[..., InfluxStore], condition: list[Record]
) -> None:
    when = f"{(_T0 - 5 * _S) * 1000}"
    influx.put(  # as a collector of before wrote them
        f'status,site=lab,node=old boot_id="a",time_us=1i,online=true,reason="birth",model="m/1",context="home",'
        f'source="USB",muted=false,clock_synced=true {when}\n'
        f'telemetry,site=lab,node=old,outbox_id=f boot_id="a",seq=1i,clock_synced=true,interval_us=1i,pleasant=0i,'
        f"neutral=5i,unpleasant=0i,uncertain=0i,silent=3i,emitted=1i,outbox_dropped=0i,outbox_depth=2i,"
        f"outbox_age_us=9i,refused_events=0i,dropped_blocks=0i,reconnects=0i,rss_bytes=1i,cpu_share=0.1 {when}"
    )
    store = open_store()
    store.write(condition)
    store.close()
    (total,) = influx.rows("SELECT * FROM stage_latency WHERE stage = 'total'")
    assert (total["to_200_us"], total["to_1000_us"], total["over_5000000_us"], total["to_100_us"]) == (1, 1, 1, 0)
    (gate,) = influx.rows("SELECT * FROM stage_latency WHERE stage = 'gate'")
    assert (gate["p50_us"], gate["to_200_us"]) == (300, None)
    with closing(InfluxReader(influx.url, influx.bucket, influx.reader_token)) as reader:
        old, new = reader.live(_T0 + _S).nodes
        assert old.status is not None
        assert (old.status.capture, old.status.muted_by) == (CaptureState.LISTENING, ())
        assert old.health is not None
        assert (old.health.gated, old.health.windows) == (0, 8)
        assert new.status is not None
        assert new.status.muted_by == (MuteSource.BUTTON, MuteSource.QUIET_HOURS)
        assert (new.status.exemption, new.status.exemption_reference) == ("medical", "file 7")
        assert (new.status.problem, new.status.employees_present) == (CaptureProblem.STUCK, True)
        assert new.health is not None
        assert (new.health.divergence, new.health.throttled, new.health.rescans) == (0.25, True, 3)
        (figures,) = reader.figures(_PI, Span.HOUR, _T0 + _S)
        assert (figures.windows, figures.gated, figures.clipped, figures.mean_entropy) == (24, 4, 2, 0.75)
        assert (figures.outbox_depth, figures.throttled, figures.level_dbfs) == (12, True, -31.5)
        (past,) = reader.figures(NodeId("lab", "old"), Span.HOUR, _T0 + _S)
        assert (past.windows, past.level_dbfs, past.throttled) == (8, None, False)

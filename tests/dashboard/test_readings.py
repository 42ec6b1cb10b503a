"""What the console reads from a real SQLite store, and what it makes of it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.contract.condition import Drift, Quantiles
from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.messages import Stage, StatusReason
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateState
from broker.database import open_database
from dashboard.collector.records import DeadLetter, Record, read_message
from dashboard.collector.sqlite_store import SqliteStore
from dashboard.console import sqlite_reader
from dashboard.console.readings import EVENTS_SHOWN, LETTERS_SHOWN, NoStoreYetError, Presence, Span, presence
from dashboard.console.sqlite_reader import SqliteReader

_NOW = 1_800_000_000_000_000
_S = 1_000_000
_OTHER_BOOT = "00000000000000ff"

Make = Callable[..., Record]
Put = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def put(path: Path) -> Iterator[Put]:
    """Return a function that writes records into the store that `reader` reads."""
    store = SqliteStore(path)

    def write(*records: Record | DeadLetter) -> None:
        store.write(list(records))

    yield write
    store.close()


@pytest.fixture
def reader(path: Path) -> SqliteReader:
    return SqliteReader(path)


def test_live_without_a_file_says_that_there_is_no_store_yet(path: Path, reader: SqliteReader) -> None:
    with pytest.raises(NoStoreYetError, match=r"there is no store at .*store\.sqlite; a collector makes it"):
        reader.live(_NOW)
    assert not path.exists()


def test_every_reading_of_a_store_without_rows_is_empty(reader: SqliteReader, put: Put) -> None:
    put()
    assert reader.live(_NOW).nodes == ()
    assert reader.live(_NOW).events == ()
    assert reader.history(Span.DAY, _NOW).windows == ()
    assert reader.totals().stored == 0


def test_a_file_that_is_no_store_is_unreadable_not_missing(path: Path, reader: SqliteReader) -> None:
    path.write_text("this is no database, and long enough to be looked at as one " * 20)
    with pytest.raises(StoreError, match="not a database") as caught:
        reader.live(_NOW)
    assert not isinstance(caught.value, NoStoreYetError)


def test_a_removed_store_is_missing_and_a_new_one_is_read(path: Path, reader: SqliteReader, event: Make) -> None:
    first = SqliteStore(path)
    first.write([event(1, _NOW)])
    assert len(reader.live(_NOW).nodes) == 1
    first.close()
    path.unlink()
    with pytest.raises(NoStoreYetError):
        reader.live(_NOW)
    second = SqliteStore(path)
    assert reader.live(_NOW).nodes == ()
    second.close()


def test_a_reading_changes_nothing_in_the_store(path: Path, reader: SqliteReader, put: Put, event: Make) -> None:
    put(event(1, _NOW))
    before = path.stat().st_mtime_ns
    reader.live(_NOW)
    reader.totals()
    assert path.stat().st_mtime_ns == before


def test_live_shows_each_node_with_its_last_word(
    reader: SqliteReader, put: Put, event: Make, telemetry: Make, status: Make
) -> None:
    total = {Stage.TOTAL: Quantiles(count=9, p50=120_000, p95=170_000, p99=180_000)}
    put(
        status(_NOW - 90 * _S, _NOW - 90 * _S, node="home/kitchen", muted=True),
        status(_NOW - 60 * _S, _NOW - 60 * _S, node="home/kitchen"),
        event(1, _NOW - 9 * _S, node="home/kitchen"),
        event(2, _NOW - 4 * _S, node="home/kitchen", label=Label.PLEASANT, confidence=0.5),
        telemetry(1, _NOW - 5 * _S, node="home/kitchen", latency_us=total, outbox_depth=7),
        event(1, _NOW - 2 * _S, node="car/van"),
    )
    van, kitchen = reader.live(_NOW).nodes
    assert (van.id, kitchen.id) == (NodeId("car", "van"), NodeId("home", "kitchen"))
    assert van.status is None
    assert kitchen.status is not None
    assert not kitchen.status.muted
    assert kitchen.emotion is not None
    assert (kitchen.emotion.label, kitchen.emotion.confidence) == (Label.PLEASANT, 0.5)
    assert kitchen.health is not None
    assert (kitchen.health.p50_us, kitchen.health.p95_us, kitchen.health.outbox_depth) == (120_000, 170_000, 7)


def test_live_shows_the_last_update_report_of_each_node(
    reader: SqliteReader, put: Put, status: Make, update: Make, trial: TrialFigures
) -> None:
    put(
        status(_NOW, _NOW),
        update(_NOW - 9 * _S, progress=0.2),
        update(_NOW - 8 * _S, progress=0.4),
        update(_NOW - 5 * _S, state=UpdateState.TRIAL, progress=0.5, reason="it is quiet", trial=trial),
        update(_NOW - 7 * _S, node="car/van", state=UpdateState.IDLE, release=None),
        status(_NOW, _NOW, node="home/kitchen"),
    )
    van, kitchen, pi = reader.live(_NOW).nodes
    assert kitchen.update is None
    assert van.update is not None
    assert (van.id, van.model, van.update.release, van.update.trial) == (NodeId("car", "van"), None, None, None)
    assert pi.update is not None
    assert (pi.update.state, pi.update.release, pi.update.reason) == (UpdateState.TRIAL, "factory/4", "it is quiet")
    assert (pi.update.progress, pi.update.time_us, pi.model) == (0.5, _NOW - 5 * _S, "factory/1")
    assert pi.update.trial is not None
    assert (pi.update.trial.classified, pi.update.trial.agreed, pi.update.trial.p95_us) == (80, 75, 6_900)


def test_a_store_whose_collector_knows_no_update_reports_is_read_without_them(
    path: Path, reader: SqliteReader, put: Put, event: Make
) -> None:
    put(event(1, _NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE update_report")
    (node,) = reader.live(_NOW).nodes
    assert node.update is None


def test_a_state_of_a_newer_version_is_an_error_in_words(
    path: Path, reader: SqliteReader, put: Put, update: Make
) -> None:
    put(update(_NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE update_report SET state = 'dreaming'")
    with pytest.raises(StoreError, match=r"the store holds 'dreaming', this version knows idle, .* upgrade"):
        reader.live(_NOW)


def test_the_last_event_is_the_one_with_the_highest_number_whatever_the_clock_says(
    reader: SqliteReader, put: Put, event: Make, status: Make
) -> None:
    a_year = 365 * 86_400 * _S
    put(
        event(1, _NOW + a_year, boot_id=_OTHER_BOOT, label=Label.UNPLEASANT),  # a boot with a clock far ahead
        status(_NOW, _NOW),
        event(2, _NOW - 3 * _S, label=Label.PLEASANT),
    )
    live = reader.live(_NOW)
    assert live.nodes[0].emotion is not None
    assert live.nodes[0].emotion.label is Label.PLEASANT
    assert [each.label for each in live.events] == [Label.PLEASANT]


def test_latest_events_and_dead_letters_are_bounded_and_newest_first(
    reader: SqliteReader, put: Put, event: Make
) -> None:
    put(*[event(number, _NOW - (100 - number) * _S) for number in range(1, 60)])
    put(*[read_message(f"nonsense/{number}", b"{}", _NOW + number) for number in range(20)])
    live = reader.live(_NOW)
    assert [each.seq for each in live.events] == list(range(59, 59 - EVENTS_SHOWN, -1))
    assert [each.topic for each in live.letters] == [f"nonsense/{19 - number}" for number in range(LETTERS_SHOWN)]


@pytest.mark.parametrize(
    "case",
    [
        (True, 3, Presence.ONLINE),
        (True, 29, Presence.ONLINE),
        (True, 31, Presence.STALE),  # the will was lost
        (True, None, Presence.STALE),
        (False, 1, Presence.OFFLINE),
    ],
)
def test_a_node_is_online_when_its_status_says_so_and_it_was_heard_lately(
    reader: SqliteReader, put: Put, telemetry: Make, status: Make, case: tuple[bool, int | None, Presence]
) -> None:
    online, heard_s_ago, expected = case
    put(status(_NOW - 99 * _S, _NOW - 99 * _S, online=online, reason=StatusReason.CHANGE))
    if heard_s_ago is not None:
        put(telemetry(1, _NOW - heard_s_ago * _S))
    (node,) = reader.live(_NOW).nodes
    assert presence(node, _NOW) is expected


def test_presence_goes_by_the_collectors_clock_not_by_the_nodes(
    reader: SqliteReader, put: Put, telemetry: Make, status: Make
) -> None:
    an_hour_behind: Any = telemetry(1, _NOW - 3_600 * _S)
    put(status(_NOW, _NOW), Record(node=an_hour_behind.node, message=an_hour_behind.message, received_us=_NOW))
    (node,) = reader.live(_NOW).nodes
    assert presence(node, _NOW) is Presence.ONLINE


def test_a_node_whose_clock_is_not_set_is_there_although_nothing_but_its_status_is_heard(
    reader: SqliteReader, put: Put, event: Make, status: Make
) -> None:
    long_ago = _NOW - 9_000 * _S
    put(event(1, long_ago, boot_id=_OTHER_BOOT), status(long_ago, _NOW - 900 * _S, clock_synced=False))
    (node,) = reader.live(_NOW).nodes
    assert node.awaits_clock, "what an earlier start said is no sign that this one's clock is right"
    assert (presence(node, _NOW), node.clock_synced) == (Presence.ONLINE, False)
    put(status(long_ago, _NOW, clock_synced=False, online=False, reason=StatusReason.LOST))
    (node,) = reader.live(_NOW).nodes
    assert presence(node, _NOW) is Presence.OFFLINE


def test_a_node_that_was_heard_and_fell_silent_awaits_no_clock(
    reader: SqliteReader, put: Put, telemetry: Make, status: Make
) -> None:
    put(telemetry(1, _NOW - 90 * _S), status(_NOW - 80 * _S, _NOW - 80 * _S, clock_synced=False))  # its server is away
    (node,) = reader.live(_NOW).nodes
    assert not node.awaits_clock
    assert presence(node, _NOW) is Presence.STALE


def test_figures_are_what_one_nodes_telemetry_comes_to_in_each_bucket(
    reader: SqliteReader, put: Put, telemetry: Make
) -> None:
    start = _NOW // Span.HOUR.bucket_us * Span.HOUR.bucket_us - 60 * _S
    drift = [Drift(mean_confidence=share, mean_entropy=0.5, divergence=None) for share in (0.25, 0.75)]
    put(
        telemetry(1, start, gated_windows=4, clipped_windows=1, level_dbfs=-30.0, drift=drift[0], reconnects=2),
        telemetry(2, start + 10 * _S, level_dbfs=-40.0, drift=drift[1], outbox_depth=99, reconnects=5),
        telemetry(3, start + 30 * _S, level_dbfs=None, drift=None, throttled=True, dropped_blocks=7),
        telemetry(1, start, node="car/van", silent_windows=1_000),
        telemetry(4, _NOW - 3_700 * _S),
    )
    first, second = reader.figures(NodeId("lab", "pi-1"), Span.HOUR, _NOW)
    assert (first.from_us, second.from_us) == (start, start + Span.HOUR.bucket_us)
    assert (first.silent, first.gated, first.classified, first.clipped) == (24, 4, 16, 1)
    assert (first.level_dbfs, first.mean_confidence, first.divergence) == (-35.0, 0.5, None)
    assert (first.outbox_depth, first.reconnects, first.throttled) == (99, 5, False)
    assert (second.level_dbfs, second.mean_entropy, second.throttled, second.dropped_blocks) == (None, None, True, 7)


def test_history_of_minutes_has_every_event_of_the_span_oldest_first(
    reader: SqliteReader, put: Put, event: Make
) -> None:
    put(event(1, _NOW - 301 * _S), event(2, _NOW - 299 * _S), event(3, _NOW - 1 * _S))
    assert [each.seq for each in reader.history(Span.MINUTES, _NOW).events] == [2, 3]
    assert reader.history(Span.HOUR, _NOW).events == ()


def test_history_counts_windows_by_bucket(reader: SqliteReader, put: Put, telemetry: Make) -> None:
    start = _NOW // Span.HOUR.bucket_us * Span.HOUR.bucket_us - 60 * _S
    windows = {Label.PLEASANT: 3, Label.UNCERTAIN: 1}
    put(*[telemetry(number, start + number * 10 * _S, windows=windows) for number in range(1, 6)])
    put(telemetry(9, _NOW - 4_000 * _S, windows=windows))
    first, second = reader.history(Span.HOUR, _NOW).windows
    assert first.from_us == start
    assert first.counts == {Label.PLEASANT: 6, Label.NEUTRAL: 0, Label.UNPLEASANT: 0, Label.UNCERTAIN: 2}
    assert second.counts[Label.PLEASANT] == 9


def test_history_has_the_mean_latency_of_each_stage(reader: SqliteReader, put: Put, telemetry: Make) -> None:
    for number, p50 in ((1, 1_000), (2, 3_000)):
        latency = {Stage.INFERENCE: Quantiles(count=1, p50=p50, p95=2 * p50, p99=9_000)}
        put(telemetry(number, _NOW - number * 10 * _S, latency_us=latency))
    (stage,) = reader.history(Span.HOUR, _NOW).stages
    assert (stage.stage, stage.p50_us, stage.p95_us) == (Stage.INFERENCE, 2_000, 4_000)


def test_totals_count_what_is_lost_and_what_came_again(
    reader: SqliteReader, put: Put, event: Make, telemetry: Make
) -> None:
    put(event(1, _NOW), event(2, _NOW), event(2, _NOW), telemetry(1, _NOW, emitted=5, outbox_dropped=1))
    put(read_message("nonsense", b"{}", _NOW))
    totals = reader.totals()
    assert (totals.stored, totals.lost, totals.duplicates) == (2, 2, 0)
    assert (totals.redelivered, totals.dead_letters) == (1, 1)


def test_a_label_of_a_newer_version_is_an_error_in_words(
    path: Path, reader: SqliteReader, put: Put, event: Make
) -> None:
    put(event(1, _NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE emotion SET label = 'jubilant'")
    with pytest.raises(StoreError, match=r"the store holds 'jubilant', this version knows pleasant, .* upgrade"):
        reader.live(_NOW)


def test_an_impossible_node_is_an_error_in_words(path: Path, reader: SqliteReader, put: Put, event: Make) -> None:
    put(event(1, _NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE emotion SET node = '<b>'")
    with pytest.raises(StoreError, match="impossible node"):
        reader.live(_NOW)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of a database from here on."""
    asked: list[str] = []

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        db = open_database(*arguments, **named)
        db.set_trace_callback(asked.append)
        return db

    monkeypatch.setattr(sqlite_reader, "open_database", traced)
    return asked


def test_no_refresh_reads_a_table_from_end_to_end(
    path: Path, put: Put, event: Make, update: Make, statements: list[str]
) -> None:
    put(event(1, _NOW), update(_NOW))
    node = NodeId("lab", "pi-1")
    reader = SqliteReader(path)
    reader.live(_NOW)
    for span in Span:
        reader.history(span, _NOW)
        reader.figures(node, span, _NOW)
    with closing(sqlite3.connect(path)) as db:
        plans = {
            statement: " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))
            for statement in statements
            if statement.startswith("SELECT") and "sqlite_schema" not in statement
        }
    assert len(plans) > 10
    for statement, plan in plans.items():
        assert "SEARCH" in plan or "dead_letter" in statement, f"{statement}: {plan}"
        assert "TEMP B-TREE" not in plan or "GROUP BY" in statement, f"{statement}: {plan}"

"""The SQLite store, read only. Every reading opens the file anew: it may be made, removed or replaced at any time."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

from broker.contract.errors import StoreError
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from broker.database import Database, open_database
from dashboard.console.condition import (
    HEALTH_COLUMNS,
    STATUS_COLUMNS,
    Figures,
    Health,
    Status,
    read_health,
    read_status,
)
from dashboard.console.readings import (
    CLOCKS_APART_US,
    EVENTS_SHOWN,
    LAST_SPEECH_US,
    LETTERS_SHOWN,
    Emotion,
    History,
    Letter,
    Live,
    Node,
    NoStoreYetError,
    Span,
    Totals,
)
from dashboard.console.sqlite_past import events, figures, stages, windows
from dashboard.console.sqlite_rows import EVENT_COLUMNS, by_name, columns, read_event
from dashboard.console.stored import node_id
from dashboard.console.updates import UPDATE_COLUMNS, Update, read_update
from dashboard.sqlite_schema import FORM, SCHEMA

__all__ = ["SqliteReader"]

T = TypeVar("T")
_MOST_NODES: Final = 1_000


class SqliteReader:
    """The store of one machine."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist."""
        self._path = path

    @property
    def place(self) -> str:
        """Return the file's name."""
        return str(self._path)

    def live(self, now_us: int) -> Live:
        """Return the present.

        Raises:
            StoreError: the file is missing or cannot be read.
        """
        return self._read(
            lambda db: Live(
                nodes=tuple(_node(db, each, now_us) for each in _nodes(db)),
                events=tuple(_newest_events(db, now_us)),
                letters=tuple(_newest_letters(db)),
            )
        )

    def history(self, span: Span, now_us: int) -> History:
        """Return the past of a span that ends now.

        Raises:
            StoreError: the file is missing or cannot be read.
        """
        return self._read(
            lambda db: History(
                span=span,
                until_us=now_us,
                events=tuple(events(db, span, now_us)) if span is Span.MINUTES else (),
                windows=tuple(window for each in _nodes(db) for window in windows(db, each, span, now_us)),
                stages=tuple(stage for each in _nodes(db) for stage in stages(db, each, now_us)),
            )
        )

    def figures(self, node: NodeId, span: Span, now_us: int) -> tuple[Figures, ...]:
        """Return what one node's telemetry came to in each bucket of a span that ends now, oldest first.

        Raises:
            StoreError: the file is missing or cannot be read.
        """
        return self._read(lambda db: tuple(figures(db, node, span, now_us)))

    def totals(self) -> Totals:
        """Return the counts since the store was made.

        Raises:
            StoreError: the file is missing or cannot be read.
        """
        return self._read(_totals)

    def close(self) -> None:
        """Do nothing: between two readings nothing is open."""

    def _read(self, query: Callable[[Database], T]) -> T:
        if not self._path.exists():
            msg = f"there is no store at {self._path}; a collector makes it when it starts"
            raise NoStoreYetError(msg)
        try:
            with closing(open_database(self._path, SCHEMA, form=FORM, synchronous="FULL", read_only=True)) as db:
                if not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    msg = f"the store at {self._path} is still empty; a collector fills it when it starts"
                    raise NoStoreYetError(msg)
                return query(db)
        except sqlite3.Error as error:
            msg = f"store {self._path}: {error}"
            raise StoreError(msg) from error


def _nodes(db: Database) -> list[NodeId]:
    """Return all nodes, sorted."""
    tables = ("status", "telemetry", "emotion", *(("update_report",) if _has_reports(db) else ()))
    found = {pair for table in tables for pair in _pairs(db, table)}
    return sorted(node_id(pair) for pair in found)


def _pairs(db: Database, table: str) -> Iterator[tuple[str, str]]:
    """Yield the nodes in a table by two index seeks each; DISTINCT or (site, node) > (?, ?) would visit every row."""
    next_node = f"SELECT site, node FROM {table} WHERE site = ? AND node > ? ORDER BY node LIMIT 1"  # noqa: S608 -- names are ours
    next_site = f"SELECT site, node FROM {table} WHERE site > ? ORDER BY site, node LIMIT 1"  # noqa: S608 -- names are ours
    pair = ("", "")
    for _ in range(_MOST_NODES):
        row = db.execute(next_node, pair).fetchone() or db.execute(next_site, pair[:1]).fetchone()
        if row is None:
            return
        pair = row
        yield pair


def _node(db: Database, node: NodeId, now_us: int) -> Node:
    status = _status(db, node)
    boot = status.boot_id if status else ""
    emotion = _last(db, EVENT_COLUMNS, "emotion", node, boot)
    return Node(
        id=node,
        status=status,
        emotion=read_event(emotion) if emotion else None,
        health=_health(db, node, boot, now_us),
        update=_update(db, node),
    )


def _status(db: Database, node: NodeId) -> Status | None:
    row = db.execute(
        f"SELECT received_us, {columns(db, 'status', STATUS_COLUMNS)} FROM status "  # noqa: S608 -- names are ours
        "WHERE site = ? AND node = ? ORDER BY id DESC LIMIT 1",
        (node.site, node.node),
    ).fetchone()
    if row is None:
        return None
    received_us, *values = row
    return read_status(by_name(STATUS_COLUMNS, values), received_us)


def _last(db: Database, names: str, table: str, node: NodeId, boot_id: str) -> tuple[Any, ...] | None:
    """Return the newest row: the highest seq of the boot, which no clock can mislead; else the latest by time."""
    here = f"SELECT {names} FROM {table} WHERE site = ? AND node = ?"  # noqa: S608 -- names are ours
    row: tuple[Any, ...] | None = db.execute(
        f"{here} AND boot_id = ? ORDER BY seq DESC LIMIT 1", (node.site, node.node, boot_id)
    ).fetchone()
    return row or db.execute(f"{here} ORDER BY time_us DESC LIMIT 1", (node.site, node.node)).fetchone()


def _health(db: Database, node: NodeId, boot_id: str, now_us: int) -> Health | None:
    row = _last(db, f"received_us, {columns(db, 'telemetry', HEALTH_COLUMNS)}", "telemetry", node, boot_id)
    if row is None:
        return None
    received_us, *values = row
    total = db.execute(
        "SELECT p50_us, p95_us FROM stage_latency "
        "WHERE site = ? AND node = ? AND time_us BETWEEN ? AND ? AND stage = ? ORDER BY time_us DESC LIMIT 1",
        (node.site, node.node, now_us - LAST_SPEECH_US, now_us + CLOCKS_APART_US, Stage.TOTAL.value),
    ).fetchone()
    p50, p95 = total or (None, None)
    return read_health(by_name(HEALTH_COLUMNS, values), received_us, p50, p95)


def _has_reports(db: Database) -> bool:
    """Return whether the collector that opened the file last was one that stores update reports."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'update_report'").fetchone() is not None


def _update(db: Database, node: NodeId) -> Update | None:
    if not _has_reports(db):
        return None
    row = db.execute(
        f"SELECT received_us, {UPDATE_COLUMNS} FROM update_report WHERE site = ? AND node = ? ORDER BY id DESC LIMIT 1",  # noqa: S608 -- names are ours
        (node.site, node.node),
    ).fetchone()
    if row is None:
        return None
    received_us, *values = row
    return read_update(by_name(UPDATE_COLUMNS, values), received_us)


def _newest_events(db: Database, now_us: int) -> list[Emotion]:
    statement = f"SELECT {EVENT_COLUMNS} FROM emotion WHERE time_us <= ? ORDER BY time_us DESC LIMIT ?"  # noqa: S608 -- names are ours
    return [read_event(row) for row in db.execute(statement, (now_us + CLOCKS_APART_US, EVENTS_SHOWN))]


def _newest_letters(db: Database) -> list[Letter]:
    rows = db.execute(
        "SELECT received_us, topic, reason, size_bytes FROM dead_letter ORDER BY id DESC LIMIT ?", (LETTERS_SHOWN,)
    )
    return [Letter(received_us=at, topic=topic, reason=reason, size_bytes=size) for at, topic, reason, size in rows]


def _totals(db: Database) -> Totals:
    stored, lost = db.execute("SELECT coalesce(sum(stored), 0), coalesce(sum(lost), 0) FROM delivery").fetchone()
    counters = dict(db.execute("SELECT name, value FROM counter").fetchall())
    return Totals(
        stored=stored,
        lost=lost,
        duplicates=0,  # the key of the table is the identity of an event: SQLite refuses the second row
        redelivered=counters.get("redelivered", 0),
        dead_letters=counters.get("dead_letters", 0),
    )

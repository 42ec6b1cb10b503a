"""The store for one machine: SQLite, where the store itself is the spool.

WAL with synchronous=FULL: a committed batch is on the disk. Rows are keyed by the identity of their message, so
a message that comes again changes nothing and is counted apart.

An update report is retained and has no number. Its row is a stay in a state: a report that only tells more progress
takes the place of the one before, and one that lies within a stay that is here, by state and time, came before.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, assert_never

import msgspec

from broker.contract.errors import StoreError
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport
from broker.database import Database, check_in_place, open_database, transaction
from dashboard.collector.fields import (
    emotion_fields,
    histogram_json,
    stage_fields,
    status_fields,
    telemetry_fields,
    update_fields,
)
from dashboard.collector.records import DeadLetter, Record, Written
from dashboard.sqlite_schema import ADDED, FORM, GROWN, SCHEMA

__all__ = ["SqliteStore", "keep_dead_letters", "open_grown"]

_MOST_DEAD_LETTERS: Final = 10_000
_NONE: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({})
_STAY: Final = ("boot_id", "state", "release", "reason")
"""A report that differs from the one before in one of these begins another row."""


class SqliteStore:
    """Events, telemetry, status, update reports and dead letters in one file."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            StoreError: it cannot be opened, or is no store.
        """
        self._path = path
        self._db = open_grown(path, SCHEMA, ADDED, form=FORM, columns=GROWN)
        self._opened = path.stat()

    def write(self, batch: Sequence[Record | DeadLetter]) -> Written:
        """Commit a batch.

        Raises:
            StoreError: the disk refused, or the file is gone; nothing of the batch was written.
        """
        check_in_place(self._path, self._opened)
        try:
            with transaction(self._db):
                return self._write(batch)
        except sqlite3.Error as error:
            msg = f"store {self._path}: {error}; free the disk or mend its permissions"
            raise StoreError(msg) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _write(self, batch: Sequence[Record | DeadLetter]) -> Written:
        stored = redelivered = 0
        letters = [each for each in batch if isinstance(each, DeadLetter)]
        for record in batch:
            if isinstance(record, DeadLetter):
                continue
            match record.message:
                case EmotionEvent() as event:
                    is_new = self._insert("emotion", _emotion(record.node, event, record.received_us))
                case Telemetry() as telemetry:
                    is_new = self._insert("telemetry", _telemetry(record.node, telemetry, record.received_us))
                    for row in _stages(record.node, telemetry) if is_new else ():
                        self._insert("stage_latency", row)
                case NodeStatus() as status:
                    self._change(record.node, status, record.received_us)
                    continue
                case UpdateReport() as report:
                    self._report(record.node, report, record.received_us)
                    continue
                case _ as never:
                    assert_never(never)
            stored += is_new
            redelivered += not is_new
        self._db.execute("UPDATE counter SET value = value + ? WHERE name = 'redelivered'", (redelivered,))
        keep_dead_letters(self._db, letters)
        return Written(stored=stored, redelivered=redelivered, dead_letters=len(letters))

    def _insert(self, table: str, row: dict[str, Any]) -> bool:
        """Insert a row unless its key is there; return whether it was not."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 -- names are ours
        return self._db.execute(statement, tuple(row.values())).rowcount == 1

    def _change(self, node: NodeId, status: NodeStatus, received_us: int) -> None:
        """Append a status unless it repeats the node's last one: retained messages come on every subscription."""
        row = _of(node) | status_fields(status)
        last = self._db.execute(
            f"SELECT {', '.join(row)} FROM status WHERE site = ? AND node = ? ORDER BY id DESC LIMIT 1",  # noqa: S608 -- names are ours
            (node.site, node.node),
        ).fetchone()
        if last != tuple(row.values()):
            self._insert("status", row | {"received_us": received_us})

    def _report(self, node: NodeId, report: UpdateReport, received_us: int) -> None:
        """Append a report, or bring the node's last row up to date, or leave out what is here already."""
        row = _update(node, report, received_us)
        if self._db.execute(
            "SELECT 1 FROM update_report "
            "WHERE site = ? AND node = ? AND boot_id = ? AND state = ? AND ? BETWEEN from_us AND time_us LIMIT 1",
            (*(row[name] for name in ("site", "node", "boot_id", "state")), report.time_us),
        ).fetchone():
            return
        (row_id, *last, last_us) = self._db.execute(
            f"SELECT id, {', '.join(_STAY)}, time_us FROM update_report "  # noqa: S608 -- names are ours
            "WHERE site = ? AND node = ? ORDER BY id DESC LIMIT 1",
            (node.site, node.node),
        ).fetchone() or (0, 0)
        if last == [row[name] for name in _STAY] and last_us < report.time_us:
            names = ", ".join(f"{name} = ?" for name in row)
            self._db.execute(f"UPDATE update_report SET {names} WHERE id = ?", (*row.values(), row_id))  # noqa: S608 -- names are ours
        else:
            self._insert("update_report", row | {"from_us": report.time_us})


def open_grown(
    path: Path, schema: str, added: str, *, form: int, columns: Mapping[str, Mapping[str, str]] = _NONE
) -> Database:
    """Open a file of the collector's, or make it; one of an older version gets what came later.

    Args:
        path: the file.
        schema: the statements that make an empty file's tables.
        added: statements for tables that came later; they do nothing where those are there.
        form: number of the schema.
        columns: columns that came later, their types by name by table.

    Raises:
        StoreError: it cannot be opened, or is a file of something else.
    """
    db = open_database(path, schema, form=form, synchronous="FULL")
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{added}\nCOMMIT;")
        with transaction(db):
            for table, kinds in columns.items():
                here = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
                for name in (each for each in kinds if each not in here):
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kinds[name]}")
    except sqlite3.Error as error:
        db.close()
        msg = f"{path}: {error}; free the disk or mend its permissions"
        raise StoreError(msg) from error
    return db


def keep_dead_letters(db: Database, letters: list[DeadLetter]) -> None:
    """Append dead letters, keep the newest 10,000, and count them all; inside the caller's transaction."""
    if not letters:
        return
    db.executemany(
        "INSERT INTO dead_letter (received_us, topic, reason, size_bytes, head) VALUES (?, ?, ?, ?, ?)",
        [(each.received_us, each.topic, each.reason, each.size_bytes, each.head) for each in letters],
    )
    db.execute("DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?", (_MOST_DEAD_LETTERS,))
    db.execute("UPDATE counter SET value = value + ? WHERE name = 'dead_letters'", (len(letters),))


def _emotion(node: NodeId, event: EmotionEvent, received_us: int) -> dict[str, Any]:
    return _of(node) | emotion_fields(event) | {"time_us": event.time_us, "received_us": received_us}


def _telemetry(node: NodeId, telemetry: Telemetry, received_us: int) -> dict[str, Any]:
    own = {"time_us": telemetry.time_us, "outbox_id": telemetry.outbox_id, "received_us": received_us}
    return _of(node) | telemetry_fields(telemetry) | own


def _stages(node: NodeId, telemetry: Telemetry) -> list[dict[str, Any]]:
    return [
        _of(node)
        | stage_fields(telemetry, quantiles)
        | {"time_us": telemetry.time_us, "stage": stage.value, "histogram": histogram_json(quantiles)}
        for stage, quantiles in telemetry.latency_us.items()
    ]


def _update(node: NodeId, report: UpdateReport, received_us: int) -> dict[str, Any]:
    trial = report.trial
    histograms = {
        "scores": None if trial is None else msgspec.json.encode(trial.scores).decode(),
        "labels": None if trial is None else msgspec.json.encode(trial.labels).decode(),
    }
    return _of(node) | update_fields(report) | histograms | {"received_us": received_us}


def _of(node: NodeId) -> dict[str, Any]:
    return {"site": node.site, "node": node.node}

"""What the collector has acknowledged and the store does not have yet: a bounded queue in a SQLite file.

Full durability (synchronous=FULL): when `put` returns, the batch survives a power cut, and may be acknowledged.
The rows are messages, not points, so that a newer collector still understands the spool of an older one.
When the spool is full, `put` refuses: nothing is acknowledged, and the broker keeps what it can.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import StoreError
from broker.contract.messages import NodeStatus
from broker.contract.topics import EMOTION, STATUS, TELEMETRY, UPDATE
from broker.contract.updates import UpdateReport
from broker.database import transaction
from dashboard.collector.records import DeadLetter, Record, Written, dead_letter, read_message
from dashboard.collector.sqlite_store import keep_dead_letters, open_grown
from dashboard.sqlite_schema import DEAD_LETTERS

__all__ = ["Spool", "Spooled"]

_FORM: Final = 101  # not one of the store's: the one file must not be opened as the other
_SCHEMA: Final = (
    """
CREATE TABLE spool (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: the order of arrival
    identity TEXT UNIQUE,                  -- of events and telemetry
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    received_us INTEGER NOT NULL,
    is_letter INTEGER NOT NULL             -- the payload is a DeadLetter without its head
);
CREATE TABLE last_status (
    site TEXT NOT NULL, node TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (site, node)
) WITHOUT ROWID;
"""
    + DEAD_LETTERS
)
# A file of an older version gets this when it is opened, and keeps its rows; see dashboard/sqlite_schema.py.
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS last_update (
    site TEXT NOT NULL, node TEXT NOT NULL, step BLOB NOT NULL, PRIMARY KEY (site, node)
) WITHOUT ROWID;
"""
_TOPICS: Final = {topic.message: topic for topic in (EMOTION, STATUS, TELEMETRY, UPDATE)}
_STEPS: Final = 10
"""Into which the progress of a state is divided: one report of each is sent on."""


class Spooled(msgspec.Struct, frozen=True, kw_only=True):
    """One row, in the order of arrival."""

    id: int
    what: Record | DeadLetter
    """A dead letter also where a row that was once understood is not any more."""
    topic: str
    payload: bytes
    is_letter: bool
    """Whether it was a dead letter when it came, and so is kept and counted as one already."""


class Spool:
    """A queue on the disk; one thread puts, another takes."""

    def __init__(self, path: Path, most_rows: int) -> None:
        """Open the file, or make it.

        Args:
            path: the file.
            most_rows: no batch is taken when this many rows wait; the last one may go beyond it.

        Raises:
            StoreError: it cannot be opened, or is no spool.
        """
        self._path = path
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._db = open_grown(path, _SCHEMA, _ADDED, form=_FORM)
        self._rows: int = self._db.execute("SELECT count(*) FROM spool").fetchone()[0]

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    def counter(self, name: str) -> int:
        """Return `redelivered` or `dead_letters`: since the file was made.

        Raises:
            StoreError: the disk refused.
        """
        with self._lock, self._store_errors():
            (value,) = self._db.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
        return int(value)

    def put(self, batch: Sequence[Record | DeadLetter]) -> Written:
        """Make a batch durable, all of it or nothing.

        An event or telemetry whose identity still waits here changes nothing and counts as redelivered. One that has
        left the spool is not remembered: it counts as stored and overwrites its own point. A status that repeats the
        node's last one is left out and not counted, because retained messages come with every subscription; so is an
        update report that differs from the node's last one by less than a tenth of progress.

        Raises:
            StoreError: the spool is full, or the disk refused; nothing of the batch was kept.
        """
        letters = [each for each in batch if isinstance(each, DeadLetter)]
        records = [each for each in batch if isinstance(each, Record)]
        with self._lock, self._store_errors():
            if self._rows >= self._most_rows:
                msg = (
                    f"spool {self._path} is full: {self._rows} rows wait for the store; "
                    "bring the store back, or raise influxdb.spool_most_rows"
                )
                raise StoreError(msg)
            with transaction(self._db):
                messages = [each for each in records if not isinstance(each.message, NodeStatus | UpdateReport)]
                stored = sum(self._insert(each) for each in messages)
                changes = sum(self._insert(each) for each in records if self._is_change(each))
                redelivered = len(messages) - stored
                self._db.execute("UPDATE counter SET value = value + ? WHERE name = 'redelivered'", (redelivered,))
                self._keep(letters)
            self._rows += stored + changes + len(letters)
        return Written(stored=stored, redelivered=redelivered, dead_letters=len(letters))

    def oldest(self, most: int) -> list[Spooled]:
        """Return the rows that have waited longest; they stay until `settle`.

        Raises:
            StoreError: the disk refused.
        """
        with self._lock, self._store_errors():
            rows = self._db.execute(
                "SELECT id, topic, payload, received_us, is_letter FROM spool ORDER BY id LIMIT ?", (most,)
            ).fetchall()
        return [
            Spooled(
                id=row_id,
                what=_letter(payload) if is_letter else read_message(topic, payload, received_us),
                topic=topic,
                payload=payload,
                is_letter=bool(is_letter),
            )
            for row_id, topic, payload, received_us, is_letter in rows
        ]

    def settle(self, rows: Sequence[Spooled], refused: Mapping[int, str], now_us: int) -> None:
        """Take rows out; those that the store refused become dead letters.

        A refused row that was a dead letter already is kept and counted as one, and only leaves.

        Args:
            rows: what `oldest` returned.
            refused: reason by row id.
            now_us: wall clock, µs since 1970.

        Raises:
            StoreError: the disk refused; the rows stay.
        """
        letters = [
            dead_letter(each.topic, each.payload, refused[each.id], now_us)
            for each in rows
            if each.id in refused and not each.is_letter
        ]
        with self._lock, self._store_errors():
            with transaction(self._db):
                self._db.executemany("DELETE FROM spool WHERE id = ?", [(each.id,) for each in rows])
                self._keep(letters)
            self._rows += len(letters) - len(rows)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _insert(self, record: Record) -> bool:
        """Insert a row unless its identity is there; return whether it was not."""
        message = record.message
        topic = _TOPICS[type(message)]
        identity = None
        if not isinstance(message, NodeStatus | UpdateReport):
            identity = f"{topic.name}/{record.node}/{message.boot_id}/{message.seq}"
        row = (identity, topic.at(record.node), msgspec.json.encode(message), record.received_us)
        return (
            self._db.execute(
                "INSERT INTO spool (identity, topic, payload, received_us, is_letter) VALUES (?, ?, ?, ?, 0) "
                "ON CONFLICT DO NOTHING",
                row,
            ).rowcount
            == 1
        )

    def _is_change(self, record: Record) -> bool:
        """Return whether a record is a status or a report other than the node's last one, and remember it."""
        match record.message:
            case NodeStatus() as status:
                table, column, said = "last_status", "payload", msgspec.json.encode(status)
            case UpdateReport() as report:
                table, column, said = "last_update", "step", _step(report)
            case _:
                return False
        return (
            self._db.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT (site, node) "  # noqa: S608 -- names are ours
                f"DO UPDATE SET {column} = excluded.{column} WHERE {column} != excluded.{column}",
                (record.node.site, record.node.node, said),
            ).rowcount
            == 1
        )

    def _keep(self, letters: list[DeadLetter]) -> None:
        keep_dead_letters(self._db, letters)
        self._db.executemany(
            "INSERT INTO spool (topic, payload, received_us, is_letter) VALUES (?, ?, ?, 1)",
            [
                (each.topic, msgspec.json.encode(msgspec.structs.replace(each, head=b"")), each.received_us)
                for each in letters
            ],
        )

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            msg = f"spool {self._path}: {error}; free the disk or mend its permissions"
            raise StoreError(msg) from error


def _letter(payload: bytes) -> DeadLetter:
    return msgspec.json.decode(payload, type=DeadLetter)


def _step(report: UpdateReport) -> bytes:
    """Return what must change before a report is sent on; `time_us` is not in it, and of the progress the tenths."""
    tenths = int(report.progress * _STEPS)
    return msgspec.json.encode((report.boot_id, report.release, report.state, report.reason, tenths))

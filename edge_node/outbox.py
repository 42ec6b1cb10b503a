"""What must reach the broker, kept on this node's disk until it has.

    put (pipeline's thread)  ->  waiting  -> PUBACK 0x00 ->  done  -> replay time over ->  gone
                                    ^                          |
                                    +------ reconnected -------+

A row is done on PUBACK 0x00 only. Done rows stay for a replay time that is longer than the broker's save
interval, and wait again after every reconnect: a broker that is killed before it saved has lost what it had
acknowledged. The identity in the payload makes the repeats harmless.

Durability: a commit survives the death of the process at once (WAL). `sync`, called at most once a second,
makes it survive a power cut; so a power cut can cost the last second.

One instance belongs to one thread; two threads open the same file twice.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.contract.errors import StoreError
from broker.contract.messages import encode
from broker.contract.topics import EMOTION, NodeId, NodeTopic
from broker.database import open_database, transaction

__all__ = ["Counters", "Outbox", "OutboxSettings", "Row"]

_SCHEMA: Final = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_us INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0 -- 0 waits, 1 delivered, 2 waits and was, or may have been, delivered before
);
CREATE INDEX message_waiting ON message (id) WHERE state <> 1;
CREATE TABLE counter (
    outbox_id TEXT NOT NULL,
    node TEXT NOT NULL DEFAULT '',
    emotion INTEGER NOT NULL DEFAULT 0,
    telemetry INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    row_count INTEGER NOT NULL DEFAULT 0,
    byte_count INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counter (outbox_id) VALUES (lower(hex(randomblob(8))));
CREATE TRIGGER message_in AFTER INSERT ON message BEGIN
    UPDATE counter SET row_count = row_count + 1, byte_count = byte_count + length(NEW.payload);
END;
CREATE TRIGGER message_out AFTER DELETE ON message BEGIN
    UPDATE counter SET row_count = row_count - 1, byte_count = byte_count - length(OLD.payload);
END;
"""


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[outbox]` in the node's settings."""

    path: str = "sottovoce-outbox.sqlite"
    most_rows: Annotated[int, Meta(ge=10, le=10_000_000)] = 100_000
    """More than a day of events at one a second. When full, the oldest go, and are counted."""
    most_bytes: Annotated[int, Meta(ge=100_000, le=10_000_000_000)] = 100_000_000
    """Of payloads; the file is larger by about a third."""
    replay_s: Annotated[float, Meta(ge=0, le=86_400)] = 180.0
    """Longer than the broker's save interval (60 s in broker/mosquitto/mosquitto.conf)."""


class Row(msgspec.Struct, frozen=True):
    """One message that waits for its PUBACK."""

    id: int
    topic: str
    payload: bytes


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry says about the outbox."""

    outbox_id: str
    emitted: int
    dropped: int
    depth: int
    """Rows that wait."""
    age_us: int
    """Age of the oldest that waits; 0 for none."""


class Outbox:
    """A bounded queue in a SQLite file. Not for use by two threads at once."""

    def __init__(self, settings: OutboxSettings) -> None:
        """Open the file, or make it.

        Raises:
            StoreError: it cannot be opened, or is no outbox.
        """
        self._settings = settings
        self._db = open_database(Path(settings.path), _SCHEMA, form=1, synchronous="NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")  # `sync` does it, off the pipeline's thread

    def belong_to(self, node: NodeId) -> None:
        """Begin a new account (outbox id, counters) if the file was another node's; what waits in it still goes out.

        Raises:
            StoreError: the file cannot be written.
        """
        self._run(
            "UPDATE counter SET outbox_id = lower(hex(randomblob(8))), emotion = 0, telemetry = 0, dropped = 0"
            " WHERE node NOT IN ('', ?)",
            str(node),
        )
        self._run("UPDATE counter SET node = ?", str(node))

    def put(self, topic: NodeTopic, node: NodeId, draft: Callable[[int], msgspec.Struct]) -> int:
        """Store one message and return its row's id; assigns its sequence number in the same transaction.

        Args:
            topic: the row of the table it belongs to.
            node: whose it is.
            draft: makes the message from its sequence number.

        Raises:
            StoreError: the disk refused; nothing was stored and no number used.
            MessageError: the message breaks the contract; nothing was stored and no number used.
        """
        kind = "emotion" if topic is EMOTION else "telemetry"
        try:
            with transaction(self._db):
                (seq,) = self._db.execute(f"UPDATE counter SET {kind} = {kind} + 1 RETURNING {kind}").fetchone()  # noqa: S608 -- one of two constants
                payload = encode(draft(seq), topic.largest_bytes)
                row = self._db.execute(
                    "INSERT INTO message (kind, topic, payload, stored_us) VALUES (?, ?, ?, ?)",
                    (kind, topic.at(node), payload, time.time_ns() // 1000),
                ).lastrowid
                self._make_room()
        except sqlite3.Error as error:
            msg = f"outbox {self._settings.path}: {error}; free the disk"
            raise StoreError(msg) from error
        return row or 0

    def waiting(self, limit: int, except_topics: Collection[str] = ()) -> list[Row]:
        """Return the oldest rows that wait, but none of these topics."""
        marks = ", ".join("?" * len(except_topics))
        rows = self._run(
            f"SELECT id, topic, payload FROM message WHERE state <> 1 AND topic NOT IN ({marks}) ORDER BY id LIMIT ?",  # noqa: S608 -- question marks
            *except_topics,
            limit,
        )
        return [Row(*row) for row in rows]

    def finish(self, ids: Iterable[int]) -> None:
        """Mark rows as delivered."""
        self._run_many("UPDATE message SET state = 1 WHERE id = ?", ids)

    def doubt(self, ids: Iterable[int]) -> None:
        """Mark rows as perhaps delivered: nobody knows, so they do not count as dropped if they have to go."""
        self._run_many("UPDATE message SET state = 2 WHERE id = ? AND state = 0", ids)

    def replay(self) -> None:
        """Make every delivered row wait again."""
        self._run("UPDATE message SET state = 2 WHERE state = 1")

    def forget(self, ids: Iterable[int]) -> None:
        """Delete rows whose replay time is over, unless they wait again."""
        self._run_many("DELETE FROM message WHERE id = ? AND state = 1", ids)

    def counters(self) -> Counters:
        """Return the figures for telemetry."""
        ((outbox_id, emitted, dropped),) = self._run("SELECT outbox_id, emotion, dropped FROM counter")
        ((depth, oldest),) = self._run("SELECT count(*), min(stored_us) FROM message WHERE state <> 1")
        age_us = 0 if oldest is None else max(0, time.time_ns() // 1000 - oldest)
        return Counters(outbox_id=outbox_id, emitted=emitted, dropped=dropped, depth=depth, age_us=age_us)

    def sync(self) -> None:
        """Bring everything committed so far to the disk. Call it at most once a second, off the pipeline's thread."""
        self._run("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()

    def _make_room(self) -> None:
        """Delete the oldest rows while a bound is passed; count the events among them that were never delivered."""
        while True:
            rows, size = self._db.execute("SELECT row_count, byte_count FROM counter").fetchone()
            if rows <= self._settings.most_rows and size <= self._settings.most_bytes:
                return
            gone = self._db.execute(
                "DELETE FROM message WHERE id = (SELECT min(id) FROM message) RETURNING kind, state"
            ).fetchone()
            if gone == ("emotion", 0):
                self._db.execute("UPDATE counter SET dropped = dropped + 1")

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            msg = f"outbox {self._settings.path}: {error}"
            raise StoreError(msg) from error

    def _run_many(self, statement: str, ids: Iterable[int]) -> None:
        try:
            with transaction(self._db):
                self._db.executemany(statement, [(each,) for each in ids])
        except sqlite3.Error as error:
            msg = f"outbox {self._settings.path}: {error}"
            raise StoreError(msg) from error

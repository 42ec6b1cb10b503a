"""What must reach the broker, kept on this node's disk until it has.

    put (pipeline's thread)  ->  waiting  -> PUBACK 0x00 ->  done  -> replay time over ->  gone
          |                      ^      ^                       |
          +-> waits for the clock+      +------ reconnected ----+

A row is done on PUBACK 0x00 only. Done rows stay for a replay time that is longer than the broker's save
interval, and wait again after every reconnect: a broker that is killed before it saved has lost what it had
acknowledged. The identity in the payload makes the repeats harmless.

What is put while nobody knows the time waits until somebody does, and is dated then, once (docs/adr/0020).

Durability: a commit survives the death of the process at once (WAL). `sync`, called at most once a second,
makes it survive a power cut; so a power cut can cost the last second.

One instance belongs to one thread; two threads open the same file twice.
"""

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.contract.errors import StoreError
from broker.contract.messages import NodeMessage, encode
from broker.contract.topics import EMOTION, NodeId, NodeTopic
from broker.database import Database, transaction
from edge_node.clock import WallClock
from edge_node.delivery.outbox_file import OutboxFile

__all__ = ["Counters", "Outbox", "OutboxSettings", "Row"]

_log = logging.getLogger(__name__)

_MOST: Final = 2**53 - 1
"""No number in a message is longer, nor is any row's id greater."""
_DATED_AT_ONCE: Final = 50
"""Rows in one transaction, which the pipeline's thread may have to wait for."""
_LOOKED_AT: Final = 64
"""Of the oldest rows, when one has to go, but never of the newer half; more than are ever in flight."""
_WAITS, _HELD = 0, 3


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[outbox]` in the node's settings."""

    path: str = "sottovoce-outbox.sqlite"
    most_rows: Annotated[int, Meta(ge=10, le=10_000_000)] = 100_000
    """More than a day of events at one a second, and of telemetry. When full, the oldest go, and are counted."""
    most_bytes: Annotated[int, Meta(ge=100_000, le=10_000_000_000)] = 100_000_000
    """Of payloads; the file is about half as large again."""
    replay_s: Annotated[float, Meta(ge=0, le=86_400)] = 180.0
    """Longer than the broker's save interval (60 s in broker/mosquitto/mosquitto.conf)."""
    drain_per_s: Annotated[float, Meta(ge=1, le=100_000)] = 200.0
    """Messages a second at most: after an outage all nodes of a fleet come back at once."""


class Row(msgspec.Struct, frozen=True):
    """One message that waits for its PUBACK."""

    id: int
    topic: str
    payload: bytes
    kind: str
    """`emotion` or `telemetry`."""
    is_new: bool
    """Whether it was never sent before."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry says about the outbox."""

    outbox_id: str
    emitted: int
    dropped: int
    depth: int
    """Rows that wait, for their PUBACK or for the clock."""
    age_us: int
    """Age of the oldest that waits; 0 for none. Of one that is older than this run of the kernel and has no date: the
    kernel's uptime."""


class Outbox:
    """A bounded queue in a SQLite file. Not for use by two threads at once."""

    def __init__(self, settings: OutboxSettings, clock: WallClock, *, alone: bool = False) -> None:
        """Open the file, or make it.

        Args:
            settings: where it is, and its bounds.
            clock: dates the messages.
            alone: whether this is the instance that puts messages in; no other process may have one.

        Raises:
            SettingsError: another node has it.
            StoreError: it cannot be opened, or is no outbox.
        """
        self.settings, self._clock = settings, clock
        self._file = OutboxFile(Path(settings.path), clock, alone=alone)
        self._is_holding = self._is_full = False
        self._dated = 0

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

    def put(self, topic: NodeTopic, node: NodeId, draft: Callable[[int], NodeMessage]) -> int:
        """Store one message and return its row's id; assigns its sequence number in the same transaction.

        Args:
            topic: the row of the table it belongs to.
            node: whose it is.
            draft: makes the message from its sequence number.

        Raises:
            StoreError: the disk refused; nothing was stored and no number used.
            MessageError: the message breaks the contract; nothing was stored and no number used.
        """
        self._file.look()
        kind = "emotion" if topic is EMOTION else "telemetry"
        state, held_us = (_WAITS, None) if self._clock.is_known() else (_HELD, self._clock.uptime_us())
        try:
            with transaction(self._db):
                (seq,) = self._db.execute(f"UPDATE counter SET {kind} = {kind} + 1 RETURNING {kind}").fetchone()  # noqa: S608 -- one of two constants
                message = draft(seq)
                if state == _HELD:  # the date to come must fit, too
                    encode(msgspec.structs.replace(message, time_us=_MOST), topic.largest_bytes)
                payload = encode(message, topic.largest_bytes, topic.message)
                row = self._db.execute(
                    "INSERT INTO message (kind, topic, payload, stored_us, state, held_us) VALUES (?, ?, ?, ?, ?, ?)",
                    (kind, topic.at(node), payload, self._clock.now_us(), state, held_us),
                ).lastrowid
                has_dropped = self._make_room()
        except sqlite3.Error as error:
            msg = f"outbox {self.settings.path}: {error}; free the disk"
            raise StoreError(msg) from error
        self._tell(is_holding=state == _HELD, has_dropped=has_dropped)
        return row or 0

    def date(self) -> bool:
        """Date the oldest messages that wait for the clock, if it is known; return whether more may wait."""
        if not self._clock.is_known():
            return False
        self._file.remember_clock()
        rows = self._run("SELECT id, payload, held_us FROM message WHERE state = 3 ORDER BY id LIMIT ?", _DATED_AT_ONCE)
        if rows:
            is_synced = self._clock.is_synced()
            dates = [(row_id, payload, self._clock.at(held_us)) for row_id, payload, held_us in rows]
            self._file.run_many(
                "UPDATE message SET state = 0, payload = ?, stored_us = ?, held_us = NULL WHERE id = ? AND state = 3",
                [(_dated(payload, at_us, is_synced=is_synced), at_us, row_id) for row_id, payload, at_us in dates],
            )
            self._dated += len(rows)
        elif self._dated:
            _log.info("the clock is right: %d messages that waited for it are dated, and go out", self._dated)
            self._dated = 0
        return bool(rows)

    def waiting(self, limit: int, except_topics: Collection[str] = ()) -> list[Row]:
        """Return the oldest rows that wait for their PUBACK, but none of these topics.

        What waits for the clock is not overtaken by what was put later.
        """
        ((held,),) = self._run("SELECT min(id) FROM message WHERE state = 3")
        rows = [
            Row(row_id, topic, payload, kind, bool(is_new))
            for (topic,) in self._run("SELECT topic FROM queue WHERE waiting > 0")
            if topic not in except_topics
            for row_id, payload, kind, is_new in self._run(
                "SELECT id, payload, kind, state = 0 FROM message"
                " WHERE state IN (0, 2) AND topic = ? AND id < ?"
                " ORDER BY id LIMIT ?",
                *(topic, _MOST if held is None else held, limit),
            )
        ]
        return sorted(rows, key=lambda row: row.id)[:limit]

    def finish(self, ids: Iterable[int]) -> None:
        """Mark rows as delivered."""
        self._file.run_many("UPDATE message SET state = 1 WHERE id = ?", ids)

    def doubt(self, ids: Sequence[int]) -> set[int]:
        """Mark new rows as perhaps delivered, before they are sent: they do not count as dropped if they have to go.

        Returns:
            those that are still here; one that had to go meanwhile is counted as dropped, and is not to be sent.
        """
        if not ids:
            return set()
        marks = ", ".join("?" * len(ids))
        statement = f"UPDATE message SET state = 2 WHERE state = 0 AND id IN ({marks}) RETURNING id"  # noqa: S608 -- question marks
        return {row_id for (row_id,) in self._run(statement, *ids)}

    def refused(self, row: Row) -> None:
        """Mark a new row as not delivered: the broker says so. If it had to go meanwhile, it is dropped."""
        if row.is_new and not self._run("UPDATE message SET state = 0 WHERE id = ? AND state = 2 RETURNING id", row.id):
            self._run("UPDATE counter SET dropped = dropped + ?", row.kind == "emotion")

    def replay(self) -> None:
        """Make every delivered row wait again."""
        self._run("UPDATE message SET state = 2 WHERE state = 1")

    def forget(self, ids: Iterable[int]) -> None:
        """Delete rows whose replay time is over, unless they wait again."""
        self._file.run_many("DELETE FROM message WHERE id = ? AND state = 1", ids)

    def depth(self) -> int:
        """Return how many rows wait, for their PUBACK or for the clock."""
        ((depth,),) = self._run("SELECT coalesce(sum(waiting), 0) FROM queue")
        return int(depth)

    def counters(self) -> Counters:
        """Return the figures for telemetry."""
        ((outbox_id, emitted, dropped),) = self._run("SELECT outbox_id, emotion, dropped FROM counter")
        depth = self.depth()
        if depth <= 1:  # the last may be on its way
            self._is_full = False
        return Counters(outbox_id=outbox_id, emitted=emitted, dropped=dropped, depth=depth, age_us=self._age_us())

    def sync(self) -> None:
        """Bring everything committed so far to the disk. Call it at most once a second, off the pipeline's thread."""
        self._file.look()
        self._run("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    @property
    def _db(self) -> Database:
        return self._file.db

    def _age_us(self) -> int:
        """Return the age of the oldest that waits, as `Counters` has it."""
        now_us, uptime_us = self._clock.now_us(), self._clock.uptime_us()
        held = self._run("SELECT held_us FROM message WHERE state = 3 ORDER BY id LIMIT 1")
        ages = [uptime_us - since_us for (since_us,) in held]
        for (topic,) in self._run("SELECT topic FROM queue WHERE waiting > 0"):
            oldest = self._run(
                "SELECT stored_us FROM message WHERE state IN (0, 2) AND topic = ? ORDER BY id LIMIT 1", topic
            )
            ages += [now_us - stored_us if stored_us else uptime_us for (stored_us,) in oldest]
        return max(0, *ages) if ages else 0

    def _make_room(self) -> bool:
        """Delete the oldest rows while a bound is passed; count the events among them that were never delivered.

        Those that may have been delivered stay as long as there are others: what was in flight when a connection broke
        would be in no account, neither stored nor dropped.

        Returns:
            whether there were such.
        """
        has_dropped = False
        while True:
            rows, size = self._db.execute("SELECT row_count, byte_count FROM counter").fetchone()
            if rows <= self.settings.most_rows and size <= self.settings.most_bytes:
                return has_dropped
            ((kind, state),) = self._db.execute(
                "DELETE FROM message WHERE id = ("
                " SELECT id FROM (SELECT id, state FROM message ORDER BY id LIMIT ?) ORDER BY state = 2, id LIMIT 1"
                ") RETURNING kind, state",
                (min(_LOOKED_AT, self.settings.most_rows // 2),),
            ).fetchall()
            if kind == "emotion" and state in {_WAITS, _HELD}:
                self._db.execute("UPDATE counter SET dropped = dropped + 1")
                has_dropped = True

    def _tell(self, *, is_holding: bool, has_dropped: bool) -> None:
        """Say, once each, that messages wait for the clock, and that the outbox is full."""
        if is_holding and not self._is_holding:
            _log.warning(
                "the clock is not synchronised: messages wait in the outbox, and are dated and sent when it is; see to"
                " a time server (timedatectl), or set clock.trust = true where the clock is right without one"
            )
        self._is_holding = is_holding
        if has_dropped and not self._is_full:
            self._is_full = True
            _log.warning(
                "outbox %s: full; the oldest messages go, and telemetry counts the events among them (outbox.most_rows,"
                " outbox.most_bytes)",
                self.settings.path,
            )

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._file.run(statement, *values)


def _dated(payload: bytes, time_us: int, *, is_synced: bool) -> bytes:
    """Return a payload with another date, and every other value as it was, to the byte."""
    try:
        values = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):  # what cannot be read is not mended here; the collector tells
        return payload
    values["time_us"] = msgspec.Raw(b"%d" % time_us)
    values["clock_synced"] = msgspec.Raw(b"true" if is_synced else b"false")
    return msgspec.json.encode(values)

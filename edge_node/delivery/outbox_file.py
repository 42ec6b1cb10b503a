"""The outbox's file: its form, who may open it, and what becomes of it when somebody takes it away."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from broker.contract.errors import StoreError
from broker.database import Database, open_database, transaction
from edge_node.clock import WallClock
from edge_node.exclusive import hold

__all__ = ["OutboxFile"]

_log = logging.getLogger(__name__)

_FORM: Final = 2
_AGAIN_S: Final = 60.0
"""Until it is tried again to write a file anew."""

# What `counters` and `waiting` ask for is kept by triggers and partial indexes: each costs the same however many rows
# there are.
_ADDED: Final = """
CREATE TABLE queue (
    topic TEXT PRIMARY KEY,
    waiting INTEGER NOT NULL -- rows that are not delivered
) WITHOUT ROWID;
CREATE TABLE clock (
    kernel TEXT NOT NULL, -- which run of the kernel held_us is the uptime of
    was_synced INTEGER NOT NULL -- whether that kernel has called the clock right
);
INSERT INTO clock VALUES ('', 0);
CREATE INDEX message_waiting ON message (topic, id) WHERE state IN (0, 2);
CREATE INDEX message_delivered ON message (id) WHERE state = 1;
CREATE INDEX message_held ON message (id) WHERE state = 3;
CREATE TRIGGER message_in AFTER INSERT ON message BEGIN
    UPDATE counter SET row_count = row_count + 1, byte_count = byte_count + length(NEW.payload);
    INSERT INTO queue VALUES (NEW.topic, NEW.state <> 1)
        ON CONFLICT (topic) DO UPDATE SET waiting = waiting + excluded.waiting;
END;
CREATE TRIGGER message_out AFTER DELETE ON message BEGIN
    UPDATE counter SET row_count = row_count - 1, byte_count = byte_count - length(OLD.payload);
    UPDATE queue SET waiting = waiting - (OLD.state <> 1) WHERE topic = OLD.topic;
END;
CREATE TRIGGER message_moved AFTER UPDATE OF state ON message WHEN (OLD.state = 1) <> (NEW.state = 1) BEGIN
    UPDATE queue SET waiting = waiting + (NEW.state <> 1) - (OLD.state <> 1) WHERE topic = NEW.topic;
END;
CREATE TRIGGER message_dated AFTER UPDATE OF payload ON message BEGIN
    UPDATE counter SET byte_count = byte_count + length(NEW.payload) - length(OLD.payload);
END;
"""

_SCHEMA: Final = (
    """
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_us INTEGER NOT NULL, -- wall clock; 0: nobody knows, before this run of the kernel
    -- 0 waits, 1 delivered, 2 waits and was, or may have been, delivered before, 3 waits for the clock to be right
    state INTEGER NOT NULL DEFAULT 0,
    held_us INTEGER -- of state 3: uptime of the kernel when it was stored
);
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
"""
    + _ADDED
)

_UPGRADES: Final = {
    1: """
DROP INDEX message_waiting;
DROP TRIGGER message_in;
DROP TRIGGER message_out;
ALTER TABLE message ADD COLUMN held_us INTEGER;
"""  # noqa: S608 -- constants
    + _ADDED
    + """
INSERT INTO queue SELECT topic, sum(state <> 1) FROM message GROUP BY topic;
"""
}


class OutboxFile:
    """An open outbox. `db` is another connection after `look` has found the file gone; ask for it each time."""

    def __init__(self, path: Path, clock: WallClock, *, alone: bool) -> None:
        """Open the file, or make it, and let go of what an earlier run of the kernel held: nobody can date it.

        Args:
            path: where it is.
            clock: hears whether this run of the kernel has called it right before.
            alone: whether this is the connection that puts messages in: no other process may have one.

        Raises:
            SettingsError: another node has it.
            StoreError: it cannot be opened, or is no outbox.
        """
        self._path, self._clock, self._alone = path, clock, alone
        self._opened: os.stat_result | None = None
        self._lock: int | None = None
        self._told: str | None = None
        self._again_s = 0.0
        self._remembers = False
        if alone:
            with suppress(OSError, ValueError):  # whatever is wrong with the path, to open it will say so
                path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent.is_dir():
                self._lock = hold(self._beside(".lock"), f"outbox.path {path}")
        try:
            self._use(self._open())
        except StoreError:
            self._release()
            raise
        try:
            self._meet_kernel()
        except StoreError:
            self.close()
            raise

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of one statement.

        Raises:
            StoreError: the file cannot be read or written.
        """
        try:
            return self.db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            msg = f"outbox {self._path}: {error}"
            raise StoreError(msg) from error

    def run_many(self, statement: str, rows: Iterable[object]) -> None:
        """Run a statement for each row of values, or for each value, all or none.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            with transaction(self.db):
                self.db.executemany(statement, [row if isinstance(row, tuple) else (row,) for row in rows])
        except sqlite3.Error as error:
            msg = f"outbox {self._path}: {error}"
            raise StoreError(msg) from error

    def remember_clock(self) -> None:
        """Keep for the next start of the program that this run of the kernel has called the clock right.

        Raises:
            StoreError: the file cannot be written.
        """
        if self._clock.was_synced and not self._remembers:
            self.run("UPDATE clock SET was_synced = 1")
            self._remembers = True

    def look(self) -> None:
        """See to it that what is written comes into the file at the path: somebody may have removed that one.

        As long as it is open, a file that was removed is all there. Whoever puts messages in writes it anew, under its
        old name; the other connection follows.
        """
        with suppress(OSError):
            if self._opened is not None and os.path.samestat(self._path.stat(), self._opened):
                self._told = None
                return
        if not self._alone:
            self._follow()
        elif time.monotonic() >= self._again_s:
            self._again_s = time.monotonic() + _AGAIN_S
            self._restore()

    def close(self) -> None:
        """Close it; safe to call twice."""
        self.db.close()
        self._release()

    def _meet_kernel(self) -> None:
        ((kernel, was_synced),) = self.run("SELECT kernel, was_synced FROM clock")
        if kernel == self._clock.kernel:
            self._clock.was_synced = self._clock.was_synced or bool(was_synced)
            return
        self.run("UPDATE message SET state = 0, stored_us = 0, held_us = NULL WHERE state = 3")
        self.run("UPDATE clock SET kernel = ?, was_synced = 0", self._clock.kernel)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> Database:
        db = open_database(self._path, _SCHEMA, form=_FORM, synchronous="NORMAL", upgrades=_UPGRADES)
        db.execute("PRAGMA wal_autocheckpoint = 0")  # `sync` does it, off the pipeline's thread
        db.execute("PRAGMA cache_size = -256")  # KiB; two of 2 MiB would fill up in an outage, and save no time
        return db

    def _use(self, db: Database) -> None:
        self.db = db
        self._opened = None
        with suppress(OSError):  # gone already
            self._opened = self._path.stat()
        self._opened_shared = self._shared()

    def _shared(self) -> int | None:
        """Return the number of the file that SQLite's connections share, which is another when it is made anew."""
        try:
            return self._beside("-shm").stat().st_ino
        except OSError:
            return None

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(f"{self._path.name}{ending}")

    def _restore(self) -> None:
        if os.path.lexists(self._path):
            self._tell("another file has taken its place, which is left alone; what waits is lost when the node stops")
            return
        before = self.db
        try:
            self._write_anew()
            self._use(self._open())
        except (OSError, sqlite3.Error, StoreError) as error:
            self._tell(f"it cannot be written anew ({error}); what waits is lost when the node stops")
            return
        before.close()
        self._again_s = 0.0
        self._tell("it is written anew, with all that was in it; stop the node before you move it")

    def _write_anew(self) -> None:
        part = self._beside(".part")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        with closing(sqlite3.connect(part)) as copy:
            self.db.backup(copy)
        for ending in ("-wal", "-shm"):  # of the file that was removed: whoever has it open keeps them
            self._beside(ending).unlink(missing_ok=True)
        part.rename(self._path)

    def _follow(self) -> None:
        """Open the file that the other connection has written anew, once it is there.

        Whoever wrote it took away SQLite's shared memory first. As long as that is beside the file, to open the file
        would be to damage it.
        """
        if self._shared() == self._opened_shared or not os.path.lexists(self._path):
            return
        account = "SELECT outbox_id FROM counter"
        try:
            db = self._open()
            is_ours = db.execute(account).fetchone() == self.db.execute(account).fetchone()
        except (sqlite3.Error, StoreError):  # a file of something else, which the other connection tells of
            return
        if is_ours:
            self.db.close()
            self._use(db)
        else:
            db.close()

    def _tell(self, what: str) -> None:
        if what != self._told:  # said once
            self._told = what
            _log.error("outbox %s: was moved or removed while in use; %s", self._path, what)

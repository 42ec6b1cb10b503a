"""SQLite files with a format number: the node's outbox, the collector's store and its spool."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from broker.contract.errors import StoreError

__all__ = ["Database", "check_in_place", "open_database", "transaction"]

Database = sqlite3.Connection
_NONE: Final[Mapping[int, str]] = MappingProxyType({})


def open_database(
    path: Path,
    schema: str,
    *,
    form: int,
    synchronous: Literal["NORMAL", "FULL"],
    read_only: bool = False,
    upgrades: Mapping[int, str] = _NONE,
) -> Database:
    """Open a file, or make it with this schema; WAL, autocommit, usable from any one thread at a time.

    Args:
        path: the file; its folder is made when missing.
        schema: the statements that make an empty file's tables.
        form: number of the schema; a file with another number is refused, unless there is an upgrade from it.
        synchronous: FULL: a commit is on the disk when it returns; NORMAL: only after the next checkpoint.
        read_only: never make or change the file.
        upgrades: by older number, the statements that turn such a file into one of this schema.

    Raises:
        StoreError: the file cannot be opened, is no database, or is one of something else.
    """
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch(mode=0o600)  # before SQLite makes the files beside it, which take over the mode
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        db = sqlite3.connect(uri, uri=True, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            if not read_only:
                _upgrade(db, schema, form, upgrades)
            _prepare(db, schema, form, None if read_only else synchronous)
            if not read_only:
                path.chmod(0o600)
        except BaseException:  # whatever it was, the file is closed, and it goes on up
            db.close()
            raise
    except (OSError, ValueError, sqlite3.Error) as error:
        msg = f"{path}: {error}; name a file on a writable disk, or move this one away"
        raise StoreError(msg) from error
    return db


def check_in_place(path: Path, opened: os.stat_result) -> None:
    """Refuse to write into a file that is no longer at its path: what is written there, nobody will ever find.

    Args:
        path: where it was opened.
        opened: what it was then.

    Raises:
        StoreError: it was moved, removed or replaced.
    """
    if not (path.exists() and os.path.samestat(path.stat(), opened)):
        msg = f"{path}: was moved, removed or replaced while in use; restart this program"
        raise StoreError(msg)


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """Commit what happens inside, or none of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:  # Ctrl-C too must not leave half a transaction
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _prepare(db: Database, schema: str, form: int, synchronous: str | None) -> None:
    """Check the file's form, and make the tables of a new one; `synchronous` is None for a file only read."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    tables = _tables_in(db)
    if (found == 0 and tables) or (found == form and not _tables_of(schema) <= _tables_in(db)):
        msg = "is a database of something else"
        raise sqlite3.DatabaseError(msg)
    if found not in {0, form}:
        msg = f"is of format {found}, this version of Sottovoce reads format {form}"
        raise sqlite3.DatabaseError(msg)
    if synchronous is None:
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    if found == 0:
        db.executescript(f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA user_version = {form};\nCOMMIT;")


def _upgrade(db: Database, schema: str, form: int, upgrades: Mapping[int, str]) -> None:
    """Bring an older file to this form, as a whole or not at all."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found in upgrades:
        if not _tables_in(db) & _tables_of(schema):
            msg = "is a database of something else"
            raise sqlite3.DatabaseError(msg)
        db.executescript(f"BEGIN IMMEDIATE;\n{upgrades[found]}\nPRAGMA user_version = {form};\nCOMMIT;")


def _tables_of(schema: str) -> set[str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        return _tables_in(db)


def _tables_in(db: Database) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

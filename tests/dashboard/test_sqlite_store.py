"""What the SQLite store promises beyond keeping rows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.contract.errors import StoreError
from broker.database import open_database
from dashboard.collector.records import Record
from dashboard.collector.sqlite_store import SqliteStore
from dashboard.sqlite_schema import FORM, SCHEMA

Make = Callable[..., Record]
T0 = 1_700_000_000_000_000


def _delivery(path: Path) -> tuple[int, int, int, int]:
    db = open_database(path, SCHEMA, form=FORM, synchronous="FULL", read_only=True)
    try:
        (row,) = db.execute("SELECT emitted, dropped, stored, lost FROM delivery").fetchall()
    finally:
        db.close()
    return tuple(row)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.sqlite")


def test_store_later_events_hide_no_loss(store: SqliteStore, tmp_path: Path, event: Make, telemetry: Make) -> None:
    store.write([event(seq, T0 + seq) for seq in (1, 2, 5, 6, 7, 8)])
    store.write([telemetry(1, T0 + 5, emitted=5, outbox_dropped=1)])
    store.close()
    assert _delivery(tmp_path / "store.sqlite") == (5, 1, 6, 1)


def test_store_two_outboxes_are_two_accounts(store: SqliteStore, tmp_path: Path, event: Make, telemetry: Make) -> None:
    first, second = {"boot_id": "a" * 16}, {"boot_id": "b" * 16}
    store.write([event(seq, T0 + seq, **first) for seq in (1, 2, 3)])
    store.write([telemetry(1, T0 + 4, emitted=3, outbox_dropped=0, outbox_id="1" * 16, **first)])
    store.write([event(seq, T0 + 10 + seq, **second) for seq in (1, 3)])
    store.write([telemetry(1, T0 + 14, emitted=3, outbox_dropped=0, outbox_id="2" * 16, **second)])
    store.close()
    assert _delivery(tmp_path / "store.sqlite") == (6, 0, 5, 1)


@pytest.mark.parametrize("replaced", [False, True])
def test_store_whose_file_is_gone_takes_nothing(
    store: SqliteStore, tmp_path: Path, event: Make, *, replaced: bool
) -> None:
    store.write([event(1, T0)])
    (tmp_path / "store.sqlite").rename(tmp_path / "elsewhere")
    if replaced:
        (tmp_path / "store.sqlite").touch()
    with pytest.raises(StoreError, match="moved, removed or replaced"):
        store.write([event(2, T0 + 1)])
    store.close()

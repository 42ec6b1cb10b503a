"""Rows of the SQLite store as values, and the names of columns that an older collector's file may lack."""

from collections.abc import Sequence
from typing import Any, Final

from broker.contract.decision import Label
from broker.database import Database
from dashboard.console.readings import Emotion
from dashboard.console.stored import known, node_id
from dashboard.sqlite_schema import GROWN

__all__ = ["EVENT_COLUMNS", "by_name", "columns", "read_event"]

EVENT_COLUMNS: Final = (
    "site, node, boot_id, seq, time_us, received_us, clock_synced, label, confidence, model, total_us"
)
"""Of an event, as `read_event` takes them."""


def by_name(names: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return a row by the names that it was asked by."""
    return dict(zip(names.split(", "), values, strict=True))


def columns(db: Database, table: str, names: str) -> str:
    """Return these columns as a SELECT names them; in the place of one that is not here yet, what it would hold."""
    here = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
    return ", ".join(name if name in here else _instead(table, name) for name in names.split(", "))


def _instead(table: str, name: str) -> str:
    """Return the default of a column that a collector will add."""
    _, _, default = GROWN[table][name].partition("DEFAULT ")
    return default or "NULL"


def read_event(row: tuple[Any, ...]) -> Emotion:
    """Return a stored event.

    Args:
        row: `EVENT_COLUMNS`.

    Raises:
        StoreError: its label or its node is none that this version knows.
    """
    site, node, boot_id, seq, time_us, received_us, clock_synced, label, confidence, model, total_us = row
    return Emotion(
        node=node_id((site, node)),
        boot_id=boot_id,
        seq=seq,
        time_us=time_us,
        received_us=received_us,
        clock_synced=bool(clock_synced),
        label=known(Label, label),
        confidence=confidence,
        model=model,
        total_us=total_us,
    )

"""A node's last word about a release, and how it stands towards updates. Pure; what is said of it is in `words.py`."""

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broker.contract.updates import UpdateState
from dashboard.console.stored import known

__all__ = ["UPDATE_COLUMNS", "Standing", "Trial", "Update", "read_update", "standing"]

_REPORT: Final = ("boot_id", "time_us", "release", "state", "reason", "progress")
_TRIAL: Final = ("windows", "classified", "agreed", "p50_us", "p95_us")
UPDATE_COLUMNS: Final = ", ".join((*_REPORT, *_TRIAL))
"""Of a report, by the names that they have in both stores."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How a new model did beside the old one, in windows."""

    windows: int
    classified: int
    """Of those, the ones loud enough to classify."""
    agreed: int
    """Of those, the ones that both models gave the same label."""
    p50_us: int
    """Time of one classified window."""
    p95_us: int


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """An update report. `release` and `reason` come from the network."""

    received_us: int
    boot_id: str
    time_us: int
    """The node's wall clock."""
    release: str | None
    state: UpdateState
    reason: str
    progress: float
    """Of the state under way, 0 to 1."""
    trial: Trial | None = None


class Standing(enum.StrEnum):
    """What is worth a word about a node and updates."""

    UPDATING = "updating"
    REJECTED = "rejected"
    """Or on its way back: it has failed."""
    IDLE = "idle"
    """And it says why: it waits, or the release was withdrawn."""


def standing(update: Update) -> Standing | None:
    """Return how a node stands towards updates; None: it has nothing to do and nothing to explain."""
    match update.state:
        case UpdateState.IDLE:
            return Standing.IDLE if update.reason else None
        case UpdateState.REJECTED | UpdateState.ROLLING_BACK:
            return Standing.REJECTED
        case _:
            return Standing.UPDATING


def read_update(row: Mapping[str, Any], received_us: int) -> Update:
    """Return a stored report.

    Args:
        row: `UPDATE_COLUMNS` by name.
        received_us: when it came, µs since 1970.

    Raises:
        StoreError: its state is none that this version knows.
    """
    report = {name: row[name] for name in _REPORT} | {"state": known(UpdateState, row["state"])}
    trial = {name: row[name] for name in _TRIAL}
    return Update(received_us=received_us, **report, trial=None if trial["windows"] is None else Trial(**trial))

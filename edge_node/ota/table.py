"""The states of a model update as a table, from which the node acts and the guide's diagram is drawn.

Whatever happens is one `Event`; the table says which state follows, and `edge_node.ota.record.step` what is remembered
with it. The rule that governs all: **a state is on the disk before anything of it is done**, and doing it again, after
a crash in the middle, does no harm. A start of the program is no event: every state's action is begun anew.
"""

import enum
from collections.abc import Mapping
from typing import Final

from broker.contract.updates import UpdateState

__all__ = ["RUNNING", "TABLE", "WORKING", "Event", "next_state"]


class Event(enum.StrEnum):
    """What can happen to an update."""

    OFFERED = "offered"
    """Signed metadata name a release, and it is this node's turn."""
    REFUSED = "refused"
    """The release can not be taken up: incompatible, a step back, or known as bad."""
    FETCHED = "fetched"
    """All of its chunks are here."""
    SPOILED = "spoiled"
    """A chunk on the disk is no longer what was fetched."""
    PROVED = "proved"
    """Signature, digest, compatibility, golden vectors and time of a window are right."""
    TRIED = "tried"
    """It ran beside the old model, and nothing was wrong."""
    INSTALLED = "installed"
    """It is in its slot, and is the model that runs from now on."""
    CONFIRMED = "confirmed"
    """It has judged enough windows by itself."""
    FAILED = "failed"
    """It does not do what it must; remembered, so that it is not tried again."""
    BROKEN = "broken"
    """A file of the model that should run cannot be used; not remembered, it may be fetched again."""
    WITHDRAWN = "withdrawn"
    """The rollout was aborted, or names another release."""
    RECALLED = "recalled"
    """An operator has told this node to go back."""
    RESTORED = "restored"
    """The model that ran before runs again; the other one failed."""
    RETURNED = "returned"
    """The model that ran before runs again; the other one was only withdrawn."""


_S: Final = UpdateState
_E: Final = Event

TABLE: Final[Mapping[UpdateState, Mapping[Event, UpdateState]]] = {
    _S.IDLE: {
        _E.OFFERED: _S.DOWNLOADING,
        _E.REFUSED: _S.REJECTED,
        _E.FAILED: _S.ROLLING_BACK,
        _E.BROKEN: _S.ROLLING_BACK,
        _E.RECALLED: _S.ROLLING_BACK,
    },
    _S.DOWNLOADING: {
        _E.FETCHED: _S.VERIFYING,
        _E.WITHDRAWN: _S.IDLE,
        _E.BROKEN: _S.ROLLING_BACK,
    },
    _S.VERIFYING: {
        _E.PROVED: _S.TRIAL,
        _E.SPOILED: _S.DOWNLOADING,
        _E.FAILED: _S.REJECTED,
        _E.WITHDRAWN: _S.IDLE,
        _E.BROKEN: _S.ROLLING_BACK,
    },
    _S.TRIAL: {
        _E.TRIED: _S.COMMITTING,
        _E.SPOILED: _S.DOWNLOADING,
        _E.FAILED: _S.REJECTED,
        _E.WITHDRAWN: _S.IDLE,
        _E.BROKEN: _S.ROLLING_BACK,
    },
    _S.COMMITTING: {
        _E.SPOILED: _S.DOWNLOADING,
        _E.INSTALLED: _S.COMMITTING,
        _E.CONFIRMED: _S.IDLE,
        _E.FAILED: _S.ROLLING_BACK,
        _E.BROKEN: _S.ROLLING_BACK,
        _E.WITHDRAWN: _S.ROLLING_BACK,
    },
    _S.ROLLING_BACK: {
        _E.RESTORED: _S.REJECTED,
        _E.RETURNED: _S.IDLE,
        _E.BROKEN: _S.ROLLING_BACK,
    },
    _S.REJECTED: {
        _E.OFFERED: _S.DOWNLOADING,
        _E.REFUSED: _S.REJECTED,
        _E.WITHDRAWN: _S.IDLE,
        _E.FAILED: _S.ROLLING_BACK,
        _E.BROKEN: _S.ROLLING_BACK,
        _E.RECALLED: _S.ROLLING_BACK,
    },
}
"""Which state follows; what is not here cannot happen, and would be a defect."""

WORKING: Final = frozenset({_S.DOWNLOADING, _S.VERIFYING, _S.TRIAL, _S.COMMITTING})
"""States in which a release is being taken up."""

RUNNING: Final = frozenset({_S.TRIAL, _S.COMMITTING})
"""States that run a new model from their beginning to their end: starts of the program in them are held against it."""


def next_state(state: UpdateState, event: Event) -> UpdateState:
    """Return the state that follows.

    Raises:
        KeyError: the event cannot happen in this state; a defect of ours.
    """
    return TABLE[state][event]

"""What to do when a source of sound goes wrong: tables, and a step over values. It knows no device and no clock.

    problem    tiers, one after the other; the last is repeated for ever, scans less and less often
    lost       restart the stream, re-open the device, look for all devices again
    stalled    the same
    stuck      the same, far apart: a hardware mute switch looks the same, and each attempt costs a moment of sound
    busy       restart the stream, re-open the device; PortAudio would not even list a device that another program has
    rate       look for all devices again: PortAudio reads a device's rate only then
    unusable   re-open the device, look for all devices again

The waits between attempts are a table, too: they grow up to a minute.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from broker.contract.condition import CaptureProblem

__all__ = [
    "SCANS_AT_FIRST",
    "STEADY_S",
    "TIERS",
    "WAITS_S",
    "ZEROS_S",
    "Attempt",
    "Failed",
    "Heard",
    "Load",
    "Recovery",
    "Tier",
    "Trouble",
    "step",
    "weigh",
]


class Tier(enum.StrEnum):
    """How much is begun anew."""

    RESTART = "restart"
    """The stream, on the device as it is known."""
    REOPEN = "re-open"
    """The device, looked up by its name in the list of devices that there is."""
    RESCAN = "re-scan"
    """The list of devices, and with it all the rest."""


_ALL: Final = (Tier.RESTART, Tier.REOPEN, Tier.RESCAN)
TIERS: Final[Mapping[CaptureProblem, tuple[Tier, ...]]] = MappingProxyType(
    {
        CaptureProblem.LOST: _ALL,
        CaptureProblem.STALLED: _ALL,
        CaptureProblem.STUCK: _ALL,
        CaptureProblem.BUSY: (Tier.RESTART, Tier.REOPEN),
        CaptureProblem.RATE: (Tier.RESCAN,),
        CaptureProblem.UNUSABLE: (Tier.REOPEN, Tier.RESCAN),
    }
)
"""What to try first, second, ...; overload is not among them: nothing of it is the device's fault."""
WAITS_S: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Longest wait before the first attempt, the second, ...; the last is repeated. Half of it is left to chance."""
SCANS_AT_FIRST: Final = 10
"""From this attempt on, only every tenth scans and the others re-open: PortAudio 19.6 loses 12 KiB of memory by each
scan (measured), and a microphone may be away for weeks."""
STEADY_S: Final = 10.0
"""A problem is over when there has been sound for this long; until then, the next attempt is the next in the table."""
ZEROS_S: Final = (60.0, 120.0, 240.0, 480.0, 600.0)
"""How long there may be nothing but zeros before the first attempt, the second, ...; the last is repeated."""

_SPAN_S: Final = 10.0
_MOST_DROPPED: Final = 3
"""Dropped blocks in a span of which nobody needs to hear: a machine may stumble."""


class Failed(msgspec.Struct, frozen=True):
    """There is no sound any more, or still none."""

    problem: CaptureProblem


class Heard(msgspec.Struct, frozen=True):
    """A block has come."""

    zeros: bool


class Attempt(msgspec.Struct, frozen=True):
    """What to do next."""

    tier: Tier
    wait_s: float
    """At most; the caller takes half of it or more, by chance, so that not all nodes of a house try at once."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A problem, from its beginning until it is over."""

    problem: CaptureProblem
    began_s: float
    """When sound was last heard before it, in s of the caller's clock; of zeros: when they began."""
    attempts: int = 0
    """Begun so far."""
    deaf_since_s: float | None = None
    """Since when there is no sound; None: there is some."""
    deaf_s: float = 0.0
    """How long there was none, before that."""
    heard_since_s: float | None = None
    """Since when there is sound again; None: there is none."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """Where capture stands."""

    trouble: Trouble | None = None
    heard_s: float | None = None
    """When the last block came."""
    zeros_since_s: float | None = None
    """Since when all is zero, or since the last attempt to mend that."""
    zeros_attempts: int = 0
    """Attempts against zeros. They are remembered when sound comes back by itself: the device just is like that."""


def step(state: Recovery, event: Failed | Heard, now_s: float) -> tuple[Recovery, Attempt | None]:
    """Return where capture stands after an event, and what to do.

    Args:
        state: where it stood.
        event: what has happened.
        now_s: when, in s of any clock that never goes back.

    Returns:
        After every failure there is an attempt; while all is zero, now and then; otherwise none.
    """
    if isinstance(event, Failed):
        return _fail(state, event.problem, now_s)
    return _hear_zeros(state, now_s) if event.zeros else (_hear(state, now_s), None)


def _fail(state: Recovery, problem: CaptureProblem, now_s: float) -> tuple[Recovery, Attempt]:
    trouble, heard_s = state.trouble, now_s if state.heard_s is None else state.heard_s
    if trouble is None or trouble.problem is CaptureProblem.STUCK:  # zeros are sound: now it is something else
        trouble = Trouble(problem=problem, began_s=heard_s)
    if trouble.deaf_since_s is None:
        trouble = msgspec.structs.replace(trouble, deaf_since_s=heard_s, heard_since_s=None)
    number = trouble.attempts
    attempt = Attempt(_tier(problem, number), WAITS_S[min(number, len(WAITS_S) - 1)])
    trouble = msgspec.structs.replace(trouble, problem=problem, attempts=number + 1)
    return msgspec.structs.replace(state, trouble=trouble, zeros_since_s=None), attempt


def _hear(state: Recovery, now_s: float) -> Recovery:
    """Note a block with sound in it."""
    trouble, zeros_attempts = state.trouble, state.zeros_attempts
    if trouble is not None and trouble.problem is CaptureProblem.STUCK:
        has_helped = state.zeros_since_s is not None and now_s - state.zeros_since_s < STEADY_S
        trouble, zeros_attempts = None, 0 if has_helped else zeros_attempts
    return Recovery(trouble=_settled(trouble, now_s), heard_s=now_s, zeros_attempts=zeros_attempts)


def _hear_zeros(state: Recovery, now_s: float) -> tuple[Recovery, Attempt | None]:
    """Note a block of zeros; a long row of them is a problem, too."""
    number = state.zeros_attempts
    since_s = now_s if state.zeros_since_s is None else state.zeros_since_s
    trouble = _settled(state.trouble, now_s)
    state = msgspec.structs.replace(state, trouble=trouble, heard_s=now_s, zeros_since_s=since_s)
    if now_s - since_s < ZEROS_S[min(number, len(ZEROS_S) - 1)]:
        return state, None
    if trouble is None:
        trouble = Trouble(problem=CaptureProblem.STUCK, began_s=since_s)
    attempt = Attempt(_tier(CaptureProblem.STUCK, trouble.attempts), 0.0)
    trouble = msgspec.structs.replace(trouble, attempts=trouble.attempts + 1)
    return msgspec.structs.replace(state, trouble=trouble, zeros_since_s=now_s, zeros_attempts=number + 1), attempt


def _tier(problem: CaptureProblem, number: int) -> Tier:
    """Return what the attempt with this number, from 0, is."""
    tiers = TIERS[problem]
    tier = tiers[min(number, len(tiers) - 1)]
    return Tier.REOPEN if tier is Tier.RESCAN and number >= SCANS_AT_FIRST and number % SCANS_AT_FIRST else tier


def _settled(trouble: Trouble | None, now_s: float) -> Trouble | None:
    """Return what is left of a problem when there is sound."""
    if trouble is None or trouble.problem is CaptureProblem.STUCK:
        return trouble
    if trouble.heard_since_s is None:
        deaf_s = trouble.deaf_s + now_s - (now_s if trouble.deaf_since_s is None else trouble.deaf_since_s)
        return msgspec.structs.replace(trouble, heard_since_s=now_s, deaf_since_s=None, deaf_s=deaf_s)
    return None if now_s - trouble.heard_since_s >= STEADY_S else trouble


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this machine keeps up."""

    since_s: float
    """When the present span of time began."""
    dropped_blocks: int = 0
    """How many blocks had been dropped by then."""
    lost_blocks: int = 0
    """How many have been dropped since the machine could no longer keep up."""
    is_too_much: bool = False
    """Whether it cannot keep up."""


def weigh(load: Load, dropped_blocks: int, now_s: float) -> Load:
    """Return the load at a point of time: too much when a span of 10 s has lost blocks, well when one has lost none.

    Args:
        load: as it was.
        dropped_blocks: since the program began.
        now_s: in s of any clock that never goes back.
    """
    lost = dropped_blocks - load.dropped_blocks
    begins = not load.is_too_much and lost >= _MOST_DROPPED
    if not begins and now_s - load.since_s < _SPAN_S:
        return load
    return Load(
        since_s=now_s,
        dropped_blocks=dropped_blocks,
        lost_blocks=lost + (load.lost_blocks if load.is_too_much else 0),
        is_too_much=begins or (load.is_too_much and lost > 0),
    )

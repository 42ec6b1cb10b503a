"""From class probabilities to a decided label, and from decided labels to events.

One pure state machine: `advance` takes a window, `fall_silent` one without speech, `break_off` a gap in the audio. Each
returns the next state, so that training evaluates exactly what a node will say. What happens to a window's
probabilities, in this order:

    smoothing      their running mean, in which the newest window weighs `smoothing`
    hysteresis     the label that the mean favours; one that is decided has `margin` in its favour
    confirmation   another label must be favoured `confirm_windows` times in a row; the first after silence, once
    hold           and the decided one must have stood for `hold_us`
    event          every change is told, and what does not change every 5 s; never two within a second

A spec without the last three fields of `DecisionSpec`, as an older bundle has it, decides every window by its mean.
"""

import enum
import math
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.errors import SettingsError
from broker.contract.scalars import UNCERTAIN_BOUNDS, Share

__all__ = [
    "CLASSES",
    "MIN_INTERVAL_US",
    "REPEAT_INTERVAL_US",
    "Announced",
    "Deciding",
    "Decision",
    "DecisionSpec",
    "Label",
    "Probabilities",
    "advance",
    "break_off",
    "fall_silent",
    "level_dbfs",
    "with_thresholds",
]

Probabilities = tuple[float, float, float]
"""Of one window or of several, in the order of `CLASSES`."""


class Label(enum.StrEnum):
    """What a node may say about speech."""

    PLEASANT = "pleasant"
    NEUTRAL = "neutral"
    UNPLEASANT = "unpleasant"
    UNCERTAIN = "uncertain"


CLASSES: Final = (Label.PLEASANT, Label.NEUTRAL, Label.UNPLEASANT)
"""What a model tells apart. `uncertain` is decided, never predicted."""

REPEAT_INTERVAL_US: Final = 5_000_000
"""An unchanged label is repeated this often while speech lasts."""

MIN_INTERVAL_US: Final = 1_000_000
"""Two events of one node are at least this far apart; outbox, broker and store are sized from it."""


class DecisionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How probabilities become a label. Travels in the bundle's manifest."""

    smoothing: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Weight of the newest window in the running mean of the probabilities; 1: no smoothing."""
    uncertain_below: Share = 0.4
    """A smoothed probability below this is `uncertain`."""
    silent_below_dbfs: Annotated[float, Meta(le=0)] = -60.0
    """A window whose level is below this is not classified: silence has no emotion."""
    margin: Annotated[float, Meta(ge=0, le=0.3)] = 0.0
    """A decided class is left for another only where that is so much likelier, and for `uncertain` only so far below
    `uncertain_below`; 0: no hysteresis."""
    hold_us: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    """A decided label stands for at least so long while speech lasts, in µs of audio."""
    confirm_windows: Annotated[int, Meta(ge=1, le=20)] = 1
    """Windows in a row that must favour another label before it is decided. The first one after silence or a gap is
    decided at once: waiting there was measured to win nothing."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the node makes of the speech so far."""

    label: Label
    confidence: Share
    """Smoothed probability of the label; of the likeliest class where the label is `uncertain`."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """The last decision that became an event."""

    label: Label | None
    """None: silence came after it, so that whatever comes next is a change."""
    at_us: int
    """Time of the event, in µs."""


class Deciding(msgspec.Struct, frozen=True, kw_only=True):
    """State of the machine after a window; as it is made, nothing was heard yet. All times are the audio's own."""

    smoothed: Probabilities | None = None
    """None: no window since silence or a gap, or one whose probabilities were not finite."""
    decision: Decision | None = None
    """None: silence, a gap, or nothing yet."""
    since_us: int = 0
    """When its label was decided, in µs."""
    rival: Label | None = None
    """What the last windows favour instead of it."""
    rival_windows: int = 0
    """How many in a row."""
    announced: Announced | None = None
    """None: there was no event yet."""
    is_event: bool = False
    """Whether the last window is worth an event."""


def level_dbfs(samples: npt.NDArray[np.float32]) -> float:
    """Return the level of the samples' alternating part, in dB re a full-scale square wave; -inf for none."""
    if len(samples) == 0:
        return float("-inf")
    power = float(np.var(samples, dtype=np.float64))
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def with_thresholds(spec: DecisionSpec, *, uncertain_below: float | None = None) -> DecisionSpec:
    """Return the settings with what an operator sets while the node runs.

    Args:
        spec: the bundle's.
        uncertain_below: None: the bundle's own.

    Raises:
        SettingsError: the threshold is outside of `UNCERTAIN_BOUNDS`, and not the bundle's own.
    """
    if uncertain_below in {None, spec.uncertain_below}:
        return spec
    low, high = UNCERTAIN_BOUNDS
    if not low <= uncertain_below <= high:
        msg = f"uncertain_below = {uncertain_below:g}: allowed is {low:g} to {high:g}"
        raise SettingsError(msg)
    return msgspec.structs.replace(spec, uncertain_below=float(uncertain_below))


def advance(state: Deciding, newest: Sequence[float], at_us: int, spec: DecisionSpec) -> Deciding:
    """Return the state after a window that holds speech.

    Args:
        state: after the window before.
        newest: probabilities of this window alone, in the order of `CLASSES`.
        at_us: when the window ended, in µs of the audio's own clock.
        spec: the bundle's settings.
    """
    smoothed = _smooth(state.smoothed, newest, spec.smoothing)
    label, since_us = None if state.decision is None else state.decision.label, state.since_us
    favoured = _favoured(smoothed, label, spec)
    rival = None if favoured == label else favoured
    windows = 0 if rival is None else 1 + (state.rival_windows if rival == state.rival else 0)
    if label is None or (windows >= spec.confirm_windows and at_us - since_us >= spec.hold_us):
        label, since_us, rival, windows = favoured, at_us, None, 0
    is_event = _is_worth_an_event(label, state.announced, at_us)
    return Deciding(
        smoothed=smoothed,
        decision=Decision(label=label, confidence=_confidence(smoothed, label)),
        since_us=since_us,
        rival=rival,
        rival_windows=windows,
        announced=Announced(label=label, at_us=at_us) if is_event else state.announced,
        is_event=is_event,
    )


def fall_silent(state: Deciding) -> Deciding:
    """Return the state after a window without speech: nothing of what was heard counts any more."""
    announced = state.announced
    return Deciding(announced=None if announced is None else Announced(label=None, at_us=announced.at_us))


def break_off(state: Deciding) -> Deciding:
    """Return the state after a gap in the audio: as after silence, but that the same label is no change."""
    return Deciding(announced=state.announced)


def _smooth(previous: Probabilities | None, newest: Sequence[float], weight: float) -> Probabilities | None:
    """Return the running mean; None where a model's answer is not finite, as if nothing had been heard before."""
    first, second, third = newest
    if not (math.isfinite(first) and math.isfinite(second) and math.isfinite(third)):
        return None
    if previous is None:
        return (first, second, third)
    rest = 1 - weight
    return (
        weight * first + rest * previous[0],
        weight * second + rest * previous[1],
        weight * third + rest * previous[2],
    )


def _favoured(smoothed: Probabilities | None, decided: Label | None, spec: DecisionSpec) -> Label:
    """Return the label that the mean speaks for, with the margin in favour of the class that is decided."""
    if smoothed is None:  # a model that overflows knows nothing
        return Label.UNCERTAIN
    best = smoothed.index(max(smoothed))
    kept = CLASSES.index(decided) if decided in CLASSES else None
    if kept is not None and smoothed[best] - smoothed[kept] < spec.margin:
        best = kept
    floor = spec.uncertain_below - (spec.margin if best == kept else 0)
    return CLASSES[best] if smoothed[best] >= floor else Label.UNCERTAIN


def _confidence(smoothed: Probabilities | None, label: Label) -> float:
    if smoothed is None:
        return 0.0
    value = smoothed[CLASSES.index(label)] if label in CLASSES else max(smoothed)
    return min(1.0, max(0.0, value))  # float32 sums may end a hair above 1


def _is_worth_an_event(label: Label, last: Announced | None, at_us: int) -> bool:
    """Return whether to publish: on every change, every 5 s while speech lasts, at most once a second."""
    if last is None:
        return True
    elapsed_us = at_us - last.at_us
    if elapsed_us < 0:  # after a gap, time is told anew: a sound card that runs fast was ahead of it
        return True
    if elapsed_us < MIN_INTERVAL_US:
        return False
    return label != last.label or elapsed_us >= REPEAT_INTERVAL_US

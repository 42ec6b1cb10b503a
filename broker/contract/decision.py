"""From class probabilities to a decided label, and from decided labels to events.

Pure functions over small frozen states, so that training evaluates exactly what a node will say.
"""

import enum
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

__all__ = [
    "CLASSES",
    "MIN_INTERVAL_US",
    "REPEAT_INTERVAL_US",
    "Announced",
    "Decision",
    "DecisionSpec",
    "Label",
    "decide",
    "is_worth_an_event",
    "level_dbfs",
    "smooth",
]

Probabilities = npt.NDArray[np.float32]
Share = Annotated[float, Meta(ge=0, le=1)]


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


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the node makes of the speech so far."""

    label: Label
    confidence: Share
    """Smoothed probability of the likeliest class."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """The last decision that became an event."""

    label: Label | None
    """None: silence came after it, so that whatever comes next is a change."""
    at_us: int
    """Monotonic time of the event, in µs."""


def level_dbfs(samples: npt.NDArray[np.float32]) -> float:
    """Return the level of the samples' alternating part, in dB re a full-scale square wave; -inf for none."""
    if len(samples) == 0:
        return float("-inf")
    power = float(np.var(samples, dtype=np.float64))
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def smooth(previous: Probabilities | None, newest: Probabilities, spec: DecisionSpec) -> Probabilities:
    """Return the running mean of the probabilities, shape (3,), float32; `previous` is None after silence."""
    if previous is None or not np.isfinite(previous).all():
        return newest
    return (spec.smoothing * newest + (1 - spec.smoothing) * previous).astype(np.float32)


def decide(smoothed: Probabilities, spec: DecisionSpec) -> Decision:
    """Return the likeliest class, or `uncertain` where none is likely enough.

    Args:
        smoothed: shape (3,), in the order of `CLASSES`.
        spec: the bundle's thresholds.
    """
    if not np.isfinite(smoothed).all():  # a model that overflows knows nothing
        return Decision(label=Label.UNCERTAIN, confidence=0.0)
    best = int(np.argmax(smoothed))
    confidence = min(1.0, float(smoothed[best]))  # float32 sums may end a hair above 1
    label = CLASSES[best] if confidence >= spec.uncertain_below else Label.UNCERTAIN
    return Decision(label=label, confidence=confidence)


def is_worth_an_event(decision: Decision, last: Announced | None, now_us: int) -> bool:
    """Return whether to publish: on every change, every 5 s while speech lasts, at most once a second."""
    if last is None:
        return True
    elapsed_us = now_us - last.at_us
    if elapsed_us < MIN_INTERVAL_US:
        return False
    return decision.label != last.label or elapsed_us >= REPEAT_INTERVAL_US

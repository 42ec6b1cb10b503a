"""When virtual nodes are there: some are away at first, some leave and come back, some are slow."""

import random
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Churn", "Presence", "draw_presence"]


class Churn(msgspec.Struct, frozen=True, kw_only=True):
    """How restless a fleet is."""

    share: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """Of the nodes, drawn apart for each: away at first (half of these never come); leave once or twice; are slow."""
    horizon_s: Annotated[float, Meta(gt=0)] = 240.0
    """Within this time from the start, late ones come and others leave."""
    away_least_s: Annotated[float, Meta(gt=0)] = 5.0
    away_most_s: Annotated[float, Meta(gt=0)] = 40.0
    """Who leaves is away for a time between these two; some are reported as lost by then, and some are not."""


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """When one node is there, in seconds from the start of the fleet."""

    comes_s: float | None
    """When its power is switched on first; None: never."""
    absences: tuple[tuple[float, float], ...] = ()
    """From when to when its power is off, in order and apart."""
    is_slow: bool = False


def draw_presence(churn: Churn, ramp_s: float, rng: random.Random) -> Presence:
    """Return when a node is there.

    Args:
        churn: of the fleet.
        ramp_s: within which time those that are there from the beginning are switched on.
        rng: of this node.
    """
    place, is_away, is_never, leaves, is_slow = (rng.random() for _ in range(5))
    comes_s: float | None = place * ramp_s
    if is_away < churn.share:
        never = is_never < 0.5  # noqa: PLR2004 -- one half
        comes_s = None if never else ramp_s + (0.1 + 0.9 * place) * churn.horizon_s
    absences: list[tuple[float, float]] = []
    if comes_s is not None and leaves < churn.share:
        at_s = comes_s
        for _ in range(rng.randint(1, 2)):
            at_s += rng.uniform(0.05, 0.5) * churn.horizon_s
            back_s = at_s + rng.uniform(churn.away_least_s, churn.away_most_s)
            absences.append((at_s, back_s))
            at_s = back_s
    return Presence(comes_s=comes_s, absences=tuple(absences), is_slow=is_slow < churn.share)

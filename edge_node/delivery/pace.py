"""How fast an outbox may be emptied: after an outage all nodes of a fleet come back at once."""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Pace"]

_NS: Final = 1_000_000_000


class Pace:
    """So many a second, and after a pause a few at once."""

    def __init__(self, per_s: float, at_once: int, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin rested.

        Args:
            per_s: steps a second at most, on average.
            at_once: steps without a pause at most.
            clock_ns: monotonic, ns.
        """
        self._per_ns, self._at_once, self._clock_ns = per_s / _NS, at_once, clock_ns
        self._left = float(at_once)
        self._at_ns = clock_ns()

    @property
    def left(self) -> int:
        """How many steps may be taken now."""
        now_ns = self._clock_ns()
        self._left = min(float(self._at_once), self._left + (now_ns - self._at_ns) * self._per_ns)
        self._at_ns = now_ns
        return int(self._left)

    def step(self) -> None:
        """Take one."""
        self._left -= 1

    @property
    def wait_s(self) -> float:
        """How long until a few may be taken at once, in s."""
        return max(0.0, self._at_once / 4 - self._left) / (self._per_ns * _NS)

"""When metadata are verified: one look at a time, never often, never for ever without, and never by a wrong clock."""

import math
from collections.abc import Callable
from typing import Final

from edge_node.ota.ports import Clock, Work
from edge_node.ota.timers import Timers

__all__ = ["Looks"]

_APART_S: Final = 2.0
"""Between two beginnings: a broker that changes its files without end costs no more than this."""
_EVERY_S: Final = 21_600.0
"""Without any news: whoever holds back what is newer is noticed when the signatures expire."""
_CLOCK_S: Final = 10.0


class Looks:
    """The looks of one updater at its metadata."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        timers: Timers,
        *,
        floor_us: Callable[[], int],
        refuse: Callable[[str], None],
    ) -> None:
        """Begin with none.

        Args:
            work: verifies.
            clock: which must be right, as signatures expire.
            timers: of the updater.
            floor_us: returns the time before which no clock is believed, µs since 1970.
            refuse: hears why there is no look now.
        """
        self._work, self._clock, self._timers = work, clock, timers
        self._floor_us, self._refuse = floor_us, refuse
        self._began_s = -math.inf
        self._is_looking = self._must_look_again = False

    def soon(self, wait_s: float = 0.0) -> None:
        """Look within this time, in seconds, or as soon as the last look is long enough ago."""
        since_s = self._clock.monotonic_s() - self._began_s
        self._timers.within(max(wait_s, _APART_S - since_s), self._look)

    def done(self) -> None:
        """Hear that a look has ended."""
        self._is_looking = False
        self.soon(0.0 if self._must_look_again else _EVERY_S)
        self._must_look_again = False

    def _look(self) -> None:
        if self._is_looking:
            self._must_look_again = True  # what has come meanwhile may not have been seen
            return
        if why := self._clock_problem():
            self._refuse(why)
            self._timers.after(_CLOCK_S, self._look)
            return
        self._is_looking, self._began_s = True, self._clock.monotonic_s()
        self._work.verify()

    def _clock_problem(self) -> str | None:
        if not self._clock.is_synced():
            return "waits: the clock is not synchronised; mend that, or say by clock.trust that it is right"
        if self._clock.now_us() < self._floor_us():
            return "waits: the clock is earlier than when metadata were verified last"
        return None

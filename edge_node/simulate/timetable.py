"""What is to be done when, for all virtual nodes in one heap, and how late it was done."""

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

__all__ = ["Appointment", "Timetable"]

_MOST_LATE: Final = 100_000
"""Tenths of a millisecond; what is later than this counts as this."""
_MOST_DONE: Final = 500
"""Appointments in one turn: what arrives meanwhile must not wait for all of a crowd."""


class Appointment:
    """One thing to be done at its time, unless it is cancelled before."""

    __slots__ = ("action", "due_s")

    def __init__(self, due_s: float, action: Callable[[], None]) -> None:
        """Note what is to be done when, by the monotonic clock."""
        self.due_s = due_s
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Take it back; to do so twice, or too late, does no harm."""
        self.action = None


class Timetable:
    """Appointments in the order of their times. Belongs to one thread."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            now_s: a clock that only goes forward, in seconds.
        """
        self.now_s = now_s
        self._heap: list[tuple[float, int, Appointment]] = []
        self._numbers = itertools.count()
        self._late: Counter[int] = Counter()

    def at(self, due_s: float, action: Callable[[], None]) -> Appointment:
        """Make an appointment for a time of the clock; one in the past is for the next turn."""
        made = Appointment(due_s, action)
        heapq.heappush(self._heap, (due_s, next(self._numbers), made))
        return made

    def after(self, wait_s: float, action: Callable[[], None]) -> Appointment:
        """Make an appointment for so many seconds from now."""
        return self.at(self.now_s() + wait_s, action)

    def turn(self) -> None:
        """Do what is due now, in order; what becomes due by it waits for the next turn."""
        now_s = self.now_s()
        for _ in range(_MOST_DONE):
            if not self._heap or self._heap[0][0] > now_s:
                return
            _, _, due = heapq.heappop(self._heap)
            action, due.action = due.action, None
            if action is not None:
                self._late[min(_MOST_LATE, int((self.now_s() - due.due_s) * 10_000))] += 1
                action()

    @property
    def wait_s(self) -> float | None:
        """Seconds until the next appointment; None: there is none."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self.now_s()) if self._heap else None

    def late_ms(self, share: float) -> float:
        """Return by how many milliseconds at most so large a share of all appointments was done too late."""
        left = self._late.total() * share
        for tenths in sorted(self._late):
            left -= self._late[tenths]
            if left <= 0:
                return tenths / 10
        return 0.0

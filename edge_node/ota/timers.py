"""What is to be done later: one time for each action, by a clock that only goes forward."""

from collections.abc import Callable
from typing import Final

__all__ = ["Pause", "Timers"]

_FIRST_S: Final = 15.0
_LONGEST_S: Final = 900.0


class Timers:
    """Actions with their times, in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            now_s: the clock.
        """
        self._now_s = now_s
        self._due: dict[Callable[[], None], float] = {}

    @property
    def due_s(self) -> float | None:
        """When something is to be done; None: never."""
        return min(self._due.values(), default=None)

    def after(self, wait_s: float, action: Callable[[], None]) -> None:
        """Do it then, whatever was said before."""
        self._due[action] = self._now_s() + wait_s

    def within(self, wait_s: float, action: Callable[[], None]) -> None:
        """Do it then, unless it is to be done earlier."""
        self._due[action] = min(self._now_s() + wait_s, self._due.get(action, float("inf")))

    def drop(self, *actions: Callable[[], None]) -> None:
        """Do these no more."""
        for action in actions:
            self._due.pop(action, None)

    def drop_all(self) -> None:
        """Do nothing more."""
        self._due.clear()

    def turn(self) -> None:
        """Do what is due; what becomes due by it waits for the next turn."""
        now_s = self._now_s()
        for action in [action for action, due_s in self._due.items() if due_s <= now_s]:
            if self._due.pop(action, None) is not None:  # another one may have taken it back
                action()


class Pause:
    """How long to wait before something is tried again: each time twice as long."""

    def __init__(self) -> None:
        """Begin with the shortest."""
        self._s = _FIRST_S

    def next_s(self) -> float:
        """Return a wait in seconds."""
        wait_s, self._s = self._s, min(2 * self._s, _LONGEST_S)
        return wait_s

    def reset(self) -> None:
        """Begin with the shortest again: things have changed."""
        self._s = _FIRST_S

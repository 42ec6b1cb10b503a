"""The clock of a virtual node: the machine's, which is taken to be right."""

from edge_node.simulate.timetable import Timetable
from edge_node.simulate.voice import now_us

__all__ = ["RightClock"]


class RightClock:
    """What an updater asks for the time."""

    def __init__(self, times: Timetable) -> None:
        """Go by the clock of the fleet's appointments."""
        self._times = times

    def now_us(self) -> int:
        """Return the wall clock, µs since 1970, UTC."""
        return now_us()

    def monotonic_s(self) -> float:
        """Return the clock of the appointments, s."""
        return self._times.now_s()

    def is_synced(self) -> bool:
        """Return that the clock is right."""
        return True

"""The node's speech gate, as the child of a trial knows it: it is told what was speech."""

from collections.abc import Callable

from broker.contract.windows import Window

__all__ = ["ToldGate"]


class ToldGate:
    """Passes the windows that the node's own gate passed, so that a trial compares models and not gates."""

    speech_above = 0.5

    def __init__(self, is_refused: Callable[[float], bool]) -> None:
        """Ask `is_refused` of the time at which a window ends, in seconds of its stream."""
        self._is_refused = is_refused
        self._rate_hz = 1

    def restart(self, rate_hz: int) -> None:
        """Begin a new stream, of windows whose samples are at `rate_hz`."""
        self._rate_hz = rate_hz

    def skip(self, window: Window) -> None:
        """Pass over a window that is too quiet to hold speech."""

    def hear(self, window: Window) -> float:
        """Return 0 for a window that was refused, else 1."""
        return 0.0 if self._is_refused(window.end_sample / self._rate_hz) else 1.0

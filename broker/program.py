"""What every long-running program does at its start: logging to stderr, and an event set by Ctrl-C or SIGTERM."""

import logging
import os
import signal
import sys
import threading
from types import FrameType

__all__ = ["configure_logging", "has_desktop", "stop_on_signals"]


def configure_logging(*, verbose: bool = False) -> None:
    """Log to stderr: time, level, module, message."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


def stop_on_signals(*, insist: bool = False) -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set.

    Args:
        insist: whether a second signal is ignored too, because others have to be ended first; else it ends the program.
    """
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if not insist:
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGHUP, ask)
    return stop


def has_desktop() -> bool:
    """Return whether there is a screen to open a browser on; without one, Python would start one in the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

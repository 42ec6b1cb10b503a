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

    A signal handler runs in the main thread, in the middle of whatever that does. To set the event there would wait
    for ever if the main thread just holds the event's lock, so another thread does it, told through a pipe.

    Args:
        insist: whether a second signal is ignored too, because others have to be ended first; else it ends the program.
    """
    stop = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def noted(number: int, _frame: FrameType | None) -> None:
        if not insist:
            signal.signal(number, signal.SIG_DFL)

    def pass_on() -> None:
        os.read(reader, 1)
        stop.set()

    threading.Thread(target=pass_on, name="signals", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, noted)
    return stop


def has_desktop() -> bool:
    """Return whether there is a screen to open a browser on; without one, Python would start one in the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""What systemd is told of the node, and when its watchdog is fed (sd_notify(3)).

Alive is a node that gets something done, not one that has a process. What counts, after the loop has dealt with it:

    a block of sound                         heard, classified, decided and stored
    a tick while the node is muted           it is not to hear anything
    a tick while capture recovers            as long as attempts go on: the last one is no older than the longest wait

A call that never returns, of PortAudio, of a model, of a disk, ends all of these, and systemd then begins the program
anew: nothing within the program could. So does a thread of its own that has ended. Without systemd, nothing is told.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from broker.contract.condition import CaptureReport, CaptureState
from broker.contract.messages import NodeStatus
from edge_node.sound.recovery import WAITS_S
from edge_node.sound.sources import Block

__all__ = ["Progress", "Supervisor", "advance", "words_of"]

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = WAITS_S[-1] + 30.0
"""Between two attempts of capture, the time that an attempt takes included."""
_FEEDS: Final = 4
"""In the time after which the watchdog bites."""
_SEND_S: Final = 1.0
_ABSTRACT: Final = "@"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the node's loop."""

    attempts: int = -1
    """Of capture, when it last recovered; -1: it did not when last seen."""
    attempted_s: float = 0.0
    """When that number last changed, in s of the caller's clock."""


def advance(before: Progress, block: Block | None, capture: CaptureReport, now_s: float) -> tuple[Progress, bool]:
    """Return the progress after a step of the loop, and whether the step counts.

    Args:
        before: until then.
        block: what the loop has dealt with; None: a tick.
        capture: how it stands.
        now_s: in s of any clock that never goes back.
    """
    if block is not None or capture.state is CaptureState.MUTED:
        return Progress(), True
    if capture.state is not CaptureState.RECOVERING:  # it listens, and nothing comes: capture itself is to notice soon
        return Progress(), False
    attempts = capture.restarts + capture.reopens + capture.rescans
    if attempts != before.attempts:
        return Progress(attempts=attempts, attempted_s=now_s), True
    return before, now_s - before.attempted_s <= _LONGEST_PAUSE_S


def words_of(status: NodeStatus, *, is_connected: bool) -> str:
    """Return in a line what a node does, for `systemctl status`."""
    if status.muted:
        doing = f"muted by {' and '.join(status.muted_by)}" if status.muted_by else "muted"
    elif status.capture is CaptureState.RECOVERING:
        doing = f"no sound from {status.source} ({status.problem or 'looking for it'})"
    else:
        doing = f"listening to {status.source}" + (f" ({status.problem})" if status.problem else "")
    return f"{doing}; model {status.model}; {'connected' if is_connected else 'no broker'}"


class Supervisor:
    """Tells systemd. Belongs to the node's main thread."""

    def __init__(self, environ: Mapping[str, str], clock_s: Callable[[], float] = time.monotonic) -> None:
        """Find out what systemd wants to hear.

        Args:
            environ: the environment, with NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID where systemd set them.
            clock_s: monotonic time, in s.
        """
        self._clock_s = clock_s
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._feed_every_s = _interval_s(environ)
        self._threads: tuple[threading.Thread, ...] = ()
        self._progress = Progress()
        self._is_ready = False
        self._fed_s: float | None = None
        self._said = ""
        self._has_ended = False
        self._has_failed = False

    def watch(self, *threads: threading.Thread) -> None:
        """Feed no more once one of these threads, which have been started, has ended."""
        self._threads = threads

    def fed(self, block: Block | None, capture: CaptureReport) -> None:
        """Hear that the loop has dealt with a block, or a tick (None); the first that counts says that all is ready."""
        now_s = self._clock_s()
        self._progress, counts = advance(self._progress, block, capture, now_s)
        if not counts or not self._are_alive():
            return
        if not self._is_ready:
            self._is_ready = True
            self._tell("READY=1")
        if self._feed_every_s is not None and (self._fed_s is None or now_s - self._fed_s >= self._feed_every_s):
            self._fed_s = now_s
            self._tell("WATCHDOG=1")

    def say(self, words: str) -> None:
        """Let `systemctl status` show these words, if they are others than before."""
        if words != self._said:
            self._said = words
            self._tell(f"STATUS={' '.join(words.split())}")

    def stopping(self) -> None:
        """Say that the node ends in order, from here on."""
        self._tell("STOPPING=1")

    def _are_alive(self) -> bool:
        ended = [each.name for each in self._threads if not each.is_alive()]
        if ended and not self._has_ended:
            self._has_ended = True
            _log.error("ended without being told to: %s; the watchdog is fed no more", ", ".join(ended))
        return not ended

    def _tell(self, what: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.settimeout(_SEND_S)
                told.connect(self._address)
                told.sendall(what.encode(errors="replace"))
        except OSError as error:
            if not self._has_failed:  # said once
                self._has_failed = True
                _log.warning("systemd cannot be told %s: %s", what.partition("=")[0], error)


def _address(named: str) -> str | bytes | None:
    """Return the address of the socket; None: there is none that can be used here."""
    if named.startswith(_ABSTRACT) and len(named) > 1:
        return b"\0" + os.fsencode(named[1:])
    return named if named.startswith("/") else None


def _interval_s(environ: Mapping[str, str]) -> float | None:
    """Return how often to feed the watchdog, in s; None: there is none, or it is another process's."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6 / _FEEDS

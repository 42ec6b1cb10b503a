"""When Home Assistant is told of this node, and told no more.

The message is retained, and said on each connection as every retained one is; once more, after a random moment, when
Home Assistant says that it has started. A small file beside the outbox remembers where the message may stand, so that
a node whose settings name another place, or none, takes it back there.
"""

import contextlib
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from broker.connection import Arrived, Event, Lost, Opened
from broker.contract.device import DeviceDiscovery
from broker.contract.home_assistant import birth_topic, discovery_topic
from broker.contract.topics import NodeTopic
from edge_node.delivery.outbox import OutboxSettings
from edge_node.settings import HomeAssistantSettings

__all__ = ["Announcement", "announced", "forget_announced"]

_log = logging.getLogger(__name__)

Say = Callable[[NodeTopic, msgspec.Struct | None], None]

_STARTED: Final = b"online"
_SPREAD_S: Final = 5.0
"""A fleet that answers Home Assistant's start all at once would be a load."""
_SETTLED_S: Final = 5.0
"""On a connection that lasted so long, what was to be taken back has been."""
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_MOST_CHARACTERS: Final = 1_000


def _jitter_s() -> float:
    return random.uniform(0, _SPREAD_S)  # noqa: S311 -- jitter, not a secret


class Announcement:
    """What Home Assistant is told of one node, for one run of the program."""

    def __init__(
        self,
        settings: HomeAssistantSettings,
        outbox: OutboxSettings,
        document: DeviceDiscovery,
        *,
        wait_s: Callable[[], float] = _jitter_s,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is said before `start`.

        Args:
            settings: whether, and where.
            outbox: beside which file to remember it.
            document: what to say.
            wait_s: how long to wait, in s, when Home Assistant has started.
            clock_s: monotonic, s.
        """
        self._settings, self._outbox, self._document = settings, outbox, document
        self._wait_s, self._clock_s = wait_s, clock_s
        self._birth = birth_topic(settings.prefix)
        self._wanted = frozenset({settings.prefix} if settings.enabled else ())
        self._say: Say | None = None
        self._timer: threading.Timer | None = None
        self._opened_s: float | None = None
        self._is_settled = False

    @property
    def subscribe_to(self) -> tuple[str, ...]:
        """What this node reads of Home Assistant."""
        return (self._birth,) if self._settings.enabled else ()

    def start(self, say: Say) -> None:
        """Say it, and take back what stands elsewhere; `say` keeps both until there is a connection."""
        self._say = say
        before = announced(self._outbox)
        _remember(self._outbox, before | self._wanted)
        for prefix in sorted(before - self._wanted):
            say(discovery_topic(prefix), None)
        self._tell()

    def hear(self, event: Event) -> bool:
        """Take what happens on the node's connection, on any one thread; return whether it was for here alone."""
        match event:
            case Arrived() if event.topic == self._birth:
                event.connection.acknowledge(event.packet_id)
                if event.payload == _STARTED and not event.retained:
                    self._tell_soon()
                return True
            case Opened():
                self._opened_s = self._clock_s()
            case Lost():
                self._settle()
            case _:
                pass
        return False

    def stop(self) -> None:
        """End, and forget where the message was taken back."""
        if self._timer is not None:
            self._timer.cancel()
        self._settle()
        if self._is_settled:
            _remember(self._outbox, self._wanted)

    def _tell(self) -> None:
        if self._say is not None and self._settings.enabled:
            self._say(discovery_topic(self._settings.prefix), self._document)

    def _tell_soon(self) -> None:
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(self._wait_s(), self._tell)
            self._timer.daemon = True
            self._timer.start()

    def _settle(self) -> None:
        if self._opened_s is not None and self._clock_s() - self._opened_s >= _SETTLED_S:
            self._is_settled = True
        self._opened_s = None


def announced(outbox: OutboxSettings) -> frozenset[str]:
    """Return the prefixes below which a message about this node may stand."""
    path = _memory(outbox)
    try:
        lines = path.read_text(encoding="ascii")[:_MOST_CHARACTERS].splitlines()
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("%s: %s; what Home Assistant was told elsewhere stays there", path, error)
        return frozenset()
    return frozenset(line for line in lines if _PREFIX.fullmatch(line))


def forget_announced(outbox: OutboxSettings) -> None:
    """Remember no prefix any more."""
    _remember(outbox, frozenset())


def _memory(outbox: OutboxSettings) -> Path:
    return Path(f"{outbox.path}.home-assistant")


def _remember(outbox: OutboxSettings, prefixes: frozenset[str]) -> None:
    """Write the file anew if it says something else; a disk that fails is no reason to be silent."""
    path = _memory(outbox)
    if prefixes == announced(outbox) and (prefixes or not path.exists()):
        return
    try:
        if not prefixes:
            path.unlink(missing_ok=True)
            return
        new = path.with_name(f"{path.name}.new")
        with new.open("w", encoding="ascii") as file:
            file.write("".join(f"{prefix}\n" for prefix in sorted(prefixes)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        _log.warning("%s: %s; a message to Home Assistant may outlive these settings", path, error)
        with contextlib.suppress(OSError):
            path.with_name(f"{path.name}.new").unlink(missing_ok=True)

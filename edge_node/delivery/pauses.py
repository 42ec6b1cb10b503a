"""Topics that wait because their last message was not delivered.

A topic that the broker refuses, or that nobody subscribes to, waits by itself and holds up no other: rows of a name
that the node had before would otherwise stand in the way of everything. After a wait, one message is tried.
"""

import logging
import random
import time
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

__all__ = ["NOBODY_SUBSCRIBES", "Pauses"]

_log = logging.getLogger(__name__)

NOBODY_SUBSCRIBES: Final = 0x10
"""PUBACK reason: the broker took the message and dropped it."""

_FIRST_S: Final = 0.5
_MOST_S: Final = 30.0
_REFUSAL_MOST_S: Final = 300.0
"""Refusals are mended by people, and Mosquitto ends the connection after one."""


class _Pause(msgspec.Struct, frozen=True):
    """One topic's wait."""

    until_ns: int = 0
    wait_s: float = 0.0
    is_refusal: bool = False
    """Whether the broker refused it, rather than had nobody to give it to."""


class Pauses:
    """Which topics wait, and until when. Belongs to one thread."""

    def __init__(self) -> None:
        """Start with none."""
        self._pauses: dict[str, _Pause] = {}
        self._reported: set[tuple[str, int]] = set()

    def __contains__(self, topic: object) -> bool:
        """Return whether a topic's last message was not delivered."""
        return topic in self._pauses

    def begin(self, topic: str, reason: int) -> None:
        """Let a topic wait because of a PUBACK; twice as long as the last time, with jitter."""
        is_refusal = reason != NOBODY_SUBSCRIBES
        if (topic, reason) not in self._reported:  # said once
            self._reported.add((topic, reason))
            why = "the broker refuses this node's messages" if is_refusal else "nobody subscribes"
            _log.warning("%s: PUBACK 0x%02x: %s; kept in the outbox, trying again", topic, reason, why)
        now_ns = time.monotonic_ns()
        pause = self._pauses.get(topic, _Pause())
        if now_ns >= pause.until_ns:
            bound_s = min(_REFUSAL_MOST_S if is_refusal else _MOST_S, max(_FIRST_S, 2 * pause.wait_s))
            wait_s = random.uniform(bound_s / 2, bound_s)  # noqa: S311 -- jitter, not a secret
            self._pauses[topic] = _Pause(now_ns + int(wait_s * 1e9), bound_s, is_refusal)

    def end(self, topic: str) -> None:
        """Forget a topic's wait: a message of it was delivered."""
        self._pauses.pop(topic, None)

    def reconnected(self) -> None:
        """Try again what nobody subscribed to; a refusal outlives the connection that it may have ended."""
        self._pauses = {topic: pause for topic, pause in self._pauses.items() if pause.is_refusal}

    def closed(self, on_trial: AbstractSet[str]) -> set[str]:
        """Return the topics to send nothing of now; `on_trial`: those with a message in flight."""
        now_ns = time.monotonic_ns()
        return {topic for topic, pause in self._pauses.items() if now_ns < pause.until_ns or topic in on_trial}

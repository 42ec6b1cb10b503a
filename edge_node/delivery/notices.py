"""What a node says beside its outbox: retained messages, of which the last counts, and answers that are soon worthless.

Any thread puts notices in; the publisher's thread takes them out.
"""

import logging
import queue
from collections import Counter
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from broker.contract.topics import NodeId, NodeTopic

__all__ = ["Notice", "Notices"]

_log = logging.getLogger(__name__)

_MOST_LOSSES: Final = 3


class Notice(msgspec.Struct, frozen=True):
    """One message."""

    topic: str
    row: NodeTopic
    message: msgspec.Struct | None
    """None: what is retained there goes."""


class Notices:
    """Notices that wait for a connection. Only of retained topics is one kept, the last; there are few of those."""

    def __init__(self, node: NodeId) -> None:
        """Start with none."""
        self._node = node
        self._new: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._retained: dict[str, Notice] = {}
        self._unsaid: set[str] = set()  # retained topics whose last notice is still to be said
        self._given_up: set[str] = set()
        self._losses: Counter[str] = Counter()

    def put(self, row: NodeTopic, message: msgspec.Struct | None) -> None:
        """Add a notice, from any thread; None takes back what is retained."""
        self._new.put(Notice(row.at(self._node), row, message))

    def connected(self) -> None:
        """Say every retained one again: another broker, or one that lost its state, may have answered."""
        self._unsaid = set(self._retained)

    def give_up(self, topic: str) -> bool:
        """Say an optional notice never again, because the broker refused it; return whether it is one."""
        notice = self._retained.get(topic)
        if notice is None or not notice.row.is_optional:
            return False
        del self._retained[topic]
        self._unsaid.discard(topic)
        self._given_up.add(topic)
        return True

    def answered(self, topic: str) -> None:
        """Hear that the broker has taken a notice."""
        self._losses.pop(topic, None)

    def lost(self, topics: Collection[str]) -> None:
        """Hear which notices had no answer when a connection was lost: some brokers refuse by ending it."""
        for topic in topics:
            self._losses[topic] += 1
            if self._losses[topic] >= _MOST_LOSSES and self.give_up(topic):
                _log.warning("%s: %d connections in a row ended before an answer; not tried again", topic, _MOST_LOSSES)

    def take(self, closed: AbstractSet[str], *, is_connected: bool) -> Iterator[Notice]:
        """Yield what is to be said now, and keep what cannot be.

        Args:
            closed: topics that the broker has just refused.
            is_connected: whether anything can be said at all.
        """
        while not self._new.empty():
            notice = self._new.get()
            if notice.topic in self._given_up:
                continue
            if notice.row.retained:
                self._retained[notice.topic] = notice
                self._unsaid.add(notice.topic)
            elif is_connected and notice.topic not in closed:
                yield notice
        if is_connected:
            for topic in self._unsaid - closed:
                yield self._retained[topic]
            self._unsaid &= closed

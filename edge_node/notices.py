"""What a node says beside its outbox: retained messages, of which the last counts, and answers that are soon worthless.

Any thread puts notices in; the publisher's thread takes them out.
"""

import queue
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import msgspec

from broker.contract.topics import NodeId, NodeTopic

__all__ = ["Notice", "Notices"]


class Notice(msgspec.Struct, frozen=True):
    """One message."""

    topic: str
    row: NodeTopic
    message: msgspec.Struct


class Notices:
    """Notices that wait for a connection. Only of retained topics is one kept, the last; there are few of those."""

    def __init__(self, node: NodeId) -> None:
        """Start with none."""
        self._node = node
        self._new: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._retained: dict[str, Notice] = {}
        self._unsaid: set[str] = set()  # retained topics whose last notice is still to be said

    def put(self, row: NodeTopic, message: msgspec.Struct) -> None:
        """Add a notice, from any thread."""
        self._new.put(Notice(row.at(self._node), row, message))

    def connected(self) -> None:
        """Say every retained one again: another broker, or one that lost its state, may have answered."""
        self._unsaid = set(self._retained)

    def take(self, closed: AbstractSet[str], *, is_connected: bool) -> Iterator[Notice]:
        """Yield what is to be said now, and keep what cannot be.

        Args:
            closed: topics that the broker has just refused.
            is_connected: whether anything can be said at all.
        """
        while not self._new.empty():
            notice = self._new.get()
            if notice.row.retained:
                self._retained[notice.topic] = notice
                self._unsaid.add(notice.topic)
            elif is_connected and notice.topic not in closed:
                yield notice
        if is_connected:
            for topic in self._unsaid - closed:
                yield self._retained[topic]
            self._unsaid &= closed

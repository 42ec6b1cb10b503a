"""A virtual node's outbox, in memory: what `edge_node.delivery.outbox.Outbox` keeps on a disk, with the same rules.

    put -> waiting -> in flight -> PUBACK 0x00 -> done -> replay time over -> gone
              ^            |                        |
              +------------+------ reconnected -----+

It outlasts the node's program. When it is full the oldest go, and are counted.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from broker.contract.messages import encode
from broker.contract.topics import EMOTION, TELEMETRY, NodeId, NodeTopic

__all__ = ["Box", "Row"]

_MOST_ROWS: Final = 1_000
"""Half an hour of a virtual node; a real one's holds more than a day."""


class Row(msgspec.Struct, frozen=True):
    """One message that waits for its PUBACK."""

    number: int
    row: NodeTopic
    payload: bytes
    stored_s: float


class Box:
    """The messages of one node."""

    def __init__(self, node: NodeId, outbox_id: str, replay_s: float) -> None:
        """Begin with none.

        Args:
            node: whose.
            outbox_id: 16 hexadecimal digits, random.
            replay_s: for how long what was delivered is kept, to be said again after a reconnect.
        """
        self.outbox_id = outbox_id
        self.dropped = 0
        self._topics = {row.name: row.at(node) for row in (EMOTION, TELEMETRY)}
        self._replay_s = replay_s
        self._number = 0
        self._seq = {EMOTION.name: 0, TELEMETRY.name: 0}
        self._waiting: deque[Row] = deque()
        self._in_flight: dict[int, Row] = {}  # by number, rising
        self._done: deque[tuple[float, Row]] = deque()

    @property
    def emitted(self) -> int:
        """Events that were ever put."""
        return self._seq[EMOTION.name]

    @property
    def depth(self) -> int:
        """Messages without their PUBACK."""
        return len(self._waiting) + len(self._in_flight)

    def oldest_s(self, now_s: float) -> float:
        """Return how long the oldest of them has waited, s."""
        first = next(iter(self._in_flight.values()), self._waiting[0] if self._waiting else None)
        return 0.0 if first is None else max(0.0, now_s - first.stored_s)

    def put(self, row: NodeTopic, draft: Callable[[int], msgspec.Struct], now_s: float) -> None:
        """Add what `draft` makes of its sequence number.

        Raises:
            MessageError: it breaks the contract.
        """
        self._seq[row.name] += 1
        self._number += 1
        payload = encode(draft(self._seq[row.name]), row.largest_bytes)
        self._waiting.append(Row(self._number, row, payload, now_s))
        while len(self._waiting) > _MOST_ROWS:
            self.dropped += self._waiting.popleft().row is EMOTION

    def take(self, room: int, closed: Callable[[str], bool]) -> Iterator[tuple[int, str, bytes]]:
        """Yield number, topic and payload of what is to be sent now, in order.

        Args:
            room: so many are in flight at most.
            closed: whether nothing is to be sent on a topic now; asked before each message.
        """
        passed: list[Row] = []
        while self._waiting and len(self._in_flight) < room:
            each = self._waiting.popleft()
            topic = self._topics[each.row.name]
            if closed(topic):
                passed.append(each)
                continue
            self._in_flight[each.number] = each
            yield each.number, topic, each.payload
        self._waiting.extendleft(reversed(passed))

    def put_back(self, number: int) -> None:
        """Let a message wait again that was not delivered."""
        if (each := self._in_flight.pop(number, None)) is not None:
            self._waiting = deque(sorted([each, *self._waiting], key=lambda row: row.number))

    def finish(self, number: int, now_s: float) -> None:
        """Note that a message has its PUBACK."""
        if (each := self._in_flight.pop(number, None)) is not None:
            self._done.append((now_s, each))

    def forget(self, now_s: float) -> None:
        """Take away what was delivered long ago; only while there is a connection, as a real node does."""
        while self._done and now_s - self._done[0][0] > self._replay_s:
            self._done.popleft()

    def reconnected(self) -> None:
        """Let everything wait again that this connection has not confirmed, in its order."""
        again = [*(row for _, row in self._done), *self._in_flight.values(), *self._waiting]
        self._done.clear()
        self._in_flight.clear()
        self._waiting = deque(sorted(again, key=lambda each: each.number))

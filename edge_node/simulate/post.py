"""What a virtual node sends, and in which order: status, reports, and what waits in its outbox.

The rules are those of `edge_node.delivery.publisher`: at most twenty messages in flight, everything delivered lately
said again after a reconnect, retained reports said again on each connection; a topic whose message was not delivered
waits by itself, and then tries one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from broker.connection import Acknowledged, Arrived, Event, Lost, Opened
from broker.contract.messages import NodeStatus, StatusReason, encode
from broker.contract.topics import STATUS, UPDATE, WILL_DELAY_S, NodeId, NodeTopic
from broker.link import Will
from edge_node.delivery.notices import Notices
from edge_node.delivery.pauses import Pauses
from edge_node.simulate.box import Box
from edge_node.simulate.line import Line

__all__ = ["Post"]

_IN_FLIGHT: Final = 20
_NO_ROW: Final = 0
_DELIVERED: Final = 0x00


class Post:
    """One node's messages, over one line. Belongs to the loop's thread."""

    def __init__(
        self,
        me: NodeId,
        box: Box,
        pubacks: Counter[int],
        now_s: Callable[[], float],
        *,
        status: Callable[[StatusReason], NodeStatus],
        opened: Callable[[], None],
        arrived: Callable[[Arrived], None],
    ) -> None:
        """Prepare; `use` gives it a line.

        Args:
            me: the node.
            box: its outbox.
            pubacks: counts the broker's answers to the outbox's messages, by reason.
            now_s: a clock that only goes forward, s.
            status: makes the current status.
            opened: is told of each connection, after the birth was said.
            arrived: is told what arrives, before it is acknowledged.
        """
        self.connects = 0
        """Connections since the program's last start."""
        self.has_connected = False
        """Whether there ever was one."""
        self.has_left = False
        """Whether the broker has confirmed all of what `leave` is about."""
        self._me, self._box, self._pubacks, self._now_s = me, box, pubacks, now_s
        self._status, self._tell_opened, self._tell_arrived = status, opened, arrived
        self._line: Line
        self._notices = Notices(me)
        self._pauses = Pauses()
        self._in_flight: dict[int, tuple[int, str]] = {}  # number in the outbox and topic by packet id
        self._is_leaving = False

    def use(self, line: Line) -> None:
        """Send over this line from now on."""
        self._line = line

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._line.is_connected

    def start(self) -> None:
        """Begin to connect, as a program that has just started: nothing of the one before is remembered."""
        self._notices, self._pauses, self.connects = Notices(self._me), Pauses(), 0
        self._line.open()

    def cut(self, *, silently: bool) -> None:
        """End without a word, as `Line.cut`."""
        self._in_flight.clear()
        self._line.cut(silently=silently)

    def stop(self) -> None:
        """Say goodbye and disconnect in order."""
        self.say_status(StatusReason.STOPPED)
        self._line.close()
        self._in_flight.clear()

    def leave(self) -> None:
        """Take away what the broker retains of this node, then its session; a node that is away comes back for that."""
        self._is_leaving = True
        self._in_flight.clear()
        if self._line.is_connected:
            self._clear()
        else:
            self._line.cut(silently=False)
            self._line.open()

    def will(self) -> Will:
        """Return what the broker is to say when the node has gone silent."""
        payload = encode(self._status(StatusReason.LOST), STATUS.largest_bytes)
        return Will(topic=STATUS.at(self._me), payload=payload, delay_s=WILL_DELAY_S)

    def say(self, row: NodeTopic, message: msgspec.Struct) -> None:
        """Have a message published by the next `send`; of a retained row, the last is said again on each connection."""
        self._notices.put(row, message)

    def say_status(self, reason: StatusReason) -> None:
        """Publish the status now, if there is a connection."""
        payload = encode(self._status(reason), STATUS.largest_bytes)
        topic = STATUS.at(self._me)
        self._sent(_NO_ROW, topic, self._line.publish(topic, payload, retain=True))

    def send(self) -> None:
        """Send what may be sent."""
        if not self._line.is_connected or self._is_leaving:
            return
        for each in self._notices.take(set(), is_connected=True):
            payload = b"" if each.message is None else encode(each.message, each.row.largest_bytes)
            self._sent(_NO_ROW, each.topic, self._line.publish(each.topic, payload, retain=each.row.retained))
        for number, topic, payload in self._box.take(_IN_FLIGHT, self._is_closed):
            self._sent(number, topic, self._line.publish(topic, payload))

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics, if there is a connection."""
        self._line.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for them no more."""
        self._line.unsubscribe(topics)

    def hear(self, event: Event) -> None:
        """Take what happens on the line."""
        match event:
            case Opened():
                self._opened()
            case Lost():
                self._in_flight.clear()
            case Acknowledged():
                self._acknowledged(event)
            case Arrived():
                if not self._is_leaving:
                    self._tell_arrived(event)
                if event.packet_id:
                    self._line.acknowledge(event.packet_id)
            case _:
                pass

    def _opened(self) -> None:
        self.has_connected = True
        self.connects += 1
        self._in_flight.clear()
        if self._is_leaving:
            self._clear()
            return
        self._box.reconnected()
        self._pauses.reconnected()
        self.say_status(StatusReason.BIRTH)
        self._notices.connected()
        self._tell_opened()
        self.send()

    def _acknowledged(self, event: Acknowledged) -> None:
        number, topic = self._in_flight.pop(event.packet_id, (_NO_ROW, ""))
        if not topic:
            return
        if number != _NO_ROW:
            self._pubacks[event.reason] += 1
        if event.reason == _DELIVERED:
            self._pauses.end(topic)
            self._box.finish(number, self._now_s())
        elif number != _NO_ROW:
            self._pauses.begin(topic, event.reason)
            self._box.put_back(number)
        if not self._is_leaving:
            self.send()
        elif not self._in_flight:
            self._line.close(forget_session=True)
            self.has_left = True

    def _is_closed(self, topic: str) -> bool:
        """Return whether a topic waits; one that was not delivered lately has one message in flight at most."""
        if topic not in self._pauses:
            return False
        return topic in self._pauses.closed({sent for _, sent in self._in_flight.values()})

    def _clear(self) -> None:
        for topic in (STATUS.at(self._me), UPDATE.at(self._me)):
            self._sent(_NO_ROW, topic, self._line.publish(topic, b"", retain=True))

    def _sent(self, number: int, topic: str, packet_id: int | None) -> None:
        if packet_id is not None:
            self._in_flight[packet_id] = number, topic

"""One connection to a broker as an object, and what happens on it as events.

paho's callbacks arrive on its own thread; here each becomes an event in one queue, in order, and nothing else is done.
"""

import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

__all__ = ["Acknowledged", "Arrived", "Attempt", "Connection", "Event", "Failed", "Lost", "Opened", "Subscribed"]

_MOST_WAITING: Final = 256
"""Of events, before a message at QoS 0 is let go: no receive maximum bounds those."""


class Connection:
    """One connection to the broker, from CONNACK to its loss. Equal to nothing but itself."""

    def __init__(self, client: paho.Client, largest_packet_bytes: int | None = None) -> None:
        """Wrap a connected client.

        Args:
            client: that the broker has accepted.
            largest_packet_bytes: what the broker takes, if it said so; a larger one ends the connection, each time.
        """
        self._client = client
        self.largest_packet_bytes = largest_packet_bytes

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        """Send at QoS 1 and return the packet id that `Acknowledged` will carry.

        Args:
            topic: where to.
            payload: what.
            retain: whether the broker keeps it for those who subscribe later.
            expiry_s: for how long it waits for a subscriber who is away; None: as long as that one's session.
        """
        properties = None
        if expiry_s is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        return self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics at QoS 1, and for what is retained there, beside those that the link asks for itself."""
        self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for nothing more of these topics."""
        self._client.unsubscribe(list(topics))

    def acknowledge(self, packet_id: int) -> None:
        """Send the PUBACK of a message that arrived on this connection; one at QoS 0 has none."""
        if packet_id:
            self._client.ack(packet_id, 1)


class Opened(msgspec.Struct, frozen=True, eq=False):
    """The broker accepted a connection."""

    connection: Connection


class Lost(msgspec.Struct, frozen=True, eq=False):
    """A connection is gone, and everything that was pending on it."""

    connection: Connection


class Arrived(msgspec.Struct, frozen=True, eq=False):
    """A message; to be acknowledged on the connection that it came by."""

    connection: Connection
    topic: str
    payload: bytes
    packet_id: int
    """0: it came at QoS 0."""
    retained: bool = False
    """Whether the broker had it before this subscription; a message that comes as it is published is not."""


class Acknowledged(msgspec.Struct, frozen=True, eq=False):
    """The broker's PUBACK."""

    connection: Connection
    packet_id: int
    reason: int
    """0x00 delivered to a queue or a subscriber, 0x10 nobody subscribes, 0x80 and above refused."""
    at_ns: int
    """Monotonic time of arrival."""


class Subscribed(msgspec.Struct, frozen=True, eq=False):
    """The broker's SUBACK."""

    connection: Connection
    reasons: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True, eq=False):
    """The link ended by a defect of ours; nothing more will come of it."""

    error: Exception


Event = Opened | Lost | Arrived | Acknowledged | Subscribed | Failed


class Attempt:
    """Turns one paho client's callbacks into events."""

    def __init__(
        self,
        client: paho.Client,
        events: "queue.SimpleQueue[Event | None]",
        filters: list[tuple[str, SubscribeOptions]],
    ) -> None:
        """Listen to a client that is about to connect; subscribe to `filters` when it has."""
        self.connection: Connection | None = None
        self.answered = threading.Event()
        self.ended = threading.Event()
        self.problem = "connection lost"
        self.unheard = 0
        """Messages that came at QoS 0: nothing of ours is sent so, and no receive maximum bounds how many there are.
        What is subscribed to by its full name is heard all the same: another's program, Home Assistant, says it so."""
        self._events = events
        self._filters = filters
        self._by_name = {topic for topic, _ in filters if not {"+", "#"} & set(topic)}
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        self._client = client

    def let_go(self) -> None:
        """Hear no more of the client, which has ended: without the loop between the two, its sockets close at once."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_message = client.on_publish = client.on_subscribe = None

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.problem = f"refused: {reason}"
        else:
            self.connection = Connection(client, getattr(properties, "MaximumPacketSize", None))
            self._events.put(Opened(self.connection))
            if self._filters:
                client.subscribe(self._filters)
        self.answered.set()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure and not self.problem.startswith("refused"):
            self.problem = f"connection lost: {reason}"
        self.ended.set()
        self.answered.set()

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if message.qos == 0 and (message.topic not in self._by_name or self._events.qsize() >= _MOST_WAITING):
            self.unheard += 1
        elif self.connection is not None:
            payload = bytes(message.payload)
            self._events.put(Arrived(self.connection, message.topic, payload, message.mid, message.retain))

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        packet_id: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self.connection is not None:
            self._events.put(Acknowledged(self.connection, packet_id, reason.value, time.monotonic_ns()))

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        _packet_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if self.connection is not None:
            self._events.put(Subscribed(self.connection, tuple(each.value for each in reasons)))

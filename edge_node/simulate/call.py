"""One connection of a virtual node, from the attempt to its end, on the shared loop.

The same CONNECT as `broker.link` sends: the session is kept for a week, clean start is off, the receive maximum is 64;
what happens comes as the events of `broker.connection`. Only who turns paho's wheels differs.
"""

import queue
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.connection import Arrived, Attempt, Connection, Event, Opened
from broker.link import Will
from broker.settings import BrokerSettings
from edge_node.simulate.sockets import Socket, Sockets
from edge_node.simulate.timetable import Appointment, Timetable

__all__ = ["Call", "Identity", "Terms"]

_CONNACK_WAIT_S: Final = 10.0
_MISC_S: Final = 5.0
"""How often paho looks whether the broker must be told that this node lives."""
_SESSION_EXPIRY_S: Final = 7 * 24 * 3600
_RECEIVE_AT_MOST: Final = 64


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """As whom a virtual node connects."""

    client_id: str
    username: str | None
    password: str | None


class Terms:
    """What the connections of a fleet have in common."""

    def __init__(self, broker: BrokerSettings, tls: ssl.SSLContext | None, sockets: Sockets, times: Timetable) -> None:
        """Begin with nobody connected.

        Args:
            broker: where it is, how soon it must hear of a node, how long to wait between attempts.
            tls: for a broker that is elsewhere.
            sockets: the loop.
            times: its appointments.
        """
        self.broker, self.tls, self.sockets, self.times = broker, tls, sockets, times
        self.problems: Counter[str] = Counter()
        """Why connections failed, or ended that should not have, in words."""
        self.calls: set[Call] = set()
        """That hold a socket, or are about to."""


class Call:
    """One connection."""

    def __init__(
        self,
        terms: Terms,
        identity: Identity,
        filters: Sequence[str],
        will: Will,
        *,
        hear: Callable[[Event], None],
        ended: Callable[[str], None],
    ) -> None:
        """Begin to connect.

        Args:
            terms: of the fleet.
            identity: as whom.
            filters: subscribed at QoS 1.
            will: of this connection.
            hear: is told what happens, on the loop's thread.
            ended: is told once why it ended, unless it was dropped.
        """
        self._terms, self._hear, self._ended = terms, hear, ended
        self._client = client = _client(terms, identity, will)
        client.on_socket_close = self._closing
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._attempt = Attempt(client, self._events, [(each, SubscribeOptions(qos=1)) for each in filters])
        self._is_over = self._is_ending = False
        self._timer: Appointment | None = None
        terms.calls.add(self)
        broker, session = terms.broker, Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = _SESSION_EXPIRY_S
        session.ReceiveMaximum = _RECEIVE_AT_MOST
        terms.sockets.connect(
            lambda: client.connect(
                broker.host, broker.port, keepalive=broker.keepalive_s, clean_start=False, properties=session
            ),
            self._connected,
        )

    @property
    def connection(self) -> Connection | None:
        """The connection, if the broker has accepted it and it is not known to be lost."""
        return None if self._is_over or self._attempt.ended.is_set() else self._attempt.connection

    @property
    def lost(self) -> Connection | None:
        """The connection that there was, if the broker had accepted one."""
        return self._attempt.connection

    def ready(self, *, read: bool, write: bool) -> None:
        """Read and write what the socket allows, and tell what came of it."""
        client = self._client
        if read:
            client.loop_read()
            # what TLS has unpacked already wakes no selector
            while isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending():
                client.loop_read()
        if write:
            client.loop_write()
        self._tell()
        self.settle()

    def settle(self) -> None:
        """Have what could not be sent at once sent when there is room, and notice the end; after anything was sent."""
        if self._is_over:
            return
        if self._attempt.ended.is_set():
            if not self._is_ending:
                self._is_ending = True
                self._terms.times.after(0, lambda: self._end(self._attempt.problem))
        elif (sock := self._socket()) is not None:
            self._terms.sockets.watch(sock, self, write=self._client.want_write())

    def leave(self, *, forget_session: bool) -> None:
        """Disconnect in order: no will, and the session stays on the broker unless it is to be forgotten."""
        properties = None
        if forget_session:
            properties = Properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self.settle()

    def drop(self) -> None:
        """Close the socket without a word, as the system does when a program ends."""
        sock = self._stop()
        self._terms.calls.discard(self)
        if sock is not None:
            self._terms.sockets.count(sock)
            sock.close()

    def mute(self) -> None:
        """Do nothing any more, but hold the socket, as without power: the broker has to find out. `drop` ends it."""
        self._stop()

    def _stop(self) -> Socket | None:
        self._is_over = True
        self._client.on_socket_close = None
        if self._timer is not None:
            self._timer.cancel()
        sock = self._socket()
        if sock is not None:
            self._terms.sockets.forget(sock)
        return sock

    def _socket(self) -> Socket | None:
        sock = self._client.socket()
        return sock if isinstance(sock, socket.socket) else None  # paho's third kind is for websockets

    def _connected(self, error: Exception | None) -> None:
        """Go on once there is a socket, on which CONNECT was sent."""
        if self._is_over:  # dropped meanwhile
            self.drop()
        elif error is None:
            self._look_after(self._terms.times.after(_CONNACK_WAIT_S, lambda: self._end("no answer to CONNECT")))
            self.settle()
        elif isinstance(error, OSError | ValueError):
            self._end(str(error) or type(error).__name__)
        else:
            raise error

    def _tell(self) -> None:
        """Pass on what happened, in order; who hears of it may drop this call."""
        while not self._is_over and not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, Opened):
                self._look_after(self._terms.times.after(_MISC_S, self._misc))
            if isinstance(event, Arrived):
                self._terms.sockets.traffic.received += 1
            if event is not None:
                self._hear(event)

    def _misc(self) -> None:
        self._look_after(self._terms.times.after(_MISC_S, self._misc))
        self._client.loop_misc()
        self.settle()

    def _look_after(self, timer: Appointment) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _end(self, problem: str) -> None:
        if self._is_over:
            return
        self._tell()
        self.drop()
        self._ended(problem)

    def _closing(self, _client: paho.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._terms.sockets.count(sock)
            self._terms.sockets.forget(sock)


def _client(terms: Terms, identity: Identity, will: Will) -> paho.Client:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=identity.client_id,
        protocol=paho.MQTTv5,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.max_inflight_messages_set(0)  # the node bounds what is in flight
    if terms.tls is not None:
        client.tls_set_context(terms.tls)
    if identity.username is not None:
        client.username_pw_set(identity.username, identity.password)
    delay = Properties(PacketTypes.WILLMESSAGE)
    delay.WillDelayInterval = will.delay_s
    client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
    return client

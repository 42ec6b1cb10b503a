"""A virtual node's session with the broker: what `broker.link.Link` does with two threads, on a shared loop.

Every reconnect is a new `Call`; the wait before it doubles and is drawn at random, as a real node's is.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

from broker.connection import Event, Lost
from broker.link import Will
from edge_node.simulate.call import Call, Identity, Terms
from edge_node.simulate.timetable import Appointment

__all__ = ["Line"]

_STEADY_S: Final = 20.0
_UNNOTICED: Final = 3.0
"""A broker drops who has been silent for 1.5 keep-alive times; a socket without power is held for this many."""


class Line:
    """One node's way to the broker, from `open` to `close` or `cut`; both may be called again and again."""

    def __init__(
        self,
        terms: Terms,
        identity: Identity,
        rng: random.Random,
        *,
        filters: Sequence[str],
        will: Callable[[], Will],
        hear: Callable[[Event], None],
    ) -> None:
        """Prepare a session.

        Args:
            terms: of the fleet.
            identity: as whom.
            rng: draws the waits.
            filters: subscribed at QoS 1 on each connection.
            will: makes the will for each connection.
            hear: is told, on the loop's thread, what happens.
        """
        self._terms, self._identity, self._rng = terms, identity, rng
        self._filters, self._will, self._hear = filters, will, hear
        self._call: Call | None = None
        self._retry: Appointment | None = None
        self._began_s = 0.0
        self._failures = 0

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the present connection, and it is not known to be lost."""
        return self._call is not None and self._call.connection is not None

    def open(self) -> None:
        """Begin to connect, and keep trying."""
        self._failures = 0
        self._connect()

    def close(self, *, forget_session: bool = False) -> None:
        """Disconnect in order and try no more: no will; the session stays unless it is to be forgotten."""
        self._give_up()
        call, self._call = self._call, None
        if call is not None and call.connection is not None:
            call.leave(forget_session=forget_session)
        elif call is not None:
            call.drop()

    def cut(self, *, silently: bool) -> None:
        """End without a word, and try no more.

        Args:
            silently: as without power, so that the broker has to find out; else as when a program ends.
        """
        self._give_up()
        call, self._call = self._call, None
        if call is None:
            return
        if silently and call.connection is not None:
            call.mute()
            self._terms.times.after(_UNNOTICED * self._terms.broker.keepalive_s, call.drop)
        else:
            call.drop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Send at QoS 1 and return the packet id; None: there is no connection."""
        if (call := self._call) is None or (connection := call.connection) is None:
            return None
        packet_id = connection.publish(topic, payload, retain=retain)
        self._terms.sockets.traffic.sent += 1
        call.settle()
        return packet_id

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics beside the line's own, if there is a connection."""
        if (call := self._call) is not None and (connection := call.connection) is not None:
            connection.subscribe(topics)
            call.settle()

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for them no more."""
        if (call := self._call) is not None and (connection := call.connection) is not None:
            connection.unsubscribe(topics)
            call.settle()

    def acknowledge(self, packet_id: int) -> None:
        """Send the PUBACK of a message that arrived."""
        if (call := self._call) is not None and (connection := call.connection) is not None:
            connection.acknowledge(packet_id)
            call.settle()

    def _connect(self) -> None:
        self._retry = None
        self._began_s = self._terms.times.now_s()
        self._call = Call(self._terms, self._identity, self._filters, self._will(), hear=self._hear, ended=self._lost)

    def _lost(self, problem: str) -> None:
        """Tell that the connection is lost, and try again after a while."""
        call, self._call = self._call, None
        if call is None:  # it was closed in order
            return
        self._terms.problems[problem] += 1
        if self._terms.times.now_s() - self._began_s >= _STEADY_S:
            self._failures = 0
        self._failures += 1
        broker = self._terms.broker
        bound_s = min(broker.reconnect_most_s, broker.reconnect_first_s * 2.0 ** min(self._failures - 1, 16))
        self._retry = self._terms.times.after(self._rng.uniform(bound_s / 2, bound_s), self._connect)
        if (lost := call.lost) is not None:
            self._hear(Lost(lost))

    def _give_up(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

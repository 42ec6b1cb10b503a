"""Delivers the outbox to the broker, in order, and keeps the retained status true.

One thread owns everything here; paho's callbacks reach it as events in one queue.
"""

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from broker.contract.errors import StoreError
from broker.contract.messages import NodeStatus, Stage, StatusReason, encode
from broker.contract.topics import STATUS, WILL_DELAY_S, NodeId
from broker.link import Acknowledged, Connection, Event, Link, Lost, Opened, Will
from broker.settings import BrokerSettings
from edge_node.outbox import Outbox, OutboxSettings
from edge_node.telemetry import Meter

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)

_DELIVERED: Final = 0x00
_NOBODY_SUBSCRIBES: Final = 0x10
_IN_FLIGHT: Final = 20
_TICK_S: Final = 0.2
_HOUSEKEEPING_NS: Final = 1_000_000_000
_PAUSE_MOST_S: Final = 30.0
_MOST_TIMED: Final = 1_000
"""Rows whose wait is measured; in an outage the rest go unmeasured rather than fill the memory."""
_NO_ROW: Final = 0
_UNREADABLE: Final = -1


class Publisher:
    """The outbox's way to the broker."""

    def __init__(
        self,
        node: NodeId,
        broker: BrokerSettings,
        outbox: OutboxSettings,
        *,
        status: Callable[[StatusReason], NodeStatus],
        meter: Meter,
    ) -> None:
        """Prepare to publish.

        Args:
            node: who publishes.
            broker: where to.
            outbox: which file; this thread opens it for itself.
            status: makes the current status.
            meter: takes the latencies of the stages `outbox` and `publish`.

        Raises:
            SettingsError: the broker's settings cannot be used.
            StoreError: the outbox cannot be opened.
        """
        self._node = node
        self._status = status
        self._meter = meter
        self._outbox = Outbox(outbox)
        self._replay_ns = int(outbox.replay_s * 1e9)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._link = Link(broker, f"{node.site}.{node.node}", events=self._events, will=self._will)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._drain_until_ns: int | None = None
        self._connection: Connection | None = None
        self._in_flight: dict[int, tuple[int, int]] = {}  # packet id -> (row id, sent at in ns)
        self._sent_up_to = 0  # row id
        self._resume_ns = 0
        self._pause_s = 0.0
        self._reported: set[int] = set()  # PUBACK reasons already in the log
        self._stored_ns: dict[int, int] = {}  # row id -> monotonic time of its commit
        self._forget: deque[tuple[int, int]] = deque()  # (delivered at, ns; row id)
        self._kept_house_ns = 0
        self._said: NodeStatus | None = None

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self._link.connects - 1)

    def start(self) -> None:
        """Begin to connect and to deliver."""
        self._link.start()
        self._thread.start()

    def stored(self, row_id: int) -> None:
        """Hear from the pipeline's thread that a row was committed just now."""
        if len(self._stored_ns) < _MOST_TIMED:
            self._stored_ns[row_id] = time.monotonic_ns()
        self._events.put(None)

    def stop(self, drain_s: float) -> bool:
        """Deliver what waits for at most `drain_s`, say goodbye, and return whether nothing is left waiting."""
        self._drain_until_ns = time.monotonic_ns() + int(drain_s * 1e9)
        self._events.put(None)
        self._thread.join()
        self._link.stop()
        self._outbox.sync()
        empty = not self._outbox.waiting(0, 1)
        self._outbox.close()
        return empty

    def _run(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=_TICK_S)
            except queue.Empty:
                event = None
            try:
                self._take(event)
                self._send()
                self._keep_house()
            except StoreError as error:
                if _UNREADABLE not in self._reported:
                    self._reported.add(_UNREADABLE)
                    _log.error("%s; nothing is delivered until it can be read", error)
            if self._drain_until_ns is not None and self._is_drained(self._drain_until_ns):
                return

    def _take(self, event: Event | None) -> None:
        match event:
            case Opened(connection):
                self._outbox.replay()
                self._forget.clear()
                self._connection, self._in_flight = connection, {}
                self._sent_up_to, self._resume_ns, self._pause_s = 0, 0, 0.0
                self._say(StatusReason.BIRTH)
            case Lost():
                self._connection, self._in_flight = None, {}
            case Acknowledged() if event.connection is self._connection:
                self._acknowledged(event)
            case _:
                pass

    def _acknowledged(self, event: Acknowledged) -> None:
        row, sent_ns = self._in_flight.pop(event.packet_id, (_NO_ROW, 0))
        if event.reason == _DELIVERED:
            self._pause_s = 0.0
            if row != _NO_ROW:
                self._meter.took(Stage.PUBLISH, (event.at_ns - sent_ns) // 1000)
                self._outbox.finish([row])
                self._forget.append((event.at_ns, row))
        elif row != _NO_ROW or event.reason != _NOBODY_SUBSCRIBES:  # a retained status needs no subscriber
            self._refused(row, event.reason)

    def _refused(self, row: int, reason: int) -> None:
        """Keep the row, wait, then go on from the oldest that waits."""
        if reason not in self._reported:
            self._reported.add(reason)
            why = "nobody subscribes" if reason == _NOBODY_SUBSCRIBES else "the broker refuses this node's messages"
            _log.warning("PUBACK 0x%02x: %s; kept in the outbox, trying again", reason, why)
        if row != _NO_ROW:
            self._sent_up_to = min(self._sent_up_to, row - 1)
        if time.monotonic_ns() >= self._resume_ns:
            self._pause_s = min(_PAUSE_MOST_S, max(0.5, 2 * self._pause_s))
            wait_s = random.uniform(self._pause_s / 2, self._pause_s)  # noqa: S311 -- jitter, not a secret
            self._resume_ns = time.monotonic_ns() + int(wait_s * 1e9)

    def _send(self) -> None:
        if self._connection is None or time.monotonic_ns() < self._resume_ns:
            return
        if self._pause_s and self._in_flight:
            return  # after a refusal: one message at a time, until one is delivered
        room = (1 if self._pause_s else _IN_FLIGHT) - len(self._in_flight)
        for row in self._outbox.waiting(self._sent_up_to, room) if room > 0 else ():
            now_ns = time.monotonic_ns()
            if (stored_ns := self._stored_ns.pop(row.id, None)) is not None:
                self._meter.took(Stage.OUTBOX, (now_ns - stored_ns) // 1000)
            packet_id = self._connection.publish(row.topic, row.payload)
            self._in_flight[packet_id] = (row.id, now_ns)
            self._sent_up_to = row.id

    def _keep_house(self) -> None:
        """Once a second: bring the outbox to the disk, forget what was delivered long ago, mend the status."""
        now_ns = time.monotonic_ns()
        if now_ns - self._kept_house_ns < _HOUSEKEEPING_NS:
            return
        self._kept_house_ns = now_ns
        self._outbox.sync()
        if self._connection is None:
            return  # the replay time runs only while the broker is there: what it just lost must be sent again
        over = []
        while self._forget and now_ns - self._forget[0][0] > self._replay_ns:
            over.append(self._forget.popleft()[1])
        self._outbox.forget(over)
        if self._said is not None and self._content(self._status(StatusReason.BIRTH)) != self._content(self._said):
            self._say(StatusReason.CHANGE)

    def _say(self, reason: StatusReason) -> None:
        if self._connection is None:
            return
        self._said = self._status(reason)
        payload = encode(self._said, STATUS.largest_bytes)
        packet_id = self._connection.publish(STATUS.at(self._node), payload, retain=True)
        self._in_flight[packet_id] = (_NO_ROW, time.monotonic_ns())

    @staticmethod
    def _content(status: NodeStatus) -> NodeStatus:
        """Return the status without the circumstances of its publication."""
        return msgspec.structs.replace(status, reason=StatusReason.BIRTH, online=True, time_us=0)

    def _will(self) -> Will:
        payload = encode(self._status(StatusReason.LOST), STATUS.largest_bytes)
        return Will(topic=STATUS.at(self._node), payload=payload, delay_s=WILL_DELAY_S)

    def _is_drained(self, until_ns: int) -> bool:
        """Return whether to end: everything is delivered and the goodbye said, or the time is over."""
        if time.monotonic_ns() >= until_ns:
            return True
        if self._in_flight or self._outbox.waiting(0, 1):
            return False
        if self._connection is None or (self._said is not None and self._said.reason is StatusReason.STOPPED):
            return True
        self._say(StatusReason.STOPPED)
        return False

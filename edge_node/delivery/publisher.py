"""Delivers the outbox to the broker, in order and at a limited rate, and keeps the retained status true.

One thread owns everything here; paho's callbacks reach it as events in one queue. A broker ties a connection to the
node's name, so there is one connection for all: what arrives on it is handed on. (Over 300 lines, because each way that
a message can take here depends on what has become of the others.)
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from broker.connection import Acknowledged, Arrived, Connection, Event, Failed, Lost, Opened
from broker.contract.errors import StoreError
from broker.contract.messages import NodeStatus, Stage, StatusReason, encode
from broker.contract.topics import STATUS, WILL_DELAY_S, NodeId, NodeTopic
from broker.link import Link, Will
from broker.settings import BrokerSettings
from edge_node.delivery.notices import Notices
from edge_node.delivery.outbox import Outbox, Row
from edge_node.delivery.pace import Pace
from edge_node.delivery.pauses import NOBODY_SUBSCRIBES, Pauses
from edge_node.telemetry import Meter

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)

_DELIVERED: Final = 0x00
_IN_FLIGHT: Final = 20
_TICK_S: Final = 0.2
_HOUSEKEEPING_NS: Final = 1_000_000_000
_DISK_PAUSE_NS: Final = 1_000_000_000
_GOODBYE_NS: Final = 1_000_000_000
"""How long the goodbye may take after the time to drain is over."""
_MOST_TIMED: Final = 1_000
"""Rows whose wait is measured; in a long outage only the newest are."""


class _Sent(msgspec.Struct, frozen=True):
    """A message that has no PUBACK yet."""

    row: Row | None
    """Of the outbox; None: a status or a notice."""
    topic: str
    at_ns: int


class Publisher:
    """The outbox's way to the broker."""

    def __init__(
        self,
        node: NodeId,
        broker: BrokerSettings,
        outbox: Outbox,
        *,
        status: Callable[[StatusReason], NodeStatus],
        meter: Meter,
        subscribe_to: Sequence[str] = (),
        hand_on: Callable[[Event], None] | None = None,
    ) -> None:
        """Prepare to publish.

        Args:
            node: who publishes.
            broker: where to.
            outbox: an instance that no other thread has; it is closed at the end.
            status: makes the current status.
            meter: takes the latencies of the stages `outbox` and `publish`.
            subscribe_to: what this node reads.
            hand_on: hears, on this thread, of what arrives and of each connection.

        Raises:
            SettingsError: the broker's settings cannot be used.
            MessageError: the status breaks the contract.
        """
        self._node = node
        self._status = status
        self._meter = meter
        self._outbox = outbox
        self._pace = Pace(outbox.settings.drain_per_s, _IN_FLIGHT)
        self._is_dating = False
        self._replay_ns = int(outbox.settings.replay_s * 1e9)
        self._hand_on = hand_on
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._link = Link(
            broker, f"{node.site}.{node.node}", events=self._events, subscribe_to=subscribe_to, will=self._will
        )
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._drain_until_ns: int | None = None
        self._connection: Connection | None = None
        self._must_replay = False
        self._in_flight: dict[int, _Sent] = {}  # by packet id
        self._pauses = Pauses()
        self._disk_fails = False
        self._resume_ns = 0
        self._stored: deque[tuple[int, int]] = deque(maxlen=_MOST_TIMED)  # (row id; its commit, ns), rising
        self._forget: deque[tuple[int, int]] = deque()  # (delivered at, ns; row id)
        self._kept_house_ns = 0
        self._said: NodeStatus | None = None
        self._is_status_refused = False
        self._notices = Notices(node)
        self._defect: Exception | None = None
        self._will()  # on this thread, a status that breaks the contract is an error that somebody sees

    @property
    def link(self) -> Link:
        """The connection, to be asked how it stands."""
        return self._link

    @property
    def thread(self) -> threading.Thread:
        """That delivers: while the program runs, it does not end."""
        return self._thread

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self._link.connects - 1)

    def start(self) -> None:
        """Begin to connect and to deliver."""
        self._link.start()
        self._thread.start()

    def stored(self, row_id: int) -> None:
        """Hear from the pipeline's thread that a row was committed just now.

        Raises:
            RuntimeError: this thread ended by a defect of its own, which is the cause: nothing stops silently.
        """
        if self._defect is not None:
            msg = "the publisher ended"
            raise RuntimeError(msg) from self._defect
        self._stored.append((row_id, time.monotonic_ns()))
        self._events.put(None)

    def say(self, row: NodeTopic, message: msgspec.Struct | None) -> None:
        """Publish a message beside the outbox, from any thread; a retained one is said again on each connection.

        None takes back what is retained in that row.
        """
        self._notices.put(row, message)
        self._events.put(None)

    def stop(self, drain_s: float) -> bool:
        """Deliver what waits for at most `drain_s`, say goodbye, and return whether nothing is left waiting."""
        self._drain_until_ns = time.monotonic_ns() + int(drain_s * 1e9)
        self._events.put(None)
        self._thread.join()
        self._link.stop()
        try:
            self._outbox.sync()
            return not self._outbox.depth()
        except StoreError as error:
            self._tell_of_disk(error)
            return False
        finally:
            self._outbox.close()

    def _run(self) -> None:
        try:
            self._deliver()
        except Exception as error:  # noqa: BLE001 -- a defect of ours: the pipeline's next `stored` raises it
            self._defect = error

    def _deliver(self) -> None:
        """Publish until told to stop and drained."""
        while True:
            try:
                event = self._events.get(timeout=_TICK_S if self._pace.left else min(_TICK_S, self._pace.wait_s))
            except queue.Empty:
                event = None
            try:
                self._take(event)
                self._say_all()
                self._send()
                self._keep_house()
            except StoreError as error:
                self._tell_of_disk(error)
                self._resume_ns = time.monotonic_ns() + _DISK_PAUSE_NS
            if self._drain_until_ns is not None and self._is_drained(self._drain_until_ns):
                return

    def _tell_of_disk(self, error: StoreError) -> None:
        if not self._disk_fails:  # said once
            self._disk_fails = True
            _log.error("%s; nothing is delivered until it can be read and written", error)

    def _take(self, event: Event | None) -> None:
        if self._hand_on is not None and isinstance(event, Opened | Arrived | Lost):
            self._hand_on(event)
        match event:
            case Opened(connection):
                self._connection, self._in_flight = connection, {}
                # a refusal outlives its connection: Mosquitto 2.0 ends the connection with it
                self._pauses.reconnected()
                self._must_replay = True
                self._say(StatusReason.BIRTH)
                self._notices.connected()
            case Lost():
                self._notices.lost({sent.topic for sent in self._in_flight.values() if sent.row is None})
                self._connection, self._in_flight = None, {}
            case Failed(error):
                raise error
            case Acknowledged() if event.connection is self._connection:
                self._acknowledged(event)
            case _:
                pass

    def _acknowledged(self, event: Acknowledged) -> None:
        sent = self._in_flight.pop(event.packet_id, None)
        if sent is None:
            return
        if event.reason == _DELIVERED:
            self._pauses.end(sent.topic)
            self._notices.answered(sent.topic)
            if sent.row is not None:
                self._meter.took(Stage.PUBLISH, (event.at_ns - sent.at_ns) // 1000)
                self._outbox.finish([sent.row.id])
                self._forget.append((event.at_ns, sent.row.id))
        elif sent.row is not None or event.reason != NOBODY_SUBSCRIBES:  # a retained status needs no subscriber
            if sent.row is None and self._notices.give_up(sent.topic):
                _log.warning("%s: PUBACK 0x%02x: the broker refuses it; not tried again", sent.topic, event.reason)
            else:
                self._pauses.begin(sent.topic, event.reason)
                self._is_status_refused = self._is_status_refused or sent.topic == STATUS.at(self._node)
            if sent.row is not None:
                self._outbox.refused(sent.row)

    def _send(self) -> None:
        if self._connection is None or time.monotonic_ns() < self._resume_ns:
            return
        if self._must_replay:
            self._outbox.replay()
            self._forget.clear()
            self._must_replay = False
        room = min(_IN_FLIGHT - len(self._in_flight), self._pace.left)
        if room <= 0:
            return  # what is acknowledged, or the time, makes room
        sent_rows = {sent.row.id for sent in self._in_flight.values() if sent.row is not None}
        closed = self._pauses.closed({sent.topic for sent in self._in_flight.values()})
        chosen: list[Row] = []
        for row in self._outbox.waiting(_IN_FLIGHT + len(sent_rows), closed):
            if row.id in sent_rows or row.topic in closed or len(chosen) == room:
                continue
            if row.topic in self._pauses:
                closed.add(row.topic)
            chosen.append(row)
        here = self._outbox.doubt([row.id for row in chosen if row.is_new])
        for row in chosen:
            if row.is_new and row.id not in here:
                continue  # it had to go meanwhile
            now_ns = time.monotonic_ns()
            self._note_wait(row.id, now_ns)
            packet_id = self._connection.publish(row.topic, row.payload)
            self._in_flight[packet_id] = _Sent(row, row.topic, now_ns)
            self._pace.step()

    def _note_wait(self, row_id: int, now_ns: int) -> None:
        while self._stored and self._stored[0][0] <= row_id:
            stored_id, stored_ns = self._stored.popleft()
            if stored_id == row_id:
                self._meter.took(Stage.OUTBOX, (now_ns - stored_ns) // 1000)

    def _keep_house(self) -> None:
        """Once a second: bring the outbox to the disk, date and forget what is due, mend the status."""
        if self._is_dating:  # some at a time: the pipeline's thread may have to wait for them
            self._is_dating = self._outbox.date()
            self._events.put(None)
        now_ns = time.monotonic_ns()
        if now_ns - self._kept_house_ns < _HOUSEKEEPING_NS:
            return
        self._kept_house_ns = now_ns
        self._outbox.sync()
        self._is_dating = self._outbox.date()
        if self._connection is None:
            return  # the replay time runs only while the broker is there: what it just lost must be sent again
        over = []
        while self._forget and now_ns - self._forget[0][0] > self._replay_ns:
            over.append(self._forget.popleft()[1])
        self._outbox.forget(over)
        if self._said is None:
            return
        is_new = self._content(self._status(StatusReason.BIRTH)) != self._content(self._said)
        is_due = self._is_status_refused and STATUS.at(self._node) not in self._pauses.closed(set())
        if is_new or is_due:
            self._is_status_refused = False
            self._say(StatusReason.CHANGE)

    def _say_all(self) -> None:
        closed = self._pauses.closed(set())
        for each in self._notices.take(closed, is_connected=self._connection is not None):
            assert self._connection is not None  # noqa: S101 -- for the type checker: or none would be taken
            payload = b"" if each.message is None else encode(each.message, each.row.largest_bytes, each.row.message)
            packet_id = self._connection.publish(each.topic, payload, retain=each.row.retained)
            self._in_flight[packet_id] = _Sent(None, each.topic, time.monotonic_ns())

    def _say(self, reason: StatusReason) -> None:
        if self._connection is None:
            return
        self._said = self._status(reason)
        payload = encode(self._said, STATUS.largest_bytes, STATUS.message)
        topic = STATUS.at(self._node)
        packet_id = self._connection.publish(topic, payload, retain=True)
        self._in_flight[packet_id] = _Sent(None, topic, time.monotonic_ns())

    @staticmethod
    def _content(status: NodeStatus) -> NodeStatus:
        """Return the status without the circumstances of its publication."""
        return msgspec.structs.replace(status, reason=StatusReason.BIRTH, online=True, time_us=0)

    def _will(self) -> Will:
        payload = encode(self._status(StatusReason.LOST), STATUS.largest_bytes, STATUS.message)
        return Will(topic=STATUS.at(self._node), payload=payload, delay_s=WILL_DELAY_S)

    def _is_drained(self, until_ns: int) -> bool:
        """Return whether to end: everything is delivered, or the time is over, and the goodbye is said."""
        now_ns = time.monotonic_ns()
        if self._said is not None and self._said.reason is StatusReason.STOPPED and self._connection is not None:
            return not self._in_flight or now_ns >= until_ns + _GOODBYE_NS
        if now_ns < until_ns and (self._in_flight or self._is_anything_left()):
            return False
        if self._connection is None:
            return True
        self._say(StatusReason.STOPPED)
        return False

    def _is_anything_left(self) -> bool:
        try:
            return self._is_dating or bool(self._outbox.waiting(1))
        except StoreError as error:
            self._tell_of_disk(error)
            return True

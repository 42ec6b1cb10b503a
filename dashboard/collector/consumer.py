"""From the broker to the store: batch, make durable, then acknowledge, in the order of arrival.

A message waits for its acknowledgement on the connection that it came by. When that connection is lost, its
pending acknowledgements are forgotten with it: after a broker lost its state, packet ids start anew, and an old
acknowledgement would discard a new message. Whatever was not acknowledged comes again, and the store knows it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from broker.connection import Arrived, Event, Failed, Subscribed
from broker.contract.errors import MessageError, StoreError
from broker.contract.topics import EMOTION, STATUS, TELEMETRY, UPDATE, find
from broker.link import Link
from broker.settings import BrokerSettings
from dashboard.collector.records import Store, Written, read_message

__all__ = ["Consumer"]

_log = logging.getLogger(__name__)

_RECEIVE_AT_MOST: Final = 1_000
"""Unacknowledged messages that the broker may send; the bound of every queue in here."""
_BATCH_MOST: Final = 500
_BATCH_WAIT_S: Final = 0.05
_TICK_S: Final = 0.5
_RETRY_S: Final = 1.0
_REFUSED: Final = 0x80
_STORED: Final = (STATUS, EMOTION, TELEMETRY, UPDATE)
"""What goes into the store; a reply concerns nobody but the operator who gave the command."""


class Consumer:
    """Keeps a shared subscription and hands what arrives to a store."""

    def __init__(
        self,
        broker: BrokerSettings,
        name: str,
        group: str | None,
        store: Store,
        *,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to consume.

        Args:
            broker: where to.
            name: this collector's client id; stable, or messages that wait for it are lost.
            group: name of the shared subscription; None: subscribe alone.
            store: where records go; used on the thread of `run` only.
            ready: called at each SUBACK: from here on no message of a node is without a subscriber.

        Raises:
            SettingsError: the broker's settings cannot be used.
        """
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        # Mosquitto delivers retained messages to shared subscriptions against the standard, others do not:
        # what is retained is subscribed plainly, by every replica.
        share = "" if group is None else f"$share/{group}/"
        self._filters = [row.every_node if row.retained else share + row.every_node for row in _STORED]
        self._link = Link(
            broker, name, events=self._events, subscribe_to=self._filters, receive_at_most=_RECEIVE_AT_MOST
        )
        self._store = store
        self._ready = ready
        self._failing = False
        self.totals = Written()

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set; what is not stored by then is not acknowledged and comes again."""
        self._link.start()
        try:
            while not stop.is_set():
                self._consume(self._take(), stop)
        finally:
            self._link.stop()

    def _take(self) -> list[Arrived]:
        """Return what arrives until the batch is full or a moment has passed, and hear of subscriptions."""
        batch: list[Arrived] = []
        deadline = time.monotonic() + _TICK_S
        while len(batch) < _BATCH_MOST:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(event, Arrived):
                if not batch:
                    deadline = time.monotonic() + _BATCH_WAIT_S
                batch.append(event)
            elif isinstance(event, Failed):
                raise event.error
            elif isinstance(event, Subscribed):
                self._subscribed(event)
        return batch

    def _subscribed(self, event: Subscribed) -> None:
        if any(reason >= _REFUSED for reason in event.reasons):
            _log.error("the broker refuses the subscriptions %s: %s", self._filters, event.reasons)
            return
        _log.info("subscribed to %s", ", ".join(self._filters))
        self._ready()

    def _consume(self, batch: list[Arrived], stop: threading.Event) -> None:
        if not batch:
            return
        received_us = time.time_ns() // 1000
        records = [read_message(each.topic, each.payload, received_us) for each in batch if not _is_taken_back(each)]
        while not stop.is_set():
            try:
                written = self._store.write(records)
            except StoreError as error:
                if not self._failing:  # said once; the next word is about success
                    _log.error("%s; nothing is acknowledged until it works", error)
                self._failing = True
                stop.wait(_RETRY_S)
                continue
            if self._failing:
                _log.info("the store works again")
                self._failing = False
            break
        else:
            return
        for each in batch:
            if each.packet_id:
                each.connection.acknowledge(each.packet_id)  # on a lost connection this reaches nobody
        self.totals = Written(
            stored=self.totals.stored + written.stored,
            redelivered=self.totals.redelivered + written.redelivered,
            dead_letters=self.totals.dead_letters + written.dead_letters,
        )


def _is_taken_back(event: Arrived) -> bool:
    """Return whether a retained message was taken back, as a retired node's are: nothing to store."""
    try:
        return not event.payload and find(event.topic)[0].retained
    except MessageError:
        return False

"""The fleet as the user `watcher` sees it: a connection of its own, and whether what it shows can be relied on."""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from broker.connection import Arrived, Connection, Event, Failed, Lost, Opened, Subscribed
from broker.contract.errors import LinkError
from broker.contract.release import Rollout
from broker.contract.topics import STATUS, UPDATE, WATCHER_USER
from broker.link import Link
from broker.outage import link_words
from broker.settings import BrokerSettings
from training.release.fleet import Tally, in_nodes, tally
from training.release.picture import Picture

__all__ = ["Watch", "open_watch"]

_REFUSED: Final = 0x80
_LOOK_S: Final = 0.2
"""How soon Ctrl-C is noticed."""
_AT_ONCE: Final = 1_000
"""Messages that the broker may send before it waits for acknowledgements: a large fleet's reports come in seconds."""
_SHORT_S: Final = 20.0
_MOST_SHORT: Final = 3
"""Connections that were accepted and lost within that time, one after the other."""
_CATCH_UP_S: Final = 1.0
"""For how long beyond its time it takes in what has gathered while somebody signed."""
_MOST_NOTES: Final = 100


class Watch:
    """Hears every node's report and status, from the first connection to the last."""

    def __init__(
        self, events: "queue.SimpleQueue[Event | None]", where: str, words: deque[str], *, quiet_s: float
    ) -> None:
        """Begin with nothing heard.

        Args:
            events: of a link that subscribes to the reports and the statuses.
            where: the broker, as `<host>:<port>`.
            words: what the link says about its outages; emptied here.
            quiet_s: for how long nothing retained may come before all of it is taken to have come.
        """
        self.picture = Picture()
        self.notes: deque[str] = deque(maxlen=_MOST_NOTES)
        """What is to be told, in words; whoever tells it takes it out."""
        self.has_rival = False
        """Whether another program seems to be connected as the same user: a broker that lets each user in once throws
        the two out in turns, and gives no reason (Mosquitto 2.0)."""
        self.where = where
        self._events = events
        self._words = words
        self._quiet_s = quiet_s
        self._connection: Connection | None = None
        self._is_subscribed = self._is_missed = False
        self._retained_at = self._opened_at = 0.0
        self._short_ones = 0

    @property
    def is_current(self) -> bool:
        """Whether all that the broker retains has been heard on the present connection.

        A broker does not say when it has delivered that. Mosquitto queues it when it takes the subscription and sends
        it right after its SUBACK, so it has come when there was a SUBACK, and for a short time nothing retained.
        (`mirror` is surer, by a message of its own that must come back; this user may not write.)
        """
        return self._is_subscribed and time.monotonic() - self._retained_at >= self._quiet_s

    def listen(self, seconds: float, stop: threading.Event) -> None:
        """Take in what comes, for so long or until told to stop.

        Raises:
            LinkError: the broker refuses the subscription.
        """
        deadline = time.monotonic() + seconds
        while not stop.is_set():
            self._tell()
            left = deadline - time.monotonic()
            try:
                event = self._events.get(timeout=max(0.0, min(_LOOK_S, left)))
            except queue.Empty:
                if left <= 0:
                    return
                continue
            self._take(event)
            if left <= 0 and (self._events.empty() or left < -_CATCH_UP_S):
                return

    def tally(self, rollout: Rollout) -> Tally:
        """Return how the nodes stand towards a release."""
        return tally(self.picture.reports, rollout, self.picture.away(time.monotonic()), self.picture.silent)

    def _take(self, event: Event | None) -> None:
        match event:
            case Failed(error):
                raise error
            case Opened(connection):
                self._connection, self._is_subscribed, self._opened_at = connection, False, time.monotonic()
                self.picture.begin_anew()
            case Lost(connection) if connection is self._connection:
                self._connection, self._is_subscribed, self._is_missed = None, False, True
                self.notes.append(f"broker {self.where}: the connection was lost; nothing is judged until it is back")
                self._suspect(time.monotonic() - self._opened_at)
            case Subscribed(connection, reasons) if connection is self._connection:
                if any(reason >= _REFUSED for reason in reasons):
                    msg = f"broker {self.where}: refuses the subscription to reports; is the user {WATCHER_USER!r}?"
                    raise LinkError(msg)
                self._is_subscribed, self._retained_at = True, time.monotonic()
            case Arrived(connection, topic, payload, packet_id, retained) if connection is self._connection:
                now_s = time.monotonic()
                if retained:
                    self._retained_at = now_s
                if note := self.picture.hear(topic, payload, retained=retained, now_s=now_s):
                    self.notes.append(note)
                if packet_id:
                    connection.acknowledge(packet_id)
            case _:
                pass

    def _suspect(self, lasted_s: float) -> None:
        self._short_ones = self._short_ones + 1 if lasted_s < _SHORT_S else 0
        if self._short_ones >= _MOST_SHORT and not self.has_rival:
            self.has_rival = True
            self.notes.append(f"broker {self.where}: is another program connected as {WATCHER_USER!r}? One is let in")

    def _tell(self) -> None:
        """Say why there is no connection, and that it is back."""
        while self._words:
            words = self._words.popleft()
            if not words.startswith("connection lost"):  # its loss was said already
                self._is_missed = True
                self.notes.append(f"broker {self.where}: {words}; tries again")
        if self._is_missed and self.is_current:
            self._is_missed = False
            heard = len(self.picture.reports)
            self.notes.append(f"broker {self.where}: the connection is there; {in_nodes(heard)} heard")


@contextmanager
def open_watch(settings: BrokerSettings, *, quiet_s: float = 1.0) -> Iterator[Watch]:
    """Listen to a fleet; what the link warns of comes as notes.

    Args:
        settings: where the broker is; the user must be `watcher`.
        quiet_s: as for `Watch`.

    Raises:
        SettingsError: a certificate, a key or the file with the password cannot be used.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    filters = [STATUS.every_node, UPDATE.every_node]
    link = Link(
        settings, WATCHER_USER, events=events, subscribe_to=filters, receive_at_most=_AT_ONCE, session_expiry_s=0
    )
    with link_words(WATCHER_USER) as words:
        link.start()
        try:
            yield Watch(events, f"{settings.host}:{settings.port}", words, quiet_s=quiet_s)
        finally:
            link.stop()

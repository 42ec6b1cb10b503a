"""The repository's files as retained messages: looked at, made right, and looked at again.

Every round looks at what the broker retains, sends what differs (chunks first, then metadata, the timestamp last, so
that whoever follows it finds the rest), and takes away what belongs to no state any more. It ends when a look finds
everything as it should be, so what is told as mirrored was read back. A broker that lost its memory is no special case.
"""

import hashlib
import queue
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from broker.connection import Acknowledged, Arrived, Connection, Event, Failed, Lost, Opened, Subscribed
from broker.contract.errors import LinkError, Refusal, ReleaseError, TrustError
from broker.contract.topics import CHUNK, LARGEST_RETAINED_BYTES, METADATA, RELEASE_TOPICS, RELEASE_USER
from broker.link import Link
from broker.outage import link_words
from broker.settings import BrokerSettings
from broker.verify import verify
from training.release.files import Files

__all__ = ["Mirrored", "inspect", "mirror", "mirror_all", "retained"]

_ROUNDS: Final = 3
_IN_FLIGHT: Final = 16
"""Messages sent before the first is acknowledged: 1 MiB at most."""
_HEADER_BYTES: Final = 64
"""More than MQTT puts around a topic and a payload."""
_REFUSED: Final = 0x80
_TELL_AFTER_S: Final = 2.0
"""For how long nothing may happen before somebody who looks at a terminal is told why."""
_FIRST_ROOT: Final = METADATA.at("1.root.json")

Payloads = Mapping[str, bytes]
Say = Callable[[str], None]


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """What it took."""

    messages: int
    """That the broker retains, all of them read back."""
    sent: int
    """That it did not have, or had otherwise."""
    removed: int
    """That it should not have had."""


def retained(files: Files) -> dict[str, bytes]:
    """Return what a broker should retain, by topic, in the order in which it is to be sent."""
    order = ("root", "targets", "rollout", "snapshot", "timestamp")
    chunks = sorted(path for path in files.chunks.iterdir() if re.fullmatch(CHUNK.pattern, path.name))
    known = (path for path in files.metadata.iterdir() if re.fullmatch(METADATA.pattern, path.name))
    metadata = sorted(known, key=lambda path: (order.index(path.name.split(".")[-2]), path.name))
    return {
        **{CHUNK.at(path.name): path.read_bytes() for path in chunks},
        **{METADATA.at(path.name): path.read_bytes() for path in metadata},
    }


def inspect(files: Files, channels: Sequence[str]) -> None:
    """Look at the repository as a node does that sees it for the first time.

    Args:
        files: of the repository.
        channels: whose documents there are.

    Raises:
        ReleaseError: a node would refuse it.
    """
    anchor = (files.metadata / "1.root.json").read_bytes()
    for channel in channels or ("stable",):
        with TemporaryDirectory(prefix="sottovoce-release-") as folder:
            try:
                verify(files.metadata, Path(folder), anchor, channel)
            except TrustError as error:
                if error.refusal != Refusal.UNKNOWN_CHANNEL or channels:
                    msg = f"{files.folder}: not mirrored, as every node would refuse it: {error}"
                    raise ReleaseError(msg) from error


def mirror(
    settings: BrokerSettings, wanted: Payloads, *, wait_s: float = 30.0, say_waits: Say | None = None
) -> Mirrored:
    """Make a broker retain these messages of the release topics, and no others.

    Args:
        settings: where the broker is; the user must be `release`.
        wanted: payloads by topic, in the order in which they are to be sent; it holds the first root.
        wait_s: how long nothing may happen before it is given up, s.
        say_waits: is told, in words, when it has to wait for the broker; None: nobody is.

    Raises:
        LinkError: the broker cannot be reached, refuses, takes no packets of this size, or does not keep them.
        ReleaseError: a payload is too large for its topic.
    """
    for topic, payload in wanted.items():
        if len(payload) > LARGEST_RETAINED_BYTES:  # paho would be thrown out for it, and try again for ever
            msg = f"{topic}: {len(payload):,} bytes, at most {LARGEST_RETAINED_BYTES:,} are sent"
            raise ReleaseError(msg)
    digests = {topic: hashlib.sha256(payload).digest() for topic, payload in wanted.items()}
    sent: set[str] = set()
    removed: set[str] = set()
    for _ in range(_ROUNDS):
        with _session(settings, wait_s, say_waits) as session:
            found = session.look(wanted[_FIRST_ROOT])
            missing = {topic: wanted[topic] for topic, digest in digests.items() if found.get(topic) != digest}
            stale = found.keys() - wanted.keys()
            if not missing and not stale:
                return Mirrored(messages=len(wanted), sent=len(sent), removed=len(removed))
            last = list(wanted)[-1]
            session.send({topic: payload for topic, payload in missing.items() if topic != last})
            session.send({topic: payload for topic, payload in missing.items() if topic == last})
            session.send(dict.fromkeys(sorted(stale), b""))
            sent |= missing.keys()
            removed |= stale
    where = f"{settings.host}:{settings.port}"
    msg = f"broker {where}: does not retain what it took, such as {next(iter((*missing, *stale)))}; does it keep state?"
    raise LinkError(msg)


def mirror_all(
    files: Files,
    channels: Sequence[str],
    settings: BrokerSettings,
    *,
    wait_s: float = 30.0,
    say_waits: Say | None = None,
) -> Mirrored:
    """Make a broker retain what a repository holds, after a look at it with a node's eyes; arguments as `mirror`.

    Raises:
        LinkError: as `mirror`; in one line with what the connection said.
        ReleaseError: a node would refuse it.
    """
    inspect(files, channels)
    with link_words(RELEASE_USER) as words:
        try:
            return mirror(settings, retained(files), wait_s=wait_s, say_waits=say_waits)
        except LinkError as error:
            because = f" ({words[-1]})" if words else ""
            msg = f"{error}{because}; what is signed is safe, `sottovoce-release reseed` mirrors it"
            raise LinkError(msg) from error


class _Session:
    """One connection that has subscribed to the release topics."""

    def __init__(
        self, events: "queue.SimpleQueue[Event | None]", where: str, wait_s: float, say_waits: Say | None
    ) -> None:
        self._events = events
        self._where = where
        self._wait_s = wait_s
        self._say_waits = say_waits
        self._found: dict[str, bytes] = {}
        self._connection = self._open()

    def look(self, first_root: bytes) -> Mapping[str, bytes]:
        """Return the digests of what is retained.

        A broker queues what it retains when it takes the subscription. The first root, which never changes, is then
        published once more: when it comes back as a new message, everything that was queued before it has come.
        """
        packet_id = self._publish(_FIRST_ROOT, first_root)
        while True:
            event = self._next("nothing retained was delivered")
            if isinstance(event, Acknowledged) and event.packet_id == packet_id:
                self._check(event.reason, _FIRST_ROOT)
            if isinstance(event, Arrived) and event.topic == _FIRST_ROOT and not event.retained:
                return self._found

    def send(self, payloads: Payloads) -> None:
        """Publish retained messages, in this order, and return when all are acknowledged."""
        waiting: dict[int, str] = {}
        left = list(payloads.items())
        while left or waiting:
            while left and len(waiting) < _IN_FLIGHT:
                topic, payload = left.pop(0)
                waiting[self._publish(topic, payload)] = topic
            event = self._next("no acknowledgement came")
            if isinstance(event, Acknowledged) and (acknowledged := waiting.pop(event.packet_id, None)) is not None:
                self._check(event.reason, acknowledged)

    def _open(self) -> Connection:
        while not isinstance(event := self._next("no connection, or no answer to SUBSCRIBE"), Subscribed):
            pass
        if any(reason >= _REFUSED for reason in event.reasons):
            msg = f"broker {self._where}: refuses the subscription to the release topics; is the user {RELEASE_USER!r}?"
            raise LinkError(msg)
        return event.connection

    def _publish(self, topic: str, payload: bytes) -> int:
        size, largest = len(topic) + len(payload) + _HEADER_BYTES, self._connection.largest_packet_bytes
        if largest is not None and size > largest:
            msg = (
                f"broker {self._where}: takes packets of {largest:,} bytes at most, {topic} needs {size:,}; "
                "raise max_packet_size as broker/mosquitto/mosquitto.conf does"
            )
            raise LinkError(msg)
        return self._connection.publish(topic, payload, retain=True)

    def _next(self, missed: str) -> Event:
        """Return the next event; remember what is retained, acknowledge it, and give up when the connection is lost."""
        begun = time.monotonic()
        while True:
            waited_s = time.monotonic() - begun
            until_s = self._wait_s if self._say_waits is None else min(_TELL_AFTER_S, self._wait_s)
            try:
                event = self._events.get(timeout=max(0.0, until_s - waited_s))
            except queue.Empty:
                if self._say_waits is not None and until_s < self._wait_s:
                    self._say_waits(f"waiting for the broker {self._where}")
                    self._say_waits = None  # once
                    continue
                msg = f"broker {self._where}: {missed} within {self._wait_s:g} s"
                raise LinkError(msg) from None
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Lost):
                msg = f"broker {self._where}: the connection was lost"
                raise LinkError(msg)
            if isinstance(event, Arrived):
                if event.packet_id:
                    event.connection.acknowledge(event.packet_id)
                if event.retained:
                    self._found[event.topic] = hashlib.sha256(event.payload).digest()
            if event is not None and not isinstance(event, Opened):
                return event

    def _check(self, reason: int, topic: str) -> None:
        if reason >= _REFUSED:
            msg = (
                f"broker {self._where}: refuses {topic} (0x{reason:02x}); "
                f"the ACL lets the user {RELEASE_USER!r} alone write there"
            )
            raise LinkError(msg)


@contextmanager
def _session(settings: BrokerSettings, wait_s: float, say_waits: Say | None) -> Iterator[_Session]:
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    filters = [row.every for row in RELEASE_TOPICS]
    link = Link(settings, RELEASE_USER, events=events, subscribe_to=filters, session_expiry_s=0)
    link.start()
    try:
        yield _Session(events, f"{settings.host}:{settings.port}", wait_s, say_waits)
    finally:
        link.stop()

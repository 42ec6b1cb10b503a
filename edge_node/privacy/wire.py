"""MQTT 5 as a node sends it, byte by byte: whatever is not a packet of it is an error, so that nothing hides between.

Source: MQTT Version 5.0, OASIS Standard, 7 March 2019, sections 2 and 3.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from broker.contract.errors import MessageError

__all__ = ["Packet", "read_packets"]

_CONNECT: Final = 1
_PUBLISH: Final = 3
_PUBACK: Final = 4
_SUBSCRIBE: Final = 8
_UNSUBSCRIBE: Final = 10
_PINGREQ: Final = 12
_DISCONNECT: Final = 14
_KINDS: Final = {
    _CONNECT: "CONNECT",
    _PUBLISH: "PUBLISH",
    _PUBACK: "PUBACK",
    _SUBSCRIBE: "SUBSCRIBE",
    _UNSUBSCRIBE: "UNSUBSCRIBE",
    _PINGREQ: "PINGREQ",
    _DISCONNECT: "DISCONNECT",
}
# Properties that are numbers, and how many bytes they have; those that can hold a text or more are refused.
_NUMBERS: Final = {0x02: 4, 0x11: 4, 0x17: 1, 0x18: 4, 0x19: 1, 0x21: 2, 0x22: 2, 0x27: 4}


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One packet, and what it says."""

    kind: str
    size: int
    """Bytes on the wire."""
    topic: str = ""
    """Of a PUBLISH, or of a CONNECT's will."""
    payload: bytes | None = None
    """Likewise; None: the packet has none."""
    words: tuple[str, ...] = ()
    """Other texts: client id, user name, filters."""


class _Reader:
    """Takes a packet's body apart."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) < count:
            msg = "a packet is shorter than it says"
            raise MessageError(msg)
        self._at += count
        return part

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def text(self) -> str:
        return self.take(self.number(2)).decode()

    def length(self) -> int:
        """Return a variable byte integer (section 1.5.5)."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 -- the bit that says: more follows
                return value
        msg = "a length has more than four bytes"
        raise MessageError(msg)

    def properties(self) -> None:
        """Pass properties over, if they are numbers of the protocol."""
        inner = _Reader(self.take(self.length()))
        while inner.left:
            if (size := _NUMBERS.get(name := inner.length())) is None:
                msg = f"a packet has property {name:#04x}, in which anything could stand"
                raise MessageError(msg)
            inner.take(size)

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def read_packets(stream: bytes) -> Iterator[Packet]:
    """Yield the packets of one connection, as its client sent them.

    Raises:
        MessageError: there is a byte in it that belongs to no packet, or that could stand for anything.
    """
    reader = _Reader(stream)
    while reader.left:
        before = reader.left
        first = reader.number(1)
        body = _Reader(reader.take(reader.length()))
        try:
            packet = _packet(first, body, before - reader.left)
        except UnicodeDecodeError as error:
            msg = f"a text in a packet is not UTF-8: {error.reason}"
            raise MessageError(msg) from error
        if body.left:
            msg = f"{body.left} bytes after the end of a {packet.kind}"
            raise MessageError(msg)
        yield packet


def _packet(first: int, body: _Reader, size: int) -> Packet:
    kind = first >> 4
    name = _KINDS.get(kind)
    if name is None:
        msg = f"a packet of type {kind}, which no node sends"
        raise MessageError(msg)
    if kind == _CONNECT:
        return _connect(body, size)
    if kind == _PUBLISH:
        topic = body.text()
        if first & 0b0110:
            body.take(2)
        body.properties()
        return Packet(kind=name, size=size, topic=topic, payload=body.take(body.left))
    if kind in {_SUBSCRIBE, _UNSUBSCRIBE}:
        body.take(2)
        body.properties()
        filters = []
        while body.left:
            filters.append(body.text())
            body.take(1 if kind == _SUBSCRIBE else 0)
        return Packet(kind=name, size=size, words=tuple(filters))
    if kind == _PUBACK:
        body.take(2)
    if body.left:
        body.take(1)  # a reason
    if body.left:
        body.properties()
    return Packet(kind=name, size=size)


def _connect(body: _Reader, size: int) -> Packet:
    body.take(7)  # the protocol's name and its version
    flags = body.number(1)
    body.take(2)
    body.properties()
    words, topic, payload = [body.text()], "", None
    if flags & 0x04:
        body.properties()
        topic = body.text()
        payload = body.take(body.number(2))
    if flags & 0x80:
        words.append(body.text())
    if flags & 0x40:
        body.take(body.number(2))  # the password, made by this check for this run
    return Packet(kind="CONNECT", size=size, topic=topic, payload=payload, words=tuple(words))

"""What each byte is that a node wrote: a message of the contract, a line of its log, or the form of a database.

socket to the broker   packets of MQTT, each to its last byte; the payloads are read by the topic table
its own sockets        answers to the doctor, wake-ups
SQLite                 what is no message of above is SQLite's own form, and is searched with everything else
"""

import re
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import MessageError
from broker.contract.messages import decode
from broker.contract.topics import NODE_TOPICS, NodeId, find
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.local.messages import Answer
from edge_node.privacy.wire import Packet, read_packets

__all__ = [
    "Said",
    "Unexplained",
    "check_answers",
    "check_database",
    "rest_of",
    "said_on",
    "schema_texts",
    "words_of_topics",
]

_ZEROS: Final = re.compile(rb"\x00{8,}")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the contract."""

    topic: str
    row: str
    """Its name in the topic table."""
    payload: bytes
    message: msgspec.Struct | None
    """None: what is retained there was taken back."""


class Unexplained(Exception):  # noqa: N818 -- a finding of the check, which nobody sees as an error
    """Bytes that are no message of the contract."""


def said_on(stream: bytes, node: NodeId) -> tuple[list[Said], list[Packet]]:
    """Return the messages on one connection, and all of its packets.

    Raises:
        Unexplained: a byte belongs to no packet, a packet to no row of the topic table, a payload to no message.
    """
    said, packets = [], []
    try:
        for packet in read_packets(stream):
            packets.append(packet)
            if packet.payload is not None:
                said.append(_said(packet.topic, packet.payload, node))
    except MessageError as error:
        raise Unexplained(str(error)) from error
    return said, packets


def _said(topic: str, payload: bytes, node: NodeId) -> Said:
    """Return the message in a payload that says nothing else: encoded anew, it is the same to the byte.

    Raises:
        MessageError: it is none, or says something in how it is written.
    """
    row, whose = find(topic)
    if whose != node:
        msg = f"topic {topic!r} is another node's"
        raise MessageError(msg)
    if not payload and row.retained:
        return Said(topic=topic, row=row.name, payload=payload, message=None)
    message = decode(payload, row.message, row.largest_bytes)
    if msgspec.json.encode(message) != payload:
        msg = f"{row.name}: the payload is not written as the contract writes it"
        raise MessageError(msg)
    return Said(topic=topic, row=row.name, payload=payload, message=message)


def check_answers(stream: bytes) -> None:
    """Check what was said at the local socket.

    Raises:
        Unexplained: it is no answer, or says something in how it is written.
    """
    for line in stream.splitlines():
        try:
            answer: object = msgspec.json.decode(line, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"at the local socket: {error}"
            raise Unexplained(msg) from error
        if msgspec.json.encode(answer) != line:
            msg = "at the local socket: an answer is not written as the contract writes it"
            raise Unexplained(msg)


def schema_texts() -> list[bytes]:
    """Return the statements that an outbox is made with: they stand in its file, as in every other."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "fresh.sqlite"
        Outbox(OutboxSettings(path=str(fresh)), WallClock(trusted=True)).close()
        with closing(sqlite3.connect(fresh)) as made:
            return [text.encode() for (text,) in made.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]


def check_database(content: bytes, node: NodeId) -> int:
    """Return how many messages an outbox holds that is built as it should be, and holds nothing else.

    Raises:
        Unexplained: it has other tables, columns or triggers, or a row that is no message of this node.
    """
    with tempfile.TemporaryDirectory() as folder:
        there, fresh = Path(folder) / "there.sqlite", Path(folder) / "fresh.sqlite"
        there.write_bytes(content)
        Outbox(OutboxSettings(path=str(fresh)), WallClock(trusted=True)).close()
        with closing(sqlite3.connect(there)) as found, closing(sqlite3.connect(fresh)) as made:
            ask = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
            try:
                if found.execute(ask).fetchall() != made.execute(ask).fetchall():
                    msg = "the outbox has other tables than an outbox has"
                    raise Unexplained(msg)
                rows = found.execute("SELECT topic, payload FROM message").fetchall()
            except sqlite3.Error as error:
                msg = f"the outbox cannot be read: {error}"
                raise Unexplained(msg) from error
    for topic, payload in rows:
        try:
            _said(topic, payload, node)
        except MessageError as error:
            msg = f"in the outbox: {error}"
            raise Unexplained(msg) from error
    return len(rows)


def rest_of(writes: Iterable[bytes], known: Sequence[bytes]) -> bytes:
    """Return what is left of what was written once the known is taken out, and every repetition, and runs of zeros."""
    texts = sorted({each for each in known if len(each) > 8}, key=len, reverse=True)  # noqa: PLR2004 -- words
    pattern = re.compile(b"|".join(map(re.escape, texts))) if texts else None
    pieces: dict[bytes, None] = {}
    for data in writes:
        for part in pattern.split(data) if pattern else [data]:
            for piece in _ZEROS.split(part):
                pieces.setdefault(piece)
    return b"".join(pieces)


def words_of_topics(node: NodeId) -> list[bytes]:
    """Return the topics of a node, which stand in its outbox beside each message."""
    return [row.at(node).encode() for row in NODE_TOPICS]

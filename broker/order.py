"""One command to one node: sent once, and its answer waited for. Whoever may send commands does it so."""

import queue
import secrets
import time
from typing import Final

import msgspec

from broker.connection import Acknowledged, Arrived, Connection, Event, Failed, Lost, Subscribed
from broker.contract.commands import Command, Reply
from broker.contract.errors import LinkError, MessageError
from broker.contract.messages import decode, encode
from broker.contract.topics import REPLY, CommandTopic, NodeId
from broker.link import Link
from broker.outage import link_words
from broker.settings import BrokerSettings

__all__ = ["fresh", "give"]

_NOBODY: Final = 0x10
_REFUSED: Final = 0x80


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a command a new one."""

    id: str
    issued_us: int


def fresh() -> Fresh:
    """Return the id and the date of a command that is given now."""
    return Fresh(id=secrets.token_hex(8), issued_us=time.time_ns() // 1_000)


def give(
    settings: BrokerSettings,
    row: CommandTopic,
    node: NodeId,
    command: Command,
    *,
    wait_s: float = 15.0,
    settings_name: str = "the settings",
) -> Reply | str:
    """Send a command to a node, and return its answer, fit for a terminal; in words why there is none.

    It needs no signature: the broker lets one user alone write this command. Two programs that are this user throw each
    other out; then an answer may be missed, and the words say so.

    Args:
        settings: where the broker is; the user must be the row's.
        row: which command.
        node: to which node.
        command: what it says.
        wait_s: how long to wait for the connection, and then for the answer, s.
        settings_name: what a person calls the file that the settings came from.

    Raises:
        LinkError: the broker cannot be reached, or refuses.
        SettingsError: a certificate, a key or the file with the password cannot be used.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    where = f"broker {settings.host}:{settings.port}"
    # subscribed before the command is sent, or a quick answer would be missed
    link = Link(settings, row.sent_by, events=events, subscribe_to=[REPLY.at(node)], session_expiry_s=0)
    with link_words(row.sent_by) as words:
        link.start()
        try:
            connection = _subscribed(events, where, row, wait_s)
            if connection is None:
                because = f" ({words[-1]})" if words else ""
                hint = f"start it, or mend [broker] in {settings_name}"
                msg = f"{where}: no connection within {wait_s:g} s{because}; {hint}"
                raise LinkError(msg)
            return _Order(connection, events, where, row, node, command).answer(wait_s)
        finally:
            link.stop()


def _subscribed(
    events: "queue.SimpleQueue[Event | None]", where: str, row: CommandTopic, wait_s: float
) -> Connection | None:
    """Return the connection once replies would come on it; None: it did not come about."""
    deadline = time.monotonic() + wait_s
    while (event := _next(events, deadline)) is not None:
        if isinstance(event, Subscribed):
            if any(reason >= _REFUSED for reason in event.reasons):
                msg = f"{where}: refuses the subscription to replies; is the user {row.sent_by!r}?"
                raise LinkError(msg)
            return event.connection
    return None


class _Order:
    """One command on one connection."""

    def __init__(
        self,
        connection: Connection,
        events: "queue.SimpleQueue[Event | None]",
        where: str,
        row: CommandTopic,
        node: NodeId,
        command: Command,
    ) -> None:
        self._connection, self._events, self._where = connection, events, where
        self._row, self._node, self._command = row, node, command

    def answer(self, wait_s: float) -> Reply | str:
        payload = encode(self._command, self._row.largest_bytes)
        packet_id = self._connection.publish(self._row.at(self._node), payload, expiry_s=self._row.expiry_s)
        deadline = time.monotonic() + wait_s
        while (event := _next(self._events, deadline)) is not None:
            match event:
                case Lost(connection) if connection is self._connection:
                    return f"{self._where}: the connection was lost; whether {self._node} has the command is not known"
                case Acknowledged(connection, acknowledged, reason, _) if acknowledged == packet_id:
                    if connection is self._connection and (told := self._refusal(reason)) is not None:
                        return told
                case Arrived(connection, topic, payload, arrived_id, _):
                    connection.acknowledge(arrived_id)
                    if (reply := self._reply(topic, payload)) is not None:
                        return reply
                case _:
                    pass
        return (
            f"{self._node} gives no answer within {wait_s:g} s; it may still carry the command out, if it returns "
            f"within {self._row.expiry_s} s"
        )

    def _refusal(self, reason: int) -> str | None:
        if reason == _NOBODY:
            return f"{self._node} is not connected: the broker knows nobody who takes its commands"
        if reason >= _REFUSED:
            msg = f"{self._where}: refuses the command (0x{reason:02x}); the user must be {self._row.sent_by!r}"
            raise LinkError(msg)
        return None

    def _reply(self, topic: str, payload: bytes) -> Reply | None:
        try:
            reply = decode(payload, Reply, REPLY.largest_bytes)
        except MessageError:
            return None  # no answer to anything
        if topic != REPLY.at(self._node) or reply.command != self._command.id:
            return None
        words = "".join(letter if letter.isprintable() else " " for letter in reply.words).strip()
        return msgspec.structs.replace(reply, words=words or "no reason given")


def _next(events: "queue.SimpleQueue[Event | None]", deadline: float) -> Event | None:
    """Return the next event; None: there is none in time."""
    try:
        event = events.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return None
    if isinstance(event, Failed):
        raise event.error
    return event

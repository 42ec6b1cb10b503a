"""`rollback`: one node is told to go back to the model that ran before, and its answer is waited for."""

import queue
import secrets
import time
from typing import Final

from broker.connection import Acknowledged, Arrived, Connection, Event, Failed, Lost, Subscribed
from broker.contract.commands import Command, Reply
from broker.contract.errors import LinkError, MessageError
from broker.contract.messages import decode, encode
from broker.contract.topics import RELEASE_USER, REPLY, ROLLBACK, NodeId
from broker.link import Link
from broker.settings import BrokerSettings
from training.release.outage import link_words

__all__ = ["send_back"]

_NOBODY: Final = 0x10
_REFUSED: Final = 0x80


def send_back(settings: BrokerSettings, node: NodeId, *, wait_s: float = 15.0) -> Reply | str:
    """Tell a node to go back, and return its answer; in words why there is none.

    It needs no signature: a node goes back to nothing but a model that it has run, and the broker lets the user
    `release` alone write commands. It takes no lock either, so a command that mirrors at the same moment may throw this
    connection out; then the answer is missed, and the line says so.

    Args:
        settings: where the broker is; the user must be `release`.
        node: which one.
        wait_s: how long to wait for the connection, and then for the answer, s.

    Raises:
        LinkError: the broker cannot be reached, or refuses.
        SettingsError: a certificate, a key or the file with the password cannot be used.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    where = f"broker {settings.host}:{settings.port}"
    # subscribed before the command is sent, or a quick answer would be missed
    link = Link(settings, RELEASE_USER, events=events, subscribe_to=[REPLY.at(node)], session_expiry_s=0)
    with link_words(RELEASE_USER) as words:
        link.start()
        try:
            connection = _subscribed(events, where, wait_s)
            if connection is None:
                because = f" ({words[-1]})" if words else ""
                hint = "start it, or mend [broker] in settings.toml"
                msg = f"{where}: no connection within {wait_s:g} s{because}; {hint}"
                raise LinkError(msg)
            return _Order(connection, events, where, node).answer(wait_s)
        finally:
            link.stop()


def _subscribed(events: "queue.SimpleQueue[Event | None]", where: str, wait_s: float) -> Connection | None:
    """Return the connection once replies would come on it; None: it did not come about."""
    deadline = time.monotonic() + wait_s
    while (event := _next(events, deadline)) is not None:
        if isinstance(event, Subscribed):
            if any(reason >= _REFUSED for reason in event.reasons):
                msg = f"{where}: refuses the subscription to replies; is the user {RELEASE_USER!r}?"
                raise LinkError(msg)
            return event.connection
    return None


class _Order:
    """One command to one node."""

    def __init__(
        self, connection: Connection, events: "queue.SimpleQueue[Event | None]", where: str, node: NodeId
    ) -> None:
        self._connection, self._events, self._where, self._node = connection, events, where, node
        self._command = Command(id=secrets.token_hex(8), issued_us=time.time_ns() // 1_000)

    def answer(self, wait_s: float) -> Reply | str:
        payload = encode(self._command, ROLLBACK.largest_bytes)
        topic = ROLLBACK.at(self._node)
        packet_id = self._connection.publish(topic, payload, expiry_s=ROLLBACK.expiry_s)
        deadline = time.monotonic() + wait_s
        while (event := _next(self._events, deadline)) is not None:
            match event:
                case Lost(connection) if connection is self._connection:
                    return f"{self._where}: the connection was lost; whether {self._node} goes back is not known"
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
            f"within {ROLLBACK.expiry_s} s"
        )

    def _refusal(self, reason: int) -> str | None:
        if reason == _NOBODY:
            return f"{self._node} is not connected: the broker knows nobody who takes its commands"
        if reason >= _REFUSED:
            msg = f"{self._where}: refuses the command (0x{reason:02x}); the user must be {RELEASE_USER!r}"
            raise LinkError(msg)
        return None

    def _reply(self, topic: str, payload: bytes) -> Reply | None:
        try:
            reply = decode(payload, Reply, REPLY.largest_bytes)
        except MessageError:
            return None  # no answer to anything
        return reply if topic == REPLY.at(self._node) and reply.command == self._command.id else None


def _next(events: "queue.SimpleQueue[Event | None]", deadline: float) -> Event | None:
    """Return the next event; None: there is none in time."""
    try:
        event = events.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return None
    if isinstance(event, Failed):
        raise event.error
    return event

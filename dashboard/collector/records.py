"""What the collector hands to a store, and the one-method port that both stores implement."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from broker.contract.commands import Reply
from broker.contract.device import DeviceDiscovery
from broker.contract.errors import MessageError
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry, decode
from broker.contract.topics import NodeId, find
from broker.contract.updates import UpdateReport

__all__ = ["DeadLetter", "Record", "Store", "Written", "dead_letter", "read_message"]

_KEPT_BYTES = 256
"""Of a dead letter's payload: enough to see what it was, too little to hold a recording."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A message that keeps the contract."""

    node: NodeId
    message: EmotionEvent | Telemetry | NodeStatus | UpdateReport
    received_us: int
    """Wall clock of the collector, µs since 1970."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that does not, with the reason."""

    topic: str
    reason: str
    size_bytes: int
    head: bytes
    """The payload's first bytes."""
    received_us: int


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch."""

    stored: int = 0
    """Events and telemetry that the store did not have."""
    redelivered: int = 0
    """Those that it had: the broker or a node sent them again."""
    dead_letters: int = 0


class Store(Protocol):
    """Where records go. When `write` returns, the batch survives a power cut."""

    def write(self, batch: Sequence[Record | DeadLetter]) -> Written:
        """Make a batch durable, all of it or nothing.

        Raises:
            StoreError: nothing was written; the same batch may be tried again.
        """

    def close(self) -> None:
        """Finish what is under way."""


def read_message(topic: str, payload: bytes, received_us: int) -> Record | DeadLetter:
    """Return what an arriving message is."""
    try:
        row, node = find(topic)
        message = decode(payload, row.message, row.largest_bytes)
    except MessageError as error:
        return dead_letter(topic, payload, str(error), received_us)
    if isinstance(message, Reply | DeviceDiscovery):
        return dead_letter(topic, payload, f"a collector stores no {type(message).__name__}", received_us)
    return Record(node=node, message=message, received_us=received_us)


def dead_letter(topic: str, payload: bytes, reason: str, received_us: int) -> DeadLetter:
    """Return a message as a dead letter, cut to a size that can hold no recording."""
    return DeadLetter(
        topic=topic[:256],
        reason=reason[:500],
        size_bytes=len(payload),
        head=payload[:_KEPT_BYTES],
        received_us=received_us,
    )

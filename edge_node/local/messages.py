"""What passes at a node's local socket: one line of JSON each way, nothing that the node heard, and no secret."""

import errno
import socket
import time
from typing import Annotated

import msgspec
from msgspec import Meta

from broker.contract.condition import CaptureReport
from broker.contract.messages import NodeStatus, Telemetry
from broker.contract.scalars import Count, Microseconds
from broker.contract.updates import UpdateReport

__all__ = [
    "Another",
    "Answer",
    "BrokerReport",
    "Done",
    "Refused",
    "Remark",
    "Report",
    "ReportRequest",
    "Request",
    "SetMuted",
    "read_line",
]


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """A warning or an error that the node has logged."""

    time_us: Microseconds
    """Wall clock, µs since 1970, UTC."""
    level: str
    logger: str
    words: str


class BrokerReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the node's connection to its broker stands."""

    where: str
    """Host and port."""
    connected_s: Annotated[float, Meta(ge=0)] | None
    """For how long it has been connected, in s; None: it is not."""
    connects: Count
    """Connections since the program began."""
    attempts: Count
    """To connect, since the last one that succeeded."""
    problem: str | None
    """Why the last connection, or the last attempt, ended."""


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """How a running node stands."""

    node: str
    """`<site>/<node>`."""
    pid: Count
    folder: str
    """Where the program runs: its settings' paths begin there."""
    uptime_s: Annotated[float, Meta(ge=0)]
    """Since the program began."""
    status: NodeStatus
    """As the broker has it, or would."""
    capture: CaptureReport
    broker: BrokerReport
    hop_us: Count
    """Between two windows."""
    telemetry: Telemetry | None
    """The last one, with the outbox's counters; None: there was none yet."""
    update: UpdateReport | None
    """The last one; None: this node takes no updates, or has said nothing yet."""
    remarks: tuple[Remark, ...]
    """The last warnings and errors, the newest last."""


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="report"):
    """How does the node stand?"""


class SetMuted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mute"):
    """Mute, or end that."""

    node: str
    """`<site>/<node>` of the one that is meant: another that listens there does nothing."""
    muted: bool


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """What was ordered is done."""

    words: str


class Another(msgspec.Struct, frozen=True, kw_only=True, tag="another"):
    """Nothing was done: another node was meant."""

    node: str
    """`<site>/<node>` of the one that listens here."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Nothing was done."""

    words: str


Request = ReportRequest | SetMuted
Answer = Report | Done | Another | Refused


def read_line(connection: socket.socket, most_bytes: int, until_s: float) -> bytes:
    """Return the first line that comes.

    Raises:
        OSError: it does not come in time, or not at all.
        msgspec.DecodeError: it is too long.
    """
    received = b""
    while b"\n" not in received:
        connection.settimeout(max(0.001, until_s - time.monotonic()))
        part = connection.recv(65_536)
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the line was complete")
        received += part
        if len(received) > most_bytes:
            msg = f"longer than {most_bytes} bytes"
            raise msgspec.DecodeError(msg)
    return received.partition(b"\n")[0]

"""What the console shows, as values, and the port that both stores are read through.

A reading is cheap by construction: every query behind it but the totals' is bounded by a range of time or a number of
rows. Whether a node is there is reckoned from `received_us`, the collector's clock: a node's own may be wrong.
"""

import enum
from typing import Final, Protocol

import msgspec

from broker.contract.decision import REPEAT_INTERVAL_US, Label
from broker.contract.errors import StoreError
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.condition import Figures, Health, Status
from dashboard.console.updates import Update

__all__ = [
    "CLOCKS_APART_US",
    "EVENTS_SHOWN",
    "LAST_SPEECH_US",
    "LATENCY_SPAN_US",
    "LETTERS_SHOWN",
    "SILENT_AFTER_US",
    "SPAN_NAMES",
    "Emotion",
    "History",
    "Letter",
    "Live",
    "NoStoreYetError",
    "Node",
    "Presence",
    "Reader",
    "Span",
    "StageLatency",
    "Totals",
    "WindowCount",
    "presence",
]

SILENT_AFTER_US: Final = 30_000_000
"""A node that nothing was heard of for this long is not online, whatever its status says: a will can be lost."""

LATENCY_SPAN_US: Final = 600_000_000
"""The latency of the stages is reckoned over this much of the past."""

EVENTS_SHOWN: Final = 15
LETTERS_SHOWN: Final = 5
CLOCKS_APART_US: Final = 60_000_000
"""Events of the near future are shown, so that a clock that is a little ahead hides nothing."""
LAST_SPEECH_US: Final = 3_600_000_000
"""How far back a card's latency may be from."""


class NoStoreYetError(StoreError):
    """The store is not there: nothing was collected yet, or somebody has removed it."""


class Span(enum.Enum):
    """How much of the past the timeline shows: length and bucket, in µs."""

    MINUTES = (300_000_000, 10_000_000)
    HOUR = (3_600_000_000, 30_000_000)
    DAY = (86_400_000_000, 600_000_000)

    @property
    def length_us(self) -> int:
        """Return how far back it reaches."""
        return int(self.value[0])

    @property
    def bucket_us(self) -> int:
        """Return the width in which windows are counted."""
        return int(self.value[1])


SPAN_NAMES: Final = {Span.MINUTES: "5 min", Span.HOUR: "1 h", Span.DAY: "24 h"}


class Emotion(msgspec.Struct, frozen=True, kw_only=True):
    """A decided label."""

    node: NodeId
    boot_id: str
    seq: int
    time_us: int
    """The node's wall clock."""
    received_us: int
    """The collector's."""
    clock_synced: bool
    label: Label
    confidence: float
    model: str
    total_us: int
    """From the capture of the last sample to the label."""

    def age_us(self, now_us: int) -> int:
        """Return how long ago it was said: by the node's clock if that follows a time server, else by arrival."""
        return max(0, now_us - (self.time_us if self.clock_synced else self.received_us))

    def is_current(self, now_us: int) -> bool:
        """Return whether it still holds: while speech lasts, a label is repeated; one repetition may be late."""
        return self.age_us(now_us) <= 2 * REPEAT_INTERVAL_US


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about a node now."""

    id: NodeId
    status: Status | None = None
    emotion: Emotion | None = None
    health: Health | None = None
    update: Update | None = None

    @property
    def model(self) -> str | None:
        """Return the model that it runs, as `<name>/<version>`; None: it has not said."""
        if self.status is not None:
            return self.status.model
        return None if self.emotion is None else self.emotion.model

    @property
    def heard_us(self) -> int | None:
        """Return when the collector last received telemetry or an event; None: never."""
        return max((part.received_us for part in (self.emotion, self.health) if part is not None), default=None)

    @property
    def clock_synced(self) -> bool:
        """Return whether the node's clock followed a time server when it last said so."""
        status, health = self.status, self.health
        if health is None or (status is not None and status.boot_id != health.boot_id):
            return status is None or status.clock_synced
        return health.clock_synced

    @property
    def awaits_clock(self) -> bool:
        """Return whether all that it would say waits on the node until its clock is right.

        A clock that was right once is not distrusted again: a node of which this start was heard awaits nothing.
        """
        status = self.status
        if status is None or not status.online or status.clock_synced:
            return False
        return all(part is None or part.boot_id != status.boot_id for part in (self.emotion, self.health))


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that broke the contract. Topic and reason come from the network."""

    received_us: int
    topic: str
    reason: str
    size_bytes: int


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The present: every node, the newest events and dead letters, newest first."""

    nodes: tuple[Node, ...] = ()
    events: tuple[Emotion, ...] = ()
    letters: tuple[Letter, ...] = ()


class WindowCount(msgspec.Struct, frozen=True, kw_only=True):
    """Windows with speech by smoothed label, in one bucket of time of one node."""

    node: NodeId
    from_us: int
    counts: dict[Label, int]


class StageLatency(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage took on one node: the mean of its telemetry intervals' quantiles, in µs."""

    node: NodeId
    stage: Stage
    p50_us: float
    p95_us: float


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The past: what the charts are drawn from."""

    span: Span
    until_us: int
    events: tuple[Emotion, ...] = ()
    """Oldest first; read for the shortest span only, longer ones are drawn from `windows`."""
    windows: tuple[WindowCount, ...] = ()
    stages: tuple[StageLatency, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all events so far."""

    stored: int = 0
    lost: int = 0
    """Emitted by nodes, not dropped by them, and not here."""
    duplicates: int = 0
    """Rows stored twice."""
    redelivered: int | None = 0
    """None: the store does not count them; each collector's spool does."""
    dead_letters: int = 0


class Reader(Protocol):
    """A store as the console sees it. A reading raises StoreError, NoStoreYetError where there is none."""

    @property
    def place(self) -> str:
        """Return what is read, in words; no secret is in it."""

    def live(self, now_us: int) -> Live:
        """Return the present."""

    def history(self, span: Span, now_us: int) -> History:
        """Return the past of a span that ends now."""

    def figures(self, node: NodeId, span: Span, now_us: int) -> tuple[Figures, ...]:
        """Return what one node's telemetry came to in each bucket of a span that ends now, oldest first."""

    def totals(self) -> Totals:
        """Return the counts since the store was made."""

    def close(self) -> None:
        """Let go of what is held open."""


class Presence(enum.StrEnum):
    """Whether a node is there."""

    ONLINE = "online"
    STALE = "stale"
    """It has not said goodbye, yet nothing was heard of it lately."""
    OFFLINE = "offline"


def presence(node: Node, now_us: int) -> Presence:
    """Return whether a node is there: its status says so and something was heard within 30 s.

    Of a node that awaits its clock nothing but its status can be heard, and that is believed.
    """
    if node.status is not None and not node.status.online:
        return Presence.OFFLINE
    if node.awaits_clock:
        return Presence.ONLINE
    heard = node.heard_us
    fresh = node.status is not None and heard is not None and now_us - heard < SILENT_AFTER_US
    return Presence.ONLINE if fresh else Presence.STALE

"""How a node fares, as values: its last status, its last telemetry, and what its telemetry came to over time. Pure.

Rows of an older collector, and points of older nodes, lack the newer columns; a default stands in, as in the contract.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from broker.contract.condition import CaptureProblem, CaptureState, MuteSource
from broker.contract.decision import Label
from dashboard.console.stored import known

__all__ = [
    "HEALTH_COLUMNS",
    "STATUS_COLUMNS",
    "Figures",
    "Health",
    "Status",
    "increases",
    "read_health",
    "read_status",
]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A node's last word about itself, or the broker's about it. The strings come from the network."""

    boot_id: str
    received_us: int
    online: bool
    reason: str
    model: str
    context: str
    source: str
    muted: bool
    clock_synced: bool
    employees_present: bool | None = None
    exemption: str | None = None
    """Why it may listen to people at work or in education all the same."""
    exemption_reference: str | None = None
    notice_acknowledged: bool = False
    muted_by: tuple[MuteSource, ...] = ()
    capture: CaptureState = CaptureState.LISTENING
    problem: CaptureProblem | None = None
    uncertain_below: float | None = None
    """In force now; None: the node does not say."""
    speech_above: float | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's last telemetry says; counts of windows are of its interval."""

    boot_id: str
    received_us: int
    clock_synced: bool
    outbox_depth: int
    outbox_age_us: int = 0
    p50_us: int | None
    """Capture to label, over the last interval with speech; None: none within an hour."""
    p95_us: int | None
    silent: int = 0
    gated: int = 0
    """Loud enough, and no speech."""
    classified: int = 0
    clipped: int = 0
    """Of all of these."""
    level_dbfs: float | None = None
    mean_confidence: float | None = None
    mean_entropy: float | None = None
    divergence: float | None = None
    outbox_dropped: int = 0
    """Events, ever."""
    refused_events: int = 0
    """Since boot, as the counts below."""
    dropped_blocks: int = 0
    reconnects: int = 0
    restarts: int | None = None
    """Of the stream; None: the node does not say."""
    reopens: int | None = None
    rescans: int | None = None
    rss_bytes: int = 0
    cpu_share: float = 0.0
    temperature_c: float | None = None
    throttled: bool | None = None

    @property
    def windows(self) -> int:
        """Return all windows of the interval."""
        return self.silent + self.gated + self.classified


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one node's telemetry came to in one bucket of time; None: no telemetry in it says anything of the kind."""

    from_us: int
    silent: int = 0
    gated: int = 0
    classified: int = 0
    clipped: int = 0
    level_dbfs: float | None = None
    """Mean, as of the next three."""
    mean_confidence: float | None = None
    mean_entropy: float | None = None
    divergence: float | None = None
    outbox_depth: int | None = None
    """Most, as of all that follows."""
    outbox_age_us: int | None = None
    dropped_blocks: int | None = None
    """Counted since boot; `increases` tells those of the bucket."""
    reconnects: int | None = None
    temperature_c: float | None = None
    throttled: bool = False
    """At any time."""

    @property
    def windows(self) -> int:
        """Return all windows of the bucket."""
        return self.silent + self.gated + self.classified


_LABELS: Final = tuple(label.value for label in Label)
_OF_STATUS: Final = tuple(name for name in Status.__struct_fields__ if name != "received_us")
_MADE_HERE: Final = ("received_us", "classified", "p50_us", "p95_us")
_OF_HEALTH: Final = tuple(name for name in Health.__struct_fields__ if name not in _MADE_HERE)
STATUS_COLUMNS: Final = ", ".join(_OF_STATUS)
"""Of a status, by the names that they have in both stores."""
HEALTH_COLUMNS: Final = ", ".join((*_OF_HEALTH, *_LABELS))
"""Of telemetry, likewise."""
_FLAGS: Final = ("online", "muted", "clock_synced", "employees_present", "notice_acknowledged", "throttled")


def read_status(row: Mapping[str, Any], received_us: int) -> Status:
    """Return a stored status.

    Args:
        row: `STATUS_COLUMNS` by name.
        received_us: when it came, µs since 1970.

    Raises:
        StoreError: it holds a word that this version does not know.
    """
    values = _said(row, _OF_STATUS)
    values["muted_by"] = tuple(known(MuteSource, word) for word in values.get("muted_by", "").split(", ") if word)
    for name, kind in (("capture", CaptureState), ("problem", CaptureProblem)):
        if name in values:
            values[name] = known(kind, values[name])
    return Status(received_us=received_us, **values)


def read_health(row: Mapping[str, Any], received_us: int, p50_us: int | None, p95_us: int | None) -> Health:
    """Return stored telemetry.

    Args:
        row: `HEALTH_COLUMNS` by name.
        received_us: when it came, µs since 1970.
        p50_us: capture to label, in the last interval with speech.
        p95_us: likewise.
    """
    classified = sum(row[label] for label in _LABELS)
    return Health(
        received_us=received_us, classified=classified, p50_us=p50_us, p95_us=p95_us, **_said(row, _OF_HEALTH)
    )


def increases(counts: Sequence[int | None]) -> Iterator[int | None]:
    """Yield by how much each count has risen; one that has fallen began anew. None: not known."""
    last: int | None = None
    for count in counts:
        if count is None or last is None:
            yield None if count is None else 0
        else:
            yield count - last if count >= last else count
        last = last if count is None else count


def _said(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what a row says; flags are numbers in SQLite."""
    said = {name: row[name] for name in names if row[name] is not None}
    return said | {name: bool(said[name]) for name in _FLAGS if name in said}

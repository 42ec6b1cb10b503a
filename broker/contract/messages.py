"""The payloads on the wire: JSON, one frozen struct each.

A message that holds a field unknown to this version is refused (a new field is a new `schema`, and
collectors are upgraded first); so are NaN, infinities and values out of range, on both sides of the wire.
There is no field that could carry audio, features, text or a speaker's identity.
"""

import enum
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from broker.contract.condition import (
    CaptureProblem,
    CaptureReport,
    CaptureState,
    Context,
    Drift,
    Exemption,
    MuteSource,
    Quantiles,
    Thresholds,
)
from broker.contract.decision import Label
from broker.contract.errors import MessageError
from broker.contract.scalars import Count, Identifier, Microseconds, Sequence, Share, Text

__all__ = [
    "SCHEMA",
    "EmotionEvent",
    "EventLatency",
    "NodeMessage",
    "NodeStatus",
    "Stage",
    "StatusReason",
    "Telemetry",
    "Versions",
    "decode",
    "encode",
]

SCHEMA: Final = 1
"""Version of every payload below, as the `v1` in the topics."""


class Stage(enum.StrEnum):
    """The stations of a window, from the sound card to the broker."""

    CAPTURE = "capture"
    """From the capture of the window's last sample until the pipeline takes up the block that holds it."""
    RESAMPLE = "resample"
    """To the feature front-end's rate, and into windows."""
    GATE = "gate"
    """From a window to whether it holds speech."""
    FEATURES = "features"
    """One window to model input."""
    INFERENCE = "inference"
    """One run of the model."""
    DECISION = "decision"
    """Smoothing and threshold."""
    TOTAL = "total"
    """From the capture of the window's last sample to the decided label."""
    OUTBOX = "outbox"
    """From the outbox's commit to the first attempt to publish."""
    PUBLISH = "publish"
    """From the attempt to publish to the broker's PUBACK."""


class StatusReason(enum.StrEnum):
    """Why a status was published."""

    BIRTH = "birth"
    """The node has connected."""
    CHANGE = "change"
    """Something in the status has changed."""
    STOPPED = "stopped"
    """The node was told to stop and has delivered what it could."""
    LOST = "lost"
    """The broker's word: the node went silent (its will)."""


class NodeMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every message of a node carries."""

    schema: Literal[1] = SCHEMA
    boot_id: Identifier
    """Random per start of the node's program."""
    time_us: Microseconds
    """Wall clock, µs since 1970, UTC."""


class Versions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs on the node."""

    sottovoce: Text
    python: Text
    litert: Text


class NodeStatus(NodeMessage, frozen=True, kw_only=True):
    """Retained: what a node is, and whether it is there."""

    online: bool
    reason: StatusReason
    versions: Versions
    model: Text
    """Name and version of the model, as `<name>/<version>`."""
    context: Context
    employees_present: bool | None = None
    """Whether people work where the node listens; None: the context needs no answer."""
    exemption: Exemption | None = None
    """Why the node listens to people at work or in education all the same."""
    notice_acknowledged: bool = False
    """Whether the operator says that the people concerned are informed (Regulation (EU) 2024/1689, Article 50(3))."""
    source: Annotated[str, Meta(min_length=1, max_length=128)]
    """What the node listens to, in words: a microphone's name, or `replay: synthetic` and the like."""
    muted: bool
    """Whether the microphone is closed."""
    muted_by: tuple[MuteSource, ...] = ()
    clock_synced: bool
    """Whether the wall clock is right: it follows a time server, or the settings vouch for it."""
    capture: CaptureState = CaptureState.LISTENING
    problem: CaptureProblem | None = None
    thresholds: Thresholds | None = None
    """What is in force; None: the node does not say."""


class EventLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the time went between sound and label, in µs."""

    capture: Microseconds
    resample: Microseconds
    gate: Microseconds = 0
    features: Microseconds
    inference: Microseconds
    decision: Microseconds
    total: Microseconds


class EmotionEvent(NodeMessage, frozen=True, kw_only=True):
    """A decided label. (`boot_id`, `seq`) is its identity; the payload never changes once it is dated."""

    seq: Sequence
    """Counts the events of one outbox, from 1, without gaps, across restarts."""
    mono_us: Microseconds
    """Monotonic clock of the node, µs; comparable within one `boot_id`."""
    clock_synced: bool
    label: Label
    confidence: Share
    model: Text
    latency_us: EventLatency


class Telemetry(NodeMessage, frozen=True, kw_only=True):
    """How the node fares, every 10 s. (`boot_id`, `seq`) is its identity."""

    seq: Sequence
    """Counts the telemetry messages of one outbox, from 1."""
    outbox_id: Identifier
    """Random per outbox file: `emitted` and `outbox_dropped` start anew with a new one."""
    mono_us: Microseconds
    clock_synced: bool
    interval_us: Microseconds
    """What `windows` and `latency_us` cover."""
    windows: dict[Label, Count]
    """Windows by smoothed label."""
    silent_windows: Count
    """Windows below the level that counts as speech; they are not classified."""
    gated_windows: Count = 0
    """Windows that were loud enough and held no speech; they are not classified either."""
    clipped_windows: Count = 0
    """Windows, of all kinds, in which the input was overdriven."""
    level_dbfs: Annotated[float, Meta(ge=-300, le=20)] | None = None
    """Mean level of the windows in dB re a full-scale square wave; None: there were none, or digital silence."""
    drift: Drift | None = None
    """None: no window was classified."""
    latency_us: dict[Stage, Quantiles]
    """Only the stages that did something."""
    emitted: Count
    """Events ever put into this outbox."""
    outbox_dropped: Count
    """Events ever thrown out of this outbox because it was full; the oldest go first."""
    outbox_depth: Count
    """Messages that wait for their PUBACK now."""
    outbox_age_us: Microseconds
    """Age of the oldest of them."""
    refused_events: Count
    """Events of this boot that never reached the outbox because the disk refused them."""
    capture: CaptureReport | None = None
    """None: the node does not say."""
    dropped_blocks: Count
    """Blocks of audio lost since boot because the pipeline was too slow or the device overran."""
    reconnects: Count
    """Connections to the broker after the first, since boot."""
    rss_bytes: Count
    cpu_share: Annotated[float, Meta(ge=0)]
    """CPU seconds per second since the last message; 1 is one core."""
    temperature_c: float | None
    """Of the processor, where the system tells."""
    throttled: bool | None = None
    """Whether the processor is slowed down for heat or low voltage; None: the system does not tell."""


M = TypeVar("M", bound=msgspec.Struct)


class _Version(msgspec.Struct):
    schema: int


def encode(message: msgspec.Struct, largest_bytes: int, kind: type[msgspec.Struct] | None = None) -> bytes:
    """Return the payload.

    Args:
        message: one of the structs above.
        largest_bytes: the topic's limit.
        kind: what the topic carries; None: whatever the message is. A message with a field that the topic's struct does
            not have is refused.

    Raises:
        MessageError: the message breaks its own contract (NaN and infinities included) or is too large.
    """
    name = type(message).__name__
    try:
        payload = msgspec.json.encode(message)
    except (TypeError, ValueError, OverflowError) as error:  # half a surrogate pair, a number that is none of Python's
        msg = f"{name}: {error}"
        raise MessageError(msg) from error
    # msgspec checks types when it decodes, not when it builds, and writes NaN as null
    if decode(payload, kind or type(message), largest_bytes) != message:
        msg = f"{name}: a value is NaN or infinite"
        raise MessageError(msg)
    return payload


def decode(payload: bytes, kind: type[M], largest_bytes: int) -> M:
    """Return the message in a payload.

    Args:
        payload: JSON, UTF-8.
        kind: the struct that the topic carries.
        largest_bytes: the topic's limit.

    Raises:
        MessageError: too large, no JSON, another schema version, or the first field that does not fit.
    """
    name = kind.__name__
    if len(payload) > largest_bytes:
        msg = f"{name}: {len(payload)} bytes, at most {largest_bytes} are allowed"
        raise MessageError(msg)
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.DecodeError as error:
        msg = f"{name}: {_why(payload, error)}"
        raise MessageError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{name}: a text is not UTF-8: {error.reason}"
        raise MessageError(msg) from error
    except RecursionError as error:
        msg = f"{name}: nested too deeply"
        raise MessageError(msg) from error


def _why(payload: bytes, error: msgspec.DecodeError) -> str:
    try:
        version = msgspec.json.decode(payload, type=_Version).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return str(error)
    if version != SCHEMA:
        return f"schema {version} is not understood, only {SCHEMA}; upgrade the collector before the nodes"
    return str(error)

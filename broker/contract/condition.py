"""What messages say of a node's condition: where it listens, what stops it, what its figures come to."""

import enum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.contract.scalars import Count, Microseconds, Share

__all__ = [
    "LATENCY_BOUNDS_US",
    "CaptureProblem",
    "CaptureReport",
    "CaptureState",
    "Context",
    "Drift",
    "Exemption",
    "MuteSource",
    "Quantiles",
    "Thresholds",
]

LATENCY_BOUNDS_US: Final = (
    *(100, 200, 500),
    *(1_000, 2_000, 5_000),
    *(10_000, 20_000, 50_000),
    *(100_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000),
)
"""Upper bounds of a latency histogram's bins, in µs, each included in its bin; one more bin is open above. Fixed, so
that histograms of nodes and intervals can be added up."""


class Context(enum.StrEnum):
    """Where a node listens. Decides what is lawful."""

    HOME = "home"
    VEHICLE = "vehicle"
    CARE = "care"
    PUBLIC = "public"
    RESEARCH = "research"
    WORKPLACE = "workplace"
    """Only with an exemption: Regulation (EU) 2024/1689, Article 5(1)(f)."""
    EDUCATION = "education"
    """Likewise."""


class Exemption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a node may listen where people work or learn."""

    reason: Literal["medical", "safety"]
    reference: Annotated[str, Meta(min_length=1, max_length=100)]
    """Where the reason is written down, for those who ask."""


class MuteSource(enum.StrEnum):
    """Who keeps a node from listening."""

    COMMAND = "command"
    """An operator, by command; it lasts until the opposite command."""
    BUTTON = "button"
    """The switch at the node itself."""
    QUIET_HOURS = "quiet hours"
    UNREADABLE = "unreadable state"
    """Nobody knows whether the node was muted: the file that says so cannot be read."""


class CaptureState(enum.StrEnum):
    """Whether a node hears."""

    LISTENING = "listening"
    MUTED = "muted"
    """The stream is closed."""
    RECOVERING = "recovering"
    """There is no audio, and the node works on it."""


class CaptureProblem(enum.StrEnum):
    """What is wrong with the sound that comes, or does not come."""

    LOST = "device lost"
    BUSY = "device busy"
    STALLED = "no audio"
    """The device is there and delivers nothing."""
    STUCK = "only zeros"
    """It delivers digital silence: a hardware switch, a loose plug, a driver."""
    RATE = "sample rate changed"
    OVERLOADED = "cannot keep up"
    """Blocks are dropped, because this machine is too slow for what it is asked to do."""
    UNUSABLE = "unusable"


class CaptureReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How capture stands, and what it took since the program began."""

    state: CaptureState
    problem: CaptureProblem | None = None
    restarts: Count = 0
    """Of the stream."""
    reopens: Count = 0
    """Of the device."""
    rescans: Count = 0
    """Of all devices."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What operators may change while a node runs."""

    uncertain_below: Share
    """A smoothed probability below this is `uncertain`."""
    speech_above: Share
    """The gate's probability of speech above which a window is classified."""


class Quantiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one stage took, in µs, over one telemetry interval."""

    count: Count
    p50: Microseconds
    p95: Microseconds
    p99: Microseconds
    histogram: Annotated[tuple[Count, ...], Meta(max_length=len(LATENCY_BOUNDS_US) + 1)] = ()
    """Counts between `LATENCY_BOUNDS_US`; bins at the end that hold nothing may be left out."""


class Drift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How what a model says differs from what it was trained on, over one telemetry interval; nothing of the audio."""

    mean_confidence: Share
    """Of the windows' likeliest class, before smoothing."""
    mean_entropy: Share
    """Of the windows' probabilities, as a share of the largest there can be."""
    divergence: Share | None
    """Between the windows' likeliest classes and those of the training, 0 to 1; None: the bundle tells no prior."""

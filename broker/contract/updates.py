"""What a node says about model updates on the wire."""

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from broker.contract.decision import Label
from broker.contract.messages import NodeMessage
from broker.contract.scalars import Count, Microseconds, Share, Text

__all__ = [
    "SCORE_BINS",
    "TrialFigures",
    "UpdateReport",
    "UpdateState",
]

SCORE_BINS: Final = 10
"""Bars of the histogram of a trial's scores, of equal width from 0 to 1."""


class UpdateState(enum.StrEnum):
    """Where a node is on the way to another model."""

    IDLE = "idle"
    """Nothing to do: the release that is named has been taken up, or none was ever seen."""
    DOWNLOADING = "downloading"
    """Fetching metadata and chunks."""
    VERIFYING = "verifying"
    """Digest, compatibility and golden vectors."""
    TRIAL = "trial"
    """The new model runs beside the old one; only the old one is heard."""
    COMMITTING = "committing"
    """The new model becomes the one that runs."""
    ROLLING_BACK = "rolling back"
    """The old model becomes the one that runs again."""
    REJECTED = "rejected"
    """The release was refused or failed; the old model runs, and the release is not tried again."""


class TrialFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a new model did on live audio beside the old one; nothing of what was heard is in it but counts."""

    windows: Count
    """That both models were given, silence included."""
    classified: Count
    """Of those, the ones loud enough to classify."""
    agreed: Count
    """Of those, the ones that both gave the same label, `uncertain` included."""
    p50_us: Microseconds
    """Time of one classified window, features and inference, in µs: median ..."""
    p95_us: Microseconds
    """... and 95th percentile."""
    scores: Annotated[tuple[Count, ...], Meta(min_length=SCORE_BINS, max_length=SCORE_BINS)]
    """Histogram of the new model's confidence in its decisions: windows from 0 to 0.1, ... 0.9 to 1."""
    labels: dict[Label, Count]
    """Windows by the new model's label."""


class UpdateReport(NodeMessage, frozen=True, kw_only=True):
    """Retained: how a node stands towards the release that it was told to run."""

    channel: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")] = "stable"
    """Whose releases the node takes up."""
    release: Text | None
    """Name and version, as `<name>/<version>`; None: the node has seen none."""
    state: UpdateState
    reason: Annotated[str, Meta(max_length=200)]
    """Why it waits, refused, failed or went back, in words; empty where there is nothing to explain."""
    progress: Share
    """Of the state under way: 0 at its beginning, 1 at its end."""
    trial: TrialFigures | None = None
    """How the new model did beside the old one, once it has; of the release that is named."""

"""The messages of a node, as the contract wants them: values in, messages out."""

import importlib.metadata
import platform
import time
from typing import Protocol

import msgspec

from broker.contract.condition import CaptureReport, MuteSource, Thresholds
from broker.contract.messages import EmotionEvent, NodeStatus, StatusReason, Telemetry, Versions
from edge_node.classifier import litert_version
from edge_node.delivery.outbox import Counters
from edge_node.deployment import DeploymentSettings
from edge_node.pipeline import Heard
from edge_node.telemetry import Reading, is_throttled, rss_bytes, temperature_c

__all__ = ["Condition", "Drafts", "Losses", "installed_versions"]


class _Clock(Protocol):
    def now_us(self) -> int: ...

    def is_synced(self) -> bool: ...


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a status says beside what never changes."""

    model: str
    source: str
    muted_by: tuple[MuteSource, ...]
    capture: CaptureReport
    thresholds: Thresholds


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """What this start of the program lost, and what it cost to stay connected; counts."""

    refused_events: int
    dropped_blocks: int
    reconnects: int


class Drafts:
    """Drafts what one start of a node's program says."""

    def __init__(self, boot_id: str, deployment: DeploymentSettings, clock: _Clock) -> None:
        """Read the versions of what runs, once: an upgrade may replace the files below it.

        Args:
            boot_id: of this start.
            deployment: where the node listens.
            clock: tells the wall clock, and whether it is right.
        """
        self.boot_id, self._deployment, self._clock = boot_id, deployment, clock
        self.versions = installed_versions()

    def status(self, reason: StatusReason, now: Condition) -> NodeStatus:
        """Return what the node is."""
        return NodeStatus(
            boot_id=self.boot_id,
            time_us=self._clock.now_us(),
            online=reason in {StatusReason.BIRTH, StatusReason.CHANGE},
            reason=reason,
            versions=self.versions,
            model=now.model,
            context=self._deployment.context,
            employees_present=self._deployment.employees_present,
            exemption=self._deployment.exempted,
            notice_acknowledged=self._deployment.notice_acknowledged,
            source=now.source,
            muted=bool(now.muted_by),
            muted_by=now.muted_by,
            clock_synced=self._clock.is_synced(),
            capture=now.capture.state,
            problem=now.capture.problem,
            thresholds=now.thresholds,
        )

    def event(self, seq: int, heard: Heard, model: str) -> EmotionEvent:
        """Return the event of a window that has a decision."""
        if heard.decision is None or heard.latency_us is None:
            msg = "a window without a decision is no event"
            raise ValueError(msg)
        return EmotionEvent(
            boot_id=self.boot_id,
            seq=seq,
            time_us=self._clock.now_us(),
            mono_us=heard.decided_ns // 1000,
            clock_synced=self._clock.is_synced(),
            label=heard.decision.label,
            confidence=round(heard.decision.confidence, 4),
            model=model,
            latency_us=heard.latency_us,
        )

    def telemetry(
        self, seq: int, reading: Reading, counters: Counters, capture: CaptureReport, losses: Losses
    ) -> Telemetry:
        """Return how the node fares."""
        return Telemetry(
            boot_id=self.boot_id,
            seq=seq,
            time_us=self._clock.now_us(),
            outbox_id=counters.outbox_id,
            mono_us=time.monotonic_ns() // 1000,
            clock_synced=self._clock.is_synced(),
            interval_us=reading.interval_us,
            windows=reading.windows,
            silent_windows=reading.silent_windows,
            gated_windows=reading.gated_windows,
            clipped_windows=reading.clipped_windows,
            level_dbfs=reading.level_dbfs,
            drift=reading.drift,
            latency_us=reading.latency_us,
            emitted=counters.emitted,
            outbox_dropped=counters.dropped,
            outbox_depth=counters.depth,
            outbox_age_us=counters.age_us,
            refused_events=losses.refused_events,
            capture=capture,
            dropped_blocks=losses.dropped_blocks,
            reconnects=losses.reconnects,
            rss_bytes=rss_bytes(),
            cpu_share=reading.cpu_share,
            temperature_c=temperature_c(),
            throttled=is_throttled(),
        )


def installed_versions() -> Versions:
    """Return the versions of what runs on this machine."""
    return Versions(
        sottovoce=importlib.metadata.version("sottovoce"),
        python=platform.python_version(),
        litert=litert_version(),
    )

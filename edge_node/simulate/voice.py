"""The messages of a virtual node, as the contract wants them; the figures in them are the device's."""

import random
import time
from collections import Counter

from broker.contract.condition import Context, Quantiles
from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, Stage, StatusReason, Telemetry, Versions
from edge_node.simulate.box import Box
from edge_node.simulate.cost import Device

__all__ = ["Voice", "now_us"]

_SOURCE = "simulated"
_CAPTURE_US = 50_000
_DECISION_US = 20


class Voice:
    """Drafts what one start of a node's program says."""

    def __init__(self, boot_id: str, versions: Versions, device: Device, rng: random.Random) -> None:
        """Begin with nothing said.

        Args:
            boot_id: of this start.
            versions: of what runs.
            device: takes its time for each window.
            rng: draws what has no cause here.
        """
        self.boot_id, self._versions, self._device, self._rng = boot_id, versions, device, rng
        self._labels: Counter[Label] = Counter()
        self._told_s = time.monotonic()

    def status(self, reason: StatusReason, model: str) -> NodeStatus:
        """Return what the node is."""
        return NodeStatus(
            boot_id=self.boot_id,
            time_us=now_us(),
            online=reason in {StatusReason.BIRTH, StatusReason.CHANGE},
            reason=reason,
            versions=self._versions,
            model=model,
            context=Context.RESEARCH,
            source=_SOURCE,
            muted=False,
            clock_synced=True,
        )

    def event(self, seq: int, label: Label, model: str) -> EmotionEvent:
        """Return an event."""
        self._labels[label] += 1
        window_us = self._device.window_us()
        features_us = window_us // 2
        inference_us = window_us - features_us
        return EmotionEvent(
            boot_id=self.boot_id,
            seq=seq,
            time_us=now_us(),
            mono_us=time.monotonic_ns() // 1000,
            clock_synced=True,
            label=label,
            confidence=round(self._rng.uniform(0.4, 1), 3),
            model=model,
            latency_us=EventLatency(
                capture=_CAPTURE_US,
                resample=0,
                features=features_us,
                inference=inference_us,
                decision=_DECISION_US,
                total=_CAPTURE_US + window_us + _DECISION_US,
            ),
        )

    def telemetry(self, seq: int, box: Box, *, hop_s: float, reconnects: int) -> Telemetry:
        """Return how the node fares, and begin the next interval."""
        now_s = time.monotonic()
        interval_s, self._told_s = now_s - self._told_s, now_s
        labels, self._labels = self._labels, Counter()
        window_us = self._device.window_us()
        heard = max(labels.total(), round(interval_s / hop_s))
        each = {
            Stage.FEATURES: window_us // 2,
            Stage.INFERENCE: window_us - window_us // 2,
            Stage.TOTAL: _CAPTURE_US + window_us,
        }
        return Telemetry(
            boot_id=self.boot_id,
            seq=seq,
            time_us=now_us(),
            outbox_id=box.outbox_id,
            mono_us=time.monotonic_ns() // 1000,
            clock_synced=True,
            interval_us=max(1, int(interval_s * 1e6)),
            windows={label: labels[label] for label in Label},
            silent_windows=heard - labels.total(),
            latency_us={stage: _quantiles(median, max(1, labels.total())) for stage, median in each.items()},
            emitted=box.emitted,
            outbox_dropped=box.dropped,
            outbox_depth=box.depth,
            outbox_age_us=int(box.oldest_s(now_s) * 1e6),
            refused_events=0,
            dropped_blocks=0,
            reconnects=reconnects,
            rss_bytes=0,
            cpu_share=round(min(1.0, window_us / 1e6 / hop_s), 4),
            temperature_c=None,
        )


def now_us() -> int:
    """Return the wall clock, µs since 1970, UTC."""
    return time.time_ns() // 1000


def _quantiles(median_us: int, count: int) -> Quantiles:
    return Quantiles(count=count, p50=median_us, p95=round(1.2 * median_us), p99=round(1.4 * median_us))

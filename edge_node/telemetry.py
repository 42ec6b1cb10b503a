"""Figures about the node itself: what each stage took, what windows came to, what was lost, what the machine bears."""

import os
import resource
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from broker.contract.condition import LATENCY_BOUNDS_US, Drift, Quantiles
from broker.contract.decision import Label
from broker.contract.drift import divergence, entropy
from broker.contract.messages import EventLatency, Stage

if TYPE_CHECKING:
    from edge_node.pipeline import Heard

__all__ = ["Meter", "Reading", "is_throttled", "rss_bytes", "temperature_c"]

_MOST_SAMPLES: Final = 4096
"""Per stage and interval; more than 10 s of windows make, so nothing is thinned out in practice."""
_OF_WINDOWS: Final = tuple(Stage(name) for name in EventLatency.__struct_fields__)
_LOWEST_DBFS: Final = -200.0
"""Below the last bit of any converter: what the high-pass leaves of its own past when a device delivers zeros."""
_THROTTLED: Final = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_NOW: Final = 0xF
"""Bits of that file: low voltage, frequency capped, throttled, soft temperature limit, each at this moment."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a meter saw since it was last read."""

    interval_us: int
    windows: dict[Label, int]
    silent_windows: int
    gated_windows: int
    clipped_windows: int
    level_dbfs: float | None
    drift: Drift | None
    latency_us: dict[Stage, Quantiles]
    cpu_share: float


class _Interval:
    """Sums over one interval."""

    def __init__(self) -> None:
        self.since_ns = time.monotonic_ns()
        self.cpu_s = time.process_time()
        self.latency: dict[Stage, list[int]] = {}
        self.windows: Counter[Label] = Counter()
        self.silent = self.gated = self.clipped = 0
        self.levels: list[float] = []
        self.confidence = self.entropy = 0.0
        self.likeliest = [0, 0, 0]  # windows by class, in the order of `decision.CLASSES`

    def drift(self, prior: Sequence[float] | None) -> Drift | None:
        count = sum(self.likeliest)
        if count == 0:
            return None
        return Drift(
            mean_confidence=round(min(1.0, self.confidence / count), 4),
            mean_entropy=round(min(1.0, self.entropy / count), 4),
            divergence=None if prior is None else _rounded(divergence(self.likeliest, prior)),
        )


class Meter:
    """Collects figures from the pipeline's and the publisher's threads."""

    def __init__(self) -> None:
        """Start an interval."""
        self._lock = threading.Lock()
        self._now = _Interval()
        self.refused_events = 0
        """Events since boot that the outbox did not take."""

    def took(self, stage: Stage, microseconds: int) -> None:
        """Note what one stage took, in µs."""
        with self._lock:
            samples = self._now.latency.setdefault(stage, [])
            if len(samples) < _MOST_SAMPLES:
                samples.append(max(0, microseconds))

    def heard(self, heard: "Heard") -> None:
        """Count one window, and note what it took."""
        with self._lock:
            now = self._now
            now.clipped += heard.clipped
            if heard.level_dbfs >= _LOWEST_DBFS:
                now.levels.append(heard.level_dbfs)
            if heard.decision is None or heard.probabilities is None:
                now.gated += heard.gated
                now.silent += not heard.gated
            else:
                now.windows[heard.decision.label] += 1
                best = max(heard.probabilities)
                if np.isfinite(heard.probabilities).all():
                    now.likeliest[heard.probabilities.index(best)] += 1
                    now.confidence += best
                    now.entropy += entropy(heard.probabilities)
        if heard.latency_us is not None:
            for stage in _OF_WINDOWS:
                self.took(stage, getattr(heard.latency_us, stage.value))

    def read(self, prior: Sequence[float] | None = None) -> Reading:
        """Return the figures since the last call, and start anew.

        Args:
            prior: shares of the classes in the training of the model that runs; None: its bundle does not tell.
        """
        with self._lock:
            past, self._now = self._now, _Interval()
        interval_us = max(1, (self._now.since_ns - past.since_ns) // 1000)
        return Reading(
            interval_us=interval_us,
            windows={label: past.windows[label] for label in Label},
            silent_windows=past.silent,
            gated_windows=past.gated,
            clipped_windows=past.clipped,
            level_dbfs=_level(past.levels),
            drift=past.drift(prior),
            latency_us={stage: quantiles(samples) for stage, samples in past.latency.items()},
            cpu_share=round((self._now.cpu_s - past.cpu_s) * 1e6 / interval_us, 4),
        )


def quantiles(samples: list[int]) -> Quantiles:
    """Return count, quantiles (linear interpolation) and histogram of at least one figure, in µs."""
    p50, p95, p99 = np.percentile(samples, (50, 95, 99))
    bins = Counter(bisect_left(LATENCY_BOUNDS_US, each) for each in samples)
    histogram = tuple(bins[index] for index in range(max(bins) + 1))
    return Quantiles(count=len(samples), p50=round(p50), p95=round(p95), p99=round(p99), histogram=histogram)


def rss_bytes() -> int:
    """Return the memory that this process holds, in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def temperature_c() -> float | None:
    """Return the processor's temperature in °C, or None where the kernel does not tell."""
    try:
        return int(Path("/sys/class/thermal/thermal_zone0/temp").read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None


def is_throttled(path: Path = _THROTTLED) -> bool | None:
    """Return whether a Raspberry Pi runs slower now, for heat or low voltage; None where the firmware does not tell.

    Source: Raspberry Pi documentation, `vcgencmd get_throttled`; the kernel gives the same bits in this file.
    """
    try:
        bits = int(path.read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return None
    return bool(bits & _NOW)


def _level(levels: Sequence[float]) -> float | None:
    """Return the mean level; a recording that is no sound, as a file of 16-bit numbers in float, is just very loud."""
    return max(-300.0, min(20.0, round(float(np.mean(levels)), 1))) if levels else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

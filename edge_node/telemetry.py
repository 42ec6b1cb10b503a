"""Figures about the node itself: what each stage took, what was lost, what the machine bears."""

import ctypes
import os
import resource
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from broker.contract.condition import Quantiles
from broker.contract.decision import Label
from broker.contract.messages import Stage

__all__ = ["Meter", "Reading", "clock_synced", "rss_bytes", "temperature_c"]

_MOST_SAMPLES: Final = 4096
"""Per stage and interval; more than 10 s of windows make, so nothing is thinned out in practice."""

_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a meter saw since it was last read."""

    interval_us: int
    windows: dict[Label, int]
    silent_windows: int
    latency_us: dict[Stage, Quantiles]
    cpu_share: float


class Meter:
    """Collects figures from the pipeline's and the publisher's threads."""

    def __init__(self) -> None:
        """Start an interval."""
        self._lock = threading.Lock()
        self._latency: dict[Stage, list[int]] = {}
        self._windows: Counter[Label] = Counter()
        self._silent = 0
        self._since_ns = time.monotonic_ns()
        self._cpu_s = time.process_time()
        self.refused_events = 0
        """Events since boot that the outbox did not take."""

    def took(self, stage: Stage, microseconds: int) -> None:
        """Note what one stage took, in µs."""
        with self._lock:
            samples = self._latency.setdefault(stage, [])
            if len(samples) < _MOST_SAMPLES:
                samples.append(max(0, microseconds))

    def decided(self, label: Label | None) -> None:
        """Count one window; None for silence."""
        with self._lock:
            if label is None:
                self._silent += 1
            else:
                self._windows[label] += 1

    def read(self) -> Reading:
        """Return the figures since the last call, and start anew."""
        with self._lock:
            latency, self._latency = self._latency, {}
            windows, self._windows = self._windows, Counter()
            silent, self._silent = self._silent, 0
            now_ns, cpu_s = time.monotonic_ns(), time.process_time()
            interval_us = max(1, (now_ns - self._since_ns) // 1000)
            cpu_share = (cpu_s - self._cpu_s) * 1e6 / interval_us
            self._since_ns, self._cpu_s = now_ns, cpu_s
        return Reading(
            interval_us=interval_us,
            windows={label: windows[label] for label in Label},
            silent_windows=silent,
            latency_us={stage: quantiles(samples) for stage, samples in latency.items()},
            cpu_share=round(cpu_share, 4),
        )


def quantiles(samples: list[int]) -> Quantiles:
    """Return count and quantiles (linear interpolation) of at least one figure, in its unit."""
    p50, p95, p99 = np.percentile(samples, (50, 95, 99))
    return Quantiles(count=len(samples), p50=round(p50), p95=round(p95), p99=round(p99))


def clock_synced() -> bool:
    """Return whether the kernel says that a time server disciplines the wall clock; False where it cannot tell."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state: int = libc.adjtimex(ctypes.create_string_buffer(256))  # struct timex with modes = 0: read only
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR


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

"""A stream of blocks, cut anyhow, becomes the same overlapping windows."""

import math
from collections import deque
from collections.abc import Iterator
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.decision import level_dbfs
from broker.contract.errors import SettingsError

__all__ = ["Window", "WindowSpec", "Windower"]

Samples = npt.NDArray[np.float32]


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much audio one decision hears, and how often. Travels in the bundle's manifest."""

    length_samples: Annotated[int, Meta(gt=0, le=10_000_000)]
    """Samples in a window, at the feature front-end's rate."""
    hop_samples: Annotated[int, Meta(gt=0)]
    """Samples between the starts of two windows; at most `length_samples`, so that no audio goes unheard."""

    def __post_init__(self) -> None:
        """Refuse windows with gaps between them.

        Raises:
            SettingsError: the hop is longer than the window.
        """
        if self.hop_samples > self.length_samples:
            msg = f"window: hop_samples {self.hop_samples} cannot exceed length_samples {self.length_samples}"
            raise SettingsError(msg)


class Window(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One stretch of audio to decide on."""

    samples: Samples
    """Shape (length_samples,), float32, full scale at 1; read-only, and never written again."""
    end_sample: int
    """Position of the sample after the window's last one, counted from the last reset."""
    captured_ns: int
    """Monotonic time at which the window's last sample was captured, in ns."""
    level_dbfs: float
    """Level of the samples as `decision.level_dbfs` tells it, in dB re a full-scale square wave; -inf for none."""


class Windower:
    """Cuts a stream into windows; the windows do not depend on how the stream was cut into blocks."""

    def __init__(self, spec: WindowSpec, sample_rate_hz: int) -> None:
        """Start with an empty stream."""
        self._spec = spec
        self._rate = sample_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget the samples heard so far, because some were lost: no window may span a gap."""
        self._buffer = np.zeros(2 * self._spec.length_samples, dtype=np.float32)
        self._first, self._filled = 0, 0  # what waits is _buffer[_first:_filled]
        self._start = 0  # stream position of _buffer[_first]
        self._shares: deque[tuple[float, float]] = deque(maxlen=self._spec.length_samples // self._spec.hop_samples)

    def push(self, samples: Samples, captured_ns: int) -> Iterator[Window]:
        """Yield the windows that these samples complete, oldest first.

        Args:
            samples: shape (n,), float32; any n.
            captured_ns: monotonic time at which the last of them was captured, in ns.
        """
        self._append(samples)
        received = self._start + self._filled - self._first
        length, hop = self._spec.length_samples, self._spec.hop_samples
        while self._filled - self._first >= length:
            end = self._start + length
            heard = self._buffer[self._first : self._first + length]
            heard.flags.writeable = False
            yield Window(
                samples=heard,
                end_sample=end,
                captured_ns=captured_ns - (received - end) * 1_000_000_000 // self._rate,
                level_dbfs=self._level_dbfs(heard),
            )
            self._start += hop
            self._first += hop

    def _append(self, samples: Samples) -> None:
        """Write behind what waits; into a new buffer when this one is full, because windows are views of it."""
        if self._filled + len(samples) > len(self._buffer):
            waiting = self._buffer[self._first : self._filled]
            self._buffer = np.empty(max(2 * self._spec.length_samples, len(waiting) + len(samples)), dtype=np.float32)
            self._buffer[: len(waiting)] = waiting
            self._first, self._filled = 0, len(waiting)
        self._buffer[self._filled : self._filled + len(samples)] = samples
        self._filled += len(samples)

    def _level_dbfs(self, heard: Samples) -> float:
        """Return the level, with each hop's share reckoned once where a window is whole hops.

        The variance of a whole is the mean of its shares' variances plus the variance of their means.
        """
        hop = self._spec.hop_samples
        if len(heard) % hop:
            return level_dbfs(heard)
        shares = heard.reshape(-1, hop)
        for share in shares[-1:] if self._shares else shares:
            exact = share.astype(np.float64)
            mean = float(exact.sum()) / hop
            exact -= mean
            self._shares.append((mean, float(exact @ exact) / hop))
        middle = sum(mean for mean, _ in self._shares) / len(self._shares)
        power = sum(variance + (mean - middle) ** 2 for mean, variance in self._shares) / len(self._shares)
        return 10 * math.log10(power) if power > 0 else float("-inf")

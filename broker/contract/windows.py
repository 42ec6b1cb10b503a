"""A stream of blocks, cut anyhow, becomes the same overlapping windows."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

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
    """Shape (length_samples,), float32, full scale at 1."""
    end_sample: int
    """Position of the sample after the window's last one, counted from the last reset."""
    captured_ns: int
    """Monotonic time at which the window's last sample was captured, in ns."""


class Windower:
    """Cuts a stream into windows; the windows do not depend on how the stream was cut into blocks."""

    def __init__(self, spec: WindowSpec, sample_rate_hz: int) -> None:
        """Start with an empty stream."""
        self._spec = spec
        self._rate = sample_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget the samples heard so far, because some were lost: no window may span a gap."""
        self._pending = np.zeros(0, dtype=np.float32)
        self._start = 0  # stream position of _pending[0]

    def push(self, samples: Samples, captured_ns: int) -> Iterator[Window]:
        """Yield the windows that these samples complete, oldest first.

        Args:
            samples: shape (n,), float32; any n.
            captured_ns: monotonic time at which the last of them was captured, in ns.
        """
        self._pending = np.concatenate((self._pending, samples))
        received = self._start + len(self._pending)
        length, hop = self._spec.length_samples, self._spec.hop_samples
        while len(self._pending) >= length:
            end = self._start + length
            yield Window(
                samples=self._pending[:length].copy(),
                end_sample=end,
                captured_ns=captured_ns - (received - end) * 1_000_000_000 // self._rate,
            )
            self._start += hop
            self._pending = self._pending[hop:]

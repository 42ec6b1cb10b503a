"""Whether a stretch of a stream was clipped: too loud for the microphone, the converter or the gain."""

from typing import Final

import numpy as np

from edge_node.sound.conditioning import FULL_SCALE
from edge_node.sound.sources import Samples

__all__ = ["Clipping"]

_FLAT: Final = 3
"""So many equal samples in a row at full scale are no peak of a wave, which is round."""


class Clipping:
    """Where a stream was clipped, before anything is done to it. Belongs to one thread."""

    def __init__(self) -> None:
        """Start with an empty stream."""
        self.restart(1)

    def restart(self, rate_hz: int) -> None:
        """Begin a new stream."""
        self._rate_hz = rate_hz
        self._count = 0
        self._last: Samples = np.zeros(0, dtype=np.float32)
        self._clipped_s = np.zeros(0)  # where, in seconds of audio

    def push(self, samples: Samples) -> None:
        """Look at the next samples, shape (n,), float32, full scale at 1."""
        joined = np.concatenate((self._last, samples))
        self._last = joined[1 - _FLAT :]
        if len(samples) and max(float(samples.max()), -float(samples.min())) >= FULL_SCALE:
            flat = np.abs(joined[_FLAT - 1 :]) >= FULL_SCALE
            for back in range(1, _FLAT):
                flat &= joined[_FLAT - 1 - back : len(joined) - back] == joined[_FLAT - 1 :]
            at = flat.nonzero()[0] + (self._count + len(samples) - len(flat))
            self._clipped_s = np.concatenate((self._clipped_s, at / self._rate_hz))
        self._count += len(samples)

    def within(self, begin_s: float, end_s: float) -> bool:
        """Return whether a stretch was clipped; nothing before it will be asked for again."""
        if len(self._clipped_s) == 0:
            return False
        self._clipped_s = self._clipped_s[np.searchsorted(self._clipped_s, begin_s) :]
        return bool(len(self._clipped_s) and self._clipped_s[0] < end_s)

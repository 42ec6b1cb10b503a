"""What is done to a microphone's samples before anybody listens: the offset goes, the gain comes."""

import math
from typing import Final

import numpy as np

from edge_node.sound.sources import Samples

__all__ = ["CORNER_HZ", "FULL_SCALE", "Conditioning"]

CORNER_HZ: Final = 5.0
"""Where the high-pass is 3 dB down: a tenth of the lowest frequency that any feature looks at, or less."""
FULL_SCALE: Final = 0.999
"""A sample from here on is clipped: 16-bit converters reach 0.99997 above and -1 below."""

_LONGEST_S: Final = 1.0
"""Of a stretch that is filtered at once: its powers grow by exp(2 pi CORNER_HZ) a second, and floats are finite."""


class Conditioning:
    """Takes a constant offset away and applies a gain, block after block of one stream. Belongs to one thread.

    MEMS microphones at an I2S bus have an offset that would use up the range, and count as sound, once it is amplified.
    It is followed by y[n] = x[n] - m[n], m[n] = a m[n-1] + (1 - a) x[n]: a first-order high-pass, exact however the
    stream is cut into blocks, but for the first block: its mean is where m begins, so that a stream does not begin
    with a thump.
    """

    def __init__(self, gain_db: float = 0.0, *, remove_dc: bool = True) -> None:
        """Begin a stream.

        Args:
            gain_db: amplification, in dB; negative attenuates.
            remove_dc: whether to take the offset away.
        """
        self._gain = np.float32(10 ** (gain_db / 20))
        self._remove_dc = remove_dc
        self._mean: float | None = None
        self._tables: tuple[int, np.ndarray, np.ndarray] = (0, np.empty(0), np.empty(0))

    def __call__(self, samples: Samples, rate_hz: int) -> Samples:
        """Return the block as it is to be heard, shape (n,), float32, within full scale.

        What was clipped, by the converter or by the gain, stands at full scale afterwards, for those who count it;
        not where the gain attenuates: there it would stick out.

        Args:
            samples: shape (n,), float32, finite.
            rate_hz: of the whole stream.
        """
        if len(samples) == 0:
            return samples
        result = samples
        if self._remove_dc:
            longest = max(1, int(_LONGEST_S * rate_hz))
            parts = [samples[start : start + longest] for start in range(0, len(samples), longest)]
            filtered = [self._without_mean(part, rate_hz) for part in parts]
            result = filtered[0] if len(filtered) == 1 else np.concatenate(filtered)
        if self._gain != 1:
            result = result * self._gain
        if self._gain >= 1 and _peak(samples) >= FULL_SCALE:
            result = np.where(np.abs(samples) >= FULL_SCALE, np.sign(samples), result)
        return np.clip(result, -1, 1) if _peak(result) > 1 else result

    def _without_mean(self, samples: Samples, rate_hz: int) -> Samples:
        """Run the filter, as sums of powers: m[n] / a^(n+1) = m[-1] + (1 - a) sum of x[k] / a^(k+1)."""
        exact = samples.astype(np.float64)
        if self._mean is None:
            self._mean = float(exact.mean())
        if self._tables[0] != rate_hz or len(self._tables[1]) < len(samples):
            keep = math.exp(-2 * math.pi * CORNER_HZ / rate_hz)
            powers = keep ** np.arange(1, len(samples) + 1)
            self._tables = (rate_hz, powers, (1 - keep) / powers)
        _, powers, weights = self._tables
        means = exact * weights[: len(samples)]
        means.cumsum(out=means)
        means += self._mean
        means *= powers[: len(samples)]
        self._mean = float(means[-1])
        exact -= means
        return exact.astype(np.float32)


def _peak(samples: Samples) -> float:
    return max(float(samples.max()), -float(samples.min()))  # without the copy that abs() makes

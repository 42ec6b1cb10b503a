"""Rooms that nobody built: impulse responses of a direct path and a decaying tail of noise.

Source: Polack 1988, "La transmission de l'énergie sonore dans les salles": late reverberation is Gaussian noise whose
power falls exponentially.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from training.augment.noise import active_rms
from training.data.clips import RATE_HZ

__all__ = ["impulse_response", "reverberate"]

Samples = npt.NDArray[np.float32]

_GAP_S: Final = 0.002
"""Between the direct path and the first reflection, as from a wall 35 cm behind the microphone."""


def impulse_response(reverberation_s: float, direct_db: float, random: np.random.Generator) -> Samples:
    """Return a room's impulse response, shape (reverberation_s * 16,000,), float32; its first sample is 1.

    Args:
        reverberation_s: time in which the tail falls by 60 dB; the response ends there.
        direct_db: power of the direct path above that of the whole tail, in dB.
        random: source of the tail.
    """
    length = max(round(reverberation_s * RATE_HZ), round(_GAP_S * RATE_HZ) + 1)
    tail = random.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail[: round(_GAP_S * RATE_HZ)] = 0
    response = np.asarray(tail * (10 ** (-direct_db / 20) / np.sqrt(np.sum(tail**2))), dtype=np.float32)
    response[0] = 1
    return response


def reverberate(samples: Samples, response: Samples) -> Samples:
    """Return samples, shape (n,), as they sound in a room, shape (n + len(response) - 1,), float32.

    The direct path stays where it was. The active level of the first n samples stays what it was, so that a room is
    not told by its loudness.
    """
    length = len(samples) + len(response) - 1
    transform = 1 << (length - 1).bit_length()  # the FFT of a length with large prime factors is ten times slower
    spectrum = np.fft.rfft(samples, transform) * np.fft.rfft(response, transform)
    heard = np.fft.irfft(spectrum, transform)[:length].astype(np.float32)
    before, after = active_rms(samples), active_rms(heard[: len(samples)])
    return heard * np.float32(before / max(after, 1e-9))

"""Fundamental frequency and voicing of frames, from the power spectra that the mel bands are made of.

A sum of cosines over the spectrum gives the autocorrelation at a lag; divided by the window's own it tells how periodic
the frame is (Boersma 1993, "Accurate short-term analysis of the fundamental frequency"). Only the lags of a voice are
asked for, so that a product with a table of cosines is cheaper than an inverse FFT. The spectrum is as long as the
frame, so the autocorrelation is circular; at lags of at most half a frame a Hann window leaves too little at its ends
for that to matter.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.contract.mel import hann

__all__ = ["BAND_HZ", "HIGHEST_HZ", "LOWEST_HZ", "PITCH_COLUMNS", "REFERENCE_HZ", "pitch", "pitch_bins", "smooth_pitch"]

Spectra = npt.NDArray[np.float32]
Columns = npt.NDArray[np.float32]

PITCH_COLUMNS: Final = 3
"""Columns that `pitch` makes: octaves above 180 Hz (0 where unvoiced), voicing strength, 1 where voiced."""

LOWEST_HZ: Final = 60.0
HIGHEST_HZ: Final = 500.0
REFERENCE_HZ: Final = 180.0
"""Pitch is told in octaves above this."""
_VOICED_FROM: Final = 0.45
"""A frame at least this periodic is voiced; Praat's voicing threshold."""
_PROMINENCE: Final = 0.2
"""A peak must stand out by this much from the lowest correlation at shorter lags: over a rumble far below the voice the
correlation falls slowly from 1, and any ripple on the way, down to float32's rounding, would pass for a high and very
certain pitch."""
_OCTAVE_COST: Final = 0.02
"""Each octave down must be this much more periodic: a multiple of the period fits as well as the period."""
BAND_HZ: Final = 2_000.0
"""Only this much of the spectrum is looked at: the harmonics that carry the pitch, and shorter transforms."""
_SILENCE: Final = 2.5e-10
"""Mean power of a weighted sample (full scale at 1) below which nothing is periodic."""


def pitch_bins(fft_samples: int, sample_rate_hz: int) -> int:
    """Return how many bins of a frame's spectrum, from the lowest, `pitch` looks at."""
    return int(BAND_HZ * fft_samples / sample_rate_hz) + 1


def pitch(power: Spectra, fft_samples: int, sample_rate_hz: int) -> Columns:
    """Return pitch and voicing of frames that were weighted by a periodic Hann window.

    Args:
        power: shape (frames, `pitch_bins` or more), float32: squared magnitudes of their spectra, from 0 Hz.
        fft_samples: length of a frame.
        sample_rate_hz: rate of the frames' samples.

    Returns:
        Shape (frames, PITCH_COLUMNS), float32, finite.
    """
    table = _lag_table(fft_samples, sample_rate_hz)
    periodicity = power[:, : len(table.cosines)] @ table.cosines
    periodicity *= 1 / np.maximum(periodicity[:, :1], np.float32(_SILENCE))
    enough = np.minimum.accumulate(periodicity, axis=1)
    enough += np.float32(_PROMINENCE)
    row = periodicity.ravel()  # all frames in one; where two of them meet there is no lag of a pitch
    before, here, after = row[:-2], row[1:-1], row[2:]
    peaks = ((here >= before) & (here > after) & (here > enough.ravel()[1:-1])).nonzero()[0]
    before, here, after = before[peaks], here[peaks], after[peaks]  # at one lag in ten or so
    slope = after - before
    shift = 0.5 * slope / np.maximum(2 * here - before - after, np.float32(1e-6))
    shifts, heights = np.zeros(row.shape, np.float32), np.full(row.shape, -1, np.float32)
    shifts[1:-1][peaks] = shift
    heights[1:-1][peaks] = here + 0.25 * slope * shift  # of the parabola through the three: its top is between two lags
    best = (heights.reshape(periodicity.shape)[:, table.first : -1] - table.cost).argmax(axis=1) + table.first
    at = best + np.arange(0, len(row), periodicity.shape[1])
    lag_s = (best + shifts[at]) * table.step_s
    strength = heights[at].clip(0, 1)
    voiced = strength >= _VOICED_FROM
    made = np.empty((len(power), PITCH_COLUMNS), dtype=np.float32)
    made[:, 0] = -np.log2(REFERENCE_HZ * lag_s) * voiced
    made[:, 1] = strength
    made[:, 2] = voiced
    return made


def smooth_pitch(columns: Columns) -> Columns:
    """Return pitch columns, shape (..., frames, PITCH_COLUMNS), without octave slips of single frames.

    The pitch of a voiced frame between two voiced frames becomes the median of the three.
    """
    smoothed = columns.copy()
    octaves, voiced = columns[..., 0], columns[..., 2] > 0
    before, here, after = octaves[..., :-2], octaves[..., 1:-1], octaves[..., 2:]
    middle = np.maximum(np.minimum(before, here), np.minimum(np.maximum(before, here), after))
    among = voiced[..., :-2] & voiced[..., 1:-1] & voiced[..., 2:]
    np.copyto(smoothed[..., 1:-1, 0], middle, where=among)
    return smoothed


class _LagTable(NamedTuple):
    step_s: float
    """Between two lags."""
    first: int
    """Shortest lag that is a pitch, in steps."""
    cosines: Columns
    """Shape (bins, last lag + 2): from a power spectrum to the autocorrelation divided by the window's own, from lag 0
    to the one after the last that is a pitch."""
    cost: Columns
    """Of each pitch, from the first to the last."""


@lru_cache(maxsize=8)
def _lag_table(fft_samples: int, sample_rate_hz: int) -> _LagTable:
    stride = max(1, int(sample_rate_hz / (4 * BAND_HZ)))
    step_s = stride / sample_rate_hz
    first, last = int(1 / (HIGHEST_HZ * step_s)), int(np.ceil(1 / (LOWEST_HZ * step_s)))
    lags = stride * np.arange(last + 2)
    bins = np.arange(pitch_bins(fft_samples, sample_rate_hz))
    is_mirrored = (bins > 0) & (bins < fft_samples / 2)  # bins that stand for a negative frequency, too
    cosines = np.where(is_mirrored, 2, 1)[:, None] * np.cos(2 * np.pi * np.outer(bins, lags) / fft_samples)
    window = np.fft.irfft(np.abs(np.fft.rfft(hann(fft_samples).astype(np.float64))) ** 2)[lags]
    return _LagTable(
        step_s=step_s,
        first=first,
        cosines=(cosines * window[0] / window / fft_samples**2).astype(np.float32),
        cost=(_OCTAVE_COST * np.log2(np.arange(first, last + 1) / first)).astype(np.float32),
    )

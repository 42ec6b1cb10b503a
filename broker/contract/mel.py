"""Tables of the front-end, and the mel bands they make of spectra: window, mel filters, cosine transform.

The tables are constant, and cached: they are asked for per block.

The definitions are those of librosa 0.11: Slaney's mel scale and normalisation, orthonormal DCT-II.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["dct", "hann", "mel_filters", "mel_power"]

Table = npt.NDArray[np.float32]

_LINEAR_HZ_PER_MEL: Final = 200 / 3
_BREAK_HZ: Final = 1000.0
_BREAK_MEL: Final = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP: Final = float(np.log(6.4) / 27)
"""Slaney's scale: linear below 1 kHz, then 27 steps for a factor of 6.4."""

_BANDS_AT_ONCE: Final = 16
"""Bands per matrix product: fewer leave OpenBLAS little to do at a time, more multiply mostly by zeros."""


@lru_cache(maxsize=8)
def hann(length: int) -> Table:
    """Return a periodic Hann window, shape (length,), float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache(maxsize=8)
def mel_filters(sample_rate_hz: int, fft_samples: int, bands: int, low_hz: float, high_hz: float) -> Table:
    """Return triangular filters of equal area, shape (fft_samples // 2 + 1, bands), float32.

    Source: Slaney, Auditory Toolbox, 1998.
    """
    edges = _mel_to_hz(np.linspace(_hz_to_mel(low_hz), _hz_to_mel(high_hz), bands + 2))
    bins = np.fft.rfftfreq(fft_samples, 1 / sample_rate_hz)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    return (np.maximum(triangles, 0) * (2 / (upper - lower))).astype(np.float32)


def mel_power(power: Table, sample_rate_hz: int, fft_samples: int, bands: int, low_hz: float, high_hz: float) -> Table:
    """Return what `mel_filters` hear, shape (frames, bands), of power spectra, shape (frames, fft_samples // 2 + 1)."""
    heard = np.empty((len(power), bands), dtype=np.float32)
    for these, bins, filters in _pieces(sample_rate_hz, fft_samples, bands, low_hz, high_hz):
        np.matmul(power[:, bins], filters, out=heard[:, these])
    return heard


@lru_cache(maxsize=8)
def dct(coefficients: int, bands: int) -> Table:
    """Return the orthonormal DCT-II as a matrix, shape (bands, coefficients), float32."""
    angles = np.pi * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)[None, :] / bands
    basis: npt.NDArray[np.float64] = np.sqrt(2 / bands) * np.cos(angles)
    basis[:, 0] = np.sqrt(1 / bands)
    return basis.astype(np.float32)


@lru_cache(maxsize=8)
def _pieces(
    sample_rate_hz: int, fft_samples: int, bands: int, low_hz: float, high_hz: float
) -> list[tuple[slice, slice, Table]]:
    """Return the filters in pieces of neighbouring bands: which bands, the bins that any of them hears, their filters.

    A filter hears few bins, so most of the whole table is zeros.
    """
    whole = mel_filters(sample_rate_hz, fft_samples, bands, low_hz, high_hz)
    pieces = []
    for start in range(0, bands, _BANDS_AT_ONCE):
        these = slice(start, start + _BANDS_AT_ONCE)
        heard = np.flatnonzero(whole[:, these].any(axis=1))
        bins = slice(heard[0], heard[-1] + 1) if len(heard) else slice(0)
        pieces.append((these, bins, np.ascontiguousarray(whole[bins, these])))
    return pieces


def _hz_to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + float(np.log(hertz / _BREAK_HZ)) / _LOG_STEP


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ_PER_MEL, logarithmic)

"""Audio window to model input, the same on the device and in training.

Everything here is numpy alone. The definitions are those of librosa 0.11 (Slaney's mel scale and
normalisation, `power_to_db`, orthonormal DCT-II); `tests/contract/test_features.py` holds the two together.

Two settings matter:

- the paper's: centred frames, and decibels clipped 80 dB below the loudest frame of the clip. A frame then
  depends on what comes after it and on how loud the rest of the clip is; kept to reproduce the paper.
- the product's: no centring and a fixed floor in decibels. A frame depends on its own samples only.
"""

from functools import lru_cache
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.errors import SettingsError

__all__ = ["PAPER_FEATURES", "FeatureSpec", "Normalisation", "extract", "frame_count", "mfcc"]

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

_FRAMES_AT_ONCE: Final = 8
"""Frames per FFT call: blocks of 4 to 8 stay in the cache and take half the time of one large call."""

_LARGEST_SAMPLE: Final = 1e6
"""Samples are clipped here (full scale is 1), so that no finite input overflows float32 and becomes NaN."""

Positive = Annotated[int, Meta(gt=0)]


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the MFCC front-end. Travels in the bundle's manifest."""

    sample_rate_hz: Annotated[int, Meta(gt=0, le=192_000)] = 16_000
    """Rate of the samples that the features expect, in Hz."""
    coefficients: Positive = 13
    """Cepstral coefficients kept per frame, from the 0th."""
    fft_samples: Annotated[int, Meta(ge=2, le=65_536, multiple_of=2)] = 2048
    """Length of a frame and of its FFT, in samples; even; the frame is weighted by a periodic Hann window."""
    hop_samples: Positive = 512
    """Distance between the starts of two frames, in samples."""
    mel_bands: Annotated[int, Meta(gt=0, le=1_024)] = 128
    """Bands of the mel filter bank."""
    low_hz: Annotated[float, Meta(ge=0)] = 0.0
    """Lower edge of the lowest band, in Hz."""
    high_hz: Annotated[float, Meta(gt=0)] = 8_000.0
    """Upper edge of the highest band, in Hz; at most half the sample rate."""
    floor_db: Annotated[float, Meta(ge=-300, le=0)] = -100.0
    """Power below this many dB (re full scale squared) counts as this many dB."""
    centred: bool = False
    """Whether frame k is centred on sample k * hop (zero-padded at both ends) instead of starting there."""
    top_db: Annotated[float, Meta(gt=0)] | None = None
    """Clip to this many dB below the loudest value of the whole input; None: never."""

    def __post_init__(self) -> None:
        """Refuse combinations that no front-end can compute.

        Raises:
            SettingsError: the message names the two settings that contradict each other.
        """
        nyquist = self.sample_rate_hz / 2
        if not self.low_hz < self.high_hz <= nyquist:
            msg = (
                f"features: low_hz {self.low_hz:g} and high_hz {self.high_hz:g} must be rising "
                f"and at most half the sample rate ({nyquist:g} Hz)"
            )
            raise SettingsError(msg)
        if self.coefficients > self.mel_bands:
            msg = f"features: coefficients {self.coefficients} cannot exceed mel_bands {self.mel_bands}"
            raise SettingsError(msg)


PAPER_FEATURES: Final = FeatureSpec(centred=True, top_db=80.0)
"""The paper's front-end: 13 coefficients, 128 ms frames every 32 ms, centred, 80 dB below the loudest."""


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fixed statistics of the training set; features leave as (value - mean) / deviation."""

    mean: tuple[Annotated[float, Meta(ge=-1e6, le=1e6)], ...]
    """Mean per coefficient."""
    deviation: tuple[Annotated[float, Meta(ge=1e-6, le=1e6)], ...]
    """Standard deviation per coefficient."""


def frame_count(samples: int, spec: FeatureSpec) -> int:
    """Return how many frames `mfcc` makes of that many samples."""
    if spec.centred:
        return 1 + samples // spec.hop_samples
    return max(0, 1 + (samples - spec.fft_samples) // spec.hop_samples)


def mfcc(samples: Samples, spec: FeatureSpec) -> Features:
    """Return the MFCC of a mono signal.

    Args:
        samples: shape (n,), float32, full scale at 1.
        spec: the front-end's settings; `samples` must already be at `spec.sample_rate_hz`.

    Returns:
        Shape (frame_count(n, spec), spec.coefficients), float32, finite.

    Raises:
        ValueError: `samples` has another shape, or holds NaN or infinity.

    Source:
        Davis and Mermelstein 1980; the scaling follows librosa 0.11 `feature.mfcc`.
    """
    if samples.ndim != 1:
        msg = f"expected mono samples of shape (n,), got shape {samples.shape}"
        raise ValueError(msg)
    signal = np.asarray(samples, dtype=np.float32)
    if not np.isfinite(signal).all():
        msg = "samples hold NaN or infinity"
        raise ValueError(msg)
    signal = np.clip(signal, -_LARGEST_SAMPLE, _LARGEST_SAMPLE)
    if spec.centred:
        signal = np.pad(signal, spec.fft_samples // 2)
    count = frame_count(len(samples), spec)
    if count == 0:
        return np.zeros((0, spec.coefficients), dtype=np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(signal, spec.fft_samples)[:: spec.hop_samples]
    hann, mel, dct = _hann(spec.fft_samples), _mel_filters(spec), _dct(spec.coefficients, spec.mel_bands)
    decibels = np.empty((count, spec.mel_bands), dtype=np.float32)
    for start in range(0, count, _FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * hann, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        floored = np.maximum(power @ mel, np.float32(10 ** (spec.floor_db / 10)))
        decibels[start : start + _FRAMES_AT_ONCE] = 10 * np.log10(floored)
    if spec.top_db is not None:
        decibels = np.maximum(decibels, decibels.max() - np.float32(spec.top_db))
    cepstrum: Features = decibels @ dct
    return cepstrum


def extract(samples: Samples, spec: FeatureSpec, normalisation: Normalisation | None) -> Features:
    """Return the model's input for one window: normalised MFCC, shape (frames, coefficients), float32.

    Raises:
        ValueError: as `mfcc`, or the statistics are not one per coefficient.
    """
    features = mfcc(samples, spec)
    if normalisation is None:
        return features
    mean, deviation = _statistics(normalisation)
    if mean.shape != (spec.coefficients,) or deviation.shape != (spec.coefficients,):
        msg = f"normalisation: {len(mean)} means, {len(deviation)} deviations, {spec.coefficients} coefficients"
        raise ValueError(msg)
    return (features - mean) / deviation


@lru_cache(maxsize=8)
def _statistics(normalisation: Normalisation) -> tuple[Features, Features]:
    return (
        np.array(normalisation.mean, dtype=np.float32),
        np.array(normalisation.deviation, dtype=np.float32),
    )


@lru_cache(maxsize=8)
def _hann(length: int) -> Samples:
    """Return a periodic Hann window, shape (length,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(spec: FeatureSpec) -> npt.NDArray[np.float32]:
    """Return triangular filters of equal area, shape (fft_samples // 2 + 1, mel_bands).

    Source: Slaney, Auditory Toolbox, 1998.
    """
    edges = _mel_to_hz(np.linspace(_hz_to_mel(spec.low_hz), _hz_to_mel(spec.high_hz), spec.mel_bands + 2))
    bins = np.fft.rfftfreq(spec.fft_samples, 1 / spec.sample_rate_hz)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    return (np.maximum(triangles, 0) * (2 / (upper - lower))).astype(np.float32)


_LINEAR_HZ_PER_MEL: Final = 200 / 3
_BREAK_HZ: Final = 1000.0
_BREAK_MEL: Final = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP: Final = float(np.log(6.4) / 27)
"""Slaney's scale: linear below 1 kHz, then 27 steps for a factor of 6.4."""


def _hz_to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + float(np.log(hertz / _BREAK_HZ)) / _LOG_STEP


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ_PER_MEL, logarithmic)


@lru_cache(maxsize=8)
def _dct(coefficients: int, bands: int) -> npt.NDArray[np.float32]:
    """Return the orthonormal DCT-II as a matrix, shape (bands, coefficients)."""
    angles = np.pi * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)[None, :] / bands
    basis: npt.NDArray[np.float64] = np.sqrt(2 / bands) * np.cos(angles)
    basis[:, 0] = np.sqrt(1 / bands)
    return basis.astype(np.float32)

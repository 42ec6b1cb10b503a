"""Audio window to model input, the same on the device and in training.

    samples -> analyse -> frames -> assemble -> features -> (- mean) / deviation -> model input

`analyse` looks at one frame at a time, so a device does it once per frame, as the audio comes (`stream.FrameStream`).
`assemble` looks at a window's frames together: it mends the pitch track, removes the mean, adds slopes.

Everything here is numpy alone. The MFCC are those of librosa 0.11 (Slaney's mel scale and normalisation,
`power_to_db`, orthonormal DCT-II); `tests/contract/test_features.py` holds the two together.

Two settings matter:

- the paper's: centred frames, and decibels clipped 80 dB below the loudest frame of the clip. A frame then
  depends on what comes after it and on how loud the rest of the clip is; kept to reproduce the paper.
- the product's: no centring and a fixed floor in decibels. A frame depends on its own samples only.
"""

from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.errors import SettingsError
from broker.contract.mel import dct, hann, mel_power
from broker.contract.pitch import BAND_HZ, LOWEST_HZ, PITCH_COLUMNS, pitch, smooth_pitch

__all__ = [
    "PAPER_FEATURES",
    "FeatureSpec",
    "Normalisation",
    "analyse",
    "assemble",
    "extract",
    "frame_count",
    "normalise",
]

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

_FRAMES_AT_ONCE: Final = 32
"""Frames per FFT call: more share the cost of numpy's calls, still more leave the cache."""

_SAMPLES_AT_ONCE: Final = 28 * 2048
"""Most samples in one FFT call, so that the matrix products after it stay below 2^20 multiplications: from there on
OpenBLAS starts threads, and on a busy machine they wait for each other a thousand times longer than the product takes.
"""

_LARGEST_SAMPLE: Final = 1e6
"""Samples are clipped here (full scale is 1), so that no finite input overflows float32 and becomes NaN."""

Positive = Annotated[int, Meta(gt=0)]


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the front-end. Travels in the bundle's manifest."""

    sample_rate_hz: Annotated[int, Meta(gt=0, le=192_000)] = 16_000
    """Rate of the samples that the features expect, in Hz."""
    kind: Literal["mfcc", "log-mel"] = "mfcc"
    """`mfcc`: cepstral coefficients; `log-mel`: the bands' decibels themselves."""
    coefficients: Positive = 13
    """Cepstral coefficients kept per frame, from the 0th; for `log-mel` the number of bands."""
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
    pitch: bool = False
    """Whether each frame also tells its pitch and how voiced it is (`pitch.PITCH_COLUMNS` more columns)."""
    window_range_db: Annotated[float, Meta(gt=0)] | None = None
    """Raise what is this far below a window's loudest band to that level; None: never. It makes a window's features
    those of the loud part of its spectrum, whatever the gain of the microphone and the noise floor of the room."""
    mean_removed: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of each coefficient's mean over the window that is taken off: 1 is cepstral mean normalisation (CMN)."""
    delta_frames: Annotated[int, Meta(ge=0, le=16)] = 0
    """Reach of the regression slopes added to every column, in frames either way; 0: no deltas."""

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
        if self.kind == "log-mel" and self.coefficients != self.mel_bands:
            msg = f"features: log-mel needs coefficients = mel_bands, got {self.coefficients} and {self.mel_bands}"
            raise SettingsError(msg)
        if self.pitch and nyquist < BAND_HZ:
            msg = f"features: pitch needs a sample_rate_hz of {2 * BAND_HZ:g} or more, got {self.sample_rate_hz}"
            raise SettingsError(msg)
        longest_lag = self.sample_rate_hz / LOWEST_HZ
        if self.pitch and self.fft_samples < 2 * longest_lag + 4:
            msg = f"features: pitch from {LOWEST_HZ:g} Hz needs fft_samples of {2 * longest_lag + 4:.0f} or more"
            raise SettingsError(msg)

    @property
    def raw_columns(self) -> int:
        """Columns of a frame as `analyse` makes it: mel bands, then pitch and voicing if asked for."""
        return self.mel_bands + (PITCH_COLUMNS if self.pitch else 0)

    @property
    def columns(self) -> int:
        """Columns of a frame as the model sees it: coefficients, pitch and voicing, then the slopes of both."""
        return (self.coefficients + (PITCH_COLUMNS if self.pitch else 0)) * (2 if self.delta_frames else 1)

    @property
    def is_local(self) -> bool:
        """Whether a frame depends on its own samples only, so that a stream can be analysed as it comes."""
        return not self.centred and self.top_db is None


PAPER_FEATURES: Final = FeatureSpec(centred=True, top_db=80.0)
"""The paper's front-end: 13 coefficients, 128 ms frames every 32 ms, centred, 80 dB below the loudest."""


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fixed statistics of the training set; features leave as (value - mean) / deviation."""

    mean: tuple[Annotated[float, Meta(ge=-1e6, le=1e6)], ...]
    """Mean per column."""
    deviation: tuple[Annotated[float, Meta(ge=1e-6, le=1e6)], ...]
    """Standard deviation per column."""


def frame_count(samples: int, spec: FeatureSpec) -> int:
    """Return how many frames `analyse` makes of that many samples."""
    if spec.centred:
        return 1 + samples // spec.hop_samples
    return max(0, 1 + (samples - spec.fft_samples) // spec.hop_samples)


def analyse(samples: Samples, spec: FeatureSpec) -> Features:
    """Return the frames of a mono signal: decibels of the mel bands, then (if asked for) pitch and voicing.

    Args:
        samples: shape (n,), float32, full scale at 1.
        spec: the front-end's settings; `samples` must already be at `spec.sample_rate_hz`.

    Returns:
        Shape (frame_count(n, spec), spec.raw_columns), float32, finite.

    Raises:
        ValueError: `samples` has another shape, or holds NaN or infinity.
    """
    signal = _usable(samples)
    if spec.centred:
        signal = np.pad(signal, spec.fft_samples // 2)
    count, length = frame_count(len(samples), spec), spec.fft_samples
    made = np.zeros((count, spec.raw_columns), dtype=np.float32)
    if count == 0:
        return made
    overlapping = (spec.hop_samples * signal.itemsize, signal.itemsize)
    frames = np.ndarray((count, length), np.float32, signal, strides=overlapping)
    floor = np.float32(10 ** (spec.floor_db / 10))
    at_once = max(1, min(_FRAMES_AT_ONCE, _SAMPLES_AT_ONCE // length))
    for start in range(0, count, at_once):
        block = slice(start, start + at_once)
        spectrum = np.fft.rfft(frames[block] * _weights(length), norm="forward")
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        bands = mel_power(power, spec.sample_rate_hz, length, spec.mel_bands, spec.low_hz, spec.high_hz)
        np.log10(np.maximum(bands, floor, out=bands), out=bands)
        np.multiply(bands, 10, out=made[block, : spec.mel_bands])
        if spec.pitch:
            made[block, spec.mel_bands :] = pitch(power, length, spec.sample_rate_hz)
    if spec.top_db is not None:
        bands = made[:, : spec.mel_bands]
        np.maximum(bands, bands.max() - np.float32(spec.top_db), out=bands)
    return made


def assemble(frames: Features, spec: FeatureSpec) -> Features:
    """Return what the frames of a window say together, not normalised.

    Args:
        frames: shape (..., frames, spec.raw_columns), float32, from `analyse`; leading axes are windows.
        spec: the front-end's settings.

    Returns:
        Shape (..., frames, spec.columns), float32.

    Source:
        MFCC: Davis and Mermelstein 1980; the scaling follows librosa 0.11 `feature.mfcc`. Mean removal: Atal 1974.
    """
    if frames.shape[-2] == 0:
        return np.zeros((*frames.shape[:-1], spec.columns), dtype=np.float32)
    features = frames[..., : spec.mel_bands]
    if spec.window_range_db is not None:
        loudest = features.max(axis=(-2, -1), keepdims=True)
        features = np.maximum(features, loudest - np.float32(spec.window_range_db))
    if spec.kind == "mfcc":
        features = features @ dct(spec.coefficients, spec.mel_bands)
    if spec.mean_removed:
        features = features - features.sum(axis=-2, keepdims=True) * (spec.mean_removed / features.shape[-2])
    if spec.pitch:
        features = np.concatenate([features, smooth_pitch(frames[..., spec.mel_bands :])], axis=-1)
    if spec.delta_frames:
        features = np.concatenate([features, _slopes(features, spec.delta_frames)], axis=-1)
    return features


def extract(samples: Samples, spec: FeatureSpec, normalisation: Normalisation | None) -> Features:
    """Return the model's input for one window: normalised features, shape (frames, spec.columns), float32.

    Raises:
        ValueError: as `analyse`, or the statistics are not one per column.
    """
    return normalise(assemble(analyse(samples, spec), spec), normalisation)


def normalise(features: Features, normalisation: Normalisation | None) -> Features:
    """Return the features, shape (..., columns), less their mean and in units of their deviation.

    Raises:
        ValueError: the statistics are not one per column.
    """
    if normalisation is None:
        return features
    mean, deviation = _statistics(normalisation)
    if mean.shape != features.shape[-1:] or deviation.shape != features.shape[-1:]:
        msg = f"normalisation: {len(mean)} means, {len(deviation)} deviations, {features.shape[-1]} columns"
        raise ValueError(msg)
    scaled = features - mean
    scaled /= deviation
    return scaled


def _slopes(features: Features, reach: int) -> Features:
    """Return the least-squares slope of each column over 2 * reach + 1 frames; the ends repeat their outermost frame.

    Source: Furui 1986; the regression formula as in the HTK Book, section 5.9.
    """
    count = features.shape[-2]
    first, last = features[..., :1, :], features[..., -1:, :]
    padded = np.concatenate([first] * reach + [features] + [last] * reach, axis=-2)
    slopes = np.zeros(features.shape, dtype=np.float32)
    for step in range(1, reach + 1):
        after, before = reach + step, reach - step
        rise = padded[..., after : after + count, :] - padded[..., before : before + count, :]
        rise *= 3 * step / (reach * (reach + 1) * (2 * reach + 1))  # over twice the sum of the squared steps
        slopes += rise
    return slopes


def _usable(samples: Samples) -> Samples:
    if samples.ndim != 1:
        msg = f"expected mono samples of shape (n,), got shape {samples.shape}"
        raise ValueError(msg)
    signal = np.ascontiguousarray(samples, dtype=np.float32)
    if np.abs(signal).max(initial=0) <= _LARGEST_SAMPLE:  # false for NaN
        return signal
    if not np.isfinite(signal).all():
        msg = "samples hold NaN or infinity"
        raise ValueError(msg)
    return np.clip(signal, -_LARGEST_SAMPLE, _LARGEST_SAMPLE)


@lru_cache(maxsize=8)
def _weights(length: int) -> Samples:
    """Return the Hann window, shape (length,), times its length.

    The spectrum is divided by the length (`norm="forward"`) only because numpy then computes in float32: without a
    factor of its own it takes the first loop that fits, which is float64, and copies everything twice.
    """
    return hann(length) * np.float32(length)


@lru_cache(maxsize=8)
def _statistics(normalisation: Normalisation) -> tuple[Features, Features]:
    return (
        np.array(normalisation.mean, dtype=np.float32),
        np.array(normalisation.deviation, dtype=np.float32),
    )

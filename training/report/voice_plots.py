"""What a front-end makes of a voice: waveform, mel bands, and the pitch drawn over them.

A picture of somebody's recording is derived from it, and the corpora's licences do not allow to pass that on. What is
published shows synthetic voices.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from broker.contract.decision import CLASSES, Label
from broker.contract.features import FeatureSpec, analyse
from broker.contract.mel import mel_filters
from broker.contract.pitch import HIGHEST_HZ, LOWEST_HZ, REFERENCE_HZ, smooth_pitch
from broker.contract.windows import WindowSpec
from training.data.clips import Collection
from training.data.synthetic import voiced
from training.exam.replay import loudest
from training.report.canvas import CLASS_COLOURS, GREY, figure

__all__ = ["Voice", "draw_voices", "pitch_hz", "real_voices", "synthetic_voices"]

Samples = npt.NDArray[np.float32]

_PITCHES_HZ: Final = {Label.PLEASANT: 260.0, Label.NEUTRAL: 125.0, Label.UNPLEASANT: 190.0}
_LEVEL_DBFS: Final = -25.0
_SEED: Final = 11
_VOICED: Final = 0.5
_DEEPEST_DB: Final = 80.0
"""Shown where the front-end itself does not clamp."""
_PITCH_COLOUR: Final = "#cf4516"
_PITCH_TICKS_HZ: Final = (75, 150, 300)
_TICKS_HZ: Final = (100, 200, 500, 1_000, 2_000, 4_000)


class Voice(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One example."""

    label: Label
    """Class that it stands for."""
    title: str
    samples: Samples
    """Shape (n,), at most one window."""


def synthetic_voices(features: FeatureSpec, window: WindowSpec) -> tuple[Voice, ...]:
    """Return a voice per class that nobody has; it shows what a model is given, not what an emotion sounds like."""
    random = np.random.default_rng(_SEED)
    rate = features.sample_rate_hz
    return tuple(
        Voice(
            label=label,
            title=f"synthetic, {_PITCHES_HZ[label]:.0f} Hz",
            samples=voiced(window.length_samples, rate, _PITCHES_HZ[label], _LEVEL_DBFS, random),
        )
        for label in CLASSES
    )


def real_voices(collection: Collection, features: FeatureSpec, window: WindowSpec) -> tuple[Voice, ...]:
    """Return the first clip of each class, by key, cut to its loudest window; a class without clips is left out."""
    voices = []
    for label in CLASSES:
        clips = sorted((clip for clip in collection.clips if clip.label == label), key=lambda clip: clip.key)
        if clips:
            samples = loudest(collection.read(clips[0]), features, window)
            voices.append(Voice(label=label, title=f"{label}: {clips[0].emotion}", samples=samples))
    return tuple(voices)


def pitch_hz(samples: Samples, features: FeatureSpec) -> npt.NDArray[np.float64]:
    """Return the pitch of each frame in Hz, shape (frames,), as a node tracks it; NaN where it is unvoiced."""
    spec = msgspec.structs.replace(features, pitch=True, delta_frames=0)
    columns = smooth_pitch(analyse(samples, spec)[:, spec.mel_bands :])
    return np.where(columns[:, 2] > _VOICED, REFERENCE_HZ * 2.0 ** columns[:, 0].astype(np.float64), np.nan)


def draw_voices(voices: Sequence[Voice], features: FeatureSpec, title: str) -> Figure:
    """Return waveforms above mel spectrograms with the pitch, a column per voice."""
    drawn = figure(3.1)
    grid = drawn.subplots(2, len(voices), squeeze=False, height_ratios=(1, 2.2), sharex="col", sharey="row")
    for place, (voice, above, below) in enumerate(zip(voices, *grid, strict=True)):
        time_s = np.arange(len(voice.samples)) / features.sample_rate_hz
        step = max(1, len(time_s) // 4_000)
        above.plot(time_s[::step], voice.samples[::step], color=CLASS_COLOURS[voice.label], linewidth=0.5)
        above.set_title(voice.title, fontsize=8.5)
        above.tick_params(labelsize=7)
        middles_s = _spectrogram(below, voice.samples, features)
        _pitch(below, middles_s, pitch_hz(voice.samples, features), labelled=place == len(voices) - 1)
        if place == 0:
            above.set_ylabel("sample")
            below.set_ylabel("Hz")
        below.set_xlabel("seconds")
    drawn.suptitle(title)
    return drawn


def _spectrogram(axes: Axes, samples: Samples, features: FeatureSpec) -> npt.NDArray[np.float64]:
    """Draw the mel bands as a model gets them, and return the middles of the frames in seconds, shape (frames,)."""
    bands = analyse(samples, msgspec.structs.replace(features, pitch=False))
    loudest_db = float(bands.max())
    deepest_db = loudest_db - (features.window_range_db or _DEEPEST_DB)
    hop_s = features.hop_samples / features.sample_rate_hz
    start_s = 0.0 if features.centred else features.fft_samples / features.sample_rate_hz / 2
    middles_s = start_s + hop_s * np.arange(len(bands), dtype=np.float64)
    edges = (middles_s[0] - hop_s / 2, middles_s[-1] + hop_s / 2, -0.5, features.mel_bands - 0.5)
    axes.imshow(bands.T, origin="lower", aspect="auto", cmap="Greys", vmin=deepest_db, vmax=loudest_db, extent=edges)
    centres = _centres_hz(features)
    rows = np.arange(features.mel_bands)
    shown = [tick for tick in _TICKS_HZ if centres[0] <= tick <= centres[-1]]
    axes.set_yticks(np.interp(shown, centres, rows), [f"{tick:,}" for tick in shown])
    axes.tick_params(labelsize=7)
    axes.spines[:].set_color(GREY)
    return middles_s


def _pitch(axes: Axes, times_s: npt.NDArray[np.float64], hertz: npt.NDArray[np.float64], *, labelled: bool) -> None:
    """Draw the pitch over a spectrogram, on a scale of its own: on that of the mel bands it would lie at the bottom."""
    over = axes.twinx()
    over.plot(times_s, hertz, ".", color=_PITCH_COLOUR, markersize=2.5)
    over.set_yscale("log")
    over.set_ylim(LOWEST_HZ, HIGHEST_HZ)
    over.set_yticks(_PITCH_TICKS_HZ, [f"{tick}" if labelled else "" for tick in _PITCH_TICKS_HZ], fontsize=7)
    over.tick_params(which="minor", right=False, labelright=False)
    over.tick_params(colors=_PITCH_COLOUR)
    if labelled:
        over.set_ylabel("pitch, Hz", color=_PITCH_COLOUR)


def _centres_hz(features: FeatureSpec) -> npt.NDArray[np.float64]:
    """Return the middle of each mel band, rising, shape (bands,)."""
    filters = mel_filters(
        features.sample_rate_hz, features.fft_samples, features.mel_bands, features.low_hz, features.high_hz
    ).astype(np.float64)
    bins_hz = np.fft.rfftfreq(features.fft_samples, 1 / features.sample_rate_hz)
    weight = filters.sum(axis=0)
    centres = (bins_hz @ filters) / np.maximum(weight, 1e-12)
    held = weight > 0
    return np.asarray(np.interp(np.arange(features.mel_bands), np.flatnonzero(held), centres[held]))

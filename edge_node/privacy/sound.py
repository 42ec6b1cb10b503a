"""A known signal: it sounds like speech, is the same every time, and is nobody's voice.

A sum of harmonics through moving formants, with a hiss before each vowel: enough that the speech gate and the model
take it for speech, so that a node that hears it does all it does for a person.
"""

import wave
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["RATE_HZ", "known_signal", "write_wave"]

RATE_HZ: Final = 48_000
"""Another than the model's, so that the node resamples, too."""

Samples = npt.NDArray[np.float32]

# First three formants of vowels, in Hz. Source: Peterson and Barney 1952, means of men.
_VOWELS: Final = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (660, 1720, 2410),
    (440, 1020, 2240),
)
_WIDTHS_HZ: Final = (90.0, 110.0, 160.0)
_GAINS: Final = (1.0, 0.6, 0.3)
_HIGHEST_HZ: Final = 5_000.0
_EDGE_S: Final = 0.3
_PEAK: Final = 0.7
_FLOOR: Final = 0.0008
"""A room is never quite still."""


class _Score:
    """When which sound begins, as it is drawn."""

    def __init__(self, length: int) -> None:
        self.loudness = np.zeros(length)
        self.hiss = np.zeros(length)
        self.marks_s: list[float] = [0.0]
        self.vowels: list[tuple[int, int, int]] = [_VOWELS[0]]
        self.pitch_hz: list[float] = [130.0]


def known_signal(seconds: float, seed: int = 1) -> Samples:
    """Return the signal, shape (n,), float32, peak below 1, at `RATE_HZ`; another seed makes another of its kind."""
    rng = np.random.default_rng(seed)
    length = int(seconds * RATE_HZ)
    time_s = np.arange(length) / RATE_HZ
    score = _composed(length, rng)
    pitch_hz = np.interp(time_s, score.marks_s, score.pitch_hz) * (1 + 0.015 * np.sin(2 * np.pi * 5.3 * time_s))
    steps_s = np.arange(0, seconds + 0.04, 0.02)
    pitch_hz *= 1 + np.interp(time_s, steps_s, rng.normal(0, 0.01, len(steps_s)))
    voiced = _voice(pitch_hz, time_s, score) * score.loudness
    noise = rng.normal(size=length)
    high = noise - np.convolve(noise, np.full(6, 1 / 6), "same")
    whole = voiced / np.abs(voiced).max() * 0.6 + high * score.hiss + rng.normal(size=length) * _FLOOR
    return np.asarray(whole / np.abs(whole).max() * _PEAK, dtype=np.float32)


def write_wave(path: Path, samples: Samples) -> None:
    """Write 16-bit mono audio at `RATE_HZ`.

    Raises:
        OSError: it cannot be written.
    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.round(samples * 32_767).astype("<i2").tobytes())


def _composed(length: int, rng: np.random.Generator) -> _Score:
    """Draw phrases of five to ten syllables, each a hiss and a vowel, with a breath between them."""
    score, at_s, end_s = _Score(length), _EDGE_S, length / RATE_HZ - 2 * _EDGE_S
    while at_s < end_s:
        syllables, top_hz = int(rng.integers(5, 11)), rng.uniform(150, 230)
        for number in range(syllables):
            if at_s >= end_s:
                break
            hiss_s, vowel_s = rng.uniform(0.04, 0.09), rng.uniform(0.10, 0.20)
            begins, turns, ends = (int(each * RATE_HZ) for each in (at_s, at_s + hiss_s, at_s + hiss_s + vowel_s))
            score.hiss[begins:turns] = np.hanning(turns - begins) * rng.uniform(0.02, 0.12)
            score.loudness[turns:ends] = np.sqrt(np.sin(np.linspace(0, np.pi, ends - turns)).clip(0))
            score.loudness[turns:ends] *= rng.uniform(0.5, 1)
            score.marks_s.append(at_s + hiss_s + vowel_s / 2)
            score.vowels.append(_VOWELS[rng.integers(len(_VOWELS))])
            score.pitch_hz.append(top_hz * (1 - 0.35 * number / syllables) * rng.uniform(0.9, 1.12))
            at_s += hiss_s + vowel_s + rng.uniform(0, 0.03)
        at_s += rng.uniform(0.25, 0.5)
    return score


def _voice(
    pitch_hz: npt.NDArray[np.float64], time_s: npt.NDArray[np.float64], score: _Score
) -> npt.NDArray[np.float64]:
    """Return harmonics of the pitch, each as loud as the formants let it through."""
    formants_hz = [np.interp(time_s, score.marks_s, [each[which] for each in score.vowels]) for which in range(3)]
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    voiced = np.zeros(len(time_s))
    for number in range(1, int(_HIGHEST_HZ / pitch_hz.min()) + 1):
        harmonic_hz = number * pitch_hz
        passed = sum(
            gain * width / np.hypot(harmonic_hz - formant, width)
            for gain, width, formant in zip(_GAINS, _WIDTHS_HZ, formants_hz, strict=True)
        )
        voiced += passed * (harmonic_hz < _HIGHEST_HZ) / number**0.6 * np.sin(number * phase + 0.7 * number**2)
    return voiced

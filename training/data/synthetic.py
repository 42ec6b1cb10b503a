"""Audio that nobody spoke: seeded, made by numpy alone.

Golden vectors are made of it, because a bundle must not carry anything derived from a person's voice; and small
corpora, to try the whole chain on where no real one is.
"""

from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["Colour", "noise", "voiced", "write_corpora"]

Samples = npt.NDArray[np.float32]
Colour = Literal["white", "pink", "brown"]

_RATE_HZ: Final = 16_000
_CLIP_SAMPLES: Final = 19_200
_PITCH_HZ: Final = {
    "neutral": 110.0,
    "happy": 330.0,
    "surprised": 360.0,
    "angry": 200.0,
    "fearful": 210.0,
    "disgust": 190.0,
    "sad": 180.0,
}
_RAVDESS: Final = ("neutral", "neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of its codes; the second is calm."""
_SAVEE: Final = {
    "n": "neutral",
    "h": "happy",
    "su": "surprised",
    "a": "angry",
    "f": "fearful",
    "d": "disgust",
    "sa": "sad",
}


def noise(samples: int, colour: Colour, random: np.random.Generator) -> Samples:
    """Return noise of unit power, shape (samples,), float32; its power falls with f, f^1 or f^2."""
    length = 1 << (samples - 1).bit_length()  # the FFT of a length with large prime factors is ten times slower
    spectrum = np.fft.rfft(random.standard_normal(length))
    exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0}[colour]
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** exponent
    spectrum[0] = 0
    signal = np.fft.irfft(spectrum, length)[:samples]
    return np.asarray(signal / np.sqrt(np.mean(signal**2)), dtype=np.float32)


def voiced(samples: int, rate_hz: int, pitch_hz: float, level_dbfs: float, random: np.random.Generator) -> Samples:
    """Return something like a vowel train, shape (samples,), float32.

    Harmonics of a wandering pitch under three formants, in syllables of a quarter of a second, over faint noise.

    Args:
        samples: how many.
        rate_hz: their rate.
        pitch_hz: mean pitch.
        level_dbfs: level of the whole, dB re a full-scale square wave.
        random: source of the pitch's wander, the formants and the noise.
    """
    time_s = np.arange(samples) / rate_hz
    wander = 2 ** (0.2 * np.sin(2 * np.pi * random.uniform(0.3, 1.5) * time_s + random.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch_hz * wander) / rate_hz
    formants_hz = random.uniform((300, 900, 2200), (800, 2000, 3200))
    signal = np.zeros(samples)
    for harmonic in range(1, int(0.45 * rate_hz / pitch_hz)):
        distance = (harmonic * pitch_hz - formants_hz) / (0.15 * formants_hz)
        signal += (0.02 + np.sum(1 / (1 + distance**2))) / harmonic * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2 * time_s + random.uniform(0, 6)) + 0.4, 0, 1)
    signal = signal * syllables + 0.01 * random.standard_normal(samples)
    return (signal * 10 ** (level_dbfs / 20) / np.std(signal)).astype(np.float32)


def write_corpora(folder: Path) -> None:
    """Write RAVDESS and SAVEE speakers of folds 0 and 1 as WAV files in the official layouts; pitch tells the emotion.

    Args:
        folder: gets `Actor_<n>/` and `AudioData/<speaker>/`, 117 clips of 1.2 s.
    """
    random = np.random.default_rng(7)

    def record(path: Path, emotion: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pitch = _PITCH_HZ[emotion] * random.uniform(0.95, 1.05)
        soundfile.write(path, voiced(_CLIP_SAMPLES, _RATE_HZ, pitch, random.uniform(-30, -20), random), _RATE_HZ)

    for actor in (1, 2, 6, 7, 8, 9):
        for code, emotion in enumerate(_RAVDESS, 1):
            for take in (1, 2):
                record(folder / f"Actor_{actor:02d}" / f"03-01-{code:02d}-01-01-{take:02d}-{actor:02d}.wav", emotion)
    for speaker in ("DC", "JE", "JK"):
        for letter, emotion in _SAVEE.items():
            record(folder / "AudioData" / speaker / f"{letter}01.wav", emotion)

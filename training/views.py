"""Altered copies of a training clip, each by its own seed.

A seed is made of the clip's content, the experiment's seed and the copy's number.

A copy depends on nothing but these, so the copies of a clip are the same in every fold and in every run.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from broker.contract.windows import WindowSpec
from training.clips import RATE_HZ, Clip
from training.config import PaperViews, Views
from training.corpora import Emotion
from training.synthetic import noise

__all__ = ["VIEWS_VERSION", "crop", "drop_at_random", "paper_views", "product_views", "random_for"]

Samples = npt.NDArray[np.float32]

VIEWS_VERSION: Final = 1
"""Changes when the same settings make other copies, so that stored features are made again."""

_MARGIN_S: Final = 0.25
"""Silence kept free on both sides of a clip, so that a drawn window may begin before or end after the speech."""


def random_for(clip: Clip, seed: int, copy: int) -> np.random.Generator:
    """Return the source of randomness of one copy of one clip."""
    return np.random.default_rng((seed, copy, int(clip.sha256[:16], 16)))


def product_views(samples: Samples, clip: Clip, views: Views, window: WindowSpec, seed: int) -> list[Samples]:
    """Return the clip as it is and altered, each padded to more than one window.

    Args:
        samples: shape (n,), float32, at 16 kHz.
        clip: whose they are.
        views: what to alter.
        window: the window that will be drawn from the copies.
        seed: the experiment's.
    """
    made = []
    for copy in range(views.copies):
        random = random_for(clip, seed, copy)
        if copy == 0:
            made.append(_pad(samples, window))
            continue
        speed = float(random.choice(views.speeds))
        altered = samples if speed == 1 else soxr.resample(samples, RATE_HZ * speed, RATE_HZ).astype(np.float32)
        altered = _tilt(_pad(altered, window), random.uniform(-views.tilt_db, views.tilt_db))
        if random.random() < views.noisy:
            colour = random.choice(("white", "pink", "brown"))
            ratio = 10 ** (random.uniform(*views.snr_db) / 20)
            altered = altered + noise(len(altered), colour, random) * np.float32(_active_rms(altered) / ratio)
        gain = 10 ** (random.uniform(-views.gain_db, views.gain_db) / 20)
        made.append(np.clip(altered * np.float32(gain), -1, 1))
    return made


def paper_views(samples: Samples, clip: Clip, views: PaperViews, seed: int) -> list[Samples]:
    """Return the paper's two items of a clip, each shape (crop length,), float32.

    Source: the section on augmentation of the paper that edge_node/models/MODEL_CARD.md cites; the stretch and the
    pitch shift are librosa's.
    """
    import librosa  # noqa: PLC0415  # takes seconds to import, and only this experiment needs it

    cropped = crop(samples, views)
    random = random_for(clip, seed, 1)
    amplitude = views.noise_peak_share * random.uniform() * float(np.abs(cropped).max())
    noisy = cropped + np.float32(amplitude) * random.standard_normal(len(cropped)).astype(np.float32)
    slow = librosa.effects.time_stretch(cropped, rate=views.stretch)
    pitched = librosa.effects.pitch_shift(slow, sr=RATE_HZ, n_steps=views.pitch_semitones)
    return [noisy, pitched[: len(cropped)].astype(np.float32)]


def crop(samples: Samples, views: PaperViews) -> Samples:
    """Return the stretch that the paper hears, padded with silence where the clip is shorter."""
    start, end = round(views.start_s * RATE_HZ), round(views.end_s * RATE_HZ)
    cropped = samples[start:end]
    return np.pad(cropped, (0, end - start - len(cropped)))


def drop_at_random(clips: tuple[Clip, ...], views: PaperViews, seed: int) -> tuple[Clip, ...]:
    """Return the clips that the paper's balancing keeps; which ones depends on the seed and their content only."""
    share = {
        Emotion.NEUTRAL: 0.0,
        Emotion.HAPPY: views.drop_pleasant,
        Emotion.SURPRISED: views.drop_pleasant,
    }
    return tuple(
        clip for clip in clips if random_for(clip, seed, 0).random() >= share.get(clip.emotion, views.drop_unpleasant)
    )


def _pad(samples: Samples, window: WindowSpec) -> Samples:
    margin = round(_MARGIN_S * RATE_HZ)
    return np.pad(samples, (margin, margin + max(0, window.length_samples - len(samples))))


def _tilt(samples: Samples, total_db: float) -> Samples:
    """Return the samples with a spectrum tilted linearly in dB over log frequency, 100 Hz to half the rate."""
    length = 1 << (2 * len(samples) - 1).bit_length()  # room for the filter's tail, and quick to transform
    spectrum = np.fft.rfft(samples, length)
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 100)
    place = np.log(frequency / 100) / np.log(RATE_HZ / 2 / 100) - 0.5
    tilted = np.fft.irfft(spectrum * 10 ** (total_db * place / 20), length)[: len(samples)]
    return np.asarray(tilted, dtype=np.float32)


def _active_rms(samples: Samples) -> float:
    """Return the root mean square over the louder half of 20 ms blocks, so that pauses do not count."""
    blocks = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    power = np.sort(np.mean(blocks.astype(np.float64) ** 2, axis=1))
    return float(np.sqrt(np.mean(power[len(power) // 2 :])))

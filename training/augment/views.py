"""Views of a training clip: as it is and altered, each by its own seed.

A seed is made of the clip's content, the experiment's seed and the view's number. A view depends on nothing but these
and the settings, so it is the same in every run and in every fold, whatever is made before it. Babble is the exception:
it is made of the other clips of the training side, and another fold holds others (`in_crowd` tells which views).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from training.augment.alterations import alter, draw_alteration, pad
from training.augment.background import Crowd
from training.augment.view_settings import Views
from training.config import Experiment, PaperViews
from training.data.clips import RATE_HZ, Clip
from training.data.corpora import Emotion

__all__ = [
    "VIEWS_VERSION",
    "crop",
    "drop_at_random",
    "in_crowd",
    "make_views",
    "paper_views",
    "random_for",
    "view_count",
]

Samples = npt.NDArray[np.float32]

VIEWS_VERSION: Final = 3
"""Changes when the same settings make other views or other frames of them, so that stored features are made again."""

_PAPER_VIEWS: Final = 2


def random_for(clip: Clip, seed: int, number: int) -> np.random.Generator:
    """Return the source of randomness of one view of one clip."""
    return np.random.default_rng((seed, number, int(clip.sha256[:16], 16)))


def view_count(views: Views | PaperViews) -> int:
    """Return how many views a clip has."""
    return _PAPER_VIEWS if isinstance(views, PaperViews) else 1 + len(views.copies)


def in_crowd(clip: Clip, experiment: Experiment) -> frozenset[int]:
    """Return the numbers of a clip's views in which other clips are heard."""
    if isinstance(experiment.views, PaperViews):
        return frozenset()
    drawn = {
        number: draw_alteration(copy, random_for(clip, experiment.recipe.seed, number))
        for number, copy in enumerate(experiment.views.copies, 1)
    }
    return frozenset(number for number, alteration in drawn.items() if alteration.noise == "babble")


def make_views(
    samples: Samples, clip: Clip, experiment: Experiment, numbers: frozenset[int], crowd: Crowd
) -> dict[int, Samples]:
    """Return some of a clip's views, by number, each shape (length,), float32, at 16 kHz.

    Args:
        samples: shape (n,), float32, at 16 kHz.
        clip: whose they are.
        experiment: whose views, window and seed.
        numbers: which views, of range(view_count(experiment.views)).
        crowd: training clips that may babble.
    """
    views, seed = experiment.views, experiment.recipe.seed
    if isinstance(views, PaperViews):
        return dict(enumerate(paper_views(samples, clip, views, seed)))
    made = {}
    for number in sorted(numbers):
        if number == 0:
            made[number] = pad(samples, experiment.window)
            continue
        random = random_for(clip, seed, number)
        alteration = draw_alteration(views.copies[number - 1], random)
        made[number] = alter(samples, clip, alteration, experiment.window, crowd, random)
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

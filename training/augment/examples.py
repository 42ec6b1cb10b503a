"""Training windows: features of every view, kept on disk, and balanced random draws from them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from broker.contract.features import FeatureSpec, Normalisation, assemble, frame_count, normalise
from training.augment.view_store import frames_of_views
from training.config import Experiment, Recipe, Views
from training.data.clips import Clip, Collection
from training.progress import track

__all__ = ["Batch", "Examples", "draw_weights", "epoch_batches", "load_examples"]

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Batch = tuple[Features, Features]

_SAMPLE: Final = 3000
_SAMPLE_AT_ONCE: Final = 250
_SAMPLE_SEED: Final = 11
_CALIBRATION: Final = 256
_ROOM_DB: Final = 30.0
_DIGITAL: Final = 0.5
"""Share of silenced edges that are digital silence."""


class Examples(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Frames of all views of the training clips, end to end."""

    frames: Features
    """Shape (all frames, raw columns), as `analyse` makes them."""
    starts: Labels
    """First frame of each view, shape (views,)."""
    counts: Labels
    """Frames of each view, shape (views,); each at least one window."""
    owner: Labels
    """Index of the clip that each view is made of, shape (views,)."""
    clips: tuple[Clip, ...]
    features: FeatureSpec
    window_frames: int
    """Frames of a window."""

    @property
    def window_shape(self) -> tuple[int, int]:
        """(frames, columns) of a window as the model sees it."""
        return (self.window_frames, self.features.columns)

    def windows(self, views: Labels, random: np.random.Generator) -> Features:
        """Return a window from a random place of each view, shape (views, frames, raw columns): a copy."""
        offsets = random.integers(0, self.counts[views] - self.window_frames + 1)
        index = (self.starts[views] + offsets)[:, None] + np.arange(self.window_frames)
        chosen: Features = self.frames[index]
        return chosen

    def normalisation(self) -> Normalisation:
        """Return mean and deviation per column over a seeded sample of 3,000 windows of all views."""
        random = np.random.default_rng(_SAMPLE_SEED)
        sums, squares, count = np.zeros(self.features.columns), np.zeros(self.features.columns), 0
        for _ in range(_SAMPLE // _SAMPLE_AT_ONCE):
            views = random.integers(0, len(self.owner), _SAMPLE_AT_ONCE)
            sample = assemble(self.windows(views, random), self.features).astype(np.float64)
            sums += sample.sum(axis=(0, 1))
            squares += (sample**2).sum(axis=(0, 1))
            count += sample.shape[0] * sample.shape[1]
        mean = sums / count
        deviation = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0)), 1e-3)
        return Normalisation(
            mean=tuple(float(round(value, 5)) for value in mean),
            deviation=tuple(float(round(value, 5)) for value in deviation),
        )

    def prior(self, recipe: Recipe) -> tuple[float, float, float]:
        """Return the share of each class among the windows that are drawn, in the order of `CLASSES`."""
        views = len(self.owner)
        drawn = draw_weights(self, recipe.speaker_power) if recipe.draws else np.full(views, 1 / views)
        labels = np.array([CLASSES.index(clip.label) for clip in self.clips])[self.owner]
        first, second, third = np.bincount(labels, drawn, minlength=len(CLASSES)).round(6).tolist()
        return (first, second, third)

    def calibration(self, normalisation: Normalisation) -> Features:
        """Return 256 windows of random views, shape (256, frames, columns), normalised: always the same ones."""
        random = np.random.default_rng(_SAMPLE_SEED)
        views = random.integers(0, len(self.owner), _CALIBRATION)
        return normalise(assemble(self.windows(views, random), self.features), normalisation)


def load_examples(collection: Collection, clips: Sequence[Clip], experiment: Experiment, store: Path) -> Examples:
    """Return the training windows' source; views that `store` already holds are not made again.

    Args:
        collection: how to hear the clips.
        clips: the training side of a split; babble is made of them alone.
        experiment: which views and which front-end.
        store: folder for features; its files may be deleted at any time.

    Raises:
        DataError: the store cannot be written.
    """
    pieces: list[Features] = []
    owner: list[int] = []
    frames = frames_of_views(collection, clips, experiment, store)
    for index, (_, views) in enumerate(zip(track(clips, "features"), frames, strict=True)):
        pieces += views
        owner += [index] * len(views)
    counts = np.array([len(piece) for piece in pieces])
    return Examples(
        frames=np.concatenate(pieces),
        starts=np.concatenate(([0], np.cumsum(counts)[:-1])),
        counts=counts,
        owner=np.array(owner),
        clips=tuple(clips),
        features=experiment.features,
        window_frames=frame_count(experiment.window.length_samples, experiment.features),
    )


def draw_weights(examples: Examples, speaker_power: float) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each view, shape (views,): classes equally often, speakers tempered.

    Within a class a clip weighs 1 / (clips of its speaker ** `speaker_power`).
    """
    of_speaker = Counter(clip.speaker for clip in examples.clips)
    weight = np.array([of_speaker[clip.speaker] ** -speaker_power for clip in examples.clips])
    for label in {clip.label for clip in examples.clips}:
        members = np.array([clip.label == label for clip in examples.clips])
        weight[members] /= weight[members].sum()
    of_view = weight[examples.owner]
    return np.asarray(of_view / of_view.sum())


def epoch_batches(
    examples: Examples,
    targets: Features,
    experiment: Experiment,
    normalisation: Normalisation,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Yield one epoch of full batches: features (batch, frames, columns), normalised, and targets (batch, outputs).

    Args:
        examples: where windows are drawn from.
        targets: shape (clips, outputs), what the network should say of each clip.
        experiment: draws per epoch, batch, and what is varied per draw.
        normalisation: fixed statistics.
        random: source of the draws.
    """
    recipe, views = experiment.recipe, experiment.views
    if recipe.draws:
        order = random.choice(len(examples.owner), recipe.draws, p=draw_weights(examples, recipe.speaker_power))
    else:
        order = random.permutation(len(examples.owner))
    size = min(recipe.batch, len(order))
    for first in range(0, len(order) - size + 1, size):
        chosen = order[first : first + size]
        frames = examples.windows(chosen, random)
        if isinstance(views, Views):
            _silence_edges(frames, views.edges, examples.features, random)
        batch = normalise(assemble(frames, examples.features), normalisation)
        if isinstance(views, Views):
            _vary(batch, views, examples.features, random)
        wanted = targets[examples.owner[chosen]]
        if recipe.mixup:
            batch, wanted = _mix(batch, wanted, recipe.mixup, random)
        yield batch, wanted


def _silence_edges(frames: Features, share: float, spec: FeatureSpec, random: np.random.Generator) -> None:
    """Silence a random part before and after a stretch of at least a third, in a share of the windows, in place.

    Half of them fall silent to the floor, as a clip that is padded does, the others to 30 dB below their mean or to
    what is quietest in them, as a room does.
    """
    count, length, _ = frames.shape
    kept = random.integers(-(-length // 3), length + 1, count)[:, None]
    start = random.integers(0, length - kept + 1)
    place = np.arange(length)
    hidden = ((place < start) | (place >= start + kept)) & (random.random((count, 1)) < share)
    bands = frames[:, :, : spec.mel_bands]
    room = np.minimum(bands.min(axis=1), bands.mean(axis=1) - np.float32(_ROOM_DB))
    room[random.random(count) < _DIGITAL] = spec.floor_db
    np.copyto(bands, np.maximum(room, np.float32(spec.floor_db))[:, None, :], where=hidden[:, :, None])
    frames[:, :, spec.mel_bands :][hidden] = 0


def _vary(batch: Features, views: Views, spec: FeatureSpec, random: np.random.Generator) -> None:
    """Colour and mask each window of a normalised batch, in place.

    Columns are coefficients, then pitch, then the slopes of both. A colour is constant, so no slope has one, nor has
    pitch; a mask hides the slopes of what it hides.

    Source: Park et al. 2019 (SpecAugment); masks of coefficients stand for masks of bands.
    """
    count, frames, columns = batch.shape
    place = np.arange(columns) % (columns // (2 if spec.delta_frames else 1))
    colour = np.float32(views.channel) * random.standard_normal((count, 1, spec.coefficients))
    batch[:, :, : spec.coefficients] += colour.astype(np.float32)
    for _ in range(views.time_masks):
        batch[_runs(count, frames, views.time_mask_share, random)] = 0
    hidden = np.zeros((count, int(place.max()) + 1), dtype=np.bool_)
    for _ in range(views.coefficient_masks):
        hidden[:, : spec.coefficients] |= _runs(count, spec.coefficients, views.coefficient_mask_share, random)
    hidden[:, spec.coefficients :] = random.random((count, 1)) < views.pitch_dropout
    batch *= ~hidden[:, None, place]


def _mix(batch: Features, wanted: Features, alpha: float, random: np.random.Generator) -> Batch:
    """Return each window and target mixed with another of the batch, itself the larger part.

    Source: Zhang et al. 2018 (mixup).
    """
    drawn = random.beta(alpha, alpha, (len(batch), 1))
    share: Features = np.maximum(drawn, 1 - drawn).astype(np.float32)
    rest: Features = 1 - share
    other = random.permutation(len(batch))
    return share[:, None] * batch + rest[:, None] * batch[other], share * wanted + rest * wanted[other]


def _runs(count: int, length: int, share: float, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return one random run of True per row, shape (count, length), at most `share` of it long."""
    width = random.integers(0, int(share * length) + 1, count)[:, None]
    start = random.integers(0, length - width + 1)
    place = np.arange(length)
    return np.asarray((place >= start) & (place < start + width))

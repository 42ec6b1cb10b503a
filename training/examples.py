"""Training windows: features of every view, kept on disk, and balanced random draws from them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.features import Normalisation, analyse, frame_count
from training.clips import Clip, Collection, digest
from training.config import Experiment, PaperViews, Views
from training.progress import track
from training.views import VIEWS_VERSION, paper_views, product_views

__all__ = ["Batch", "Examples", "draw_weights", "epoch_batches", "load_examples"]

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Batch = tuple[Features, Labels]


class Examples(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Features of all views of the training clips, end to end."""

    frames: Features
    """Shape (all frames, coefficients), not normalised."""
    starts: Labels
    """First frame of each view, shape (views,)."""
    counts: Labels
    """Frames of each view, shape (views,); each at least one window."""
    owner: Labels
    """Index of the clip that each view is made of, shape (views,)."""
    clips: tuple[Clip, ...]

    def normalisation(self) -> Normalisation:
        """Return mean and deviation per coefficient over all views."""
        deviation = np.maximum(self.frames.std(axis=0, dtype=np.float64), 1e-3)
        return Normalisation(
            mean=tuple(float(round(value, 5)) for value in self.frames.mean(axis=0, dtype=np.float64)),
            deviation=tuple(float(round(value, 5)) for value in deviation),
        )


def load_examples(collection: Collection, clips: Sequence[Clip], experiment: Experiment, store: Path) -> Examples:
    """Return the training windows' source; views that `store` already holds are not made again.

    Args:
        collection: how to hear the clips.
        clips: the training side of a split.
        experiment: which views and which front-end.
        store: folder for features; its files may be deleted at any time.
    """
    made_by = (VIEWS_VERSION, experiment.views, experiment.features, experiment.window, experiment.recipe.seed)
    folder = store / digest(msgspec.json.encode(made_by))[:16]
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[Features] = []
    owner: list[int] = []
    for index, clip in enumerate(track(clips, "features")):
        for view in _views_of(collection, clip, experiment, folder):
            pieces.append(view)
            owner.append(index)
    counts = np.array([len(piece) for piece in pieces])
    return Examples(
        frames=np.concatenate(pieces),
        starts=np.concatenate(([0], np.cumsum(counts)[:-1])),
        counts=counts,
        owner=np.array(owner),
        clips=tuple(clips),
    )


def _views_of(collection: Collection, clip: Clip, experiment: Experiment, folder: Path) -> list[Features]:
    path = folder / f"{clip.sha256[:32]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in arrays.files]
    samples, seed = collection.read(clip), experiment.recipe.seed
    if isinstance(experiment.views, PaperViews):
        audio = paper_views(samples, clip, experiment.views, seed)
    else:
        audio = product_views(samples, clip, experiment.views, experiment.window, seed)
    made = [analyse(view, experiment.features) for view in audio]
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, *made)
    temporary.replace(path)
    return made


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
    targets: Labels,
    experiment: Experiment,
    normalisation: Normalisation,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Yield one epoch of full batches: features (batch, frames, coefficients), normalised, and targets (batch,).

    Args:
        examples: where windows are drawn from.
        targets: shape (clips,), what each clip is.
        experiment: draws per epoch, batch, and what is varied per draw.
        normalisation: fixed statistics.
        random: source of the draws.
    """
    recipe, views = experiment.recipe, experiment.views
    length = frame_count(experiment.window.length_samples, experiment.features)
    mean, deviation = np.array(normalisation.mean, np.float32), np.array(normalisation.deviation, np.float32)
    if recipe.draws:
        order = random.choice(len(examples.owner), recipe.draws, p=draw_weights(examples, recipe.speaker_power))
    else:
        order = random.permutation(len(examples.owner))
    size = min(recipe.batch, len(order))
    for first in range(0, len(order) - size + 1, size):
        chosen = order[first : first + size]
        offsets = random.integers(0, examples.counts[chosen] - length + 1)
        index = (examples.starts[chosen] + offsets)[:, None] + np.arange(length)
        batch = (examples.frames[index] - mean) / deviation
        if isinstance(views, Views):
            _vary(batch, views, random)
        yield batch, targets[examples.owner[chosen]]


def _vary(batch: Features, views: Views, random: np.random.Generator) -> None:
    """Colour and mask each window of a normalised batch, in place.

    Source: Park et al. 2019 (SpecAugment); masks of coefficients stand for masks of bands.
    """
    count, frames, coefficients = batch.shape
    batch += np.float32(views.channel) * random.standard_normal((count, 1, coefficients)).astype(np.float32)
    for _ in range(views.time_masks):
        hidden = _runs(count, frames, views.time_mask_share, random)
        batch[hidden] = 0
    for _ in range(views.coefficient_masks):
        hidden = _runs(count, coefficients, views.coefficient_mask_share, random)
        batch *= ~hidden[:, None, :]


def _runs(count: int, length: int, share: float, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return one random run of True per row, shape (count, length), at most `share` of it long."""
    width = random.integers(0, int(share * length) + 1, count)[:, None]
    start = random.integers(0, length - width + 1)
    place = np.arange(length)
    return np.asarray((place >= start) & (place < start + width))

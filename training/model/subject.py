"""What `export` exports: a trained fold with everything at hand, or the two LiteRT files of a bundle."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle, Manifest
from training.data.clips import Clip
from training.data.corpora import relabel
from training.data.prepare import open_collection
from training.exam.predictions import PREDICTIONS_NAME, read_predictions
from training.exam.replay import Heard, listen
from training.exam.sitting import open_bundle
from training.fitting.fold import NETWORK_NAME
from training.fitting.results import fold_folder, read_run
from training.model.original import Original, open_original
from training.model.pack import Order, make_bundle
from training.progress import track

__all__ = ["Subject", "subject_of_bundle", "subject_of_run"]

Features = npt.NDArray[np.float32]

_EXAMPLES: Final = 200
"""Windows that the ranges of int8 are measured on."""

_SEED: Final = 5


class Subject(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is exported."""

    bundle: Bundle
    original: Original | None = None
    """None: only the LiteRT files of a bundle are at hand."""
    test: tuple[Clip, ...] = ()
    """Clips that the network was not trained on; empty: none are at hand."""
    hear: Callable[[Clip], Heard] | None = None
    """Returns the windows of a test clip."""
    examples: Features | None = None
    """Windows of clips that are not tested, shape (n, frames, columns)."""


def subject_of_run(order: Order) -> Subject:
    """Return what `train` left of a fold, with its test clips if the order names data.

    Raises:
        DataError: a file of the run or the data is missing.
        BundleError: the name or the version is not allowed, or LiteRT cannot run the model.
    """
    run = read_run(order.run)
    bundle = make_bundle(msgspec.structs.replace(order, data=None))
    seed = run.settings.recipe.seeds[0] if order.seed is None else order.seed
    result = next(item for item in run.folds if item.fold in {order.fold, None} and item.seed == seed)
    folder = fold_folder(order.run, result.fold, seed)
    original = open_original(folder / NETWORK_NAME, run.settings, result.temperature, np.array(result.bias))
    if order.data is None:
        return Subject(bundle=bundle, original=original)
    collection, _ = open_collection(order.data)
    clips = relabel(collection.clips, run.settings.merge)
    predicted = folder / PREDICTIONS_NAME  # by clip, only they tell who was tested
    tested = {item.key for item in read_predictions(predicted)} if predicted.exists() else set()
    choosing = {*bundle.manifest.training.validation_speakers}
    hear = _hear(collection.read, bundle.manifest)
    return Subject(
        bundle=bundle,
        original=original,
        test=tuple(clip for clip in clips if clip.key in tested),
        hear=hear,
        examples=_examples([clip for clip in clips if clip.speaker in choosing and clip.key not in tested], hear),
    )


def subject_of_bundle(path: Path, data: Path | None) -> Subject:
    """Return the LiteRT files of a bundle, with the clips of speakers that it has never heard if there is data.

    Raises:
        BundleError: the file holds no usable bundle.
        DataError: there is no usable data.
    """
    bundle = open_bundle(path)
    if data is None:
        return Subject(bundle=bundle)
    collection, _ = open_collection(data)
    held_out = {*bundle.manifest.training.held_out_speakers}
    test = tuple(clip for clip in collection.clips if clip.speaker in held_out)
    return Subject(bundle=bundle, test=test, hear=_hear(collection.read, bundle.manifest))


def _hear(read: Callable[[Clip], Features], manifest: Manifest) -> Callable[[Clip], Heard]:
    return lambda clip: listen(read(clip), manifest.features, manifest.normalisation, manifest.window)


def _examples(clips: Sequence[Clip], hear: Callable[[Clip], Heard]) -> Features | None:
    """Return one window each of some clips drawn at random."""
    random = np.random.default_rng(_SEED)
    drawn = [clips[index] for index in random.permutation(len(clips))[:_EXAMPLES]]
    heard = [hear(clip).features for clip in track(drawn, "windows for int8")]
    return np.stack([windows[random.integers(len(windows))] for windows in heard]) if heard else None

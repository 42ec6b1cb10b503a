"""What the models of a run make of people whom they have never heard, clip by clip and talk by talk.

A run by speaker has each speaker on the test side of some fold. What that fold's model makes of the speaker is what a
node would make of somebody new; the model that ships has heard everybody, and cannot tell.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError
from broker.contract.features import Normalisation
from broker.contract.stream import windows_of
from training.config import Experiment
from training.data.clips import RATE_HZ, Clip, Collection
from training.data.corpora import trains
from training.exam.replay import Heard, listen
from training.exam.turns import HeardTalk, make_talk
from training.fitting.results import FoldResult, Run, fold_folder
from training.model.runtime import Runner
from training.progress import track

__all__ = ["ToldClip", "ToldTalk", "meet"]


class ToldClip(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A clip, and what a model that has never heard its speaker makes of its windows."""

    clip: Clip
    heard: Heard
    seed: int
    """Of the model."""
    probabilities: npt.NDArray[np.float32]
    """Of each window alone, shape (windows, 3)."""


class ToldTalk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A talk of one speaker, likewise."""

    speaker: str
    heard: HeardTalk


def meet(run: Run, folder: Path, collection: Collection) -> tuple[list[ToldClip], list[ToldTalk]]:
    """Return all clips and talks of every fold's test speakers, and of the corpora that never train, for every seed.

    Args:
        run: split by speaker.
        folder: where it lies, with its models.
        collection: the clips that it was trained and tested on, labelled as it merges them.

    Raises:
        DataError: the run is not split by speaker, or a model of it is missing.
        BundleError: LiteRT cannot run a model.
    """
    tested = [item for item in run.folds if item.test]
    if run.settings.split.by != "speaker" or not tested:
        msg = f"{folder}: is not split by speaker, so that nobody is new to its weights; train it without --by-clip"
        raise DataError(msg)
    alike: dict[tuple[int | None, Normalisation], list[FoldResult]] = {}
    for item in tested:
        alike.setdefault((item.fold, item.normalisation), []).append(item)
    clips: list[ToldClip] = []
    talks: list[ToldTalk] = []
    for (fold, normalisation), items in alike.items():
        runners = {item.seed: _open(folder, item) for item in items}
        held_out = items[0].origin.held_out_speakers
        new = [clip for clip in collection.clips if clip.speaker in held_out or not trains(clip.corpus)]
        for clip in track(new, f"fold {fold}, clips"):
            clips += _hear_clip(clip, collection, run.settings, normalisation, runners)
        for speaker in track(sorted({clip.speaker for clip in new}), f"fold {fold}, talks"):
            theirs = [clip for clip in new if clip.speaker == speaker]
            talks += _hear_talk(theirs, collection, run.settings, normalisation, list(runners.values()))
    return clips, talks


def _hear_clip(
    clip: Clip, collection: Collection, settings: Experiment, normalisation: Normalisation, runners: dict[int, Runner]
) -> list[ToldClip]:
    heard = listen(collection.read(clip), settings.features, normalisation, settings.window)
    told = {seed: np.stack([infer(features) for features in heard.features]) for seed, infer in runners.items()}
    heard = msgspec.structs.replace(heard, features=heard.features[:0])  # hundreds of megabytes over all clips
    return [ToldClip(clip=clip, heard=heard, seed=seed, probabilities=each) for seed, each in told.items()]


def _hear_talk(
    clips: Sequence[Clip],
    collection: Collection,
    settings: Experiment,
    normalisation: Normalisation,
    runners: Sequence[Runner],
) -> list[ToldTalk]:
    speaker = clips[0].speaker
    talk = make_talk(clips, collection.read, [*speaker.encode()])
    ends_us, levels = [], []
    told: list[list[tuple[float, float, float]]] = [[] for _ in runners]
    for window, features in windows_of(talk.samples, settings.features, normalisation, settings.window):
        ends_us.append(window.end_sample * 1_000_000 // RATE_HZ)
        levels.append(window.level_dbfs)
        for infer, rows in zip(runners, told, strict=True):
            first, second, third = infer(features).tolist()
            rows.append((first, second, third))
    return [
        ToldTalk(
            speaker=speaker,
            heard=HeardTalk(
                turns=talk.turns, ends_us=tuple(ends_us), levels_dbfs=tuple(levels), probabilities=tuple(rows)
            ),
        )
        for rows in told
    ]


def _open(folder: Path, item: FoldResult) -> Runner:
    path = fold_folder(folder, item.fold, item.seed) / "model.tflite"
    try:
        return Runner(path.read_bytes(), str(path))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); train the fold again"
        raise DataError(msg) from error

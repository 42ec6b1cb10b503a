"""Frames of training views, kept on disk so that they are made once.

    store/<settings>/<clip>.npz              views that depend on their clip alone
    store/<settings and crowd>/<clip>.npz    views in which other clips babble

Another fold trains on other clips, and must not hear those that babbled in this one: they may be its test speakers.
So a view with babble is kept under whose clips the crowd is; all others serve every fold. Any file may be deleted at
any time; one that cannot be read is made again.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError
from broker.contract.features import FeatureSpec, analyse, frame_count
from broker.files import write_whole
from training.augment.background import Crowd, gather
from training.augment.view_settings import Views
from training.augment.views import VIEWS_VERSION, in_crowd, make_views, view_count
from training.config import Experiment
from training.data.clips import Clip, Collection, digest
from training.files import writing

__all__ = ["frames_of_views"]

Frames = npt.NDArray[np.float32]

_UNREADABLE: Final = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def frames_of_views(
    collection: Collection, clips: Sequence[Clip], experiment: Experiment, store: Path
) -> Iterator[list[Frames]]:
    """Yield the frames of each clip's views, each shape (frames, raw columns), in the order of the clips.

    Several are made at once, by threads: nearly all of the work is numpy's and soxr's, which let go of the interpreter.

    Args:
        collection: how to hear the clips.
        clips: the training side of a split; nobody else is heard, in the background neither.
        experiment: which views and which front-end.
        store: folder for the files.

    Raises:
        DataError: the store cannot be written.
    """
    crowd = gather(clips, collection.read)
    settings = _settings(experiment)
    alone = store / digest(settings)[:16]
    babbling = store / digest(settings + crowd.digest.encode())[:16]
    frames = partial(_frames, collection, experiment, crowd, alone, babbling)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(frames, clips)


def _settings(experiment: Experiment) -> bytes:
    """Return what the frames of a view depend on, beside its clip. What `assemble` makes of them is not among it."""
    assembled = FeatureSpec()
    analysis = msgspec.structs.replace(
        experiment.features,
        kind=assembled.kind,
        coefficients=1,
        window_range_db=assembled.window_range_db,
        mean_removed=assembled.mean_removed,
        delta_frames=assembled.delta_frames,
    )
    views = experiment.views.copies if isinstance(experiment.views, Views) else experiment.views
    window = experiment.window.length_samples
    return msgspec.json.encode((VIEWS_VERSION, views, analysis, window, experiment.recipe.seed))


def _frames(
    collection: Collection, experiment: Experiment, crowd: Crowd, alone: Path, babbling: Path, clip: Clip
) -> list[Frames]:
    """Return the frames of one clip's views, read or made."""
    count = view_count(experiment.views)
    heard = in_crowd(clip, experiment)
    found: dict[int, Frames] = {}
    for folder, numbers in ((alone, frozenset(range(count)) - heard), (babbling, heard)):
        if not numbers:
            continue
        path = folder / f"{digest(f'{clip.speaker} {clip.sha256}'.encode())[:32]}.npz"
        kept = _read(path, numbers, experiment)
        if kept is None:
            views = make_views(collection.read(clip), clip, experiment, numbers, crowd)
            kept = {number: analyse(view, experiment.features) for number, view in views.items()}
            _write(path, kept)
        found |= kept
    return [found[number] for number in range(count)]


def _read(path: Path, numbers: frozenset[int], experiment: Experiment) -> dict[int, Frames] | None:
    """Return what a file holds; None where there is none, or it is not what was written."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if arrays.zip.testzip() is not None:  # numpy checks no sum of an array whose header lies
                return None
            kept = {int(name): arrays[name] for name in arrays.files}
    except _UNREADABLE:
        return None
    return kept if kept.keys() == numbers and all(_fits(item, experiment) for item in kept.values()) else None


def _fits(frames: Frames, experiment: Experiment) -> bool:
    spec: FeatureSpec = experiment.features
    least = frame_count(experiment.window.length_samples, spec)
    return frames.dtype == np.float32 and frames.shape[1:] == (spec.raw_columns,) and len(frames) >= least


def _write(path: Path, frames: dict[int, Frames]) -> None:
    """Keep the frames of some views.

    Raises:
        DataError: it cannot be written.
    """
    content = io.BytesIO()
    arrays: dict[str, Any] = {str(number): item for number, item in frames.items()}
    np.savez(content, **arrays)
    advice = f"free space or mend its permissions, or delete {path.parent.parent}, which is made again"
    with writing(path.parent, advice, what="features of training views", failure=DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getbuffer())

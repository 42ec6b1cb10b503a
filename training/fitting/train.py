"""`train`: from prepared clips to quantized models with their scores, fold by fold and seed by seed.

What is finished is kept: after an interruption the same command goes on with the fold and seed that were cut short.
"""

import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.contract.errors import DataError, SettingsError
from broker.files import write_whole
from training.config import Experiment
from training.data.clips import Collection, open_cache
from training.data.corpora import relabel, trains
from training.data.listed import only_listed
from training.data.splits import (
    FOLDS,
    Split,
    runnable_folds,
    split_by_clip_folds,
    split_everything,
    split_fixed,
    split_speakers,
)
from training.files import writing
from training.fitting.energy import Meter
from training.fitting.fold import train_fold
from training.fitting.results import RESULTS_NAME, Energy, FoldResult, Run, read_run, this_machine

__all__ = ["Options", "labelled", "splits_of", "train"]

log = logging.getLogger(__name__)


class Options(NamedTuple):
    """How to run an experiment; none of it changes what a fold and seed come to."""

    fold: int | None = None
    """The one fold to run; None: all whose speakers are at hand."""
    seeds: int | None = None
    """How many of the experiment's seeds to run, from the first; None: all."""
    noise: bool = False
    """Whether to test in noise as well."""
    again: bool = False
    """Whether to repeat what an earlier run has finished."""
    country: str | None = None
    """ISO 3166 alpha-3: whose mix of sources CO2 is counted by; None: the world's average."""


def train(experiment: Experiment, prepared: Path, out: Path, options: Options | None = None) -> Run:
    """Return the results of an experiment, after writing them and the models to `out`.

    Args:
        experiment: what to train.
        prepared: cache that `prepare` wrote.
        out: run folder.
        options: which folds, tested how.

    Raises:
        SettingsError: the fold has no speaker here, or the run folder cannot be written or belongs to other settings.
        DataError: there is no usable cache, or a split would leak.
    """
    options = options or Options()
    collection = labelled(experiment, open_cache(prepared))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{out}: the run folder cannot be made ({error.strerror}); choose another --out"
        raise SettingsError(msg) from error
    splits = splits_of(experiment, collection, options.fold)
    seeds = experiment.recipe.seeds[: options.seeds]
    before = _before(out, experiment)
    again = {(split.fold, seed) for split in splits for seed in seeds} if options.again else set()
    folds = [item for item in before.folds if (item.fold, item.seed) not in again] if before else []
    done = {(item.fold, item.seed) for item in folds}
    run = _write(out, experiment, folds, before.energy if before else None) if folds else None
    for seed in seeds:
        for split in splits:
            if (split.fold, seed) in done:
                continue
            with Meter(options.country) as meter:
                result = train_fold(
                    experiment, collection, split, seed, out, store=prepared / "features", noise=options.noise
                )
            folds.append(result)
            run = _write(out, experiment, folds, _add(run.energy if run else None, meter.energy))
    if run is None:
        msg = f"{out}: nothing to train"
        raise DataError(msg)
    return run


def labelled(experiment: Experiment, collection: Collection) -> Collection:
    """Return the clips that the experiment uses, labelled by its merge."""
    clips = relabel(collection.clips, experiment.merge)
    if experiment.split.only_listed:
        listed = only_listed(clips, Path(experiment.split.only_listed))
        if listed.absent:
            log.warning("%d of the %d recordings listed are not here", len(listed.absent), listed.wanted)
        clips = (*listed.clips, *(clip for clip in clips if not trains(clip.corpus)))
    return msgspec.structs.replace(collection, clips=clips)


def splits_of(experiment: Experiment, collection: Collection, fold: int | None) -> Sequence[Split]:
    """Return the splits that an experiment asks for.

    Raises:
        SettingsError: the fold is none of theirs.
        DataError: there are too few speakers, or a split would leak.
    """
    choice, clips = experiment.split, collection.clips
    if choice.by == "speaker":
        runnable = runnable_folds(clips)
        if not runnable:
            msg = "no fold can be run: speakers of two folds at least are needed; prepare more of the corpora"
            raise DataError(msg)
        chosen = _one_of(runnable, fold, f"(of {len(FOLDS)}; others have no speaker here)")
        return [split_speakers(clips, number, choice.validating) for number in chosen]
    if choice.by == "clip":
        splits = split_by_clip_folds(clips, experiment.recipe.seed, choice.clip_folds)
        return [splits[number] for number in _one_of(tuple(range(len(splits))), fold, "by clip")]
    if fold is not None:
        msg = f"--fold {fold}: this experiment's split ({choice.by}) has no folds; leave --fold out"
        raise SettingsError(msg)
    if choice.by == "fixed":
        return [split_fixed(clips, choice.validation_speakers, choice.test_speakers)]
    return [split_everything(clips, choice.validating)]


def _one_of(runnable: tuple[int, ...], fold: int | None, note: str) -> tuple[int, ...]:
    if fold is None:
        return runnable
    if fold not in runnable:
        msg = f"--fold {fold}: allowed are {', '.join(map(str, runnable))} {note}"
        raise SettingsError(msg)
    return (fold,)


def _before(out: Path, experiment: Experiment) -> Run | None:
    """Return what an earlier run of the same experiment left.

    Raises:
        SettingsError: the folder holds another experiment's results.
    """
    if not (out / RESULTS_NAME).is_file():
        return None
    before = read_run(out)
    if before.settings != experiment:
        msg = f"{out}: holds results of other settings; choose another --out, or remove it"
        raise SettingsError(msg)
    return before


def _write(out: Path, experiment: Experiment, folds: list[FoldResult], energy: Energy | None) -> Run:
    folds.sort(key=lambda item: (-1 if item.fold is None else item.fold, item.seed))
    run = Run(
        experiment=experiment.name,
        created=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        settings=experiment,
        machine=this_machine(),
        folds=tuple(folds),
        energy=energy,
    )
    with writing(out / RESULTS_NAME, "make room, and run the same command again"):
        write_whole(out / RESULTS_NAME, msgspec.json.format(msgspec.json.encode(run), indent=1))
    return run


def _add(first: Energy | None, second: Energy | None) -> Energy | None:
    if first is None or second is None:
        return first or second
    return Energy(
        kilowatt_hours=first.kilowatt_hours + second.kilowatt_hours,
        co2_kg=first.co2_kg + second.co2_kg,
        country=second.country,
        seconds=first.seconds + second.seconds,
    )

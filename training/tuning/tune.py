"""What `tune` climbs and `variants` compares: the scores of validation speakers, and never those of a test side.

The test side is taken out of the split and its clips out of the collection before anything is heard.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import msgspec

from broker.contract.errors import SettingsError
from training.config import Experiment
from training.data.clips import Clip, Collection, digest, open_cache
from training.data.splits import Split
from training.fitting.fold import choose
from training.fitting.results import Epoch
from training.fitting.train import labelled, splits_of
from training.tuning.search import Target
from training.tuning.trials import Score

__all__ = ["LAST_EPOCHS", "Rehearsal", "is_scored_at_end", "rehearsals", "score_of", "target_of", "uar_of"]

LAST_EPOCHS: Final = 5
"""Whose mean is a score at the end: one epoch alone says more of its luck."""

_NOTES: Final = {
    "speaker": "Other folds test speakers who chose these settings: only this fold's test side is new to them.",
    "fixed": "The speakers who chose these settings are the validation side; the test side is new to them.",
    "all": "Nobody is tested by this split.",
}


class Rehearsal(NamedTuple):
    """A split with its exam out of reach."""

    split: Split
    """Its test side is empty."""
    collection: Collection
    """The clips of the two other sides alone."""
    data: str
    """Digest of those clips: scores on others do not compare."""


def rehearsals(experiment: Experiment, prepared: Path, fold: int | None) -> tuple[Rehearsal, ...]:
    """Return the splits of an experiment without their test sides.

    Args:
        experiment: whose splits they are.
        prepared: cache that `prepare` wrote.
        fold: the one fold wanted; None: all that can be run.

    Raises:
        SettingsError: the fold has no speaker here, or the split is by clip.
        DataError: there is no usable cache, or a split would leak.
    """
    if experiment.split.by == "clip":
        msg = "split.by = clip: its validation clips are of speakers who train, and would choose what overfits them"
        raise SettingsError(msg)
    collection = labelled(experiment, open_cache(prepared))
    splits = [msgspec.structs.replace(split, test=()) for split in splits_of(experiment, collection, fold)]
    return tuple(
        Rehearsal(split, msgspec.structs.replace(collection, clips=(*split.training, *split.validation)), _data(split))
        for split in splits
    )


def target_of(experiment: Experiment, prepared: Path, fold: int | None) -> Target:
    """Return what a search is to climb: the validation score of one split, with the experiment's first seed.

    Args:
        experiment: whose split it is.
        prepared: cache that `prepare` wrote.
        fold: which fold; None: the first that can be run.

    Raises:
        SettingsError: as `rehearsals`.
        DataError: likewise.
    """
    rehearsal = rehearsals(experiment, prepared, fold)[0]
    split, seed = rehearsal.split, experiment.recipe.seeds[0]

    def score(tried: Experiment, title: str) -> Score:
        return score_of(tried, rehearsal, seed, prepared, title, at_end=False)

    return Target(
        name=f"corpus-macro UAR of the validation speakers ({split.name}, seed {seed})",
        note=_NOTES[split.by],
        data=rehearsal.data,
        seed=seed,
        score=score,
    )


def score_of(
    experiment: Experiment, rehearsal: Rehearsal, seed: int, prepared: Path, title: str, *, at_end: bool
) -> Score:
    """Return how an experiment fares with the validation speakers of one split.

    Args:
        experiment: what to fit, to the split's training side.
        rehearsal: the split.
        seed: of the weights and the draws.
        prepared: cache that `prepare` wrote.
        title: what its progress is called.
        at_end: whether its UAR is the mean of the last epochs, not that of the best one.
    """
    fitted = choose(experiment, rehearsal.collection, rehearsal.split, seed, prepared / "features", title).fitted
    return Score(
        uar=uar_of(fitted.epochs, fitted.best, at_end=at_end),
        best_epoch=fitted.best,
        epochs=len(fitted.epochs),
        parameters=int(fitted.model.count_params()),
    )


def uar_of(epochs: Sequence[Epoch], best: int, *, at_end: bool) -> float:
    """Return the validation score of a fit: the mean of the last epochs, or that of the best one.

    Raises:
        SettingsError: the epochs have none.
    """
    uars = [epoch.validation_uar for epoch in epochs if epoch.validation_uar is not None]
    if not uars:  # a split has validation clips, or is refused
        msg = "no validation clip scores the epochs; choose another split"
        raise SettingsError(msg)
    return fmean(uars[-LAST_EPOCHS:]) if at_end else uars[best]


def is_scored_at_end(experiment: Experiment) -> bool:
    """Return whether the epochs are given by the experiment rather than chosen, so that the last ones are what counts.

    The best of many epochs is a choice by the very clips that score it, and flatters.
    """
    return experiment.recipe.refit or experiment.recipe.patience >= experiment.recipe.epochs


def _data(split: Split) -> str:
    """Return what tells the clips of two splits apart."""

    def told(clips: tuple[Clip, ...]) -> list[str]:
        return sorted(f"{clip.speaker} {clip.label} {clip.sha256}" for clip in clips)

    return digest(msgspec.json.encode((told(split.training), told(split.validation))))

"""`tune`: a search over an experiment's settings, scored by the validation speakers of one fold, and never by its test.

The test side is taken out of the split and its clips out of the collection before anything is heard.
"""

from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import SettingsError
from training.config import Experiment
from training.data.clips import Clip, digest, open_cache
from training.data.splits import Split
from training.fitting.fold import choose
from training.fitting.train import labelled, splits_of
from training.tuning.search import Target
from training.tuning.trials import Score

__all__ = ["target_of"]

_NOTES: Final = {
    "speaker": "Other folds test speakers who chose these settings: only this fold's test side is new to them.",
    "fixed": "The speakers who chose these settings are the validation side; the test side is new to them.",
    "all": "Nobody is tested by this split.",
}


def target_of(experiment: Experiment, prepared: Path, fold: int | None) -> Target:
    """Return what a search is to climb: the validation score of one split, with the experiment's first seed.

    Args:
        experiment: whose split it is.
        prepared: cache that `prepare` wrote.
        fold: which fold; None: the first that can be run.

    Raises:
        SettingsError: the fold has no speaker here, or the split is by clip.
        DataError: there is no usable cache, or the split would leak.
    """
    if experiment.split.by == "clip":
        msg = "split.by = clip: its validation clips are of speakers who train, and would choose what overfits them"
        raise SettingsError(msg)
    collection = labelled(experiment, open_cache(prepared))
    split = msgspec.structs.replace(splits_of(experiment, collection, fold)[0], test=())
    collection = msgspec.structs.replace(collection, clips=(*split.training, *split.validation))
    seed = experiment.recipe.seeds[0]

    def score(tried: Experiment, title: str) -> Score:
        fitted = choose(tried, collection, split, seed, prepared / "features", title).fitted
        uar = fitted.epochs[fitted.best].validation_uar
        if uar is None:  # a split has validation clips, or is refused
            msg = f"{split.name}: no validation clip"
            raise SettingsError(msg)
        return Score(
            uar=uar,
            best_epoch=fitted.best,
            epochs=len(fitted.epochs),
            parameters=int(fitted.model.count_params()),
        )

    return Target(
        name=f"corpus-macro UAR of the validation speakers ({split.name}, seed {seed})",
        note=_NOTES[split.by],
        data=_digest(split),
        seed=seed,
        score=score,
    )


def _digest(split: Split) -> str:
    """Return what tells the clips of two splits apart."""

    def told(clips: tuple[Clip, ...]) -> list[str]:
        return sorted(f"{clip.speaker} {clip.label} {clip.sha256}" for clip in clips)

    return digest(msgspec.json.encode((told(split.training), told(split.validation))))

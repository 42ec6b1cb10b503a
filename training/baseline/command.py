"""`baseline`: openSMILE's functionals and a support vector machine, on the folds that models are tested on.

What a model must beat to be worth its network. It hears each clip as a whole, not by windows. Nothing of it is chosen
by looking at clips, so a fold's validation side trains it too.
"""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import DataError, SettingsError
from broker.files import write_whole
from training.augment.noise import COLOURS, LEVELS_DB, Colour, describe
from training.baseline.functionals import COUNT, SET, Noise, load_functionals
from training.baseline.svm import COST, GAMMA, open_svm
from training.config import SplitChoice
from training.data.clips import Clip, Collection
from training.data.corpora import corpora_in, trains
from training.data.splits import FOLDS, Split, runnable_folds, split_by_clip_folds, split_speakers, trainable
from training.exam.metrics import ClipScores, corpus_macro_uar
from training.exam.predictions import PREDICTIONS_NAME, Prediction, by_corpus, score_predictions, write_predictions
from training.files import writing
from training.progress import track
from training.terminal import add_scores, open_console, say, score_grid

__all__ = [
    "BASELINE_NAME",
    "Baseline",
    "BaselineFold",
    "BaselineNoise",
    "baseline",
    "print_baseline",
    "save_baseline",
]

BASELINE_NAME: Final = "baseline.json"

_SEED: Final = 1
"""Of the random split by clip; the classifier itself draws nothing."""

Predictions = tuple[Prediction, ...]


class BaselineFold(msgspec.Struct, frozen=True, kw_only=True):
    """One training and its exam."""

    fold: int | None
    """Index of the test side."""
    split: str
    """As `Split.name` tells it."""
    training_clips: dict[str, int]
    """Per corpus, the validation side included."""
    test: ClipScores


class BaselineNoise(msgspec.Struct, frozen=True, kw_only=True):
    """All folds' test sides in noise of one level, after training in quiet."""

    below_speech_db: int
    """How far the noise lies below the active speech level."""
    pooled: ClipScores
    """All colours taken as one, so that a clip counts once per colour."""
    colours: dict[Colour, ClipScores]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The baseline on every fold."""

    features: str
    """In words, with the version that computed them; so is the next."""
    classifier: str
    created: str
    """Date, ISO 8601."""
    by_clip: bool
    """Whether the folds are random clips, with speakers on both sides: optimistic."""
    folds: tuple[BaselineFold, ...]
    all_folds: ClipScores
    """The folds' test sides taken as one; every test clip counts once."""
    cross_corpus: ClipScores | None
    """Corpora that are never trained on, after training on every other clip; None: not at hand."""
    noise: tuple[BaselineNoise, ...]
    """From faint to loud; empty if none was added."""
    noise_rule: str | None
    """What was added to the clips, in words; None: nothing."""


def baseline(
    collection: Collection, store: Path, *, fold: int | None = None, by_clip: bool = False, noise: bool = False
) -> tuple[Baseline, Predictions]:
    """Return how the baseline fares on new speakers (or, by clip, on new clips of known ones), and what it said.

    Args:
        collection: clips and how to hear them; babble is made of them all.
        store: folder for functionals.
        fold: the one fold to run; None: all whose speakers are at hand.
        by_clip: five random folds of clips instead of folds of speakers.
        noise: whether to hear every test clip in noise as well, which takes ten times as long.

    Raises:
        SettingsError: a package is missing, or the fold cannot be run.
        DataError: no fold can be run, a split would leak, or the store cannot be written.
    """
    splits = _splits(collection.clips, fold, by_clip=by_clip)
    fit = open_svm()
    tested = tuple(clip for split in splits for clip in split.test)
    rows = load_functionals(collection, tested if noise else (), store)
    quiet = rows[None]

    answers: dict[Noise | None, list[Predictions]] = {condition: [] for condition in rows}
    for split in track(splits, "folds"):
        classify = fit((*split.training, *split.validation), quiet)
        for condition, of_condition in rows.items():
            answers[condition].append(classify(split.test, of_condition))
    foreign = tuple(clip for clip in collection.clips if not trains(clip.corpus))
    abroad = fit(trainable(collection.clips), quiet)(foreign, quiet) if foreign else ()

    together = {condition: tuple(item for part in parts for item in part) for condition, parts in answers.items()}
    result = Baseline(
        features=f"{COUNT} {SET} functionals of the whole clip (opensmile {version('opensmile')})",
        classifier=f"standardised, SVC, RBF kernel, C {COST:g}, gamma {GAMMA:g}, classes weighed alike "
        f"(scikit-learn {version('scikit-learn')})",
        created=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        by_clip=by_clip,
        folds=tuple(_fold(split, part) for split, part in zip(splits, answers[None], strict=True)),
        all_folds=_scores(together[None]),
        cross_corpus=_scores(abroad) if abroad else None,
        noise=tuple(_noise(level, together) for level in LEVELS_DB) if noise else (),
        noise_rule=describe(collection.clips) if noise else None,
    )
    return result, (*together[None], *abroad)


def save_baseline(result: Baseline, predictions: Predictions, folder: Path) -> None:
    """Write the results, and the predictions beside them, to `folder`.

    Raises:
        SettingsError: it cannot be written.
        DataError: the predictions cannot be written.
    """
    with writing(f"--out {folder}", "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / BASELINE_NAME, msgspec.json.format(msgspec.json.encode(result), indent=1))
    write_predictions(predictions, folder / PREDICTIONS_NAME)


def print_baseline(result: Baseline) -> None:
    """Print the scores of every fold, of all folds together, in noise, and on corpora never trained on."""
    console = open_console()
    split = "by clip, speakers on both sides: OPTIMISTIC" if result.by_clip else "by speaker, on speakers never heard"
    for line in (f"baseline; split {split}", result.features, result.classifier, result.noise_rule):
        if line:
            say(console, line)
    table = score_grid("test")
    for fold in result.folds:
        add_scores(table, f"fold {fold.fold}", fold.test)
    if len(result.folds) > 1:
        add_scores(table, "all folds", result.all_folds)
    for noise in result.noise:
        add_scores(table, f"noise {noise.below_speech_db} dB below", noise.pooled)
    if result.cross_corpus:
        add_scores(table, "cross-corpus", result.cross_corpus)
    console.print()
    console.print(table)


def _fold(split: Split, predictions: Predictions) -> BaselineFold:
    return BaselineFold(
        fold=split.fold,
        split=split.name,
        training_clips=dict(Counter(clip.corpus for clip in (*split.training, *split.validation))),
        test=_scores(predictions),
    )


def _noise(level: int, predictions: dict[Noise | None, Predictions]) -> BaselineNoise:
    of_colour = {colour: predictions[colour, level] for colour in COLOURS}
    return BaselineNoise(
        below_speech_db=level,
        pooled=_scores([item for part in of_colour.values() for item in part]),
        colours={colour: _scores(part) for colour, part in of_colour.items()},
    )


def _scores(predictions: Sequence[Prediction]) -> ClipScores:
    per_corpus = by_corpus(predictions)
    return ClipScores(
        pooled=score_predictions(predictions),
        corpora={corpus: per_corpus[corpus] for corpus in corpora_in(predictions)},
        macro_uar=corpus_macro_uar(per_corpus),
    )


def _splits(clips: Sequence[Clip], fold: int | None, *, by_clip: bool) -> tuple[Split, ...]:
    if by_clip:
        if fold is not None:
            msg = f"--fold {fold}: folds are of speakers; leave out --fold or --by-clip"
            raise SettingsError(msg)
        return tuple(split_by_clip_folds(clips, _SEED))
    runnable = runnable_folds(clips)
    if not runnable:
        msg = "no fold can be run: speakers of two folds at least are needed; prepare more of the corpora"
        raise DataError(msg)
    if fold is not None and fold not in runnable:
        here = ", ".join(map(str, runnable))
        msg = f"--fold {fold}: allowed are {here} (of {len(FOLDS)}; others have no speaker here)"
        raise SettingsError(msg)
    validating = {str(corpus): count for corpus, count in SplitChoice().validating.items()}
    return tuple(split_speakers(clips, number, validating) for number in (runnable if fold is None else (fold,)))

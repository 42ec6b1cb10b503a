"""A run's figures with their spread over the seeds, and what its models said of each clip: what a report shows.

`training.fitting.summary` holds the figures that travel in a bundle; here is what takes more room: every speaker,
every colour of noise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import DataError
from training.exam.evaluate import Group
from training.exam.metrics import Scores, merge
from training.exam.predictions import PREDICTIONS_NAME, Prediction, Share, read_predictions, score_predictions
from training.fitting.calibrate import CALIBRATION_NAME, Calibration, read_calibration
from training.fitting.results import FoldResult, Run, fold_folder, read_run
from training.fitting.summary import Spread, Summary, spread_of, summarise

__all__ = ["ALL_COLOURS", "Measured", "measure"]

ALL_COLOURS: Final = "all three"
"""The colours of noise taken as one."""

Groups = Sequence[Group]


class Measured(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One run; quantized, by the rule `stream`, over the seeds that have every fold."""

    name: str
    """What the report calls it: no other run in it is called so."""
    run: Run
    summary: Summary
    results: tuple[FoldResult, ...]
    """Those that count: tested, and of a complete seed."""
    corpora: dict[str, Spread]
    """UAR per corpus."""
    unseen: dict[str, Spread]
    """UAR per corpus that never trains; a seed's is the mean of its folds' models."""
    sexes: dict[str, Spread]
    """UAR per sex."""
    speakers: dict[str, Spread]
    """UAR per speaker."""
    emotions: dict[str, Spread]
    """Recall per emotion's class."""
    confusion: dict[str, Scores]
    """Per corpus; every clip counts once per seed."""
    unseen_confusion: dict[str, Scores]
    """Per corpus that never trains; every clip counts once per fold and seed."""
    noise: dict[str, dict[int, Spread]]
    """UAR of all corpora's clips per colour and level in dB below the speech; empty: not measured."""
    predictions: dict[int, tuple[Prediction, ...]]
    """Per seed; empty: there are none."""
    lacking: str
    """Why there are no predictions."""
    calibration: Calibration | None
    """What `calibrate` made of the run; None: it has not been asked."""

    @property
    def is_optimistic(self) -> bool:
        """Whether speakers stand on both sides of the split."""
        return self.summary.by == "clip"

    @property
    def title(self) -> str:
        """Name, and a warning where its figures flatter."""
        return f"{self.name} (OPTIMISTIC)" if self.is_optimistic else self.name


def measure(folder: Path, name: str | None = None) -> Measured:
    """Return what a run folder holds.

    Args:
        folder: what `train` wrote.
        name: what to call the run; None: as its experiment.

    Raises:
        DataError: it holds no finished run, or predictions or a calibration that are none or another run's.
    """
    run = read_run(folder)
    if not run.folds:
        msg = f"{folder}: holds a run without a single fold; run `sottovoce-train train` again"
        raise DataError(msg)
    summary = summarise(run)
    results = tuple(item for item in run.folds if item.test and item.seed in summary.seeds)
    seeds = [[item.test for item in results if item.seed == seed and item.test] for seed in summary.seeds]
    predictions, lacking = _predictions(folder, results)
    calibration = folder / CALIBRATION_NAME
    return Measured(
        name=run.settings.name if name is None else name,
        run=run,
        summary=summary,
        results=results,
        corpora=_uars(seeds, lambda group: group.models["quantized"].corpora),
        unseen=_unseen(run),
        sexes=_uars(seeds, lambda group: group.breakdown.sexes if group.breakdown else {}),
        speakers=_uars(seeds, lambda group: group.breakdown.speakers if group.breakdown else {}),
        emotions=_recalls(seeds),
        confusion=_merged([item.test.models["quantized"].corpora for item in results if item.test]),
        unseen_confusion=_merged(
            [item.cross_corpus.models["quantized"].corpora for item in run.folds if item.cross_corpus]
        ),
        noise=_noise(seeds),
        predictions=predictions,
        lacking=lacking,
        calibration=read_calibration(calibration) if calibration.is_file() else None,
    )


def _uars(seeds: Sequence[Groups], of: Callable[[Group], Mapping[str, Scores]]) -> dict[str, Spread]:
    merged = [_merged([of(group) for group in groups]) for groups in seeds]
    return _spreads([{name: scores.uar for name, scores in each.items()} for each in merged])


def _recalls(seeds: Sequence[Groups]) -> dict[str, Spread]:
    told: list[dict[str, float]] = []
    for groups in seeds:
        parts: dict[str, list[Share]] = {}
        for group in groups:
            for emotion, share in (group.breakdown.emotions if group.breakdown else {}).items():
                parts.setdefault(emotion, []).append(share)
        told.append(
            {
                emotion: sum(share.clips * share.right for share in shares) / sum(share.clips for share in shares)
                for emotion, shares in parts.items()
            }
        )
    return _spreads(told)


def _unseen(run: Run) -> dict[str, Spread]:
    told: dict[int, list[Mapping[str, Scores]]] = {}
    for item in run.folds:
        if item.cross_corpus:
            told.setdefault(item.seed, []).append(item.cross_corpus.models["quantized"].corpora)
    per_seed = [
        {name: sum(each[name].uar for each in folds) / len(folds) for name in folds[0]} for folds in told.values()
    ]
    return _spreads(per_seed)


def _noise(seeds: Sequence[Groups]) -> dict[str, dict[int, Spread]]:
    """Return the UAR per colour and level; what a fold was not tested in is left out."""
    told: dict[tuple[str, int], list[float]] = {}
    for groups in seeds:
        parts: dict[tuple[str, int], list[Scores]] = {}
        for level in (level for group in groups for level in group.noise):
            for colour, judged in ((ALL_COLOURS, level.pooled), *level.colours.items()):
                scores = judged.models["quantized"].pooled
                parts.setdefault((colour, level.below_speech_db), []).append(scores)
        for key, scored in parts.items():
            if len(scored) == len(groups):
                told.setdefault(key, []).append(merge(scored).uar)
    curves: dict[str, dict[int, Spread]] = {}
    for (colour, level_db), values in told.items():
        if len(values) == len(seeds):
            curves.setdefault(colour, {})[level_db] = spread_of(values)
    return curves


def _merged(parts: Iterable[Mapping[str, Scores]]) -> dict[str, Scores]:
    listed: dict[str, list[Scores]] = {}
    for part in parts:
        for name, scores in part.items():
            listed.setdefault(name, []).append(scores)
    return {name: merge(scores) for name, scores in listed.items()}


def _spreads(seeds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return each figure over the seeds, those that every seed has."""
    names = [name for name in (seeds[0] if seeds else ()) if all(name in each for each in seeds)]
    return {name: spread_of([each[name] for each in seeds]) for name in names}


def _predictions(folder: Path, results: Sequence[FoldResult]) -> tuple[dict[int, tuple[Prediction, ...]], str]:
    """Return what was said of each tested clip, per seed, or nothing and why."""
    read: dict[int, tuple[Prediction, ...]] = {}
    for item in results:
        path = fold_folder(folder, item.fold, item.seed) / PREDICTIONS_NAME
        if not path.is_file():
            return {}, f"{path.relative_to(folder)} is missing"
        here = read_predictions(path)
        if item.test and score_predictions(here) != item.test.models["quantized"].pooled:
            msg = f"{path}: not the predictions that {folder / 'results.json'} tells of; run this fold with --again"
            raise DataError(msg)
        read[item.seed] = (*read.get(item.seed, ()), *here)
    return read, "" if read else "nobody was tested"

"""The figures of a whole run: the folds' test sides taken as one, and their spread over the seeds.

Every test clip counts once per seed. Where a run has several seeds, each figure is the mean over the seeds.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from training.data.corpora import Emotion
from training.exam.evaluate import Figures, Group
from training.exam.metrics import Scores, corpus_macro_uar, merge
from training.exam.predictions import Share
from training.fitting.results import FoldResult, Run

__all__ = ["FoldScores", "Spread", "Summary", "spread_of", "summarise"]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over the seeds."""

    mean: float
    deviation: float
    """Sample standard deviation; 0 for a single seed."""
    low: float
    """The lowest seed's."""
    high: float
    """The highest seed's."""


class FoldScores(msgspec.Struct, frozen=True, kw_only=True):
    """One fold's and seed's quantized model on its test side."""

    fold: int | None
    seed: int
    uar: dict[str, float]
    """Per corpus."""
    accuracy: float
    """Share of the clips told rightly."""
    corpus_macro_uar: float
    """Unweighted mean of `uar`."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in figures; quantized, by the rule `stream`, in quiet, unless said otherwise."""

    experiment: str
    by: Literal["speaker", "fixed", "all", "clip"]
    """`clip`: speakers stand on both sides, and the figures are optimistic; `all`: nobody was tested."""
    seeds: tuple[int, ...]
    """Those that have every fold."""
    parameters: int
    float_bytes: int
    """Size of reference.tflite, first fold."""
    quantized_bytes: int
    """Size of model.tflite, first fold."""
    folds: tuple[FoldScores, ...]
    corpora: dict[str, Scores]
    """Per corpus, first seed."""
    pooled: Scores | None
    """All test clips taken as one, first seed; None: nobody was tested."""
    figures: dict[str, Spread]
    """Over the seeds: `corpus-macro UAR`, `pooled UAR`, `accuracy`, `<corpus> UAR`, `corpus-macro UAR by clip rule`,
    `corpus-macro UAR float`, `same decisions`, `calibration error`, `pooled UAR at <n> dB`, `<corpus> UAR unseen`;
    those that were measured."""
    sexes: dict[str, Scores]
    """First seed."""
    emotions: dict[Emotion, Share]
    """Recall of each emotion's class, first seed."""
    speakers: dict[str, Scores]
    """First seed."""
    cropped: Scores | None
    """Float, all test clips cropped as in the paper; None for other experiments."""

    @property
    def macro_uar(self) -> float | None:
        """Unweighted mean of the corpora's UAR, mean of the seeds; None where nobody was tested."""
        return self.figures["corpus-macro UAR"].mean if self.figures else None


def summarise(run: Run) -> Summary:
    """Return the figures of a run; seeds that lack a fold are left out, so that an unfinished run compares."""
    tested = [item for item in run.folds if item.test]
    wanted = {item.fold for item in tested}
    per_seed: dict[int, list[FoldResult]] = {}
    for item in tested:
        per_seed.setdefault(item.seed, []).append(item)
    complete = {seed: items for seed, items in per_seed.items() if {item.fold for item in items} == wanted}
    first = next(iter(complete.values()), [])
    groups = [item.test for item in first if item.test]
    cropped = [item.test_cropped.pooled for item in first if item.test_cropped]
    corpora = _corpora(groups, lambda group: group.models["quantized"])
    return Summary(
        experiment=run.experiment,
        by=run.settings.split.by,
        seeds=tuple(complete),
        parameters=run.folds[0].parameters,
        float_bytes=run.folds[0].float_bytes,
        quantized_bytes=run.folds[0].quantized_bytes,
        folds=tuple(_fold_scores(item, item.test) for item in tested if item.test),
        corpora=corpora,
        pooled=merge(corpora.values()) if corpora else None,
        figures=_figures(list(complete.values())),
        sexes=_merged([group.breakdown.sexes for group in groups if group.breakdown]),
        emotions=_shares([group.breakdown.emotions for group in groups if group.breakdown]),
        speakers=_merged([group.breakdown.speakers for group in groups if group.breakdown]),
        cropped=merge(cropped) if cropped else None,
    )


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean and spread of one figure over the seeds."""
    return Spread(
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
        low=min(values),
        high=max(values),
    )


def _figures(per_seed: Sequence[Sequence[FoldResult]]) -> dict[str, Spread]:
    """Return each figure over the seeds, those that every seed has."""
    told = [_seed_figures(items) for items in per_seed]
    names = [name for name in (told[0] if told else {}) if all(name in each for each in told)]
    return {name: spread_of([each[name] for each in told]) for name in names}


def _seed_figures(items: Sequence[FoldResult]) -> dict[str, float]:
    groups = [item.test for item in items if item.test]
    corpora = _corpora(groups, lambda group: group.models["quantized"])
    pooled = merge(corpora.values())
    told = {
        "corpus-macro UAR": corpus_macro_uar(corpora),
        "pooled UAR": pooled.uar,
        "accuracy": pooled.accuracy,
        **{f"{corpus} UAR": scores.uar for corpus, scores in corpora.items()},
    }
    if all("quantized" in group.clip for group in groups):
        by_clip_rule = _corpora(groups, lambda group: group.clip["quantized"])
        told["corpus-macro UAR by clip rule"] = corpus_macro_uar(by_clip_rule)
    if all("float" in group.models for group in groups):
        told["corpus-macro UAR float"] = corpus_macro_uar(_corpora(groups, lambda group: group.models["float"]))
        told["same decisions"] = _weighted(groups, lambda group: group.same_windows, lambda group: group.windows)
    told["calibration error"] = _weighted(
        groups, lambda group: group.models["quantized"].ece, lambda group: group.models["quantized"].pooled.clips
    )
    for place, level in enumerate(groups[0].noise):
        heard = [group.noise[place].pooled.models["quantized"].pooled for group in groups if group.noise]
        told[f"pooled UAR at {level.below_speech_db} dB"] = merge(heard).uar
    foreign = [item.cross_corpus.models["quantized"].corpora for item in items if item.cross_corpus]
    for corpus in foreign[0] if foreign else ():
        told[f"{corpus} UAR unseen"] = statistics.fmean(each[corpus].uar for each in foreign)
    return told


def _weighted(groups: Sequence[Group], value: Callable[[Group], float | None], weight: Callable[[Group], int]) -> float:
    return sum((value(group) or 0.0) * weight(group) for group in groups) / sum(weight(group) for group in groups)


def _corpora(groups: Sequence[Group], of: Callable[[Group], Figures]) -> dict[str, Scores]:
    return _merged([of(group).corpora for group in groups])


def _merged(parts: Sequence[dict[str, Scores]]) -> dict[str, Scores]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: merge(part[name] for part in parts if name in part) for name in names}


def _shares(parts: Sequence[dict[Emotion, Share]]) -> dict[Emotion, Share]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _share([part[name] for part in parts if name in part]) for name in names}


def _share(parts: Sequence[Share]) -> Share:
    clips = sum(part.clips for part in parts)
    return Share(clips=clips, right=sum(part.right * part.clips for part in parts) / clips)


def _fold_scores(result: FoldResult, test: Group) -> FoldScores:
    figures = test.models["quantized"]
    return FoldScores(
        fold=result.fold,
        seed=result.seed,
        uar={corpus: scores.uar for corpus, scores in figures.corpora.items()},
        accuracy=figures.pooled.accuracy,
        corpus_macro_uar=figures.macro_uar,
    )

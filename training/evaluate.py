"""`evaluate`: what a node with this bundle says about clips, float and quantized, known speakers apart from new."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.errors import DataError
from training.clips import Clip, Collection
from training.corpora import CORPORA
from training.metrics import Scores, corpus_macro_uar, score
from training.progress import track
from training.replay import RULE, Heard, Verdict, judge, listen
from training.runtime import Runner
from training.splits import BY_CLIP

__all__ = ["Evaluation", "Figures", "Group", "evaluate", "figures", "judge_clips"]

Standing = Literal["held out", "cross-corpus", "validation", "training"]
Infer = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

_NOTES: Final[dict[Standing, str]] = {
    "held out": "speakers that took no part in training: the figure to quote",
    "cross-corpus": "another language, microphone and set of actors, never trained on",
    "validation": "speakers that chose the epoch and the thresholds: optimistic",
    "training": "speakers seen in training: optimistic",
}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one set of clips."""

    pooled: Scores
    corpora: dict[str, Scores]
    macro_uar: float
    """Unweighted mean of the corpora's UAR."""
    uncertain_share: float
    """Share of the windows with speech after which the node says `uncertain`."""
    decided: dict[Label, int]
    """Windows with speech per label that the node says."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One set of clips, whose speakers stand alike to the training."""

    standing: Standing
    note: str
    speakers: tuple[str, ...]
    windows: int
    silent_share: float
    """Share of the windows below the gate."""
    models: dict[str, Figures]
    """`quantized` (what the node runs) and, if the bundle holds it, `float`."""
    same_windows: float | None
    """Share of the windows with the same decision by both models; None without a float model."""
    same_clips: float | None
    """Share of the clips with the same label by both models."""

    @property
    def is_seen(self) -> bool:
        """Whether the speakers took part in training, which makes the figures optimistic."""
        return _is_seen(self.standing)


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on some data."""

    bundle: str
    experiment: str
    split: str
    rule: str
    groups: tuple[Group, ...]
    corrupt: int
    """Recordings that could not be read."""


def evaluate(bundle: Bundle, collection: Collection, *, seen: bool, corrupt: int = 0) -> Evaluation:
    """Return how a bundle fares on the clips.

    Args:
        bundle: the model with its settings.
        collection: the clips.
        seen: whether to evaluate on speakers of training and validation too.
        corrupt: recordings left out of the collection, to be reported.

    Raises:
        DataError: no clip is left to evaluate on.
        BundleError: LiteRT cannot run a model of the bundle.
    """
    manifest = bundle.manifest
    runners = {"quantized": Runner(bundle.model, f"{manifest.identity} model.tflite")}
    if bundle.reference is not None:
        runners["float"] = Runner(bundle.reference, f"{manifest.identity} reference.tflite")
    by_standing: dict[Standing, list[Clip]] = {standing: [] for standing in _NOTES}
    for clip in collection.clips:
        by_standing[_standing(clip, bundle)].append(clip)
    wanted = [standing for standing in _NOTES if by_standing[standing] and (seen or not _is_seen(standing))]
    if not wanted:
        msg = "no clip of a speaker that took no part in training; add --speakers all, or data of other speakers"
        raise DataError(msg)

    def hear(clip: Clip) -> Heard:
        return listen(collection.read(clip), manifest.features, manifest.normalisation, manifest.window)

    return Evaluation(
        bundle=manifest.identity,
        experiment=manifest.training.experiment,
        split=manifest.training.split,
        rule=RULE,
        groups=tuple(_group(standing, by_standing[standing], hear, runners, manifest.decision) for standing in wanted),
        corrupt=corrupt,
    )


def judge_clips(
    clips: Sequence[Clip], hear: Callable[[Clip], Heard], models: Mapping[str, Infer], spec: DecisionSpec, doing: str
) -> dict[str, list[Verdict]]:
    """Return each model's verdicts, in the order of the clips; a clip's features are computed once."""
    verdicts: dict[str, list[Verdict]] = {name: [] for name in models}
    for clip in track(clips, doing):
        heard = hear(clip)
        for name, infer in models.items():
            verdicts[name].append(judge(heard, infer, spec))
    return verdicts


def figures(clips: Sequence[Clip], verdicts: Sequence[Verdict]) -> Figures:
    """Return the scores of verdicts on clips, per corpus and together."""
    truth = np.array([CLASSES.index(clip.label) for clip in clips])
    decided = np.array([verdict.decided for verdict in verdicts])
    corpora = np.array([clip.corpus for clip in clips])
    per_corpus: dict[str, Scores] = {
        corpus.key: score(truth[corpora == corpus.key], decided[corpora == corpus.key])
        for corpus in CORPORA
        if corpus.key in corpora
    }
    said = [decision.label for verdict in verdicts for decision in verdict.decisions]
    return Figures(
        pooled=score(truth, decided),
        corpora=per_corpus,
        macro_uar=corpus_macro_uar(per_corpus),
        uncertain_share=said.count(Label.UNCERTAIN) / max(1, len(said)),
        decided={label: said.count(label) for label in Label},
    )


def _group(
    standing: Standing,
    clips: Sequence[Clip],
    hear: Callable[[Clip], Heard],
    models: Mapping[str, Infer],
    spec: DecisionSpec,
) -> Group:
    verdicts = judge_clips(clips, hear, models, spec, f"{standing} clips")
    windows = sum(verdict.windows for verdict in verdicts["quantized"])
    spoken = sum(len(verdict.decisions) for verdict in verdicts["quantized"])
    return Group(
        standing=standing,
        note=_NOTES[standing],
        speakers=tuple(sorted({clip.speaker for clip in clips})),
        windows=windows,
        silent_share=1 - spoken / windows,
        models={name: figures(clips, items) for name, items in sorted(verdicts.items())},
        same_windows=_share_alike(_labels(verdicts["quantized"]), _labels(verdicts["float"]))
        if "float" in verdicts
        else None,
        same_clips=_share_alike(
            [item.decided for item in verdicts["quantized"]], [item.decided for item in verdicts["float"]]
        )
        if "float" in verdicts
        else None,
    )


def _labels(verdicts: Iterable[Verdict]) -> list[Label]:
    return [decision.label for verdict in verdicts for decision in verdict.decisions]


def _share_alike(first: Sequence[object], second: Sequence[object]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / max(1, len(first))


def _standing(clip: Clip, bundle: Bundle) -> Standing:
    training = bundle.manifest.training
    if clip.speaker in training.trained_speakers or (training.split == BY_CLIP and _trains(clip)):
        return "training"
    if clip.speaker in training.validation_speakers:
        return "validation"
    return "held out" if _trains(clip) else "cross-corpus"


def _trains(clip: Clip) -> bool:
    return next(corpus.trains for corpus in CORPORA if corpus.key == clip.corpus)


def _is_seen(standing: Standing) -> bool:
    return standing in {"validation", "training"}

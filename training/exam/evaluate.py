"""`evaluate`: a bundle's figures, float and quantized, in quiet and in noise, known speakers apart from new ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES, DecisionSpec, Label
from training.augment.noise import COLOURS, LEVELS_DB, Colour
from training.data.clips import Clip, Collection
from training.exam.calibration import aurc, expected_calibration_error
from training.exam.metrics import ClipScores, score_clips
from training.exam.predictions import Breakdown, break_down, predict
from training.exam.replay import CLIP_RULE, RULE, Heard, Verdict, judge
from training.exam.sitting import Condition, Exam, Rule, Sitting, Standing, sit
from training.progress import track

__all__ = ["Evaluation", "Figures", "Group", "Judged", "NoiseLevel", "evaluate", "figures", "grade", "judge_clips"]

Infer = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

_NOTES: Final[dict[Standing, str]] = {
    "held out": "speakers that took no part in training: the figure to quote",
    "cross-corpus": "another language, microphone and set of actors, never trained on",
    "validation": "speakers that chose the epoch and the thresholds: optimistic",
    "training": "speakers seen in training: optimistic",
}


class Figures(ClipScores, frozen=True, kw_only=True):
    """One model on one set of clips."""

    uncertain_share: float
    """Share of the windows after which the node says `uncertain`."""
    decided: dict[Label, int]
    """Windows per label that the node says."""
    wrong_share: float | None = None
    """Share of the windows for which it names a class that it is the wrong one; None: there are none, or the card is
    older than this field."""
    ece: float | None = None
    """Expected calibration error of the clips' mean probabilities; None in cards older than this field."""
    aurc: float | None = None
    """Area under the clips' risk-coverage curve; None likewise."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Both models by both rules on one set of clips."""

    models: dict[str, Figures]
    """By the rule `stream`: `quantized` (what the node runs) and, if the bundle holds it, `float`."""
    clip: dict[str, Figures]
    """The same by the rule `clip`."""


class NoiseLevel(msgspec.Struct, frozen=True, kw_only=True):
    """The same clips in noise of one level, each in every colour."""

    below_speech_db: int
    """How far the noise lies below the active speech level."""
    pooled: Judged
    """All colours taken as one, so that a clip counts once per colour."""
    colours: dict[Colour, Judged]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One set of clips, whose speakers stand alike to the training."""

    standing: Standing
    note: str
    """What the standing means for the figures."""
    speakers: tuple[str, ...]
    windows: int
    """Of all clips, as a node hears them."""
    silent_share: float
    """Share of the windows below the node's level gate; they are judged nevertheless."""
    silenced: int = 0
    """Clips that the gate would silence altogether."""
    models: dict[str, Figures]
    """By the rule `stream`: `quantized` (what the node runs) and, if the bundle holds it, `float`."""
    clip: dict[str, Figures] = {}
    """The same by the rule `clip`; empty in cards older than this field."""
    same_windows: float | None
    """Share of the windows with the same decision by both models; None without a float model."""
    same_clips: float | None
    """Share of the clips with the same label by both models."""
    breakdown: Breakdown | None = None
    """Quantized, by the rule `stream`; None in cards older than this field."""
    noise: tuple[NoiseLevel, ...] = ()
    """From faint to loud; empty if none was added."""

    @property
    def is_seen(self) -> bool:
        """Whether the speakers took part in training, which makes the figures optimistic."""
        return self.standing in {"validation", "training"}


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on some data."""

    bundle: str
    """Name and version."""
    experiment: str
    split: str
    """As the bundle tells it."""
    rule: str
    """How `stream` makes a clip's label of the node's windows."""
    clip_rule: str
    """How `clip` does."""
    window_s: float
    """Length of one model input."""
    hop_s: float
    """Time from one window to the next."""
    silent_below_dbfs: float
    """The node's level gate."""
    noise: str | None
    """What was added to the clips, in words; None: nothing."""
    groups: tuple[Group, ...]
    corrupt: int
    """Recordings that could not be read."""


def evaluate(
    bundle: Bundle, collection: Collection, *, seen: bool, corrupt: int = 0, noise: bool = False
) -> Evaluation:
    """Return how a bundle fares on the clips.

    Args:
        bundle: the model with its settings.
        collection: the clips.
        seen: whether to evaluate on speakers of training and validation too.
        corrupt: recordings left out of the collection, to be reported.
        noise: whether to hear every clip in noise as well, which takes ten times as long.

    Raises:
        DataError: no clip is left to evaluate on.
        BundleError: LiteRT cannot run a model of the bundle, or it hears another sample rate.
    """
    return grade(sit(bundle, collection, seen=seen, noise=noise), corrupt)


def grade(exam: Exam, corrupt: int = 0) -> Evaluation:
    """Return the figures of an exam.

    Args:
        exam: the answers.
        corrupt: recordings that could not be read, to be reported.
    """
    manifest = exam.manifest
    rate = manifest.features.sample_rate_hz
    return Evaluation(
        bundle=manifest.identity,
        experiment=manifest.training.experiment,
        split=manifest.training.split,
        rule=RULE,
        clip_rule=CLIP_RULE,
        window_s=manifest.window.length_samples / rate,
        hop_s=manifest.window.hop_samples / rate,
        silent_below_dbfs=manifest.decision.silent_below_dbfs,
        noise=exam.noise,
        groups=tuple(_group(sitting, with_noise=exam.noise is not None) for sitting in exam.sittings),
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
    probabilities = np.stack([verdict.mean for verdict in verdicts])
    scores = score_clips(truth, decided, clips)
    said = _labels(verdicts)
    right = [
        decision.label == clip.label
        for clip, verdict in zip(clips, verdicts, strict=True)
        for decision in verdict.decisions
        if decision.label is not Label.UNCERTAIN
    ]
    return Figures(
        pooled=scores.pooled,
        corpora=scores.corpora,
        macro_uar=scores.macro_uar,
        uncertain_share=said.count(Label.UNCERTAIN) / len(said),
        decided={label: said.count(label) for label in Label},
        wrong_share=right.count(False) / len(right) if right else None,
        ece=expected_calibration_error(truth, probabilities),
        aurc=aurc(truth, probabilities),
    )


def _group(sitting: Sitting, *, with_noise: bool) -> Group:
    quiet = _judged(sitting, [None])
    clips, quantized = sitting.clips, sitting.verdicts[None, "stream", "quantized"]
    reference = sitting.verdicts.get((None, "stream", "float"))
    windows = sum(verdict.windows for verdict in quantized)
    same_windows = same_clips = None
    if reference is not None:
        same_windows = _share_alike(_labels(quantized), _labels(reference))
        same_clips = _share_alike([item.decided for item in quantized], [item.decided for item in reference])
    return Group(
        standing=sitting.standing,
        note=_NOTES[sitting.standing],
        speakers=tuple(sorted({clip.speaker for clip in clips})),
        windows=windows,
        silent_share=sum(verdict.silent for verdict in quantized) / windows,
        silenced=sum(verdict.silent == verdict.windows for verdict in quantized),
        models=quiet.models,
        clip=quiet.clip,
        same_windows=same_windows,
        same_clips=same_clips,
        breakdown=break_down([predict(clip, verdict) for clip, verdict in zip(clips, quantized, strict=True)]),
        noise=tuple(_noise_level(sitting, level) for level in LEVELS_DB) if with_noise else (),
    )


def _noise_level(sitting: Sitting, level: int) -> NoiseLevel:
    conditions = {colour: Condition(colour=colour, below_speech_db=level) for colour in COLOURS}
    return NoiseLevel(
        below_speech_db=level,
        pooled=_judged(sitting, list(conditions.values())),
        colours={colour: _judged(sitting, [condition]) for colour, condition in conditions.items()},
    )


def _judged(sitting: Sitting, conditions: Sequence[Condition | None]) -> Judged:
    models = sorted({model for _, _, model in sitting.verdicts})

    def by(rule: Rule) -> dict[str, Figures]:
        return {
            model: figures(
                sitting.clips * len(conditions),
                [verdict for condition in conditions for verdict in sitting.verdicts[condition, rule, model]],
            )
            for model in models
        }

    return Judged(models=by("stream"), clip=by("clip"))


def _labels(verdicts: Iterable[Verdict]) -> list[Label]:
    return [decision.label for verdict in verdicts for decision in verdict.decisions]


def _share_alike(first: Sequence[object], second: Sequence[object]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)

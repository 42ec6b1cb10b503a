"""`calibrate`: the decision chosen, and shown to work, by speakers that no weight of a run has heard.

The speakers are parted, so that who chooses does not also tell what the choice is worth:

    choosing       those that validated some fold of the run: they choose the decision
    new            the others, who have chosen nothing
    cross-corpus   corpora that never train, heard by every fold's model
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.errors import DataError
from broker.files import write_whole
from training.config import DecisionRules
from training.data.clips import RATE_HZ, Collection
from training.data.corpora import relabel, trains
from training.exam.calibration import risk_coverage
from training.exam.metrics import score_clips
from training.exam.replay import decide_all, smoothed_of
from training.exam.turns import Flicker, flicker
from training.files import writing
from training.fitting.results import Run
from training.fitting.strangers import ToldClip, ToldTalk, meet
from training.fitting.summary import Spread, spread_of
from training.fitting.thresholds import choose_decision

__all__ = [
    "CALIBRATION_NAME",
    "GRID",
    "Calibration",
    "Part",
    "Tried",
    "calibrate",
    "read_calibration",
    "save_calibration",
]

CALIBRATION_NAME: Final = "calibration.json"
GRID: Final = tuple(step / 50 for step in range(5, 51))
"""Shares answered at which the curves are kept, from a tenth to all."""

Part = Literal["choosing", "new", "cross-corpus"]

_PARTS: Final[tuple[Part, ...]] = ("choosing", "new", "cross-corpus")


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on speakers that its weights have never heard; shares are of windows, spreads over the seeds."""

    speakers: tuple[str, ...]
    clips: int
    windows: int
    """Of the clips, for one seed."""
    curve: tuple[Spread, ...]
    """Share that is wrong among the surest, by smoothed probability, at each share answered of `GRID`."""
    aurc: Spread
    """Area under that curve."""
    answered: Spread
    """Share whose smoothed probability reaches the threshold."""
    wrong: Spread
    """Share of them whose likeliest class is wrong."""
    said: Spread
    """Share for which a node names a class, by all rules."""
    said_wrong: Spread
    """Share of them for which it is the wrong one."""
    plain: Flicker
    """Talks, if each window were decided by itself; all seeds taken as one."""
    steady: Flicker
    """Talks, by all rules; likewise."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, how it was chosen, and what it is worth."""

    experiment: str
    """Of the run whose models told it."""
    seeds: tuple[int, ...]
    rules: DecisionRules
    decision: DecisionSpec
    macro_uar: Spread
    """Corpus-macro UAR of the clips of choosing and new speakers, by the rule `stream` with this smoothing."""
    parts: dict[Part, Tried]


def calibrate(run: Run, folder: Path, collection: Collection, rules: DecisionRules) -> Calibration:
    """Return the decision that the rules give, and what it is worth.

    Args:
        run: split by speaker.
        folder: where it lies, with its models.
        collection: the clips that it was trained and tested on.
        rules: how to choose.

    Raises:
        DataError: the run is not split by speaker, a model of it is missing, or nobody who validated was tested, too.
        BundleError: LiteRT cannot run a model.
    """
    labelled = msgspec.structs.replace(collection, clips=relabel(collection.clips, run.settings.merge))
    clips, talks = meet(run, folder, labelled)
    choosers = {speaker for item in run.folds for speaker in item.origin.validation_speakers}

    def part(corpus: str, speaker: str) -> Part:
        if not trains(corpus):
            return "cross-corpus"
        return "choosing" if speaker in choosers else "new"

    told: dict[Part, list[ToldClip]] = {}
    spoken: dict[Part, list[ToldTalk]] = {}
    for clip in clips:
        told.setdefault(part(clip.clip.corpus, clip.clip.speaker), []).append(clip)
    for talk in talks:
        spoken.setdefault(part(talk.speaker.split("_", 1)[0], talk.speaker), []).append(talk)
    if "choosing" not in told:
        msg = (
            f"{folder}: nobody in the data validated one fold and was tested in another; run every fold, and give the "
            "data that it was trained on"
        )
        raise DataError(msg)
    decision = _choose(told["choosing"], rules)
    hop_s = run.settings.window.hop_samples / RATE_HZ
    return Calibration(
        experiment=run.experiment,
        seeds=tuple(dict.fromkeys(item.seed for item in clips)),
        rules=rules,
        decision=decision,
        macro_uar=_macro_uar([*told["choosing"], *told.get("new", [])], decision),
        parts={name: _try(told[name], spoken[name], decision, hop_s) for name in _PARTS if name in told},
    )


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON.

    Raises:
        SettingsError: it cannot be written.
    """
    with writing(path, "choose another --out"):
        write_whole(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1))


def read_calibration(path: Path) -> Calibration:
    """Return what `calibrate` wrote.

    Raises:
        DataError: the file holds none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: no calibration ({error}); run `sottovoce-train calibrate` first"
        raise DataError(msg) from error


def _choose(clips: Sequence[ToldClip], rules: DecisionRules) -> DecisionSpec:
    truth = np.array([CLASSES.index(item.clip.label) for item in clips])
    return choose_decision(truth, [item.heard for item in clips], [item.probabilities for item in clips], rules)


def _macro_uar(clips: Sequence[ToldClip], decision: DecisionSpec) -> Spread:
    """Return the corpus-macro UAR over the seeds; a clip's label is that of `replay.judge`."""
    told: list[float] = []
    for seed in dict.fromkeys(item.seed for item in clips):
        mine = [item for item in clips if item.seed == seed]
        states = [decide_all(item.probabilities, item.heard.ends_us, decision) for item in mine]
        means = [smoothed_of(each).mean(axis=0) for each in states]
        truth = np.array([CLASSES.index(item.clip.label) for item in mine])
        told.append(score_clips(truth, np.argmax(means, axis=1), [item.clip for item in mine]).macro_uar)
    return spread_of(told)


def _try(clips: Sequence[ToldClip], talks: Sequence[ToldTalk], decision: DecisionSpec, hop_s: float) -> Tried:
    seeds: dict[int, list[ToldClip]] = {}
    for item in clips:
        seeds.setdefault(item.seed, []).append(item)
    figures = [_figures(items, decision) for items in seeds.values()]
    plain = msgspec.structs.replace(decision, smoothing=1.0, margin=0.0, hold_us=0, confirm_windows=1)
    heard = [talk.heard for talk in talks]
    return Tried(
        speakers=tuple(sorted({item.clip.speaker for item in clips})),
        clips=len(clips) // len(seeds),
        windows=sum(len(item.probabilities) for item in clips) // len(seeds),
        curve=tuple(spread_of(wrong) for wrong in zip(*(each.curve for each in figures), strict=True)),
        aurc=spread_of([each.aurc for each in figures]),
        answered=spread_of([each.answered for each in figures]),
        wrong=spread_of([each.wrong for each in figures]),
        said=spread_of([each.said for each in figures]),
        said_wrong=spread_of([each.said_wrong for each in figures]),
        plain=flicker(heard, plain, hop_s),
        steady=flicker(heard, decision, hop_s),
    )


class _Figures(NamedTuple):
    """As in `Tried`, of one seed."""

    curve: list[float]
    aurc: float
    answered: float
    wrong: float
    said: float
    said_wrong: float


def _figures(clips: Sequence[ToldClip], decision: DecisionSpec) -> _Figures:
    runs = [decide_all(item.probabilities, item.heard.ends_us, decision) for item in clips]
    truth = np.repeat([CLASSES.index(item.clip.label) for item in clips], [len(states) for states in runs])
    smoothed = np.concatenate([smoothed_of(states) for states in runs])
    said = [state.decision.label for states in runs for state in states if state.decision]
    curve = risk_coverage(truth, smoothed)
    surest = np.ceil(np.array(GRID) * len(truth)).astype(int) - 1
    reaches = smoothed.max(axis=1) >= decision.uncertain_below
    wrong = smoothed.argmax(axis=1) != truth
    named = np.array([label is not Label.UNCERTAIN for label in said])
    wrongly = np.array([label is not CLASSES[place] for label, place in zip(said, truth, strict=True)])
    return _Figures(
        curve=curve.risk[surest].tolist(),
        aurc=float(curve.risk.mean()),
        answered=float(reaches.mean()),
        wrong=_share(wrong[reaches]),
        said=float(named.mean()),
        said_wrong=_share(wrongly[named]),
    )


def _share(each: npt.NDArray[np.bool_]) -> float:
    """Return the share that is true; of nothing, 0."""
    return float(each.mean()) if len(each) else 0.0

"""What a model said of each clip: one line of JSON per clip, and the same taken apart by who spoke and how.

Written by `evaluate --predictions FILE`, read by `compare`. A line holds no audio and nothing to make any of.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.decision import CLASSES, Label
from broker.contract.errors import DataError
from broker.files import write_whole
from training.data.clips import Clip
from training.data.corpora import CorpusKey, Emotion, Sex
from training.exam.metrics import UNHEARD, Scores, score
from training.exam.replay import Verdict
from training.files import writing

__all__ = [
    "PREDICTIONS_NAME",
    "Breakdown",
    "Prediction",
    "Share",
    "break_down",
    "by_corpus",
    "by_emotion",
    "by_sex",
    "by_speaker",
    "decided_of",
    "predict",
    "probabilities_of",
    "read_predictions",
    "score_predictions",
    "truth_of",
    "write_predictions",
]

PREDICTIONS_NAME: Final = "predictions.jsonl"

Probability = Annotated[float, Meta(ge=0, le=1)]
K = TypeVar("K", bound=str)


class Prediction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One clip and what one model says of it."""

    key: Annotated[str, Meta(min_length=1)]
    """Of the clip: `<corpus>/<stem>`."""
    corpus: CorpusKey
    speaker: str
    sex: Sex | None
    """None: unknown."""
    emotion: Emotion
    truth: Label
    probabilities: tuple[Probability, Probability, Probability]
    """Mean smoothed probabilities, in the order of `CLASSES`; zeros where the model gave no finite answer."""
    decided: Label | None
    """None: no answer, which counts as wrong."""
    windows: Annotated[int, Meta(ge=1)]
    """Windows that the probabilities are the mean of."""

    def __post_init__(self) -> None:
        """Refuse what no model predicts.

        Raises:
            ValueError: a label is none of the three classes.
        """
        if self.truth not in CLASSES or self.decided not in {*CLASSES, None}:
            msg = f"truth {self.truth} and decided {self.decided} must be of {', '.join(CLASSES)}"
            raise ValueError(msg)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How many clips there are, and which share of them is told rightly."""

    clips: int
    right: float
    """Share of 1."""


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """The same clips, divided by who speaks and what is shown."""

    speakers: dict[str, Scores]
    sexes: dict[str, Scores]
    """`female`, `male`, and `unknown` where no table or name says it."""
    emotions: dict[Emotion, Share]
    """Share of each emotion's clips whose class is right: its recall."""


def predict(clip: Clip, verdict: Verdict) -> Prediction:
    """Return the prediction that a verdict on a clip is."""
    first, second, third = (min(1.0, max(0.0, round(float(value), 6))) for value in verdict.mean)
    return Prediction(
        key=clip.key,
        corpus=clip.corpus,
        speaker=clip.speaker,
        sex=clip.sex,
        emotion=clip.emotion,
        truth=clip.label,
        probabilities=(first, second, third),
        decided=None if verdict.decided == UNHEARD else CLASSES[verdict.decided],
        windows=verdict.windows,
    )


def write_predictions(predictions: Iterable[Prediction], path: Path) -> None:
    """Write one JSON object per line to a file.

    Raises:
        DataError: it cannot be written.
    """
    with writing(path, "choose another file", what="predictions", failure=DataError):
        write_whole(path, msgspec.json.Encoder().encode_lines(predictions))


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """Return the predictions in a file, or of the first seed of every fold of a run, in the order of their keys.

    Raises:
        DataError: there is none, a line is no prediction, or a clip is predicted twice.
    """
    files = _of_first_seed(path) if path.is_dir() else [path]
    by_key: dict[str, Prediction] = {}
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            try:
                prediction = msgspec.json.decode(line, type=Prediction)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                msg = f"{file}, line {number}: no prediction ({error}); write it again with `evaluate --predictions`"
                raise DataError(msg) from error
            if prediction.key in by_key:
                msg = f"{file}, line {number}: {prediction.key} is predicted twice; give one file or run of one model"
                raise DataError(msg)
            by_key[prediction.key] = prediction
    if not by_key:
        msg = f"{path}: holds no predictions; write some with `sottovoce-train evaluate --predictions FILE`"
        raise DataError(msg)
    return tuple(by_key[key] for key in sorted(by_key))


def truth_of(predictions: Sequence[Prediction]) -> npt.NDArray[np.int64]:
    """Return the true classes, shape (n,), indices into `CLASSES`."""
    return np.array([CLASSES.index(item.truth) for item in predictions], dtype=np.int64)


def decided_of(predictions: Sequence[Prediction]) -> npt.NDArray[np.int64]:
    """Return the classes decided, shape (n,), indices into `CLASSES`, or `UNHEARD`."""
    return np.array(
        [UNHEARD if item.decided is None else CLASSES.index(item.decided) for item in predictions], dtype=np.int64
    )


def probabilities_of(predictions: Sequence[Prediction]) -> npt.NDArray[np.float64]:
    """Return the probabilities, shape (n, 3), float64."""
    return np.array([item.probabilities for item in predictions], dtype=np.float64).reshape(-1, len(CLASSES))


def score_predictions(predictions: Sequence[Prediction]) -> Scores:
    """Return the scores of some predictions.

    Raises:
        ValueError: there is none.
    """
    return score(truth_of(predictions), decided_of(predictions))


def by_corpus(predictions: Iterable[Prediction]) -> dict[CorpusKey, Scores]:
    """Return the scores per corpus."""
    return _scores(predictions, lambda item: item.corpus)


def by_speaker(predictions: Iterable[Prediction]) -> dict[str, Scores]:
    """Return the scores per speaker; their UAR is that of the classes a speaker has clips of."""
    return _scores(predictions, lambda item: item.speaker)


def by_sex(predictions: Iterable[Prediction]) -> dict[str, Scores]:
    """Return the scores per sex: `female`, `male`, `unknown`."""
    return _scores(predictions, lambda item: item.sex or "unknown")


def by_emotion(predictions: Iterable[Prediction]) -> dict[Emotion, Share]:
    """Return the recall of each emotion: the share of its clips whose class is right."""
    shares = _scores(predictions, lambda item: item.emotion)
    return {emotion: Share(clips=scores.clips, right=scores.accuracy) for emotion, scores in shares.items()}


def break_down(predictions: Sequence[Prediction]) -> Breakdown:
    """Return the predictions divided in every way but by corpus."""
    return Breakdown(speakers=by_speaker(predictions), sexes=by_sex(predictions), emotions=by_emotion(predictions))


def _scores(predictions: Iterable[Prediction], of: Callable[[Prediction], K]) -> dict[K, Scores]:
    parts: dict[K, list[Prediction]] = {}
    for item in predictions:
        parts.setdefault(of(item), []).append(item)
    return {name: score_predictions(parts[name]) for name in sorted(parts)}


def _of_first_seed(folder: Path) -> list[Path]:
    """Return the predictions below a folder; of folders named `seed-<n>`, as `train` makes them, the lowest's."""
    files = sorted(folder.rglob(PREDICTIONS_NAME))
    seeds = {int(file.parent.name[5:]) for file in files if file.parent.name.startswith("seed-")}
    unwanted = {f"seed-{seed}" for seed in seeds - {min(seeds, default=0)}}
    return [file for file in files if file.parent.name not in unwanted]


def _lines(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror}); give a predictions file, a run folder or a bundle"
        raise DataError(msg) from error

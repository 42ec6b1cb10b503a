from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.decision import Label
from broker.contract.errors import DataError
from training.data.clips import Clip
from training.data.corpora import Emotion
from training.exam.metrics import UNHEARD
from training.exam.predictions import (
    Prediction,
    break_down,
    by_corpus,
    by_emotion,
    decided_of,
    predict,
    probabilities_of,
    read_predictions,
    truth_of,
    write_predictions,
)
from training.exam.replay import Verdict

Make = Callable[..., Clip]


def _verdict(decided: int, *mean: float) -> Verdict:
    return Verdict(decided=decided, mean=np.array(mean, dtype=np.float32), decisions=(), windows=2, silent=0)


@pytest.fixture
def predictions(clip: Make) -> tuple[Prediction, ...]:
    """Two speakers of two corpora; the second is told wrongly but for its last clip."""
    made = (
        (clip("ravdess_01", Emotion.SAD, "1"), 2),
        (clip("ravdess_01", Emotion.HAPPY, "2"), 0),
        (clip("savee_DC", Emotion.SAD, "1"), 0),
        (clip("savee_DC", Emotion.ANGRY, "2"), UNHEARD),
        (clip("savee_DC", Emotion.HAPPY, "3"), 0),
    )
    return tuple(
        predict(each, _verdict(decided, *(np.eye(3)[decided] if decided >= 0 else (0, 0, 0)))) for each, decided in made
    )


def test_predictions_survive_the_file(predictions: tuple[Prediction, ...], tmp_path: Path) -> None:
    write_predictions(predictions[::-1], tmp_path / "some.jsonl")
    assert read_predictions(tmp_path / "some.jsonl") == predictions  # by key
    assert len((tmp_path / "some.jsonl").read_text().splitlines()) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["some.jsonl"]


def test_predictions_of_a_run_are_those_of_its_folds(predictions: tuple[Prediction, ...], tmp_path: Path) -> None:
    for fold, part in enumerate((predictions[:2], predictions[2:])):
        (tmp_path / f"fold-{fold}").mkdir()
        write_predictions(part, tmp_path / f"fold-{fold}" / "predictions.jsonl")
    assert read_predictions(tmp_path) == predictions
    write_predictions(predictions[:1], tmp_path / "predictions.jsonl")
    with pytest.raises(DataError, match=r"ravdess/ravdess_01-1 is predicted twice"):
        read_predictions(tmp_path)


def test_predictions_hold_a_clip_that_got_no_answer(predictions: tuple[Prediction, ...]) -> None:
    assert predictions[3].decided is None
    assert predictions[3].windows == 2
    np.testing.assert_array_equal(decided_of(predictions), [2, 0, 0, UNHEARD, 0])
    np.testing.assert_array_equal(truth_of(predictions), [2, 0, 2, 2, 0])
    assert probabilities_of(predictions).shape == (5, 3)


def test_probability_a_hair_above_one_becomes_one(clip: Make) -> None:
    made = predict(clip(), _verdict(0, 1.0000002, 0.0, -1e-9))
    assert made.probabilities == (1.0, 0.0, 0.0)


def test_predictions_are_divided_by_speaker_sex_emotion_and_corpus(predictions: tuple[Prediction, ...]) -> None:
    parts = break_down((*predictions[:4], msgspec.structs.replace(predictions[4], sex=None)))
    assert {name: scores.accuracy for name, scores in parts.speakers.items()} == {"ravdess_01": 1.0, "savee_DC": 1 / 3}
    assert {name: scores.clips for name, scores in parts.sexes.items()} == {"male": 4, "unknown": 1}
    assert {name: scores.uar for name, scores in by_corpus(predictions).items()} == {"ravdess": 1.0, "savee": 0.5}
    emotions = by_emotion(predictions)
    assert {emotion: (each.clips, each.right) for emotion, each in emotions.items()} == {
        Emotion.ANGRY: (1, 0.0),
        Emotion.HAPPY: (2, 1.0),
        Emotion.SAD: (2, 0.5),
    }
    assert msgspec.json.decode(msgspec.json.encode(parts), type=type(parts)) == parts


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"{", "line 1: no prediction"),
        (b'{"key": "a"}\n', "line 1: no prediction"),
        (b"\xff\xfe\n", "line 1: no prediction"),
        (b"\n\n", "holds no predictions"),
    ],
)
def test_predictions_that_are_broken_are_refused(tmp_path: Path, broken: bytes, said: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(broken)
    with pytest.raises(DataError, match=said):
        read_predictions(path)


def test_prediction_of_uncertain_is_refused(predictions: tuple[Prediction, ...], tmp_path: Path) -> None:
    line = msgspec.json.encode(predictions[0]).replace(b'"decided":"unpleasant"', b'"decided":"uncertain"')
    (tmp_path / "some.jsonl").write_bytes(line)
    with pytest.raises(DataError, match="must be of pleasant, neutral, unpleasant"):
        read_predictions(tmp_path / "some.jsonl")
    with pytest.raises(ValueError, match="must be of"):
        msgspec.structs.replace(predictions[0], truth=Label.UNCERTAIN)


def test_predictions_that_cannot_be_written_or_read_say_so(predictions: tuple[Prediction, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="predictions cannot be written"):
        write_predictions(predictions, tmp_path / "nowhere" / "some.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="holds no predictions"):
        read_predictions(tmp_path)

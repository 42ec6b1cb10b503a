from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.data.clips import Clip
from training.data.corpora import Emotion
from training.exam.compare import Comparison, Side, compare, mcnemar
from training.exam.predictions import Prediction, write_predictions

Make = Callable[..., Clip]
Tell = Callable[[str, int], bool]

EMOTIONS = (Emotion.HAPPY, Emotion.NEUTRAL, Emotion.SAD)
SIX = tuple(f"ravdess_{actor:02d}" for actor in range(1, 7))


@pytest.fixture
def side(clip: Make) -> Callable[..., Side]:
    """Twelve clips of each speaker; `tells` says which are told rightly."""

    def make(name: str, tells: Tell, speakers: Sequence[str] = SIX) -> Side:
        items = []
        for speaker in speakers:
            for number in range(12):
                each = clip(speaker, EMOTIONS[number % 3], f"{number:02d}")
                decided = each.label if tells(speaker, number) else CLASSES[(number + 1) % 3]
                items.append(
                    Prediction(
                        key=each.key,
                        corpus=each.corpus,
                        speaker=speaker,
                        sex="male",
                        emotion=each.emotion,
                        truth=each.label,
                        probabilities=(0.5, 0.3, 0.2),
                        decided=decided,
                        windows=1,
                    )
                )
        return Side(name=name, predictions=tuple(items))

    return make


def test_mcnemar_equals_hand_computed_values() -> None:
    assert mcnemar(2, 10).p == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(10, 2).p == mcnemar(2, 10).p
    assert mcnemar(0, 0).p == 1
    assert mcnemar(5, 5).p == 1
    assert mcnemar(900, 1_400).p < 1e-20  # and no overflow


def test_model_that_is_better_on_every_speaker_is_better(side: Callable[..., Side]) -> None:
    worse, better = side("a", lambda _, number: number < 6), side("b", lambda _, number: number < 9)
    result = compare(worse, better)
    assert result.better == "b"
    assert compare(better, worse).better == "a"
    assert result.macro_uar.difference == pytest.approx(0.25)
    assert (result.accuracy_a, result.accuracy_b) == (0.5, 0.75)
    assert (result.mcnemar.a_only, result.mcnemar.b_only) == (0, 18)
    assert result.macro_uar == result.uar == result.corpora["ravdess"]  # of one corpus


def test_model_that_is_better_on_one_speaker_alone_is_not_called_better(side: Callable[..., Side]) -> None:
    half = side("a", lambda _, number: number % 2 == 0)
    result = compare(half, side("b", lambda speaker, number: number % 2 == 0 or speaker == SIX[0]))
    assert result.mcnemar.p == pytest.approx(2 / 2**6)  # certain, were the clips independent
    assert result.uar.difference > 0
    assert result.uar.low == 0
    assert result.better == "cannot tell"


def test_same_predictions_cannot_be_told_apart_and_the_interval_is_drawn_alike(side: Callable[..., Side]) -> None:
    some = side("a", lambda _, number: number % 2 == 0)
    result = compare(some, some)
    assert result == compare(some, some)
    assert (result.better, result.uar.low, result.uar.high, result.mcnemar.p) == ("cannot tell", 0, 0, 1)


def test_interval_of_few_speakers_decides_nothing(side: Callable[..., Side]) -> None:
    result = compare(side("a", lambda *_: False, SIX[:4]), side("b", lambda *_: True, SIX[:4]))
    assert result.macro_uar.low == 1
    assert not result.is_interval_trusted
    assert result.better == "cannot tell"


def test_corpora_count_alike_in_the_macro_difference(side: Callable[..., Side]) -> None:
    speakers = (*SIX, "savee_DC")
    result = compare(side("a", lambda *_: False, speakers), side("b", lambda who, _: who == "savee_DC", speakers))
    assert result.macro_uar.difference == pytest.approx(0.5)
    assert result.uar.difference == pytest.approx(1 / 7)
    assert result.corpora["savee"].difference == 1
    assert result.speakers == {"ravdess": 6, "savee": 1}


def test_clips_that_one_alone_has_judged_are_counted_and_left_out(side: Callable[..., Side]) -> None:
    result = compare(side("a", lambda *_: True, SIX), side("b", lambda *_: True, (*SIX[1:], "savee_DC", "savee_JE")))
    assert (result.clips, result.a_left_out, result.b_left_out) == (60, 12, 24)
    assert result.speakers == {"ravdess": 5}


def test_sides_that_do_not_fit_are_refused(side: Callable[..., Side]) -> None:
    a = side("a", lambda *_: True)
    with pytest.raises(DataError, match="no clip in common"):
        compare(a, side("b", lambda *_: True, ("savee_DC",)))
    other = [msgspec.structs.replace(item, truth=CLASSES[0]) for item in a.predictions]
    with pytest.raises(DataError, match="is not the same clip"):
        compare(a, Side(name="b", predictions=tuple(other)))


def test_compare_prints_which_is_better(
    side: Callable[..., Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "run"
    (b / "fold-0").mkdir(parents=True)
    write_predictions(side("a", lambda _, number: number < 6).predictions, a)
    write_predictions(side("b", lambda _, number: number < 9).predictions, b / "fold-0" / "predictions.jsonl")
    assert main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "B is better: the interval of the corpus-macro UAR excludes 0." in out
    assert "72 clips of 6 speakers (RAVDESS 6) that both have judged" in out
    assert main(["compare", str(b), str(a), "--json"]) == 0
    result = msgspec.json.decode(capsys.readouterr().out, type=Comparison)
    assert result.better == "a"
    assert result.macro_uar.difference == pytest.approx(-0.25)
    write_predictions(side("c", lambda *_: True, SIX[:1]).predictions, a)
    assert main(["compare", str(a), str(b)]) == 0
    assert "an interval of 1 speaker is not to be trusted" in capsys.readouterr().out


def test_compare_of_a_bundle_needs_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "some.bundle"
    bundle.write_bytes(b"PK\x03\x04" + bytes(np.zeros(100, dtype=np.uint8)))
    assert main(["compare", str(bundle), str(bundle)]) == SettingsError.exit_code
    assert "add --data DIR" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "nowhere"), str(bundle)]) == DataError.exit_code
    assert "give a bundle, a predictions file or a run folder" in capsys.readouterr().err

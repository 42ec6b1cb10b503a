import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.augment.noise import COLOURS, LEVELS_DB, add_noise, noises
from training.baseline.command import BASELINE_NAME, Baseline, baseline, save_baseline
from training.baseline.functionals import COUNT, Functionals, load_functionals
from training.data.clips import Clip, Collection, digest, open_cache
from training.data.corpora import Emotion
from training.data.synthetic import voiced
from training.exam.predictions import read_predictions, score_predictions

Samples = npt.NDArray[np.float32]
Tell = Callable[[Callable[[Clip], int]], Collection]

EMOTIONS = (Emotion.NEUTRAL, Emotion.HAPPY, Emotion.SAD, Emotion.ANGRY)


def unheard(clip: Clip) -> Samples:
    pytest.fail(f"{clip.key} was read, though its functionals are in the store")


def quiet(clips: Sequence[Clip], read: Callable[[Clip], Samples], store: Path) -> list[Functionals]:
    rows = load_functionals(Collection(clips=tuple(clips), read=read), (), store)
    return [rows[None][clip.key] for clip in clips]


@pytest.fixture(scope="module")
def prepared(tiny_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    assert main(["prepare", "--data", str(tiny_corpora), "--out", str(folder / "prepared")]) == 0
    return folder / "prepared"


@pytest.fixture(scope="module")
def store(prepared: Path) -> Path:
    """Functionals of every prepared clip."""
    folder = prepared.parent / "functionals"
    load_functionals(open_cache(prepared), (), folder)
    return folder


@pytest.fixture
def tell(clip: Callable[..., Clip], tmp_path: Path) -> Tell:
    """Make a collection and, in `tmp_path`, functionals that tell of each clip the class that a rule names."""

    def make(says: Callable[[Clip], int]) -> Collection:
        speakers = ("ravdess_01", "ravdess_02", "ravdess_06", "ravdess_07", "savee_JE", "ravdess_11", "emodb_03")
        clips = [
            clip(speaker, emotion, f"{emotion}{take}") for speaker in speakers for emotion in EMOTIONS for take in "abc"
        ]
        for item in clips:
            np.save(tmp_path / f"{item.sha256}.npy", np.eye(COUNT, dtype=np.float32)[says(item)])
        return Collection(clips=tuple(clips), read=unheard)

    return make


def test_functionals_hear_the_pitch_of_a_voice(clip: Callable[..., Clip], tmp_path: Path) -> None:
    low, high = clip(stem="low"), clip(stem="high")
    hz = {low.key: 110.0, high.key: 220.0}
    rows = quiet(
        [low, high], lambda item: voiced(24_000, 16_000, hz[item.key], -25.0, np.random.default_rng(1)), tmp_path
    )
    semitones = [row[0] for row in rows]  # the set begins with the mean F0, in semitones from 27.5 Hz
    assert semitones[0] == pytest.approx(24, abs=1.5)
    assert semitones[1] - semitones[0] == pytest.approx(12, abs=1)


def test_functionals_are_computed_once_and_a_damaged_file_again(
    clip: Callable[..., Clip], speech: Callable[..., Samples], tmp_path: Path
) -> None:
    clips = (clip(stem="a"), clip(stem="b"))
    first = quiet(clips, lambda _: speech(), tmp_path)
    assert np.array_equal(first, quiet(clips, unheard, tmp_path))
    path = tmp_path / f"{clips[1].sha256}.npy"
    path.write_bytes(path.read_bytes()[:-100])
    heard: list[str] = []

    def hear(item: Clip) -> Samples:
        heard.append(item.key)
        return speech()

    assert np.array_equal(first, quiet(clips, hear, tmp_path))
    assert heard == [clips[1].key]
    assert {item.name for item in tmp_path.iterdir()} == {f"{item.sha256}.npy" for item in clips}


def test_functionals_in_noise_differ_by_colour_and_level(
    clip: Callable[..., Clip], speech: Callable[..., Samples], tmp_path: Path
) -> None:
    clips = (clip("ravdess_01"), clip("ravdess_02"))
    collection = Collection(clips=clips, read=lambda item: speech(0.5, seed=clips.index(item)))
    rows = load_functionals(collection, clips[:1], tmp_path)
    assert len(rows) == 1 + len(COLOURS) * len(LEVELS_DB)
    assert len({row[clips[0].key].tobytes() for row in rows.values()}) == len(rows)
    assert [clips[1].key in row for row in rows.values()].count(True) == 1  # in quiet
    again = load_functionals(collection, clips[:1], tmp_path)
    assert all(np.array_equal(rows[condition][clips[0].key], again[condition][clips[0].key]) for condition in rows)
    assert len(list(tmp_path.iterdir())) == len(rows) + 1


def test_functionals_that_cannot_be_stored_are_one_error(
    clip: Callable[..., Clip], speech: Callable[..., Samples], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match=r"taken: functionals cannot be written \(.*\); free space"):
        quiet([clip()], lambda _: speech(), tmp_path / "taken")


def test_baseline_is_right_where_functionals_tell_the_class(tell: Tell, tmp_path: Path) -> None:
    result, predictions = baseline(tell(lambda clip: CLASSES.index(clip.label)), tmp_path)
    assert [fold.fold for fold in result.folds] == [0, 1, 2]
    assert result.all_folds.pooled.clips == 6 * 12
    assert list(result.all_folds.corpora) == ["ravdess", "savee"]
    assert result.all_folds.macro_uar == 1
    assert result.cross_corpus is not None
    assert {corpus: scores.uar for corpus, scores in result.cross_corpus.corpora.items()} == {"emodb": 1}
    assert all(item.decided == item.truth for item in predictions)
    assert Counter(item.corpus for item in predictions) == {"ravdess": 60, "savee": 12, "emodb": 12}


def test_baseline_learns_nothing_of_the_tested_speaker(tell: Tell, tmp_path: Path) -> None:
    """The one speaker of fold 2 shows the classes by functionals of his own, which only his clips could teach."""
    collection = tell(lambda clip: CLASSES.index(clip.label) + 3 * (clip.speaker == "ravdess_11"))
    result, _ = baseline(collection, tmp_path)
    by_clip, _ = baseline(collection, tmp_path, by_clip=True)
    assert [fold.test.pooled.uar for fold in result.folds] == pytest.approx([1, 1, 1 / 3])
    assert by_clip.all_folds.pooled.uar == 1
    for fold in (*result.folds, *by_clip.folds):  # the validation side trains too
        assert sum(fold.training_clips.values()) + fold.test.pooled.clips == 6 * 12


def test_baseline_tells_the_emotions_of_new_speakers(prepared: Path, store: Path) -> None:
    result, _ = baseline(open_cache(prepared), store)
    assert [fold.fold for fold in result.folds] == [0, 1, 2]
    assert list(result.all_folds.corpora) == ["ravdess", "savee"]
    assert result.all_folds.macro_uar > 0.8  # pitch tells them
    assert result.cross_corpus is None
    assert "opensmile" in result.features


def test_baseline_by_clip_tests_each_clip_once_and_says_so(
    prepared: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", str(prepared), "--features", str(store)]
    assert main(["baseline", *asked, "--by-clip", "--json"]) == 0
    result = msgspec.json.decode(capsys.readouterr().out, type=Baseline)
    assert result.by_clip
    assert len(result.folds) == 5
    clips = Counter(clip.corpus for clip in open_cache(prepared).clips)
    assert {corpus: scores.clips for corpus, scores in result.all_folds.corpora.items()} == clips
    assert main(["baseline", *asked, "--by-clip"]) == 0
    assert "OPTIMISTIC" in capsys.readouterr().out


def test_baseline_command_prints_a_table_and_writes_results(
    prepared: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["baseline", "--data", str(prepared), "--features", str(store), "--fold", "1", "--out", str(tmp_path / "r")]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "by speaker, on speakers never heard" in printed
    assert "corpus-macro" in printed
    result = msgspec.json.decode((tmp_path / "r" / BASELINE_NAME).read_bytes(), type=Baseline)
    assert [fold.fold for fold in result.folds] == [1]
    predictions = read_predictions(tmp_path / "r")
    assert {item.speaker for item in predictions} == {
        "ravdess_06",
        "ravdess_07",
        "ravdess_08",
        "ravdess_09",
        "savee_JE",
    }
    assert score_predictions(predictions) == result.all_folds.pooled
    assert len(list((tmp_path / "r").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--fold", "4"], 2, "--fold 4: allowed are 0, 1, 2 (of 5; others have no speaker here)"),
        (["--fold", "1", "--by-clip"], 2, "--fold 1: folds are of speakers; leave out --fold or --by-clip"),
        (["--data", "nowhere"], 7, "nowhere: no prepared data of this version"),
    ],
)
def test_baseline_of_wrong_arguments_is_one_line(
    arguments: list[str], code: int, said: str, prepared: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "--data", str(prepared), "--features", str(store), *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("package", ["opensmile", "sklearn"])
def test_baseline_without_its_packages_says_what_to_install(
    package: str, prepared: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # what an import of a package that is not there meets
    assert main(["baseline", "--data", str(prepared), "--features", str(store)]) == 2
    error = capsys.readouterr().err
    assert "is missing: pip install 'sottovoce[baseline]'" in error
    assert error.count("\n") == 1


def test_baseline_in_noise_is_trained_in_quiet(tell: Tell, speech: Callable[..., Samples], tmp_path: Path) -> None:
    """In quiet the functionals tell the class, behind babble another one."""
    told = tell(lambda clip: CLASSES.index(clip.label))
    collection = Collection(clips=told.clips, read=lambda clip: speech(0.1, seed=told.clips.index(clip)))
    for clip in collection.clips:
        samples = collection.read(clip)
        for colour, unit in noises(clip, len(samples), collection).items():
            row = np.eye(COUNT, dtype=np.float32)[(CLASSES.index(clip.label) + (colour == "babble")) % 3]
            for level in LEVELS_DB:
                np.save(tmp_path / f"{digest(add_noise(samples, unit, level).tobytes())}.npy", row)
    result, predictions = baseline(collection, tmp_path, noise=True)
    assert result.all_folds.pooled.accuracy == 1
    assert all(item.decided == item.truth for item in predictions)
    assert [level.below_speech_db for level in result.noise] == [20, 10, 5]
    for noise in result.noise:
        assert {colour: scores.macro_uar for colour, scores in noise.colours.items()} == {
            "white": 1,
            "pink": 1,
            "babble": 0,
        }
        assert noise.pooled.pooled.clips == 3 * 6 * 12
        assert noise.pooled.pooled.accuracy == pytest.approx(2 / 3)
    assert result.noise_rule is not None
    assert "babble" in result.noise_rule


def test_baseline_results_that_cannot_be_written_are_one_error(prepared: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsError, match="taken: cannot be written"):
        save_baseline(*baseline(open_cache(prepared), store, fold=0), tmp_path / "taken")

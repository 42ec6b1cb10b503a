import io
import json
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import Bundle, read_bundle, write_bundle
from broker.contract.errors import BundleError, DataError, SettingsError
from training.__main__ import main
from training.data.splits import is_by_clip
from training.exam.card import read_card
from training.exam.evaluate import Evaluation
from training.exam.predictions import by_corpus, read_predictions
from training.fitting.results import read_run
from training.fitting.summary import summarise
from training.model.runtime import Runner, prove

TINY = """
name = "tiny"

[features]
coefficients = 12
fft_samples = 1024
hop_samples = 512
mel_bands = 32
floor_db = -60.0

[window]
length_samples = 16000
hop_samples = 8000

[views]
kind = "product"
copies = [{ speeds = [0.9, 1.1] }]

[network]
kind = "conv-lstm"
convolutions = [{ filters = 16 }]
units = 16
pooling = "mean-std"
dropout = 0.1

[recipe]
outputs = "emotions"
epochs = 10
draws = 512
patience = 10
learning_rate = 1e-2
"""


@pytest.fixture(scope="module")
def work(tiny_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data, a run of one fold, and its bundle."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "LICENSE").write_text("for tests\n")
    assert main(["prepare", "--data", str(tiny_corpora), "--out", str(folder / "prepared")]) == 0
    assert main(_train(folder)) == 0
    assert main(_bundle(folder)) == 0
    return folder


def _train(folder: Path, *more: str, out: str = "run") -> list[str]:
    config, data = str(folder / "tiny.toml"), str(folder / "prepared")
    paths = ["--config", config, "--data", data, "--out", str(folder / out)]
    return ["train", *paths, "--fold", "0", *more]


def _bundle(folder: Path, *more: str) -> list[str]:
    asked = ["--run", str(folder / "run"), "--name", "tiny", "--version", "3", "--out", str(folder / "tiny.bundle")]
    return ["bundle", *asked, "--licence", str(folder / "LICENSE"), *more]


def _read(folder: Path) -> Bundle:
    return read_bundle((folder / "tiny.bundle").read_bytes(), "tiny.bundle")


def test_run_holds_models_pictures_and_scores(work: Path) -> None:
    run = read_run(work / "run")
    fold = run.folds[0]
    assert {path.name for path in (work / "run/fold-0/seed-1").iterdir()} == {
        "model.tflite",
        "reference.tflite",
        "network.keras",
        "predictions.jsonl",
        "curves.png",
        "confusion.png",
    }
    assert fold.origin.held_out_speakers == ("ravdess_01", "ravdess_02", "savee_DC")
    assert fold.origin.validation_speakers == ("ravdess_06", "ravdess_07", "ravdess_08", "savee_JE")
    assert fold.test is not None
    assert fold.test.models["quantized"].pooled.uar > 0.6  # pitch tells the class
    assert (fold.test.same_windows or 0) > 0.95
    assert len(fold.epochs) == 10
    assert fold.temperature > 0
    summary = summarise(run)
    assert summary.macro_uar == pytest.approx(fold.test.models["quantized"].macro_uar)
    assert summary.figures["same decisions"].mean == fold.test.same_windows
    told = read_predictions(work / "run/fold-0/seed-1")
    assert by_corpus(told) == fold.test.models["quantized"].corpora


def test_bundle_says_where_its_weights_come_from(work: Path) -> None:
    bundle = _read(work)
    assert bundle.manifest.identity == "tiny/3"
    assert bundle.manifest.training.split == "by speaker, fold 0"
    assert bundle.manifest.training.held_out_speakers == ("ravdess_01", "ravdess_02", "savee_DC")
    assert bundle.licence == "for tests\n"
    assert bundle.reference is not None
    assert read_card(bundle).cross_validation["tiny"] == summarise(read_run(work / "run"))


def test_bundle_card_tells_every_speaker_apart(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "told.bundle"
    run, data = str(work / "run"), str(work / "prepared")
    assert main([*_bundle(work), "--out", str(out), "--data", data, "--compare", run, "--compare", run]) == 0
    card = read_card(read_bundle(out.read_bytes(), "told.bundle"))
    assert [group.standing for group in card.speakers] == ["held out", "validation", "training"]
    assert card.speakers[0] == card.exam[0] == read_run(work / "run").folds[0].test
    assert card.speakers[1].models["quantized"] == card.validation
    assert card.cross_validation["tiny"].by == "speaker"
    assert read_card(_read(work)).speakers == ()  # without --data


def test_card_of_another_program_is_refused(work: Path) -> None:
    with pytest.raises(BundleError, match=r"tiny/3: card\.json: .*build the bundle again"):
        read_card(msgspec.structs.replace(_read(work), card={"experiment": "tiny"}))


def test_bundle_reproduces_its_golden_vectors(work: Path) -> None:
    bundle = _read(work)
    prove(bundle, "tiny.bundle")
    np.testing.assert_allclose(bundle.golden.probabilities.sum(axis=1), 1, atol=1e-5)
    wrong = msgspec.structs.replace(bundle.golden, probabilities=np.roll(bundle.golden.probabilities, 1, axis=1))
    with pytest.raises(BundleError, match="golden vector 0"):
        prove(msgspec.structs.replace(bundle, golden=wrong), "tiny.bundle")


def test_evaluate_prints_one_json_object(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", "--bundle", str(work / "tiny.bundle"), "--data", str(work / "prepared"), "--json"]
    assert main([*asked, "--no-noise", "--speakers", "all", "--plot", str(work / "evaluation.png")]) == 0
    evaluation = msgspec.json.decode(capsys.readouterr().out, type=Evaluation)
    assert [group.standing for group in evaluation.groups] == ["held out", "validation", "training"]
    assert ["optimistic" in group.note for group in evaluation.groups] == [False, True, True]
    held_out = evaluation.groups[0]
    assert held_out == read_run(work / "run").folds[0].test
    assert held_out.same_windows is not None
    assert held_out.same_windows > 0.95
    assert (work / "evaluation.png").stat().st_size > 1000


def test_evaluate_reads_recordings_as_well_as_a_cache(
    work: Path, tiny_corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for data in (work / "prepared", tiny_corpora):
        assert main(["evaluate", "--bundle", str(work / "tiny.bundle"), "--data", str(data), "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert [group["standing"] for group in said[0]["groups"]] == ["held out"]


def test_evaluate_tables_name_the_split(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", "--bundle", str(work / "tiny.bundle"), "--data", str(work / "prepared"), "--no-noise"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "split: by speaker, fold 0" in out
    assert "float and quantized agree on" in out


def test_evaluate_without_new_speakers_says_so(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = _read(work)
    speakers = ("ravdess_01", "ravdess_02", "savee_DC", *bundle.manifest.training.trained_speakers)
    training = msgspec.structs.replace(bundle.manifest.training, trained_speakers=speakers)
    manifest = msgspec.structs.replace(bundle.manifest, training=training)
    path = tmp_path / "seen.bundle"
    path.write_bytes(write_bundle(msgspec.structs.replace(bundle, manifest=manifest)))
    code = main(["evaluate", "--bundle", str(path), "--data", str(work / "prepared")])
    assert code == DataError.exit_code
    assert "--speakers all" in capsys.readouterr().err


def test_training_twice_gives_the_same_model_and_folds_add_up(work: Path) -> None:
    """To the last bit only on a quiet machine: sums on the CPU depend on where the memory happens to lie."""
    assert main(_train(work, out="again")) == 0
    first, again = (
        Runner((work / run / "fold-0/seed-1/reference.tflite").read_bytes(), run) for run in ("run", "again")
    )
    inputs = np.random.default_rng(0).standard_normal((8, 30, 12)).astype(np.float32)
    assert np.allclose([first(each) for each in inputs], [again(each) for each in inputs], atol=0.02)
    assert main([*_train(work, out="again"), "--fold", "1"]) == 0
    run = read_run(work / "again")
    assert [fold.fold for fold in run.folds] == [0, 1]
    tested = [fold.test.models["quantized"].corpora["ravdess"].clips for fold in run.folds if fold.test]
    assert summarise(run).corpora["ravdess"].clips == sum(tested)


def test_training_again_keeps_what_is_finished(work: Path) -> None:
    model = work / "run/fold-0/seed-1/model.tflite"
    before = (model.stat().st_mtime_ns, read_run(work / "run"))
    assert main(_train(work)) == 0
    assert (model.stat().st_mtime_ns, read_run(work / "run")) == before


def test_training_into_a_run_of_other_settings_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = work / "other.toml"
    config.write_text(TINY.replace("dropout = 0.1", "dropout = 0.2"))
    assert main([*_train(work), "--config", str(config)]) == SettingsError.exit_code
    assert "holds results of other settings" in capsys.readouterr().err


def test_two_seeds_and_a_refit_give_a_spread(work: Path) -> None:
    config = work / "seeds.toml"
    config.write_text(TINY.replace("epochs = 10", "epochs = 2\nseeds = [1, 2]\nrefit = true"))
    assert main([*_train(work, out="seeds"), "--config", str(config)]) == 0
    run = read_run(work / "seeds")
    assert [(fold.fold, fold.seed) for fold in run.folds] == [(0, 1), (0, 2)]
    spread = summarise(run).figures["corpus-macro UAR"]
    told = [fold.test.models["quantized"].macro_uar for fold in run.folds if fold.test]
    assert (spread.low, spread.high) == (min(told), max(told))
    assert set(run.folds[0].origin.validation_speakers) <= set(run.folds[0].origin.trained_speakers)


def test_model_of_all_speakers_is_tested_on_nobody(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out, bundle = work / "all.toml", work / "all", work / "all.bundle"
    config.write_text(TINY.replace("epochs = 10", "epochs = 1"))
    asked = ["--config", str(config), "--data", str(work / "prepared"), "--out", str(out)]
    assert main(["train", "--all-speakers", *asked]) == 0
    assert read_run(out).folds[0].test is None
    assert main([*_bundle(work, "--compare", str(work / "run")), "--run", str(out), "--out", str(bundle)]) == 0
    assert set(read_card(read_bundle(bundle.read_bytes(), "all")).cross_validation) == {"tiny"}
    capsys.readouterr()
    assert main(["evaluate", "--bundle", str(bundle), "--data", str(work / "prepared")]) == DataError.exit_code
    assert "--speakers all" in capsys.readouterr().err


def test_split_by_clip_is_called_optimistic_everywhere(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = work / "short.toml"
    config.write_text(TINY.replace("epochs = 10", "epochs = 1"))
    out = work / "by-clip"
    asked = [
        "train",
        "--by-clip",
        "--config",
        str(config),
        "--data",
        str(work / "prepared"),
        "--out",
        str(out),
    ]
    assert main(asked) == 0
    assert "OPTIMISTIC" in capsys.readouterr().out
    assert [is_by_clip(fold.origin.split) for fold in read_run(out).folds] == [True] * 5
    assert read_run(out).experiment == "tiny-by-clip"
    bundle = work / "by-clip.bundle"
    assert main([*_bundle(work), "--run", str(out), "--out", str(bundle)]) == 0
    seen = ["evaluate", "--no-noise", "--bundle", str(bundle), "--data", str(work / "prepared"), "--speakers", "all"]
    assert main(seen) == 0
    assert "optimistic" in capsys.readouterr().out
    assert main([*asked, "--fold", "5"]) == SettingsError.exit_code


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--fold", "3"), "has no fold 3"),
        (("--name", "Not A Name"), "--name Not A Name"),
        (("--licence", "/nowhere/LICENSE"), "/nowhere/LICENSE"),
        (("--run", "/nowhere"), "no results of a training run"),
    ],
)
def test_bundle_refuses_in_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert main([*_bundle(work), *more]) in {DataError.exit_code, BundleError.exit_code}
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_train_refuses_a_fold_without_speakers(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_train(work), "--fold", "4"]) == SettingsError.exit_code
    assert "allowed are 0, 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [(("--threads", "0"), "--threads 0"), (("--out", "/dev/null/run"), "/dev/null/run: the run folder cannot be made")],
)
def test_train_refuses_in_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert main([*_train(work), *more]) == SettingsError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_train_refuses_a_fold_folder_that_cannot_be_made(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "blocked").mkdir()
    (work / "blocked" / "fold-0").write_text("a file")
    assert main(_train(work, out="blocked")) == SettingsError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "blocked/fold-0/seed-1: cannot be written" in error


def test_evaluate_refuses_a_picture_it_cannot_write(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", "--bundle", str(work / "tiny.bundle"), "--data", str(work / "prepared")]
    assert main([*asked, "--plot", "/dev/null/picture.png"]) == SettingsError.exit_code
    assert "--plot /dev/null/picture.png" in capsys.readouterr().err


def test_bundle_holds_no_recording(work: Path) -> None:
    with zipfile.ZipFile(io.BytesIO((work / "tiny.bundle").read_bytes())) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".wav", ".flac"))]

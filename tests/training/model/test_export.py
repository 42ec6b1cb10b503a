import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import Training, write_bundle
from broker.contract.decision import CLASSES, DecisionSpec
from broker.contract.features import Normalisation
from training.__main__ import main
from training.config import Experiment
from training.data.clips import Clip
from training.data.prepare import open_collection
from training.exam.evaluate import Figures
from training.exam.metrics import score
from training.exam.predictions import PREDICTIONS_NAME, Prediction, write_predictions
from training.fitting.results import RESULTS_NAME, FoldResult, Machine, Run, fold_folder
from training.model.convert import convert
from training.model.export_table import Table
from training.model.network import build, export_form, keras, save
from training.model.pack import Order, make_bundle
from training.model.plain import write_out

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "features": {"coefficients": 12, "fft_samples": 1024, "hop_samples": 512, "mel_bands": 32, "floor_db": -60.0},
    "window": {"length_samples": 16_000, "hop_samples": 8_000},
    "views": {"kind": "paper"},
    "network": {"kind": "conv-lstm", "convolutions": [{"filters": 24}], "units": 24, "pooling": "mean-std"},
    "recipe": {"epochs": 1, "patience": 1, "outputs": "emotions"},
}
TESTED, CHOSE = "ravdess_01", "ravdess_02"


def _result(experiment: Experiment, parameters: int) -> FoldResult:
    right = np.arange(len(CLASSES))
    scores = score(right, right)
    return FoldResult(
        fold=0,
        seed=1,
        origin=Training(
            experiment="tiny",
            split="by speaker, fold 0",
            trained_speakers=("ravdess_06",),
            validation_speakers=(CHOSE,),
            held_out_speakers=(TESTED,),
        ),
        training_clips={"ravdess": 16},
        epochs=(),
        best_epoch=0,
        parameters=parameters,
        float_bytes=1,
        quantized_bytes=1,
        normalisation=Normalisation(mean=(0.0,) * experiment.features.columns, deviation=(10.0,) * 12),
        temperature=1.5,
        bias=(0.1, 0.0, -0.1),
        decision=DecisionSpec(),
        validation=Figures(pooled=scores, corpora={}, macro_uar=1.0, uncertain_share=0.0, decided={}),
        test=None,
        cross_corpus=None,
        test_cropped=None,
        seconds=1.0,
    )


def _predicted(clip: Clip) -> Prediction:
    return Prediction(
        key=clip.key,
        corpus=clip.corpus,
        speaker=clip.speaker,
        sex=clip.sex,
        emotion=clip.emotion,
        truth=clip.label,
        probabilities=(1.0, 0.0, 0.0),
        decided=CLASSES[0],
        windows=1,
    )


@pytest.fixture(scope="module")
def run(tiny_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train` would leave of one fold, with random weights."""
    experiment = msgspec.convert(SETTINGS, Experiment)
    keras.utils.set_random_seed(1)
    model = build(experiment.network, 7, (30, 12))
    result = _result(experiment, model.count_params())
    plain = write_out(experiment, export_form(experiment, model, result.temperature, np.array(result.bias)))
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    place = fold_folder(folder, 0, 1)
    place.mkdir(parents=True)
    (place / "model.tflite").write_bytes(convert(plain, "dynamic"))
    (place / "reference.tflite").write_bytes(convert(plain, "float32"))
    save(model, place / "network.keras")
    clips = open_collection(tiny_corpora)[0].clips
    write_predictions([_predicted(clip) for clip in clips if clip.speaker == TESTED], place / PREDICTIONS_NAME)
    machine = Machine(processor="x", cores=1, python="3", tensorflow="2", litert="2")
    whole = Run(
        experiment="tiny", created="2026-01-02", settings=experiment, machine=machine, folds=(result,), energy=None
    )
    (folder / RESULTS_NAME).write_bytes(msgspec.json.encode(whole))
    return folder


def _export(*arguments: str | Path) -> int:
    return main(["export", "--rounds", "3", *map(str, arguments)])


def _table(out: Path) -> Table:
    return msgspec.json.decode((out / "table.json").read_bytes(), type=Table)


def test_run_becomes_a_table_of_every_kind(
    run: Path, tiny_corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export("--run", run, "--data", tiny_corpora, "--out", tmp_path) == 0
    table = _table(tmp_path)
    rows = {row.name: row for row in table.rows}
    assert list(rows)[-4:] == ["float32", "float16", "dynamic", "int8"]
    assert (table.model, table.clips, table.windows) == ("tiny/1", 16, 16)
    assert not table.notes

    moments, predict, compiled = list(rows.values())[:3]
    assert moments.bytes is not None
    assert predict.bytes is not None
    assert 8 * (table.parameters or 0) < moments.bytes - predict.bytes < 12 * (table.parameters or 0) + 40_000
    for kind in ("float32", "float16", "dynamic", "int8"):
        row = rows[kind]
        assert row.bytes == (tmp_path / f"model-{kind}.tflite").stat().st_size
        assert row.same_windows is not None
        assert row.same_windows > 0.8
        assert row.fastest_us is not None
        assert row.median_us is not None
        assert 0 < row.fastest_us <= row.median_us
        assert row.fastest_us < (predict.fastest_us or 0)
    assert rows["float32"].accuracy == compiled.accuracy

    printed, markdown = capsys.readouterr().out, (tmp_path / "table.md").read_text()
    assert markdown in printed
    assert "1,568,912 -> 150,032 bytes" in markdown
    assert f"| float32 | {rows['float32'].bytes:,} |" in markdown
    grid = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in grid} == {9}
    assert {path.suffix for path in tmp_path.iterdir()} == {".tflite", ".json", ".md", ".c", ".h", ""}
    assert "Research-Weights" in (tmp_path / "sottovoce_model.c").read_text()


def test_bundle_is_exported_without_training_data(run: Path, tmp_path: Path) -> None:
    licence = tmp_path / "terms"
    licence.write_text("for tests\n")
    bundle = make_bundle(Order(run=run, name="small", version=4, fold=0, licence=licence))
    (tmp_path / "small.bundle").write_bytes(write_bundle(bundle))
    out = tmp_path / "out"
    assert _export("--bundle", tmp_path / "small.bundle", "--out", out, "--spdx", "MIT") == 0
    table = _table(out)
    assert [row.name for row in table.rows] == ["float32", "dynamic"]
    assert (table.model, table.clips, table.parameters) == ("small/4", 0, None)
    assert table.firmware == "float32"
    assert (out / "model-dynamic.tflite").read_bytes() == bundle.model
    assert (out / "sottovoce_settings.h").read_text().startswith("/* SPDX-License-Identifier: MIT\n")
    assert (out / "LICENSE").read_text() == "for tests\n"


def test_fold_without_its_keras_file_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (fold_folder(copied, 0, 1) / "network.keras").write_bytes(b"no network")
    out = tmp_path / "out"
    assert _export("--run", copied, "--out", out) == 7
    assert "no network of the experiment tiny" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fold", "3"], 7, "no fold 3"),
        (["--rounds", "0"], 2, "--rounds 0: allowed is 1 or more"),
        (["--version", "0"], 4, "--version 0"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert _export("--run", run, "--out", tmp_path / "out", *arguments) == code
    assert message in capsys.readouterr().err


def test_table_is_plain_json(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _export("--run", run, "--out", out) == 0
    content = json.loads((out / "table.json").read_text())
    assert content["notes"] == ["int8: not made, for its ranges are measured on validation clips; give --data."]
    assert content["paper"]["bytes"] == [1_568_912, 150_032]
    assert [row["name"] for row in content["rows"]][-3:] == ["float32", "float16", "dynamic"]

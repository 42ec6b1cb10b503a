import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.bundle import Manifest
from broker.contract.features import FeatureSpec
from training.config import Experiment
from training.model.convert import Kind, convert
from training.model.firmware import Firmware, c_sources
from training.model.microcontroller import Trial, try_on_micro
from training.model.network import build, export_form, keras
from training.model.plain import write_out
from training.model.runtime import Runner

Features = npt.NDArray[np.float32]

MANIFEST: dict[str, Any] = {
    "name": "tiny",
    "version": 7,
    "created": "2026-01-02",
    "labels": ["pleasant", "neutral", "unpleasant"],
    "features": {"coefficients": 12, "fft_samples": 1024, "hop_samples": 512, "mel_bands": 32, "high_hz": 7_500.0},
    "normalisation": {"mean": [-1.5] * 12, "deviation": [2.0] * 12},
    "window": {"length_samples": 16_000, "hop_samples": 8_000},
    "decision": {"smoothing": 0.25, "uncertain_below": 0.5, "silent_below_dbfs": -61.5},
    "litert_at_least": "2.3.0",
    "training": {
        "experiment": "tiny",
        "split": "by speaker, fold 0",
        "trained_speakers": [],
        "validation_speakers": [],
        "held_out_speakers": [],
    },
    "members": {},
}

IN_ARENA = """
import sys
from tflite_micro.python.tflite_micro.runtime import Interpreter
interpreter = Interpreter.from_file("model.tflite", arena_size=int(sys.argv[1]))
sys.exit(interpreter.invoke())
"""

MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "sottovoce_check.h"
#include "sottovoce_model.h"
#include "sottovoce_settings.h"

int main(void) {
  if ((uintptr_t)sottovoce_model % 16 != 0) return 2;
  if (SOTTOVOCE_FRAMES * SOTTOVOCE_COLUMNS * sizeof(float) != sizeof sottovoce_check_features) return 3;
  if (sottovoce_check_features[1] != FEATURE || sottovoce_check_probabilities[2] != 0.5f) return 4;
  if (SOTTOVOCE_FEATURES_SAMPLE_RATE_HZ != 16000 || SOTTOVOCE_FEATURES_HIGH_HZ != 7500.0f) return 5;
  if (SOTTOVOCE_WINDOW_LENGTH_SAMPLES != 16000 || SOTTOVOCE_WINDOW_HOP_SAMPLES != 8000) return 6;
  if (sottovoce_mean[11] != -1.5f || sottovoce_deviation[0] != 2.0f) return 7;
  if (SOTTOVOCE_LABELS != 3 || strcmp(sottovoce_labels[2], "unpleasant") != 0) return 8;
  if (SOTTOVOCE_DECISION_SMOOTHING != 0.25f || SOTTOVOCE_DECISION_SILENT_BELOW_DBFS != -61.5f) return 9;
  if (SOTTOVOCE_ARENA_BYTES != 4096 || SOTTOVOCE_FEATURES_CENTRED != 0) return 10;
  return fwrite(sottovoce_model, 1, SOTTOVOCE_MODEL_BYTES, stdout) == SOTTOVOCE_MODEL_BYTES ? 0 : 11;
}
"""


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return msgspec.convert(MANIFEST, Manifest)


@pytest.fixture(scope="module")
def windows(manifest: Manifest) -> Features:
    return np.random.default_rng(3).standard_normal((20, *manifest.input_shape)).astype(np.float32)


@pytest.fixture(scope="module")
def files(manifest: Manifest, windows: Features) -> dict[Kind, bytes]:
    """A small network with random weights."""
    settings = {key: MANIFEST[key] for key in ("name", "features", "window")}
    network = {"kind": "conv-lstm", "convolutions": [{"filters": 24}], "units": 24, "pooling": "mean-std"}
    recipe = {"epochs": 1, "patience": 1}
    experiment = msgspec.convert(
        {**settings, "views": {"kind": "paper"}, "network": network, "recipe": recipe}, Experiment
    )
    keras.utils.set_random_seed(1)
    trained = build(experiment.network, 3, manifest.input_shape)
    plain = write_out(experiment, export_form(experiment, trained, 1.0, np.zeros(3)))
    kinds: tuple[Kind, ...] = ("float32", "float16", "dynamic", "int8")
    return {kind: convert(plain, kind, windows) for kind in kinds}


def _try(files: dict[Kind, bytes], kind: Kind, windows: Features) -> Trial:
    pytest.importorskip("tflite_micro", reason="there is no tflite_micro for this machine")
    run = Runner(files[kind], kind)
    return try_on_micro(files[kind], windows[:3], np.stack([run(window) for window in windows[:3]]))


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("int8", 0.01)])
def test_kind_for_microcontrollers_runs_and_answers_as_litert(
    files: dict[Kind, bytes], windows: Features, kind: Kind, tolerance: float
) -> None:
    trial = _try(files, kind, windows)
    assert trial.difference is not None, trial
    assert trial.difference < tolerance
    assert trial.arena_bytes is not None
    assert trial.arena_bytes % 1024 == 0
    assert trial.arena_bytes > windows[0].nbytes
    assert str(trial).startswith("runs, largest difference ")


def test_arena_is_the_least_that_the_model_runs_in(files: dict[Kind, bytes], windows: Features, tmp_path: Path) -> None:
    arena_bytes = _try(files, "int8", windows).arena_bytes
    assert arena_bytes is not None
    (tmp_path / "model.tflite").write_bytes(files["int8"])
    codes = [
        subprocess.run(
            [sys.executable, "-c", IN_ARENA, str(size)], cwd=tmp_path, capture_output=True, check=False
        ).returncode
        for size in (arena_bytes, arena_bytes - 1024)
    ]
    assert codes == [0, 1]


@pytest.mark.parametrize(("kind", "reason"), [("dynamic", "CONV_2D: Hybrid models"), ("float16", "DEQUANTIZE: ")])
def test_kind_that_microcontrollers_cannot_run_names_the_operation(
    files: dict[Kind, bytes], windows: Features, kind: Kind, reason: str
) -> None:
    trial = _try(files, kind, windows)
    assert str(trial).startswith(f"does not run: {reason}")
    assert "\n" not in str(trial)


def test_bytes_that_are_no_model_do_not_run(windows: Features) -> None:
    pytest.importorskip("tflite_micro", reason="there is no tflite_micro for this machine")
    assert try_on_micro(b"no model" * 100, windows[:1], np.zeros((1, 3), np.float32)).difference is None


@pytest.fixture(scope="module")
def firmware(files: dict[Kind, bytes], manifest: Manifest, windows: Features) -> Firmware:
    return Firmware(
        manifest=manifest,
        model=files["int8"],
        kind="int8",
        arena_bytes=4096,
        licence="LicenseRef-Test",
        features=windows[0],
        probabilities=np.array([0.25, 0.25, 0.5], np.float32),
    )


@pytest.mark.parametrize(("compiler", "standard"), [("cc", "-std=c11"), ("c++", "-std=c++11")])
def test_c_sources_compile_and_hold_the_models_bytes(
    firmware: Firmware, tmp_path: Path, compiler: str, standard: str
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler} on this machine")
    for name, text in {**c_sources(firmware), "main.c": MAIN}.items():
        (tmp_path / name).write_text(text)
    language = ["-x", "c++"] if compiler == "c++" else []
    feature = f"-DFEATURE={float(firmware.features[0, 1])!r}f"
    sources = [feature, "main.c", "sottovoce_model.c", "-o", "program"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([compiler, standard, *language, *strict, *sources], cwd=tmp_path, check=True)
    written = subprocess.run([tmp_path / "program"], stdout=subprocess.PIPE, check=True)
    assert written.stdout == firmware.model


def test_c_sources_say_what_they_are(firmware: Firmware) -> None:
    sources = c_sources(firmware)
    for text in sources.values():
        assert text.startswith("/* SPDX-License-Identifier: LicenseRef-Test\n")
        assert "tiny/7, int8, trained 2026-01-02" in text
    assert "\nalignas(16) const unsigned char" in sources["sottovoce_model.c"]  # compilers may do so unasked
    assert "CONV_2D, " in sources["sottovoce_model.h"]
    assert "WHILE" in sources["sottovoce_model.h"]


def test_settings_of_the_front_end_are_complete(firmware: Firmware) -> None:
    settings = c_sources(firmware)["sottovoce_settings.h"]
    for name in FeatureSpec.__struct_fields__:
        assert f"SOTTOVOCE_FEATURES_{name.upper()}" in settings
    assert "/* SOTTOVOCE_FEATURES_TOP_DB: none */" in settings


def test_arena_that_was_never_tried_is_left_out(firmware: Firmware) -> None:
    sources = c_sources(msgspec.structs.replace(firmware, arena_bytes=None))
    assert "/* SOTTOVOCE_ARENA_BYTES: none */" not in sources["sottovoce_model.h"]
    assert "ARENA" not in sources["sottovoce_model.h"]

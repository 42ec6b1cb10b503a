"""What a user gets from `pip install`: the wheel's contents, its names, and wheels for the Raspberry Pi."""

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"broker", "dashboard", "deploy", "edge_node", "training"}
AUDIO_AND_DATA = {".wav", ".flac", ".mp3", ".ogg", ".npy", ".npz", ".csv", ".parquet", ".h5", ".keras", ".tflite"}
RASPBERRY_PI = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
"""What Raspberry Pi OS 12 (64 bit, glibc 2.36) installs; given platforms, pip infers no older ones from the newest."""
OFFLINE = re.compile("NewConnectionError|Temporary failure in name resolution|ConnectTimeout|Network is unreachable")


def _pip(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run pip, which asks the package index; without one there is nothing to test."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and OFFLINE.search(done.stdout + done.stderr) and not os.environ.get("CI"):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


def test_wheel_holds_the_five_packages_and_its_metadata(contents: set[PurePosixPath]) -> None:
    tops = {path.parts[0] for path in contents}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert PurePosixPath(package, "__init__.py") in contents


def test_wheel_holds_the_factory_model_and_both_licences(contents: set[PurePosixPath]) -> None:
    models = PurePosixPath("edge_node/models")
    assert {models / "factory.bundle", models / "LICENSE"} <= contents
    licences = {path.relative_to(path.parents[-3]) for path in contents if ".dist-info/licenses/" in str(path)}
    assert {str(path) for path in licences} == {"LICENSE", "edge_node/models/LICENSE"}


def test_wheel_holds_no_tests_no_training_data_and_no_recording_but_the_demo(contents: set[PurePosixPath]) -> None:
    data = {path for path in contents if path.suffix.lower() in AUDIO_AND_DATA}
    demo = PurePosixPath("deploy/demo/audio")
    assert {path for path in data if not path.is_relative_to(demo)} == set()
    assert {path for path in data if path.is_relative_to(demo)} != set()
    for path in contents:
        assert not {"tests", "runs", "ci", "__pycache__"} & set(path.parts[:-1]), path
        assert not path.name.startswith("test_"), path


def test_wheel_programs_exist(wheel: Path, contents: set[PurePosixPath]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        programs = re.findall(r"^(\S+) = ([\w.]+):main$", archive.read(name).decode(), re.MULTILINE)
    assert {program for program, _ in programs} >= {"sottovoce-node", "sottovoce-collector", "sottovoce-console"}
    for _, module in programs:
        assert PurePosixPath(f"{module.replace('.', '/')}.py") in contents


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_package_name_is_ours_alone(name: str) -> None:
    """The names are ordinary words (docs/adr): an installed package of the same name would shadow ours."""
    assert set(importlib.metadata.packages_distributions().get(name, ())) <= {"sottovoce"}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_node_resolves_to_wheels_for_64_bit_raspberry_pi_os(wheel: Path, tmp_path: Path, python: str) -> None:
    done = _pip(
        *("install", "--dry-run", "--ignore-installed", "--target", tmp_path, "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", python),
        *(f"--platform={platform}" for platform in RASPBERRY_PI),
        f"{wheel}[node]",
    )
    (chosen,) = re.findall(r"^Would install (.+)$", done.stdout, re.MULTILINE)
    for package in ("ai-edge-litert", "numpy", "msgspec", "paho-mqtt", "sounddevice", "soundfile", "soxr"):
        assert f"{package}-" in chosen
    for package in ("tuf", "securesystemslib", "cryptography"):  # which check signatures of model updates
        assert f"{package}-" in chosen
    assert "tensorflow" not in chosen

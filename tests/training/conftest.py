"""Corpora that nobody spoke, in the official layouts."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from broker.contract.bundle import Bundle, read_bundle, write_bundle
from edge_node.models import factory_bundle
from training.data.clips import Clip, digest
from training.data.corpora import CLASS_OF, Emotion
from training.data.synthetic import voiced, write_corpora

Write = Callable[..., Path]


@pytest.fixture
def speech() -> Callable[..., npt.NDArray[np.float32]]:
    def make(
        seconds: float = 0.3, rate: int = 16_000, pitch_hz: float = 150.0, seed: int = 0
    ) -> npt.NDArray[np.float32]:
        return voiced(round(seconds * rate), rate, pitch_hz, -25.0, np.random.default_rng(seed))

    return make


@pytest.fixture
def write(tmp_path: Path, speech: Callable[..., npt.NDArray[np.float32]]) -> Write:
    """Write one recording under tmp_path/data, different from every other."""
    count = iter(range(10_000))

    def make(
        name: str, *, rate: int = 16_000, channels: int = 1, seconds: float = 0.3, container: str | None = None
    ) -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = speech(seconds, rate, seed=next(count))
        stacked = np.stack([samples] + [np.zeros_like(samples)] * (channels - 1), axis=1)
        soundfile.write(path, stacked, rate, format=container)
        return path

    return make


@pytest.fixture
def clip() -> Callable[..., Clip]:
    def make(
        speaker: str = "ravdess_01", emotion: Emotion = Emotion.SAD, stem: str = "a", sha256: str | None = None
    ) -> Clip:
        return Clip(
            corpus=speaker.split("_", maxsplit=1)[0],
            speaker=speaker,
            sex="male",
            emotion=emotion,
            label=CLASS_OF[emotion],
            stem=f"{speaker}-{stem}",
            duration_s=1.0,
            source_sha256="",
            sha256=sha256 or digest(f"{speaker} {emotion} {stem}".encode()),
            start=0,
        )

    return make


@pytest.fixture(scope="session")
def tiny_corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS and SAVEE speakers of folds 0 and 1, whose pitch tells the emotion."""
    folder = tmp_path_factory.mktemp("corpora")
    write_corpora(folder)
    return folder


@pytest.fixture(scope="session")
def examined_bundle() -> Bundle:
    """The factory model with a manifest as if RAVDESS 01 and SAVEE DC had not trained it."""
    bundle = read_bundle(factory_bundle(), "factory.bundle")
    held_out = ("ravdess_01", "savee_DC")
    training = bundle.manifest.training
    training = msgspec.structs.replace(
        training,
        trained_speakers=tuple(name for name in training.trained_speakers if name not in held_out),
        validation_speakers=tuple(name for name in training.validation_speakers if name not in held_out),
        held_out_speakers=held_out,
    )
    manifest = msgspec.structs.replace(bundle.manifest, training=training)
    return msgspec.structs.replace(bundle, manifest=manifest, card={})


@pytest.fixture(scope="session")
def examined_path(examined_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examined") / "factory.bundle"
    path.write_bytes(write_bundle(examined_bundle))
    return path


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Real corpora, which the repository may not hold."""
    folder = Path(os.environ.get("SOTTOVOCE_DATASETS", Path(__file__).parents[3] / "shared" / "datasets"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set SOTTOVOCE_DATASETS to the folder that holds the corpora")
    return folder

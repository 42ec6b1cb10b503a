"""Corpora that nobody spoke, in the official layouts."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from training.clips import Clip, digest
from training.corpora import CLASS_OF, Emotion
from training.synthetic import voiced

Write = Callable[..., Path]

PITCH_HZ = {
    "neutral": 110.0,
    "happy": 330.0,
    "surprised": 360.0,
    "angry": 200.0,
    "fearful": 210.0,
    "disgust": 190.0,
    "sad": 180.0,
}


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
            corpus=speaker.split("_", maxsplit=1)[0],  # type: ignore[arg-type]  # a literal, by construction
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
    random = np.random.default_rng(7)

    def record(path: Path, emotion: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pitch = PITCH_HZ[emotion] * random.uniform(0.95, 1.05)
        soundfile.write(path, voiced(19_200, 16_000, pitch, random.uniform(-30, -20), random), 16_000)

    emotions = ("neutral", "neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    for actor in (1, 2, 6, 7, 8, 9):
        for code, emotion in enumerate(emotions, 1):
            for take in (1, 2):
                record(folder / f"Actor_{actor:02d}" / f"03-01-{code:02d}-01-01-{take:02d}-{actor:02d}.wav", emotion)
    letters = {
        "n": "neutral",
        "h": "happy",
        "su": "surprised",
        "a": "angry",
        "f": "fearful",
        "d": "disgust",
        "sa": "sad",
    }
    for speaker in ("DC", "JE", "JK"):
        for letter, emotion in letters.items():
            record(folder / "AudioData" / speaker / f"{letter}01.wav", emotion)
    return folder


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Real corpora, which the repository may not hold."""
    folder = Path(os.environ.get("SOTTOVOCE_DATASETS", Path(__file__).parents[3] / "shared" / "datasets"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set SOTTOVOCE_DATASETS to the folder that holds the corpora")
    return folder

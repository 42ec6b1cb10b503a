"""What every test may use: audio that the project makes, and the corpora where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 16_000


def babble(seconds: float, seed: int = 0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Return something that rises, falls and pauses like speech, shape (n,), float32; a signal, not a voice."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch = 140 + 60 * np.sin(2 * np.pi * 0.4 * time) + 15 * np.sin(2 * np.pi * 2.1 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voiced = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.7 * time) + 0.4, 0, None)
    return (0.15 * syllables * voiced + 0.005 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 30 s recording."""
    path = tmp_path_factory.mktemp("audio") / "made.wav"
    soundfile.write(path, babble(30), RATE_HZ)
    return path


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder with the corpora."""
    beside = Path(__file__).parents[2] / "shared" / "datasets"
    path = Path(os.environ.get("SOTTOVOCE_DATASETS", beside))
    if not (path / "ravdess").is_dir():
        pytest.skip(f"the corpora are not at {path}; set SOTTOVOCE_DATASETS")  # no clip may be committed
    return path

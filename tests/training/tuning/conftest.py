from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from training.data.clips import Clip, Collection, open_cache


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Whose clips a search reads."""
    speakers: set[str] = set()

    def listening(folder: Path) -> Collection:
        collection = open_cache(folder)

        def read(clip: Clip) -> npt.NDArray[np.float32]:
            speakers.add(clip.speaker)
            return collection.read(clip)

        return msgspec.structs.replace(collection, read=read)

    monkeypatch.setattr("training.tuning.tune.open_cache", listening)
    return speakers

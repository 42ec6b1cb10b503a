"""The paper's storage: the features and the encoded label of every clip in one CSV file.

    clip,label,code,mfcc_0_0,mfcc_0_1,...,mfcc_46_12
    ravdess/03-01-05-01-01-01-01,unpleasant,2,-412.1093,...

`code` numbers the labels in the order of the alphabet; `mfcc_T_C` is coefficient C of frame T.
"""

import contextlib
import csv
from pathlib import Path
from typing import Final

import numpy as np

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError
from broker.contract.features import PAPER_FEATURES, extract, frame_count
from training.data.clips import RATE_HZ, Clip, Collection
from training.files import writing
from training.progress import track

__all__ = ["write_paper_csv"]

_START: Final = round(0.4 * RATE_HZ)
_SAMPLES: Final = round(1.5 * RATE_HZ)
"""The paper hears 0.4 s to 1.9 s of a recording."""


def write_paper_csv(collection: Collection, path: Path) -> int:
    """Return the number of clips written to `path`: one row each, 47 frames of 13 MFCC of its crop.

    A clip that ends before the crop does is padded with silence.

    Raises:
        DataError: the file cannot be written, or the clips cannot be read.
    """
    codes = {label: code for code, label in enumerate(sorted(CLASSES))}
    frames = frame_count(_SAMPLES, PAPER_FEATURES)
    names = [f"mfcc_{frame}_{number}" for frame in range(frames) for number in range(PAPER_FEATURES.coefficients)]
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path, "free space or choose another file", failure=DataError):
            with part.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["clip", "label", "code", *names])
                for clip in track(collection.clips, "features"):
                    writer.writerow([clip.key, clip.label, codes[clip.label], *_features(collection, clip)])
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return len(collection.clips)


def _features(collection: Collection, clip: Clip) -> list[str]:
    crop = collection.read(clip)[_START : _START + _SAMPLES]
    padded = np.pad(crop, (0, _SAMPLES - len(crop)))
    return [f"{value:.4f}" for value in extract(padded, PAPER_FEATURES, None).ravel()]

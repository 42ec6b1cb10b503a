"""openSMILE's eGeMAPSv02 functionals: 88 numbers per recording, kept on disk.

The acoustic set that studies of emotional speech report most. The baseline is made of it; no node ever computes it.
Source: Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective
Computing; version 02 as openSMILE 3 defines it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError, SettingsError
from training.clips import RATE_HZ, Clip, Collection, digest
from training.exam import Condition
from training.noise import LEVELS_DB, add_noise, noises
from training.progress import track

__all__ = ["COUNT", "SET", "Functionals", "Rows", "load_functionals"]

SET: Final = "eGeMAPSv02"
COUNT: Final = 88

Samples = npt.NDArray[np.float32]
Functionals = npt.NDArray[np.float32]
Rows = dict[str, Functionals]
"""Shape (88,), float32, by the clip's key."""


def load_functionals(collection: Collection, in_noise: Sequence[Clip], store: Path) -> dict[Condition | None, Rows]:
    """Return the functionals of all clips in quiet (None), and of some in noise; none is computed twice.

    Args:
        collection: clips and how to hear them; babble is made of them all.
        in_noise: those to hear in noise as well, which takes ten times as long.
        store: folder with a file per recording, made if absent; its files may be deleted at any time.

    Raises:
        SettingsError: the package `opensmile` is missing.
        DataError: the store cannot be written.
    """
    recall = _open(store)
    rows: dict[Condition | None, Rows] = {None: {}}
    for clip in track(collection.clips, f"{SET} functionals"):
        rows[None][clip.key] = recall(clip.sha256, partial(collection.read, clip))
    for clip in track(in_noise, "the same in noise") if in_noise else ():
        samples = collection.read(clip)
        for colour, unit in noises(clip, len(samples), collection).items():
            for level in LEVELS_DB:
                noisy = add_noise(samples, unit, level)
                row = recall(digest(noisy.tobytes()), noisy.copy)  # by content: other noise is never mistaken for it
                rows.setdefault(Condition(colour=colour, below_speech_db=level), {})[clip.key] = row
    return rows


def _open(store: Path) -> Callable[[str, Callable[[], Samples]], Functionals]:
    """Return a function from the SHA-256 of some samples, and how to hear them, to their functionals."""
    compute = _extractor()

    def recall(sha256: str, hear: Callable[[], Samples]) -> Functionals:
        path = store / f"{sha256}.npy"
        try:
            kept = _kept(path)
            return _keep(path, compute(hear())) if kept is None else kept
        except OSError as error:
            msg = f"{store}: functionals cannot be written ({error.strerror}); free space or choose another --features"
            raise DataError(msg) from error

    return recall


def _kept(path: Path) -> Functionals | None:
    """Return what an earlier run has left; None: nothing, or a file that is not whole."""
    try:
        row = np.load(path, allow_pickle=False)
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return row if isinstance(row, np.ndarray) and row.shape == (COUNT,) else None


def _keep(path: Path, row: Functionals) -> Functionals:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, row)
    temporary.replace(path)
    return row


def _extractor() -> Callable[[Samples], Functionals]:
    try:
        import opensmile  # noqa: PLC0415  # optional, and brings pandas
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[baseline]'"
        raise SettingsError(msg) from error
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def compute(samples: Samples) -> Functionals:
        row: Functionals = smile.process_signal(samples, RATE_HZ).to_numpy(dtype=np.float32)[0]
        return row

    return compute

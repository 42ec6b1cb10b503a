"""openSMILE's eGeMAPSv02 functionals: 88 numbers per recording, kept on disk.

The acoustic set that studies of emotional speech report most. The baseline is made of it; no node ever computes it.
Source: Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective
Computing; version 02 as openSMILE 3 defines it.
"""

import io
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError, SettingsError
from broker.files import write_whole
from training.augment.noise import LEVELS_DB, Colour, add_noise, noises
from training.data.clips import RATE_HZ, Clip, Collection, digest
from training.files import writing
from training.progress import track

__all__ = ["COUNT", "SET", "Functionals", "Noise", "Rows", "load_functionals"]

SET: Final = "eGeMAPSv02"
COUNT: Final = 88

Samples = npt.NDArray[np.float32]
Functionals = npt.NDArray[np.float32]
Rows = dict[str, Functionals]
"""Shape (88,), float32, by the clip's key."""
Noise = tuple[Colour, int]
"""Its colour, and how many dB it lies below the active speech level."""


def load_functionals(collection: Collection, in_noise: Sequence[Clip], store: Path) -> dict[Noise | None, Rows]:
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
    rows: dict[Noise | None, Rows] = {None: {}}
    for clip in track(collection.clips, f"{SET} functionals"):
        rows[None][clip.key] = recall(clip.sha256, partial(collection.read, clip))
    for clip in track(in_noise, "the same in noise") if in_noise else ():
        samples = collection.read(clip)
        for colour, unit in noises(clip, len(samples), collection).items():
            for level in LEVELS_DB:
                noisy = add_noise(samples, unit, level)
                row = recall(digest(noisy.tobytes()), noisy.copy)  # by content: other noise is never mistaken for it
                rows.setdefault((colour, level), {})[clip.key] = row
    return rows


def _open(store: Path) -> Callable[[str, Callable[[], Samples]], Functionals]:
    """Return a function from the SHA-256 of some samples, and how to hear them, to their functionals."""
    compute = _extractor()

    def recall(sha256: str, hear: Callable[[], Samples]) -> Functionals:
        path = store / f"{sha256}.npy"
        with writing(store, "free space or choose another --features", what="functionals", failure=DataError):
            kept = _kept(path)
            return _keep(path, compute(hear())) if kept is None else kept

    return recall


def _kept(path: Path) -> Functionals | None:
    """Return what an earlier run has left; None: nothing, or a file that is not whole."""
    try:
        row = np.load(path, allow_pickle=False)
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return row if isinstance(row, np.ndarray) and row.shape == (COUNT,) else None


def _keep(path: Path, row: Functionals) -> Functionals:
    content = io.BytesIO()
    np.save(content, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getbuffer())
    return row


def _extractor() -> Callable[[Samples], Functionals]:
    """Return a function from a recording to its functionals, computed in a process of its own.

    openSMILE is native code that aborts the process it runs in when other native libraries, such as TensorFlow's, have
    come before it.
    """
    if find_spec("opensmile") is None:
        msg = "the package opensmile is missing: pip install 'sottovoce[baseline]'"
        raise SettingsError(msg)
    apart = ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))

    def compute(samples: Samples) -> Functionals:
        try:
            return apart.submit(_functionals, samples).result()
        except BrokenProcessPool as error:
            msg = f"openSMILE died on a recording of {len(samples) / RATE_HZ:.2f} s; look for one that is damaged"
            raise DataError(msg) from error

    return compute


def _functionals(samples: Samples) -> Functionals:
    row: Functionals = _smile().process_signal(samples, RATE_HZ).to_numpy(dtype=np.float32)[0]
    return row


@cache
def _smile() -> Any:  # noqa: ANN401 -- it has no types
    import opensmile  # noqa: PLC0415  # optional, and brings pandas

    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

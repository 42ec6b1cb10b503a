"""Clips at 16 kHz mono: one struct that says what a clip is, and the ways to hear it.

A folder of recordings and a prepared cache both become a `Collection`; what uses clips never asks which.

    cache/
        index.json        every clip, and what could not be used
        <corpus>.npz      int16 samples of all its clips, end to end
"""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from broker.contract.decision import Label
from broker.contract.errors import AudioError, DataError
from training.data.corpora import CLASS_OF, CorpusKey, Emotion, Sex
from training.data.names import Name
from training.data.recordings import Corrupt, Found, find_recordings, usable

__all__ = [
    "FORMAT",
    "INDEX_NAME",
    "RATE_HZ",
    "Clip",
    "Collection",
    "Corrupt",
    "Found",
    "Index",
    "digest",
    "find_recordings",
    "is_cache",
    "make_clip",
    "open_cache",
    "read_clip",
    "read_index",
    "read_samples",
    "to_float",
    "usable",
]

RATE_HZ: Final = 16_000
INDEX_NAME: Final = "index.json"
FORMAT: Final = 1
"""Changes when the cache's layout or the decoding changes, so that an old cache is made again."""

_SHORTEST_S: Final = 0.1
_LOWEST_RATE_HZ: Final = 4_000
_HIGHEST_RATE_HZ: Final = 768_000
_LFS_POINTER: Final = b"version https://git-lfs"
"""What stands in place of a recording where git-lfs has not fetched it."""
_FULL_SCALE: Final = 32_768.0

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One recording."""

    corpus: CorpusKey
    speaker: str
    """`<corpus>_<name>`."""
    sex: Sex | None
    """None: unknown."""
    emotion: Emotion
    label: Label
    """Class that the emotion counts as."""
    stem: str
    """Unique in its corpus."""
    duration_s: float
    """Not rounded: times `RATE_HZ` it is the number of samples."""
    source_sha256: str
    """Of the file, so that a second `prepare` can skip it."""
    sha256: str
    """Of the decoded 16 kHz samples: equal audio is equal here, whatever its container."""
    start: int
    """Position of its first sample in the corpus's array."""

    @property
    def key(self) -> str:
        """Name that no other clip has."""
        return f"{self.corpus}/{self.stem}"


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Table of contents of a prepared cache."""

    format: int
    """Version of the cache's layout."""
    clips: tuple[Clip, ...]
    corrupt: tuple[Corrupt, ...]
    """Recordings that cannot be read."""
    unused: tuple[Corrupt, ...] = ()
    """Rows of tables that cannot be used."""


class Collection(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Clips and how to hear them."""

    clips: tuple[Clip, ...]
    read: Callable[[Clip], Samples]
    """Returns a clip's samples, shape (n,), float32, full scale at 1, at 16 kHz."""


def read_clip(path: Path) -> Pcm:
    """Return a recording as 16 kHz mono, shape (n,), int16; any rate, any channels, container by content.

    Raises:
        AudioError: it cannot be decoded, or holds nothing usable; the message is the reason alone.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(_why_unreadable(path, error)) from error
    if not _LOWEST_RATE_HZ <= rate <= _HIGHEST_RATE_HZ:
        msg = f"sampled at {rate} Hz, allowed are {_LOWEST_RATE_HZ} to {_HIGHEST_RATE_HZ}"
        raise AudioError(msg)
    mono = samples.mean(axis=1)
    if len(mono) < _SHORTEST_S * rate:
        msg = f"{len(mono) / rate:.2f} s long, at least {_SHORTEST_S:g} s are needed"
        raise AudioError(msg)
    if not np.isfinite(mono).all():
        msg = "holds NaN or infinity"
        raise AudioError(msg)
    if not mono.any():
        msg = "holds digital silence only"
        raise AudioError(msg)
    if rate != RATE_HZ:
        mono = soxr.resample(mono, rate, RATE_HZ)
    return np.asarray(np.clip(np.round(mono * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1), dtype=np.int16)


def _why_unreadable(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return "holds a git-lfs pointer, no audio; run `git lfs pull` in its folder"
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})"
    return str(error).replace(f"{str(path)!r}", "file").strip()


def to_float(pcm: Pcm) -> Samples:
    """Return the samples as float32, full scale at 1."""
    return pcm.astype(np.float32) / np.float32(_FULL_SCALE)


def digest(data: bytes) -> str:
    """Return the SHA-256 of the bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def make_clip(name: Name, emotion: Emotion, source_sha256: str, pcm: Pcm, start: int) -> Clip:
    """Return the clip that a name and its samples make."""
    return Clip(
        corpus=name.corpus,
        speaker=name.speaker,
        sex=name.sex,
        emotion=emotion,
        label=CLASS_OF[emotion],
        stem=name.stem,
        duration_s=len(pcm) / RATE_HZ,
        source_sha256=source_sha256,
        sha256=digest(pcm.tobytes()),
        start=start,
    )


def is_cache(folder: Path) -> bool:
    """Return whether `prepare` has written this folder."""
    return (folder / INDEX_NAME).is_file()


def read_index(folder: Path) -> Index | None:
    """Return the cache's table of contents; None if it has none that this version can read."""
    try:
        index = msgspec.json.decode((folder / INDEX_NAME).read_bytes(), type=Index)
    except (OSError, msgspec.MsgspecError):
        return None
    return index if index.format == FORMAT else None


def open_cache(folder: Path) -> Collection:
    """Return the clips that `prepare` has written to `folder`; a corpus is loaded when first heard.

    Raises:
        DataError: it holds no cache of this version, or a corpus's samples are missing.
    """
    index = read_index(folder)
    if index is None:
        msg = f"{folder}: no prepared data of this version; run `sottovoce-train prepare --data CORPORA --out {folder}`"
        raise DataError(msg)
    loaded: dict[str, Pcm] = {}

    def read(clip: Clip) -> Samples:
        if clip.corpus not in loaded:
            loaded[clip.corpus] = read_samples(folder, clip.corpus)
        count = round(clip.duration_s * RATE_HZ)
        return to_float(loaded[clip.corpus][clip.start : clip.start + count])

    return Collection(clips=index.clips, read=read)


def read_samples(folder: Path, corpus: str) -> Pcm:
    """Return all samples of one corpus in the cache, shape (n,), int16.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / f"{corpus}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # by name it leaves a bad one open
            samples: Pcm = arrays["samples"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        msg = f"{path}: prepared samples cannot be read ({error}); delete {folder} and run prepare again"
        raise DataError(msg) from error
    return samples

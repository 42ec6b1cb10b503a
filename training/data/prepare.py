"""`prepare`: corpora as they were downloaded become one cache of 16 kHz clips, and a list of what is missing."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from broker.contract.errors import AudioError, DataError
from training.data.clips import (
    FORMAT,
    INDEX_NAME,
    RATE_HZ,
    Clip,
    Collection,
    Corrupt,
    Found,
    Index,
    Pcm,
    digest,
    find_recordings,
    is_cache,
    make_clip,
    open_cache,
    read_clip,
    read_index,
    read_samples,
    to_float,
    usable,
)
from training.data.corpora import CORPORA, CorpusKey, corpora_in, official
from training.files import writing
from training.progress import track

__all__ = ["Coverage", "Prepared", "open_collection", "prepare"]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one official set is at hand, or what is in a user's own."""

    corpus: CorpusKey
    clips: int
    """Recordings usable for training or tests."""
    excluded: int
    """Recordings of an emotion outside the seven."""
    corrupt: int
    """Recordings that cannot be read."""
    official: int | None
    """Recordings in the complete set; None: a user's own, which is complete as it is."""
    absent_speakers: tuple[str, ...]
    """Speakers of the complete set of whom nothing is here."""
    incomplete_speakers: dict[str, int]
    """Recordings missing per speaker that is partly there."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What `prepare` did."""

    coverage: tuple[Coverage, ...]
    corrupt: tuple[Corrupt, ...]
    """Recordings that cannot be read."""
    unused: tuple[Corrupt, ...]
    """Rows of tables that cannot be used."""
    repeated: int
    """Files left out, because they hold a recording found elsewhere."""
    decoded: int
    """Recordings read in this run."""
    skipped: int
    """Recordings that the cache already held."""


def prepare(data: Path, out: Path) -> Prepared:
    """Return what is in `data`, after writing the cache `out`; nothing is decoded twice.

    What an earlier run has left and cannot be read is made again.

    Args:
        data: folder that holds corpora, or one table of recordings.
        out: cache folder.

    Raises:
        DataError: `data` holds no recording that can be used, or `out` cannot be written.
    """
    found = find_recordings(data)
    root = data.parent if data.is_file() else data
    earlier = _Earlier(out)
    pieces: dict[str, list[Pcm]] = {}
    clips: list[Clip] = []
    corrupt: list[Corrupt] = []
    broken: Counter[str] = Counter()
    position: Counter[str] = Counter()
    skipped = 0
    for path, name, emotion in track(list(usable(found)), "reading recordings"):
        try:
            source = _digest_of(path)
            pcm = earlier.samples(f"{name.corpus}/{name.stem}", source)
            skipped += pcm is not None
            pcm = read_clip(path) if pcm is None else pcm
        except AudioError as error:
            corrupt.append(Corrupt(path=os.path.relpath(path, root), reason=str(error)))
            broken[name.corpus] += 1
            continue
        clips.append(make_clip(name, emotion, source, pcm, position[name.corpus]))
        pieces.setdefault(name.corpus, []).append(pcm)
        position[name.corpus] += len(pcm)
    if not clips:
        why = f"the first: {corrupt[0].reason}" if corrupt else "none shows one of the seven emotions"
        msg = f"{data}: none of its {len(found.recordings)} recordings can be used; {why}"
        raise DataError(msg)
    index = Index(format=FORMAT, clips=tuple(clips), corrupt=tuple(corrupt), unused=found.unused)
    if skipped < len(clips) or index != earlier.index:
        _write(out, index, pieces)
    return Prepared(
        coverage=tuple(_coverage(clips, found, broken)),
        corrupt=index.corrupt,
        unused=index.unused,
        repeated=found.repeated,
        decoded=len(clips) - skipped,
        skipped=skipped,
    )


def open_collection(folder: Path) -> tuple[Collection, tuple[Corrupt, ...]]:
    """Return the clips of a prepared cache, a folder of recordings or a table, and what could not be used.

    Raises:
        DataError: there are none.
    """
    if is_cache(folder):
        return open_cache(folder), ()
    found = find_recordings(folder)
    root = folder.parent if folder.is_file() else folder
    held: dict[str, Pcm] = {}
    clips: list[Clip] = []
    corrupt = list(found.unused)
    for path, name, emotion in track(list(usable(found)), "reading recordings"):
        try:
            pcm = read_clip(path)
        except AudioError as error:
            corrupt.append(Corrupt(path=os.path.relpath(path, root), reason=str(error)))
            continue
        clip = make_clip(name, emotion, "", pcm, 0)
        clips.append(clip)
        held[clip.key] = pcm
    return Collection(clips=tuple(clips), read=lambda clip: to_float(held[clip.key])), tuple(corrupt)


class _Earlier:
    """What an earlier run left in a cache folder, as far as it can be read."""

    def __init__(self, out: Path) -> None:
        self.index = read_index(out)
        self._out = out
        self._clips = {(clip.key, clip.source_sha256): clip for clip in self.index.clips} if self.index else {}
        self._arrays: dict[str, Pcm] = {}

    def samples(self, key: str, source_sha256: str) -> Pcm | None:
        """Return a recording's samples; None: they are not there, or are not those that the index names."""
        if (clip := self._clips.get((key, source_sha256))) is None:
            return None
        if clip.corpus not in self._arrays:
            try:
                self._arrays[clip.corpus] = read_samples(self._out, clip.corpus)
            except DataError:
                self._arrays[clip.corpus] = np.zeros(0, dtype=np.int16)  # to be made again
        pcm = self._arrays[clip.corpus][clip.start : clip.start + round(clip.duration_s * RATE_HZ)]
        return pcm if digest(pcm.tobytes()) == clip.sha256 else None


def _digest_of(path: Path) -> str:
    try:
        return digest(path.read_bytes())
    except OSError as error:
        msg = f"cannot be read ({error.strerror})"
        raise AudioError(msg) from error


def _write(out: Path, index: Index, pieces: Mapping[str, Sequence[Pcm]]) -> None:
    """Write everything beside what is there, then rename, index last: a cut leaves the old cache, or none that lies.

    Raises:
        DataError: it cannot be written; what was there stays.
    """
    temporary = {out / f"{corpus}.npz": out / f".{corpus}.part.npz" for corpus in pieces}
    temporary[out / INDEX_NAME] = out / f".{INDEX_NAME}.part"
    try:
        with writing(out, "free space or choose another --out", what="the cache", failure=DataError):
            out.mkdir(parents=True, exist_ok=True)
            for corpus, arrays in pieces.items():
                np.savez(temporary[out / f"{corpus}.npz"], samples=np.concatenate(arrays))
            temporary[out / INDEX_NAME].write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
            (out / INDEX_NAME).unlink(missing_ok=True)
            for final, part in temporary.items():
                part.replace(final)
    finally:
        for part in temporary.values():
            with contextlib.suppress(OSError):
                part.unlink()


def _coverage(clips: Sequence[Clip], found: Found, broken: Counter[str]) -> Iterator[Coverage]:
    own = [corpus for corpus in corpora_in(found.recordings.values()) if official(corpus) is None]
    for corpus in (*(corpus.key for corpus in CORPORA), *own):
        names = [name for name in found.recordings.values() if name.corpus == corpus]
        here = Counter(name.speaker for name in names)
        complete = official(corpus)
        expected = complete.official if complete else {}
        yield Coverage(
            corpus=corpus,
            clips=sum(1 for clip in clips if clip.corpus == corpus),
            excluded=sum(1 for name in names if name.emotion is None),
            corrupt=broken[corpus],
            official=sum(expected.values()) if complete else None,
            absent_speakers=tuple(speaker for speaker in expected if not here[speaker]),
            incomplete_speakers={
                speaker: count - here[speaker] for speaker, count in expected.items() if 0 < here[speaker] < count
            },
        )

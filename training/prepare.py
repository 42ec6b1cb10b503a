"""`prepare`: corpora as they were downloaded become one cache of 16 kHz clips, and a list of what is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from broker.contract.errors import AudioError, DataError
from training.clips import (
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
from training.corpora import CORPORA, CorpusKey
from training.progress import track

__all__ = ["Coverage", "Prepared", "open_collection", "prepare"]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one official set is at hand."""

    corpus: CorpusKey
    clips: int
    """Recordings usable for training or tests."""
    excluded: int
    """Recordings of an emotion outside the seven."""
    corrupt: int
    official: int
    """Recordings in the complete set."""
    absent_speakers: tuple[str, ...]
    incomplete_speakers: dict[str, int]
    """Recordings missing per speaker that is partly there."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What `prepare` did."""

    coverage: tuple[Coverage, ...]
    corrupt: tuple[Corrupt, ...]
    repeated: int
    decoded: int
    """Recordings read in this run."""
    skipped: int
    """Recordings that the cache already held."""


def prepare(data: Path, out: Path) -> Prepared:
    """Return what is in `data`, after writing the cache `out`; nothing is decoded twice.

    Raises:
        DataError: `data` holds no known recording, or `out` cannot be written.
    """
    found = find_recordings(data)
    before = _clips_in(out)
    old_samples: dict[str, Pcm] = {}
    pieces: dict[str, list[Pcm]] = {}
    clips: list[Clip] = []
    corrupt: list[Corrupt] = []
    broken: Counter[str] = Counter()
    position: Counter[str] = Counter()
    skipped = 0
    for path, name, emotion in track(list(usable(found)), "reading recordings"):
        source = digest(path.read_bytes())
        known = before.get((f"{name.corpus}/{name.stem}", source))
        if known:
            if name.corpus not in old_samples:
                old_samples[name.corpus] = read_samples(out, name.corpus)
            count = round(known.duration_s * RATE_HZ)
            pcm = old_samples[name.corpus][known.start : known.start + count]
            skipped += 1
        else:
            try:
                pcm = read_clip(path)
            except AudioError as error:
                corrupt.append(Corrupt(path=str(path.relative_to(data)), reason=str(error)))
                broken[name.corpus] += 1
                continue
        clips.append(make_clip(name, emotion, source, pcm, position[name.corpus]))
        pieces.setdefault(name.corpus, []).append(pcm)
        position[name.corpus] += len(pcm)
    if not clips:
        msg = f"{data}: none of its {len(corrupt)} recordings can be read; the first: {corrupt[0].reason}"
        raise DataError(msg)
    index = Index(format=FORMAT, clips=tuple(clips), corrupt=tuple(corrupt))
    if index != read_index(out):
        _write(out, index, pieces)
    return Prepared(
        coverage=tuple(_coverage(clips, found, broken)),
        corrupt=tuple(corrupt),
        repeated=found.repeated,
        decoded=len(clips) - skipped,
        skipped=skipped,
    )


def open_collection(folder: Path) -> tuple[Collection, tuple[Corrupt, ...]]:
    """Return the clips of a prepared cache, or of a folder of recordings, and what was corrupt.

    Raises:
        DataError: there are none.
    """
    if is_cache(folder):
        return open_cache(folder), ()
    found = find_recordings(folder)
    held: dict[str, Pcm] = {}
    clips: list[Clip] = []
    corrupt: list[Corrupt] = []
    for path, name, emotion in track(list(usable(found)), "reading recordings"):
        try:
            pcm = read_clip(path)
        except AudioError as error:
            corrupt.append(Corrupt(path=str(path.relative_to(folder)), reason=str(error)))
            continue
        clip = make_clip(name, emotion, "", pcm, 0)
        clips.append(clip)
        held[clip.key] = pcm
    return Collection(clips=tuple(clips), read=lambda clip: to_float(held[clip.key])), tuple(corrupt)


def _clips_in(out: Path) -> dict[tuple[str, str], Clip]:
    index = read_index(out)
    return {(clip.key, clip.source_sha256): clip for clip in index.clips} if index else {}


def _write(out: Path, index: Index, pieces: dict[str, list[Pcm]]) -> None:
    """Write samples first and the index last, each by an atomic rename: a cut leaves no index that lies."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / INDEX_NAME).unlink(missing_ok=True)
        for corpus, arrays in pieces.items():
            temporary = out / f".{corpus}.part.npz"
            np.savez(temporary, samples=np.concatenate(arrays))
            temporary.replace(out / f"{corpus}.npz")
        temporary = out / f".{INDEX_NAME}.part"
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
        temporary.replace(out / INDEX_NAME)
    except OSError as error:
        msg = f"{out}: the cache cannot be written ({error.strerror}); free space or choose another --out"
        raise DataError(msg) from error


def _coverage(clips: Sequence[Clip], found: Found, broken: Counter[str]) -> Iterator[Coverage]:
    for corpus in CORPORA:
        names = [name for name in found.recordings.values() if name.corpus == corpus.key]
        here = Counter(name.speaker for name in names)
        yield Coverage(
            corpus=corpus.key,
            clips=sum(1 for clip in clips if clip.corpus == corpus.key),
            excluded=sum(1 for name in names if name.emotion is None),
            corrupt=broken[corpus.key],
            official=sum(corpus.official.values()),
            absent_speakers=tuple(speaker for speaker in corpus.official if not here[speaker]),
            incomplete_speakers={
                speaker: count - here[speaker]
                for speaker, count in corpus.official.items()
                if 0 < here[speaker] < count
            },
        )

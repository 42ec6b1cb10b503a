"""A list of clips, such as the one that a paper publishes: which of them are at hand."""

import posixpath
from collections.abc import Iterable
from pathlib import Path

import msgspec

from broker.contract.errors import DataError
from training.data.clips import Clip
from training.data.corpora import official
from training.data.names import parse_name
from training.data.recordings import read_rows

__all__ = ["Listed", "only_listed"]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of clips selects."""

    clips: tuple[Clip, ...]
    """Those at hand."""
    wanted: int
    """Recordings that the list names, each counted once."""
    absent: tuple[str, ...]
    """Paths, as the list writes them, of those that are not at hand."""


def only_listed(clips: Iterable[Clip], path: Path) -> Listed:
    """Return the clips that a list names.

    The list is a CSV file in UTF-8 with a column `Path`; other columns are not looked at:

        Emotions,Path
        unpleasant,audio_speech_actors_01-24/Actor_19/03-01-04-02-01-02-19.wav
        neutral,ALL/JE_n18.wav

    What counts of an official recording is its file name (and, of SAVEE in one folder per speaker, the folder's); of
    a user's own its path below the data folder.

    Raises:
        DataError: the file cannot be read, or none of its recordings is at hand.
    """
    try:
        written = [row.cells["path"].replace("\\", "/") for row in read_rows(path, ("path",))]
    except DataError as error:
        msg = f"{path}: {error}"
        raise DataError(msg) from error
    wanted = {_official(item) or _own(item): item for item in written if item}
    paths = {_own(item) for item in wanted.values()}
    clips = tuple(clips)
    here = {_identity(clip) for clip in clips}
    kept = tuple(clip for clip in clips if _identity(clip) in wanted or _identity(clip) in paths)
    if not kept:
        msg = f"{path}: none of its {len(wanted):,} recordings is at hand; prepare the corpora that it names"
        raise DataError(msg)
    absent = tuple(item for key, item in wanted.items() if key not in here and _own(item) not in here)
    return Listed(clips=kept, wanted=len(wanted), absent=absent)


def _official(item: str) -> tuple[str, str] | None:
    name = parse_name(Path(item))
    return (name.corpus, name.stem) if name else None


def _own(item: str) -> tuple[str, str]:
    return ("", posixpath.normpath(item))


def _identity(clip: Clip) -> tuple[str, str]:
    return (clip.corpus if official(clip.corpus) else "", clip.stem)

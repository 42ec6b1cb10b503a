"""Recordings under a folder: official ones by their names, a user's own by a table.

A table is a CSV file in UTF-8, named `recordings.csv` where a folder is searched:

    path,speaker,emotion,sex,corpus
    takes/0001.wav,s1,happy,female,
    takes/0002.wav,s1,fear,female,

`path` is relative to the table, `emotion` one of `EMOTION_WORDS`; `sex` and `corpus` may be left out, and a
corpus without a name is called `own`. Rows that cannot be used are listed with file and line; the rest is used.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import DataError
from training.data.corpora import CORPORA, EMOTION_WORDS, CorpusKey, Emotion, Sex, official
from training.data.names import Name, parse_name

__all__ = ["TABLE_NAME", "Corrupt", "Found", "Row", "find_recordings", "read_rows", "usable"]

TABLE_NAME: Final = "recordings.csv"
_COLUMNS: Final = ("path", "speaker", "emotion")
_OWN: Final = "own"
_SUFFIXES: Final = frozenset({".wav", ".flac", ".aif", ".aiff"})
_SEXES: Final[dict[str, Sex]] = {"female": "female", "f": "female", "male": "male", "m": "male"}
_LONGEST_SPEAKER: Final = 64
_DEMOGRAPHICS: Final = "VideoDemographics.csv"
"""CREMA-D's table of actors."""


class Corrupt(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a row of a table, that is meant for training and cannot be used."""

    path: str
    """Relative to the data folder; a row's ends in `, line N`."""
    reason: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table."""

    line: int
    cells: dict[str, str]
    """By column name in lower case, without space around; an absent cell is empty."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The recordings under a folder, by name."""

    recordings: dict[Path, Name]
    """In order of corpus and stem; each recording once."""
    repeated: int
    """Files left out because the same recording was found before (archives that hold everything twice)."""
    unused: tuple[Corrupt, ...] = ()
    """Rows of tables, or whole tables, that cannot be used."""


def find_recordings(data: Path) -> Found:
    """Return every recording of a known corpus under `data`, and those that tables name.

    Args:
        data: a folder, searched at any depth, or one table. A file that a table names counts as the table says,
            whatever its own name says.

    Raises:
        DataError: there is no such folder or table, or it holds no recording.
    """
    if data.is_file():
        files, tables, root = [], [data], data.parent
    elif data.is_dir():
        files, root = sorted(path for path in data.rglob("*") if path.is_file()), data
        tables = [path for path in files if path.name.lower() == TABLE_NAME]
    else:
        msg = f"{data}: no such folder; give the one that holds the corpora, or a table of recordings"
        raise DataError(msg)
    own = _own(tables, root)
    taken = {path.resolve() for path in own.recordings}
    named = {(name.corpus, name.stem): (path, name) for path, name in own.recordings.items()}
    repeated = own.repeated
    for path in files:
        if path.suffix.lower() not in _SUFFIXES or (name := parse_name(path)) is None:
            continue
        if taken and path.resolve() in taken:
            continue
        repeated += (name.corpus, name.stem) in named
        named.setdefault((name.corpus, name.stem), (path, name))
    if not named:
        raise DataError(_nothing(data, own.unused))
    sexes, unreadable = _cremad_sexes([path for path in files if path.name == _DEMOGRAPHICS], root)
    return Found(
        recordings={path: _with_sex(name, sexes) for path, name in (named[key] for key in sorted(named))},
        repeated=repeated,
        unused=(*own.unused, *unreadable),
    )


def usable(found: Found) -> Iterator[tuple[Path, Name, Emotion]]:
    """Yield the recordings that show one of the seven emotions."""
    for path, name in found.recordings.items():
        if name.emotion is not None:
            yield path, name, name.emotion


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file in UTF-8, blank ones left out.

    Args:
        path: the file.
        columns: names that its first line must hold, in lower case; case and order do not matter, others may stand
            beside them.

    Raises:
        DataError: it cannot be read, has no row, or lacks a column; the message is the reason alone.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        msg = f"cannot be read ({error.strerror})"
        raise DataError(msg) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"line {line}: is not UTF-8; save it as CSV in UTF-8"
        raise DataError(msg) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        msg = f"line {reader.line_num}: {error}"
        raise DataError(msg) from error
    if not lines:
        msg = f"is empty; its first line must name the columns {','.join(columns)}"
        raise DataError(msg)
    (line, header), *rest = lines
    header = [name.lower() for name in header]
    for column in columns:
        if column not in header:
            msg = f"line {line}: no column {column}; it must name the columns {','.join(columns)}, with commas between"
            raise DataError(msg)
    if not rest:
        msg = "has no row below its column names"
        raise DataError(msg)
    return [
        Row(line=line, cells=dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))) for line, cells in rest
    ]


def _own(tables: Sequence[Path], root: Path) -> Found:
    """Return what the tables name; a file that they name in two ways is left out."""
    named: dict[Path, tuple[str, Name]] = {}
    ambiguous: set[Path] = set()
    unused: list[Corrupt] = []
    repeated = 0
    for table in tables:
        shown = os.path.relpath(table, root)
        try:
            rows = read_rows(table, _COLUMNS)
        except DataError as error:
            unused.append(Corrupt(path=shown, reason=str(error)))
            continue
        for row in rows:
            where = f"{shown}, line {row.line}"
            try:
                path, name = _own_name(row.cells, table.parent, root)
            except DataError as error:
                unused.append(Corrupt(path=where, reason=str(error)))
                continue
            before, other = named.setdefault(path, (where, name))
            if other != name:
                reason = f"{row.cells['path']} has another speaker or label at {before}; neither row is used"
                unused.append(Corrupt(path=where, reason=reason))
                ambiguous.add(path)
            elif before != where:
                repeated += 1
    return Found(
        recordings={path: name for path, (_, name) in named.items() if path not in ambiguous},
        repeated=repeated,
        unused=tuple(unused),
    )


def _own_name(cells: dict[str, str], folder: Path, root: Path) -> tuple[Path, Name]:
    """Return the file that a row names, and what the row says of it.

    Raises:
        DataError: it says too little, or something that is not allowed; the message is the reason alone.
    """
    for column in _COLUMNS:
        if not cells[column]:
            msg = f"no {column}"
            raise DataError(msg)
    corpus = cells.get("corpus") or _OWN
    try:
        msgspec.convert(corpus, CorpusKey)
    except msgspec.ValidationError as error:
        msg = f"corpus {corpus!r}: allowed are up to 32 lower-case letters, digits and dashes"
        raise DataError(msg) from error
    if official(corpus):
        msg = f"corpus {corpus!r} is the name of an official set; choose another"
        raise DataError(msg)
    speaker = unicodedata.normalize("NFC", cells["speaker"])
    if len(speaker) > _LONGEST_SPEAKER or not speaker.isprintable():
        msg = f"speaker {speaker[:_LONGEST_SPEAKER]!r}: allowed are up to {_LONGEST_SPEAKER} printable characters"
        raise DataError(msg)
    emotion = EMOTION_WORDS.get(cells["emotion"].lower())
    if emotion is None:
        msg = f"emotion {cells['emotion']!r} is none of {', '.join(EMOTION_WORDS)}"
        raise DataError(msg)
    path = folder / cells["path"]
    if not os.path.isfile(path):  # noqa: PTH113 -- Path.is_file raises where a name is too long to be one
        msg = f"{cells['path']}: no such file beside the table"
        raise DataError(msg)
    path = path.resolve()
    stem = Path(os.path.relpath(path, root.resolve())).as_posix()
    sex = _SEXES.get(cells.get("sex", "").lower())
    return path, Name(corpus=corpus, speaker=f"{corpus}_{speaker}", sex=sex, emotion=emotion, stem=stem)


def _cremad_sexes(tables: Sequence[Path], root: Path) -> tuple[dict[str, Sex], list[Corrupt]]:
    """Return the sex of CREMA-D's speakers, as far as its table of actors is at hand, and what is wrong with it."""
    sexes: dict[str, Sex] = {}
    for table in tables:
        try:
            rows = read_rows(table, ("actorid", "sex"))
        except DataError as error:
            return {}, [Corrupt(path=os.path.relpath(table, root), reason=str(error))]
        for row in rows:
            if (sex := _SEXES.get(row.cells["sex"].lower())) is not None:
                sexes[f"cremad_{row.cells['actorid']}"] = sex
    return sexes, []


def _with_sex(name: Name, sexes: dict[str, Sex]) -> Name:
    return msgspec.structs.replace(name, sex=sexes[name.speaker]) if name.speaker in sexes else name


def _nothing(data: Path, unused: Sequence[Corrupt]) -> str:
    if unused:
        first = unused[0]
        more = f" (and {len(unused) - 1} more)" if len(unused) > 1 else ""
        return f"{data}: no recording can be used; {first.path}: {first.reason}{more}"
    titles = ", ".join(corpus.title for corpus in CORPORA)
    return (
        f"{data}: no recording of {titles} found by its official file name, and no {TABLE_NAME}; "
        "unpack a corpus there, or write a table of your recordings"
    )

"""`download`: RAVDESS from Zenodo; for the other corpora, where they are and what to do.

An archive is checked against its published sum and unpacked beside its place, then renamed into it: what stands there
is complete. An archive whose unpacking failed is kept, and not fetched again.
"""

import errno
import logging
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from broker.contract.errors import DataError, SettingsError

__all__ = ["GUIDES", "RAVDESS", "Archive", "fetch"]

_TIMEOUT_S: Final = 30
_CHUNK_BYTES: Final = 1 << 16
_LARGEST_UNPACKED: Final = 4 << 30
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A corpus in one zip file."""

    title: str
    folder: str
    """Its name below the folder of the corpora."""
    url: str
    md5: str
    """Of the zip file, as its publisher states it."""
    size: str
    """In words: what a user's disk must hold."""
    licence: str
    """What a user accepts."""


RAVDESS: Final = Archive(
    title="RAVDESS",
    folder="ravdess",
    url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1",
    md5="bc696df654c87fed845eb13823edef8a",  # Zenodo shows it beside the file
    size="208 MB, and more unpacked",
    licence="""\
RAVDESS: The Ryerson Audio-Visual Database of Emotional Speech and Song
Livingstone SR, Russo FA (2018), PLoS ONE 13(5): e0196391, https://doi.org/10.1371/journal.pone.0196391
Creative Commons Attribution-NonCommercial-ShareAlike 4.0: https://creativecommons.org/licenses/by-nc-sa/4.0/
  - give credit as above; state what you changed
  - no commercial use (commercial licences: https://zenodo.org/records/1188976)
  - share what you make of the recordings under the same licence""",
)

GUIDES: Final = {
    "tess": """\
TESS: Toronto emotional speech set (Pichora-Fuller and Dupuis 2020), CC BY-NC-ND 4.0
  1. Open https://doi.org/10.5683/SP2/E8H2MF, read the licence, choose "Access Dataset", "Download ZIP".
  2. Unpack it below the folder that you give `prepare --data`; folder names do not matter.""",
    "savee": """\
SAVEE: Surrey Audio-Visual Expressed Emotion (Haq and Jackson 2009), for research only, on registration
  1. Register at http://kahlan.eps.surrey.ac.uk/savee/ and wait for the address and the password.
  2. Unpack AudioData below the folder that you give `prepare --data`; keep its folders DC, JE, JK, KL.""",
    "cremad": """\
CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al. 2014), ODbL 1.0
  1. Install git-lfs; without it every recording is a text file of three lines.
  2. In the folder that you give `prepare --data`:
     GIT_LFS_SKIP_SMUDGE=1 git clone https://github.com/CheyneyComputerScience/CREMA-D.git
  3. cd CREMA-D && git lfs pull --include "AudioWAV/*"
  Keep VideoDemographics.csv, which tells the speakers' sex.""",
    "emodb": """\
EMO-DB: Berlin Database of Emotional Speech (Burkhardt et al. 2005), free for research
  1. Open http://emodb.bilderbar.info, section Download, and take the recordings.
  2. Unpack its folder wav below the folder that you give `prepare --data`. It never trains, it only tests.""",
}
"""What to do for a corpus that its owners give out themselves."""


def fetch(archive: Archive, out: Path) -> Path:
    """Return the folder of a corpus, after downloading and unpacking it unless it is there.

    Args:
        archive: what to fetch; the caller has had its licence accepted.
        out: folder of the corpora.

    Raises:
        DataError: no network, another file than published, no space, or a zip file that reaches out of its folder.
        SettingsError: the package that downloads is not installed.
    """
    place = out / archive.folder
    if place.exists():
        return place
    part = out / f".{archive.folder}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        zipped = _download(archive, out)
        shutil.rmtree(part, ignore_errors=True)
        _unpack(zipped, part)
        part.replace(place)
        zipped.unlink()
    except OSError as error:
        raise DataError(_why(error, archive, out)) from error
    except zipfile.BadZipFile as error:
        msg = f"{archive.url}: is no zip file that can be unpacked ({error})"
        raise DataError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _download(archive: Archive, out: Path) -> Path:
    try:
        import pooch  # type: ignore[import-untyped]  # noqa: PLC0415  # it ships no types; the guides do without it
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error
    pooch.get_logger().setLevel(logging.WARNING)
    with _Bar(archive.title) as bar:
        fetcher = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)
        try:
            zipped = pooch.retrieve(
                archive.url, f"md5:{archive.md5}", f".{archive.folder}.zip", path=out, downloader=fetcher
            )
        except ValueError as error:  # pooch's word for a sum that differs
            msg = f"{archive.url}: what came is not the published file (its MD5 differs); run the command again"
            raise DataError(msg) from error
    return Path(zipped)


def _unpack(zipped: Path, folder: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        members = archive.infolist()
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
                msg = f"{zipped}: its member {member.filename!r} reaches out of the folder; nothing is unpacked"
                raise DataError(msg)
        if sum(member.file_size for member in members) > _LARGEST_UNPACKED:
            msg = f"{zipped}: holds more than {_LARGEST_UNPACKED >> 30} GB; nothing is unpacked"
            raise DataError(msg)
        archive.extractall(folder)


def _why(error: OSError, archive: Archive, out: Path) -> str:
    """Return one line; the network's errors are OSError too, without a number of the file system."""
    if error.errno in _FULL:
        return f"{out}: no space for {archive.title} ({archive.size}); free some or choose another --out"
    if error.errno is not None:
        return f"{out}: cannot be written ({error.strerror}); choose another --out"
    if (response := getattr(error, "response", None)) is not None:
        return f"{archive.url}: the server answers {response.status_code} {response.reason}; try again later"
    return f"{archive.url}: no connection, or it was cut ({type(error).__name__}); check the network and run again"


class _Bar:
    """What pooch needs of a progress bar, on stderr; it draws nothing where stderr is no terminal."""

    def __init__(self, title: str) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=None)
        self.total = 0
        """Bytes to come; pooch sets it."""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, count: int) -> None:
        """Count more bytes as here."""
        self._progress.update(self._task, advance=count, total=self.total)

    def reset(self) -> None:
        """Begin again at 0."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Leave the bar as it stands."""

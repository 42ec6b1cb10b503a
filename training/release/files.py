"""The repository's folder. Every file appears whole, under its final name, or not at all.

metadata/   timestamp.json and <version>.<role>.json: what is mirrored to the broker
chunks/     the parts of all bundles, each named by its digest
pending/    metadata that waits for signatures, or for the rest of a step that was interrupted
keys/       private keys, if they are kept here: never in git, never in an archive that leaves the machine
settings.toml
"""

import fcntl
import hashlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from broker.contract.errors import ReleaseError
from broker.contract.topics import LARGEST_RETAINED_BYTES, METADATA
from broker.files import sync_folder, write_whole
from training.release.roles import Role

__all__ = ["BusyError", "Files", "file_name"]

_VERSIONED: Final = re.compile(r"([1-9][0-9]{0,8})\.([a-z]+)\.json")
_KEPT: Final = 2
"""Versions of a role's metadata: the current one, and the one before for a client that is reading just now."""
_LOOK_S: Final = 0.1


class BusyError(ReleaseError):
    """Another program works on the repository."""


def file_name(role: Role, version: int) -> str:
    """Return the name of a role's metadata, on disk and in its topic."""
    return "timestamp.json" if role == Role.TIMESTAMP else f"{version}.{role}.json"


class Files:
    """Reads and writes what is in a repository's folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it need not exist yet."""
        self.folder = folder
        self.metadata = folder / "metadata"
        self.chunks = folder / "chunks"
        self.pending = folder / "pending"
        self._part = folder / ".pending.part"
        self.keys = folder / "keys"
        self.settings = folder / "settings.toml"

    @contextmanager
    def locked(self, wait_s: float = 300.0) -> Iterator[None]:
        """Wait until no other program works on this repository, and keep the others out meanwhile.

        Args:
            wait_s: for how long at most: a command that was left at its question must not keep a timer's waiting
                for ever.

        Raises:
            BusyError: another program works on it.
            ReleaseError: there is no repository here, or it cannot be written.
        """
        self.check_there()
        deadline = time.monotonic() + wait_s
        try:
            with (self.folder / ".lock").open("ab") as lock:
                while not _is_taken(lock):
                    if time.monotonic() >= deadline:
                        msg = f"{self.folder}: another command works on it; let it end, or end it"
                        raise BusyError(msg)
                    time.sleep(_LOOK_S)
                yield
        except OSError as error:
            msg = f"{error.filename or self.folder}: {error.strerror}"
            raise ReleaseError(msg) from error

    def check_there(self) -> None:
        """Check that this is a repository.

        Raises:
            ReleaseError: it is none.
        """
        if not (self.metadata / "1.root.json").is_file():
            msg = f"{self.folder}: no repository of releases; make one with `sottovoce-release init`"
            raise ReleaseError(msg)

    def versions(self, role: Role) -> list[int]:
        """Return which versions of a role's metadata there are, rising."""
        found = (_VERSIONED.fullmatch(path.name) for path in self.metadata.iterdir())
        return sorted(int(match[1]) for match in found if match and match[2] == role)

    def read(self, role: Role) -> bytes | None:
        """Return the newest metadata of a role; None if there is none."""
        versions = [0] if role == Role.TIMESTAMP else self.versions(role)
        path = self.metadata / file_name(role, versions[-1] if versions else 0)
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, data: bytes) -> None:
        """Write one file of metadata.

        Raises:
            ReleaseError: it would not fit into its topic.
        """
        _check_size(name, data)
        write_whole(self.metadata / name, data, durable=True)

    def propose(self, files: Mapping[str, bytes]) -> None:
        """Put several files of metadata into `pending`, all of them or none.

        Raises:
            ReleaseError: one would not fit into its topic, or others are waiting there.
        """
        if self.pending.exists():
            msg = f"{self.pending}: an earlier change waits for signatures: `sottovoce-release sign`, or delete it"
            raise ReleaseError(msg)
        for name, data in files.items():
            _check_size(name, data)
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir()
        for name, data in files.items():
            write_whole(self._part / name, data, durable=True)
        self._part.replace(self.pending)
        sync_folder(self.folder)

    def accept(self, names: Iterable[str]) -> None:
        """Move files from `pending` to their places, in this order; what is interrupted is taken up the next time."""
        for name in names:
            (self.pending / name).replace(self.metadata / name)
            sync_folder(self.metadata)
        shutil.rmtree(self.pending)

    def write_chunk(self, data: bytes) -> str:
        """Write a chunk, unless it is there, and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not (self.chunks / digest).is_file():
            write_whole(self.chunks / digest, data, durable=True)
        return digest

    def tidy(self, chunks: Iterable[str]) -> None:
        """Remove metadata that no client can ask for, chunks of no bundle, and what a crash left half-written."""
        for role in (Role.TARGETS, Role.SNAPSHOT, Role.ROLLOUT):
            for version in self.versions(role)[:-_KEPT]:
                (self.metadata / file_name(role, version)).unlink()
        wanted = set(chunks)
        for path in self.chunks.iterdir():
            if path.name not in wanted:
                path.unlink()
        for path in (*self.metadata.glob(".*.part"), *self.pending.glob(".*.part")):
            path.unlink()
        shutil.rmtree(self._part, ignore_errors=True)


def _is_taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_size(name: str, data: bytes) -> None:
    METADATA.at(name)
    if len(data) > LARGEST_RETAINED_BYTES:
        msg = (
            f"{name} would have {len(data):,} bytes, at most {LARGEST_RETAINED_BYTES:,} fit into its topic; "
            "remove releases that nobody runs any more: `sottovoce-release remove`"
        )
        raise ReleaseError(msg)

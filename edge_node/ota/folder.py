"""What an update keeps on the disk, in one folder.

    state.json          Record: written whole, before anything of a state is done
    state.corrupt       what was found in its place, and could not be understood
    metadata/           TUF metadata as they came from the broker; nothing in here is believed
    trusted/            what python-tuf has verified
    chunks/<sha256>     parts of the release under way, each checked against its name
    candidate.bundle    the release under way, put together
    slot-a.bundle       two signed models: the one that runs, and the one before or the next
    slot-b.bundle

Files that something else reads appear whole or not at all; what cannot be written is one `StoreError`.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.bundle import LARGEST_BUNDLE_BYTES
from broker.contract.errors import BundleError, StoreError
from broker.contract.offer import Offer
from broker.contract.release import Chunk
from broker.files import sync_folder, write_whole
from edge_node.ota.record import Held, Record, Slot, flaw

__all__ = ["Folder"]

_log = logging.getLogger(__name__)

_MOST_FILES: Final = 512
"""Of metadata: every root since the beginning, and some of each other role. Where there are more, the oldest goes: a
broker that was filled with names drives out what it sends again, once it is mended."""
_MOST_RECORD_BYTES: Final = 1_000_000


class Folder:
    """The folder of one node's updates. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Make the folder, if it is not there.

        Raises:
            StoreError: it cannot be made.
        """
        self._path = path
        self.metadata, self.trusted, self._chunks = path / "metadata", path / "trusted", path / "chunks"
        self.candidate = path / "candidate.bundle"
        """The release under way."""
        self._state = path / "state.json"
        if not all(each.is_dir() for each in (path, self.metadata, self._chunks)):
            with self._writing():
                for each in (path, self.metadata, self._chunks):
                    each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> Record:
        """Return what was saved last; a new record where there is none, or where it cannot be understood.

        Raises:
            StoreError: the disk does not let it be read.
        """
        try:
            with self._state.open("rb") as file:
                data = file.read(_MOST_RECORD_BYTES)
            return _understood(data)
        except FileNotFoundError:
            return Record()
        except OSError as error:
            msg = f"{self._state}: cannot be read ({error.strerror}); let this user read it, or remove the folder"
            raise StoreError(msg) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            aside = self._state.with_suffix(".corrupt")
            with contextlib.suppress(OSError):
                self._state.replace(aside)
            _log.error(
                "%s: cannot be understood (%s); it is now %s, and updates begin anew with the model of the settings",
                self._state,
                error,
                aside.name,
            )
            return Record()

    def save(self, record: Record) -> None:
        """Keep a record; when this returns, it outlasts a power cut.

        Raises:
            StoreError: it cannot be written; what was there before still is.
        """
        with self._writing():
            write_whole(self._state, msgspec.json.format(msgspec.json.encode(record), indent=1), durable=True)

    def put_metadata(self, name: str, payload: bytes) -> bool:
        """Keep a file of metadata as it came; an empty one is taken away. Return whether anything is new.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.metadata / name
        try:
            before = path.read_bytes()
        except OSError:
            before = b""
        if before == payload:
            return False
        with self._writing():
            if not payload:
                path.unlink(missing_ok=True)
            else:
                if not before:
                    self._make_room()
                write_whole(path, payload)
        return True

    def has_chunk(self, chunk: Chunk) -> bool:
        """Return whether a chunk is here; its content is checked when the bundle is put together."""
        try:
            return (self._chunks / chunk.sha256).stat().st_size == chunk.bytes
        except OSError:
            return False

    def put_chunk(self, chunk: Chunk, data: bytes) -> None:
        """Keep a chunk that was checked against its digest.

        Raises:
            StoreError: it cannot be written.
        """
        with self._writing():
            write_whole(self._chunks / chunk.sha256, data)

    def assemble(self, offer: Offer) -> bool:
        """Put a release together from its chunks; False: one is missing or spoiled, and is to be fetched again.

        Raises:
            StoreError: the disk does not let it be done.
        """
        parts = []
        for chunk in offer.release.chunks:
            path = self._chunks / chunk.sha256
            try:
                data = path.read_bytes()
            except OSError:
                data = b""
            if hashlib.sha256(data).hexdigest() != chunk.sha256:
                with self._writing():
                    path.unlink(missing_ok=True)
                return False
            parts.append(data)
        with self._writing():
            write_whole(self.candidate, b"".join(parts), durable=True)
        return True

    def is_assembled(self, offer: Offer) -> bool:
        """Return whether the candidate is the release that is offered."""
        return self._digest(self.candidate) == offer.sha256

    def install(self, offer: Offer, slot: Slot) -> bool:
        """Put the release under way into a slot; False: it is not here, or is spoiled. To do it twice does no harm.

        Raises:
            StoreError: the disk does not let it be done.
        """
        if self._digest(self._slot(slot)) == offer.sha256:
            return True
        if self._digest(self.candidate) != offer.sha256:
            return False
        with self._writing():
            os.replace(self.candidate, self._slot(slot))  # noqa: PTH105 -- the same call, and the atomic one is meant
            sync_folder(self._path)
        return True

    def read(self, held: Held) -> bytes:
        """Return the archive in a slot.

        Raises:
            BundleError: it is not there, or is not what was installed.
        """
        path = self._slot(held.slot)
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_BUNDLE_BYTES + 1)
        except OSError as error:
            msg = f"{path}: {error.strerror}; {held.release} is given up for the model before it"
            raise BundleError(msg) from error
        if hashlib.sha256(data).hexdigest() != held.sha256:
            msg = f"{path}: is no longer {held.release}, which is given up for the model before it"
            raise BundleError(msg)
        return data

    def clear(self, record: Record) -> None:
        """Take away what a crash has left half-written, and, unless an update is under way, what no record names.

        Raises:
            StoreError: the folder cannot be written.
        """
        slots = {held.slot for held in (record.active, record.previous) if held is not None}
        with self._writing():
            for path in (*self._path.glob(".*.part"), *self._chunks.glob(".*.part"), *self.metadata.glob(".*.part")):
                path.unlink(missing_ok=True)
            if record.offer is not None:
                return
            self.candidate.unlink(missing_ok=True)
            for path in self._chunks.iterdir():
                path.unlink(missing_ok=True)
            for slot in {"a", "b"} - slots:
                (self._path / f"slot-{slot}.bundle").unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Take the oldest file of metadata away, if there is no room for another."""
        here = list(self.metadata.iterdir())
        if len(here) >= _MOST_FILES:
            oldest = min(here, key=lambda each: each.stat().st_mtime_ns)
            _log.warning("%s: %d files are too many; %s goes", self.metadata, len(here), oldest.name)
            oldest.unlink()

    def _slot(self, slot: Slot) -> Path:
        return self._path / f"slot-{slot}.bundle"

    @staticmethod
    def _digest(path: Path) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.sha256(file.read(LARGEST_BUNDLE_BYTES + 1)).hexdigest()
        except OSError:
            return ""

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"{self._path}: cannot be written ({error.strerror}); free some space, or let this user write there"
            raise StoreError(msg) from error


def _understood(data: bytes) -> Record:
    """Return the record in a file.

    Raises:
        ValidationError: it is none, or one that no sequence of events leads to.
    """
    record = msgspec.json.decode(data, type=Record)
    if (wrong := flaw(record)) is not None:
        raise msgspec.ValidationError(wrong)
    return record

"""What a virtual node keeps, in memory: it outlasts the node's program as a disk would, but no power cut corrupts it.

A thousand nodes hold the same bytes once. `Memory` does what `edge_node.ota.folder.Folder` does, and one test holds
both to it. The record is kept as JSON, so that every start reads what a real one would read.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from broker.contract.errors import BundleError
from broker.contract.offer import Offer
from broker.contract.release import Chunk
from broker.contract.updates import UpdateState
from edge_node.ota.record import Held, Record, Slot

__all__ = ["Memory", "Shared"]

_MOST_FILES: Final = 512
"""Of metadata, as in a folder."""
_MOST_BLOBS: Final = 4_096
"""Different contents of which one copy is shared; further ones are simply not shared."""
_EXECUTED: Final = frozenset({UpdateState.TRIAL, UpdateState.COMMITTING})


class Shared:
    """One copy of each content, for all nodes."""

    def __init__(self) -> None:
        """Begin with none."""
        self._blobs: dict[bytes, bytes] = {}

    def one(self, data: bytes) -> bytes:
        """Return the copy that everybody holds."""
        if len(self._blobs) >= _MOST_BLOBS:
            return data
        return self._blobs.setdefault(data, data)


class Memory:
    """The files of one node's updates."""

    def __init__(self, shared: Shared) -> None:
        """Begin as an empty folder."""
        self._shared = shared
        self._record: bytes | None = None
        self._metadata: dict[str, bytes] = {}
        self._chunks: dict[str, bytes] = {}
        self._candidate: bytes | None = None
        self._slots: dict[Slot, bytes] = {}
        self.trusted: Mapping[str, bytes] = {}
        """What python-tuf has verified, by the file's name."""
        self.tried: set[str] = set()
        """Releases that this node has run, beside its model or as its model: the record has reached trial or later."""
        self.gone_back: set[str] = set()
        """Releases that this node was on its way back from."""
        self.changed_s: float | None = None
        """When its state changed last, by the monotonic clock; None: never."""
        self._state = UpdateState.IDLE

    @property
    def metadata(self) -> Mapping[str, bytes]:
        """Files of metadata as they came, by name."""
        return self._metadata

    @property
    def candidate(self) -> bytes | None:
        """The release under way, put together."""
        return self._candidate

    def load(self) -> Record:
        """Return what was saved last."""
        return Record() if self._record is None else msgspec.json.decode(self._record, type=Record)

    def save(self, record: Record) -> None:
        """Keep a record."""
        self._record = msgspec.json.encode(record)
        if record.state is not self._state:
            self._state, self.changed_s = record.state, time.monotonic()
        if record.state in _EXECUTED and record.offer is not None:
            self.tried.add(record.offer.rollout.release)
        elif record.state is UpdateState.ROLLING_BACK and record.release is not None:
            self.gone_back.add(record.release)

    def put_metadata(self, name: str, payload: bytes) -> bool:
        """Keep a file of metadata as it came; an empty one is taken away. Return whether anything is new."""
        if self._metadata.get(name, b"") == payload:
            return False
        self._metadata.pop(name, None)
        if payload:
            if len(self._metadata) >= _MOST_FILES:  # the oldest goes
                del self._metadata[next(iter(self._metadata))]
            self._metadata[name] = self._shared.one(payload)
        return True

    def has_chunk(self, chunk: Chunk) -> bool:
        """Return whether a chunk is here."""
        return len(self._chunks.get(chunk.sha256, b"")) == chunk.bytes

    def put_chunk(self, chunk: Chunk, data: bytes) -> None:
        """Keep a chunk that was checked against its digest."""
        self._chunks[chunk.sha256] = self._shared.one(data)

    def assemble(self, offer: Offer) -> bool:
        """Put a release together from its chunks; False: one is missing or spoiled, and is to be fetched again."""
        for chunk in offer.release.chunks:
            if hashlib.sha256(self._chunks.get(chunk.sha256, b"")).hexdigest() != chunk.sha256:
                self._chunks.pop(chunk.sha256, None)
                return False
        self._candidate = self._shared.one(b"".join(self._chunks[chunk.sha256] for chunk in offer.release.chunks))
        return True

    def is_assembled(self, offer: Offer) -> bool:
        """Return whether the candidate is the release that is offered."""
        return self._candidate is not None and hashlib.sha256(self._candidate).hexdigest() == offer.sha256

    def install(self, offer: Offer, slot: Slot) -> bool:
        """Put the release under way into a slot; False: it is not here. To do it twice does no harm."""
        if (held := self._slots.get(slot)) is not None and hashlib.sha256(held).hexdigest() == offer.sha256:
            return True
        if self._candidate is None or not self.is_assembled(offer):
            return False
        self._slots[slot], self._candidate = self._candidate, None
        return True

    def read(self, held: Held) -> bytes:
        """Return the archive in a slot.

        Raises:
            BundleError: it is not there, or is not what was installed.
        """
        data = self._slots.get(held.slot)
        if data is None or hashlib.sha256(data).hexdigest() != held.sha256:
            msg = f"slot {held.slot}: is not {held.release}; the model before it runs, and it is fetched again"
            raise BundleError(msg)
        return data

    def clear(self, record: Record) -> None:
        """Take away what no state needs: chunks and candidate of no update under way, slots that hold nothing."""
        if record.offer is not None:
            return
        self._candidate = None
        self._chunks.clear()
        slots = {held.slot for held in (record.active, record.previous) if held is not None}
        self._slots = {slot: data for slot, data in self._slots.items() if slot in slots}

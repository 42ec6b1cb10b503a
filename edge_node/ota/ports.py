"""What an updater needs from the world: a real device has it in threads and child processes, a virtual one in memory.

Everything that takes time is begun here and answered later, by a call of the `Updater`'s method that the docstring
names, on the thread that the updater belongs to.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from broker.contract.offer import Offer
from broker.contract.release import Chunk
from broker.contract.topics import NodeId, NodeTopic
from edge_node.ota.record import Held, Record, Slot

__all__ = ["Clock", "Files", "Me", "Wire", "Work"]


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who an updater works for."""

    node: NodeId
    boot_id: str
    floor: str
    """The model that the settings name, as `<name>/<version>`."""
    litert: str
    """Version of the runtime."""
    channel: str


class Clock(Protocol):
    """What time it is, and whether that can be believed."""

    def now_us(self) -> int:
        """Return the wall clock, µs since 1970, UTC."""

    def monotonic_s(self) -> float:
        """Return a clock that only goes forward, in seconds."""

    def is_synced(self) -> bool:
        """Return whether the wall clock follows a time server, or is said to be right."""


class Files(Protocol):
    """What is kept; `edge_node.ota.folder.Folder` says what each method does. All raise StoreError but `has_chunk`."""

    def load(self) -> Record:
        """Return what was saved last."""

    def save(self, record: Record) -> None:
        """Keep a record."""

    def put_metadata(self, name: str, payload: bytes) -> bool:
        """Keep a file of metadata, and return whether anything is new."""

    def has_chunk(self, chunk: Chunk) -> bool:
        """Return whether a chunk is here."""

    def put_chunk(self, chunk: Chunk, data: bytes) -> None:
        """Keep a chunk."""

    def assemble(self, offer: Offer) -> bool:
        """Put a release together; False: a part of it is spoiled."""

    def is_assembled(self, offer: Offer) -> bool:
        """Return whether the release is here as a whole."""

    def install(self, offer: Offer, slot: Slot) -> bool:
        """Put the release into a slot; False: it is not here."""

    def clear(self, record: Record) -> None:
        """Take away what nobody needs."""


class Wire(Protocol):
    """The way to the broker; without a connection nothing happens, and `Updater.opened` tells of the next one."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics."""

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for them no more."""

    def say(self, row: NodeTopic, message: msgspec.Struct) -> None:
        """Publish; of a retained row, the last message is said again on each connection."""


class Work(Protocol):
    """What takes time. One thing of each kind at a time."""

    def verify(self) -> None:
        """Ask what the metadata offer; answered by `verified`, always."""

    def prove(self, offer: Offer) -> None:
        """Prove the candidate on this device; answered by `proved`.

        A BundleError or a TrustError says that the release is bad; any other error, that nothing could be found out.
        """

    def begin_trial(self, offer: Offer) -> None:
        """Let the candidate run beside the model in use; answered by `trying`, now and then, and by `tried`."""

    def activate(self, held: Held | None) -> None:
        """Let another model run, None: the floor; answered by `running` or `unusable`, and later by `lasted`.

        Windows without speech count, too: a quiet room is no sign of a bad model.
        """

    def cancel(self) -> None:
        """End proof and trial; what they would have answered is not wanted any more."""

"""The chunks of a release, fetched one at a time: what is not asked for, or is not what was signed, is not kept."""

import hashlib
from collections.abc import Callable
from typing import Final

from broker.contract.errors import StoreError
from broker.contract.offer import Offer
from broker.contract.release import Chunk
from broker.contract.topics import CHUNK
from edge_node.ota.ports import Files, Wire
from edge_node.ota.timers import Pause, Timers

__all__ = ["Download"]

_WAIT_S: Final = 30.0


class Download:
    """The download of one release, and then of the next."""

    def __init__(
        self,
        files: Files,
        wire: Wire,
        timers: Timers,
        *,
        progress: Callable[[float], None],
        trouble: Callable[[str], None],
        done: Callable[[], None],
    ) -> None:
        """Begin with nothing to fetch.

        Args:
            files: where chunks are kept.
            wire: by which they come.
            timers: of the updater.
            progress: hears the share that is here.
            trouble: hears why it does not go on; an empty word: it does again.
            done: hears that all of it is here.
        """
        self._files, self._wire, self._timers = files, wire, timers
        self._progress, self._trouble, self._done = progress, trouble, done
        self._pause = Pause()
        self._offer: Offer | None = None
        self._wanted: Chunk | None = None

    def begin(self, offer: Offer) -> None:
        """Fetch what is missing of a release."""
        self._offer = offer
        self._go_on()

    def end(self) -> None:
        """Fetch no more."""
        self._cease()
        self._offer = None
        self._pause.reset()

    def opened(self) -> None:
        """Hear that there is a new connection, whose broker knows nothing of what was asked for before."""
        self._cease()
        self._pause.reset()
        self._go_on()

    def take(self, digest: str, payload: bytes) -> None:
        """Take a chunk, if it is the one that is waited for."""
        chunk = self._wanted
        if chunk is None or digest != chunk.sha256:
            return
        self._cease()
        if len(payload) != chunk.bytes or hashlib.sha256(payload).hexdigest() != digest:
            self._hold(f"the broker's chunk {digest[:12]} is not what was signed ({len(payload):,} bytes)")
            return
        try:
            self._files.put_chunk(chunk, payload)
        except StoreError as error:
            self._hold(str(error))
            return
        self._pause.reset()
        self._trouble("")
        self._go_on()

    def _go_on(self) -> None:
        if self._offer is None or self._wanted is not None:
            return
        missing = [chunk for chunk in self._offer.release.chunks if not self._files.has_chunk(chunk)]
        self._progress(1 - sum(chunk.bytes for chunk in missing) / self._offer.bytes)
        if not missing:
            self._done()
            return
        self._wanted = missing[0]
        self._ask(self._wanted)

    def _ask(self, chunk: Chunk) -> None:
        self._wire.subscribe([CHUNK.at(chunk.sha256)])
        self._timers.after(_WAIT_S, self._miss)

    def _miss(self) -> None:
        """Say that a chunk does not come. It stays asked for, so that a broker which gets it sends it at once."""
        if self._wanted is not None:
            name = self._wanted.sha256[:12]
            self._trouble(f"the broker does not send chunk {name}; `sottovoce-release reseed` gives it to the broker")
            self._timers.after(self._pause.next_s(), self._ask_again)

    def _ask_again(self) -> None:
        if self._wanted is not None:
            self._ask(self._wanted)

    def _hold(self, why: str) -> None:
        self._trouble(why)
        self._timers.after(self._pause.next_s(), self._go_on)

    def _cease(self) -> None:
        """Wait for nothing any more."""
        if self._wanted is not None:
            self._wire.unsubscribe([CHUNK.at(self._wanted.sha256)])
        self._wanted = None
        self._timers.drop(self._miss, self._ask_again, self._go_on)

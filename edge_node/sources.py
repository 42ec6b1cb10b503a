"""What a source of sound is: it yields blocks. `edge_node.replay` and `edge_node.microphone` are the two there are."""

import threading
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_S", "STALE_S", "Block", "Samples", "Source", "printable"]

BLOCK_S: Final = 0.1
"""Audio in a block, in seconds."""
STALE_S: Final = 5.0
"""A source that is this far behind has stopped."""

Samples = npt.NDArray[np.float32]


class Block(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A piece of mono audio."""

    samples: Samples
    """Shape (n,), float32, full scale at 1, finite."""
    rate_hz: int
    captured_ns: int
    """Monotonic time at which the last sample was captured, in ns; replay that runs ahead of time says when a
    microphone would have captured it."""
    gap: bool = False
    """Whether audio between the previous block and this one is missing."""


class Source(Protocol):
    """Anything that a node can listen to."""

    @property
    def description(self) -> str:
        """What it is, in words, for the status message."""

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost so far."""

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
        """Yield blocks until `stop` is set or there are no more.

        Raises:
            AudioError: the source cannot be used.
        """


def printable(description: str) -> str:
    """Return what fits into a status message: file names may hold line breaks and bytes that are no UTF-8."""
    return "".join(each if each.isprintable() else "?" for each in description)[:128]

"""What a source of sound is: it yields blocks. `replay` and `microphone` are the two there are.

`capture` keeps a source going.
"""

import threading
from collections.abc import Generator
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.condition import CaptureProblem
from broker.contract.errors import AudioError

__all__ = [
    "BLOCK_S",
    "HIGHEST_RATE_HZ",
    "LOWEST_RATE_HZ",
    "STALE_S",
    "TICK_S",
    "Block",
    "Samples",
    "Source",
    "SourceError",
    "printable",
]

BLOCK_S: Final = 0.1
"""Audio in a block, in seconds."""
STALE_S: Final = 5.0
"""A source that is this far behind has stopped."""
TICK_S: Final = 0.25
"""Who waits for audio hears from its source at least this often."""
LOWEST_RATE_HZ: Final = 16_000
"""Below this the band that the features listen to is not in the signal."""
HIGHEST_RATE_HZ: Final = 192_000

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
    zeros: bool = False
    """Whether a device gave nothing but exact zeros, as no microphone does that hears a room. A recording may."""


class SourceError(AudioError):
    """A source that cannot be used now and may be later: `edge_node.sound.capture` tries again.

    Any other AudioError of a source says what will not mend itself.
    """

    def __init__(self, problem: CaptureProblem, description: str, why: str) -> None:
        """Say what is wrong, with which source, and what to do."""
        super().__init__(f"{description}: {why}")
        self.problem = problem
        self.description = printable(description)


class Source(Protocol):
    """Anything that a node can listen to."""

    @property
    def description(self) -> str:
        """What it is, in words, for the status message."""

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost so far."""

    def blocks(self, stop: threading.Event) -> Generator[Block | None, None, None]:
        """Yield blocks until `stop` is set or there are no more, and None every `TICK_S` while none comes.

        What is listened to is open from the first step of the generator until it ends or is closed. Called again, it
        is opened anew.

        Raises:
            SourceError: the source has failed and may be back later.
            AudioError: the source cannot be used.
        """


def printable(description: str) -> str:
    """Return what fits into a status message: file names may hold line breaks and bytes that are no UTF-8."""
    return "".join(each if each.isprintable() else "?" for each in description)[:128]

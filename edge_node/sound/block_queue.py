"""From a device's thread to the one that listens: a bounded queue, and what it means when nothing comes."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator

import msgspec
import numpy as np

from broker.contract.condition import CaptureProblem
from edge_node.sound.sources import STALE_S, TICK_S, Block, Samples, SourceError

__all__ = ["BlockQueue", "listen"]


class BlockQueue:
    """Blocks between one thread that puts and one that gets; when full, the oldest goes, and a gap is where it was."""

    def __init__(self, most_blocks: int, dropped_blocks: int = 0) -> None:
        """Start empty, and go on counting."""
        self._queue: queue.Queue[tuple[int, Block]] = queue.Queue(most_blocks)
        self._put = 0
        self._got = 0
        self.dropped_blocks = dropped_blocks
        """Blocks that nobody will get."""

    def put(self, block: Block, *, lost_before: bool = False) -> None:
        """Append a block, without waiting; `lost_before`: the device has dropped what came before it.

        Before the first of all there was nothing to lose, although some devices say so.
        """
        lost_before = lost_before and self._put > 0
        self._put += 2 if lost_before else 1
        self.dropped_blocks += lost_before
        while True:
            try:
                self._queue.put_nowait((self._put, block))
            except queue.Full:
                self._drop_oldest()
            else:
                return

    def get(self, timeout_s: float) -> Block:
        """Return the oldest block, marked when the one before it is missing.

        Raises:
            queue.Empty: none came in time.
        """
        number, block = self._queue.get(timeout=timeout_s)
        gap = number != self._got + 1
        self._got = number
        return msgspec.structs.replace(block, gap=gap)

    def lose_last(self) -> None:
        """Count the block that `get` returned last as lost: it was of no use."""
        self._got -= 1
        self.dropped_blocks += 1

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return  # the pipeline was quicker
        self.dropped_blocks += 1


def listen(
    blocks: BlockQueue,
    description: str,
    is_active: Callable[[], bool],
    stop: threading.Event,
    clock_s: Callable[[], float] = time.monotonic,
) -> Generator[Block | None, None, None]:
    """Yield the blocks that a device delivers until `stop` is set, and None every `TICK_S` while there are none.

    Args:
        blocks: what the device delivers; blocks that are not finite are of no use to anybody, and count as lost.
        description: of the device.
        is_active: whether it is going to deliver more.
        stop: ends it.
        clock_s: monotonic time, in s.

    Raises:
        SourceError: the device has stopped, or has delivered nothing of use for `STALE_S`.
    """
    good_s, is_broken = clock_s(), False
    while not stop.is_set():
        block: Block | None = None
        with contextlib.suppress(queue.Empty):
            block = blocks.get(TICK_S)
        if block is not None and _is_finite(block.samples):
            good_s, is_broken = clock_s(), False
            yield block
            continue
        if block is not None:  # a broken driver
            is_broken = True
            blocks.lose_last()
        elif not is_active():
            raise SourceError(CaptureProblem.LOST, description, "the stream has ended; is it still connected?")
        if clock_s() - good_s >= STALE_S:
            if is_broken:
                why = f"nothing but NaN or infinite samples for {STALE_S:g} s; is its driver the right one?"
                raise SourceError(CaptureProblem.UNUSABLE, description, why)
            why = f"has delivered nothing for {STALE_S:g} s; is it still connected?"
            raise SourceError(CaptureProblem.STALLED, description, why)
        yield None


def _is_finite(samples: Samples) -> bool:
    return bool(np.isfinite(samples).all())

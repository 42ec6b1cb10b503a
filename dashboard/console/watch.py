"""Readings that are shared by everyone who looks. Nobody looks: nothing is read."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from broker.contract.errors import StoreError
from broker.contract.topics import NodeId
from dashboard.console.condition import Figures
from dashboard.console.readings import History, Live, Reader, Span, Totals

__all__ = ["Watch", "now_us"]

T = TypeVar("T")

_REST: Final = 20
"""A reading that took t seconds is not repeated for 20 t: a slow store is asked less often, never continuously."""
_HISTORY_EVERY_S: Final = {Span.MINUTES: 0.9, Span.HOUR: 5.0, Span.DAY: 30.0}
_FIGURES_EVERY_S: Final = {Span.MINUTES: 2.0, Span.HOUR: 5.0, Span.DAY: 30.0}


def now_us() -> int:
    """Return the wall clock, µs since 1970."""
    return time.time_ns() // 1000


class Watch:
    """The newest readings of one store."""

    def __init__(self, reader: Reader) -> None:
        """Watch what this reader reads."""
        self.place = reader.place
        self._reader = reader
        self._figures: dict[tuple[NodeId, Span], Paced[tuple[Figures, ...]]] = {}
        self.live: Paced[Live] = Paced(lambda: reader.live(now_us()), every_s=0.9)
        self.totals: Paced[Totals] = Paced(reader.totals, every_s=2.0)
        self._history = {span: Paced(_of(reader, span), every_s=every) for span, every in _HISTORY_EVERY_S.items()}

    def history(self, span: Span) -> "Paced[History]":
        """Return the reading of one span."""
        return self._history[span]

    def figures(self, node: NodeId, span: Span) -> "Paced[tuple[Figures, ...]]":
        """Return the reading of one node's condition over one span."""
        if (node, span) not in self._figures:
            read = functools.partial(_figures, self._reader, node, span)
            self._figures[node, span] = Paced(read, every_s=_FIGURES_EVERY_S[span])
        return self._figures[node, span]


class Paced(Generic[T]):
    """One reading, taken when somebody asks and it is due."""

    def __init__(self, read: Callable[[], T], *, every_s: float) -> None:
        """Take `read`, which may block, at most every `every_s` seconds."""
        self._read = read
        self._every_s = every_s
        self._due = 0.0
        self._lock = asyncio.Lock()
        self._last: T | StoreError | None = None

    async def get(self) -> T:
        """Return the newest value.

        Raises:
            StoreError: the last reading failed.
        """
        async with self._lock:
            if self._last is None or time.monotonic() >= self._due:
                began = time.monotonic()
                self._last = await _in_thread(self._read)
                took = time.monotonic() - began
                self._due = began + max(self._every_s, _REST * took)
            if isinstance(self._last, StoreError):
                raise self._last
            return self._last


def _figures(reader: Reader, node: NodeId, span: Span) -> tuple[Figures, ...]:
    return reader.figures(node, span, now_us())


def _of(reader: Reader, span: Span) -> Callable[[], History]:
    return lambda: reader.history(span, now_us())


async def _in_thread(read: Callable[[], T]) -> T | StoreError:
    """Return what `read` returns, or its StoreError; on a daemon thread, because executors delay the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T | StoreError] = loop.create_future()

    def answer(result: T | StoreError | None, error: Exception | None) -> None:
        if future.done():  # whoever asked has gone
            return
        if error is not None:
            future.set_exception(error)
        elif result is not None:
            future.set_result(result)

    def run() -> None:
        result: T | StoreError | None = None
        defect: Exception | None = None
        try:
            result = read()
        except StoreError as error:
            result = error
        except Exception as error:  # noqa: BLE001 -- raised again where the reading is awaited
            defect = error
        try:
            loop.call_soon_threadsafe(answer, result, defect)
        except RuntimeError:  # the loop is closed: the console has ended meanwhile
            return

    threading.Thread(target=run, name="sottovoce-reading", daemon=True).start()
    return await future

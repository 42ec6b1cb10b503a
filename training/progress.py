"""Progress bars on stderr, so that stdout stays for results."""

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["bar", "track"]

T = TypeVar("T")


def bar() -> Progress:
    """Return a progress bar on stderr; it draws nothing where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def track(items: Sequence[T], doing: str) -> Iterable[T]:
    """Yield the items while a bar shows how many are done."""
    with bar() as progress:
        task = progress.add_task(doing, total=len(items), note="")
        for item in items:
            yield item
            progress.advance(task)

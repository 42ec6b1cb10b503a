"""What everything that is printed shares: one width, one kind of table, and figures written alike."""

from collections.abc import Iterable
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from broker.contract.decision import CLASSES
from training.data.corpora import title_of
from training.exam.metrics import ClipScores

__all__ = ["add_scores", "grid", "number", "open_console", "say", "score_grid", "share"]

_WIDTH: Final = 120
"""Columns where the output is no terminal, or a narrow one."""


def open_console() -> Console:
    """Return where tables go; a narrower terminal breaks lines, but no figure is cut off."""
    console = Console()
    return console if console.is_terminal and console.width > _WIDTH else Console(width=_WIDTH)


def say(console: Console, text: str) -> None:
    """Print a line as it is, however wide."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def number(count: int, what: str) -> str:
    """Return how many of something there are, in words."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def share(value: float | None) -> str:
    """Return a share as a number of per cent, without the sign."""
    return "-" if value is None else f"{100 * value:.1f}"


def grid(*columns: str, left: Iterable[str] = ()) -> Table:
    """Return an empty table with these columns, aligned to the right but for those named."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def score_grid(first: str, second: str = "corpus") -> Table:
    """Return an empty table of scores, with a recall per class; its first two columns are words."""
    table = grid(first, second, "clips", "accuracy", "UAR", "macro-F1", *CLASSES, left=(first, second))
    table.columns[-len(CLASSES)].header = f"recall {CLASSES[0]}"
    return table


def add_scores(table: Table, name: str, scores: ClipScores) -> None:
    """Add a section to a `score_grid`: a row per corpus, and where there are several their clips taken as one."""
    rows = [(title_of(corpus), of_corpus) for corpus, of_corpus in scores.corpora.items()]
    several = len(rows) > 1
    for title, each in [*rows, ("pooled", scores.pooled)] if several else rows:
        shares = (each.accuracy, each.uar, each.macro_f1, *each.recall)
        table.add_row(name, title, f"{each.clips:,}", *map(share, shares))
    if several:
        table.add_row(name, "corpus-macro", "", "", share(scores.macro_uar))
    table.add_section()

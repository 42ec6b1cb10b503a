"""What is shown while a rehearsal runs: a table on a terminal, a line now and then elsewhere; both on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deploy.fleet.director import Director
from edge_node.simulate.fleet import Counts, Fleet

__all__ = ["Display", "open_display"]

_LINE_S: Final = 10.0
"""Between two lines where there is no terminal, unless something has changed."""


class Display:
    """Shows how a fleet stands."""

    def __init__(self, console: Console, live: Live | None) -> None:
        """Write to a console; on a terminal by a table that changes in its place."""
        self._console, self._live = console, live
        self._said_s = -_LINE_S
        self._said: tuple[object, ...] = ()

    def say(self, words: str) -> None:
        """Say something that stays."""
        self._console.print(escape(words))

    def show(self, fleet: Fleet, director: Director, counts: Counts) -> None:
        """Show how things stand."""
        rollout = director.rollout
        percent = 0 if rollout is None else rollout.percent
        is_aborted = rollout is not None and rollout.aborted
        told = f"{percent} %{', aborted' if is_aborted else ''}"
        if self._live is not None:
            self._live.update(_table(fleet, director, counts, told))
            return
        key = (director.stage, told)
        if key == self._said and fleet.elapsed_s < self._said_s + _LINE_S:
            return
        self._said, self._said_s = key, fleet.elapsed_s
        self.say(
            f"{fleet.elapsed_s:6.1f} s  {director.stage}, {told}: {counts.reachable:,} of {counts.nodes:,} connected, "
            f"{counts.tried:,} tried, {counts.active_new:,} run it, {counts.rejected:,} rejected, "
            f"{counts.stuck:,} under way, timers late by {fleet.times.late_ms(0.95):g} ms (p95)"
        )


@contextmanager
def open_display(*, quiet: bool) -> Iterator[Display]:
    """Open it; `quiet`: only what is said stays."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet or not console.is_terminal:
        yield Display(console, None)
        return
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield Display(console, live)


def _table(fleet: Fleet, director: Director, counts: Counts, told: str) -> Table:
    table = Table(title=f"{fleet.elapsed_s:.0f} s, {director.stage}: {told}", title_justify="left", expand=False)
    rows = (
        ("connected", f"{counts.reachable:,} of {counts.nodes:,}"),
        ("tried", f"{counts.tried:,}"),
        ("run it", f"{counts.active_new:,}"),
        ("under way", f"{counts.stuck:,}"),
        ("went back", f"{counts.rolled_back:,}"),
        ("rejected", f"{counts.rejected:,}"),
        ("timers late, p95", f"{fleet.times.late_ms(0.95):g} ms"),
        ("controller", escape(director.last_words[:100])),
    )
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    return table

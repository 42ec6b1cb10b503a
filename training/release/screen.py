"""Where a rollout is shown: a table on a terminal, a line for each change elsewhere, or JSON for programs."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Protocol

import msgspec
from rich.console import Console
from rich.live import Live

from training.release.board import board
from training.release.show import say
from training.release.view import View, in_one_line

__all__ = ["JsonScreen", "LiveScreen", "PlainScreen", "Screen", "open_screen"]

_SPACING_S: Final = 1.0
"""Between two lines about the same rollout: a fleet that downloads changes all the time."""


class Screen(Protocol):
    """Shows a rollout while it is looked at."""

    def show(self, view: View, elapsed_s: float | None) -> None:
        """Show how things stand.

        Args:
            view: how.
            elapsed_s: for how long the channel has been told so; None: unknown.
        """

    def say(self, line: str) -> None:
        """Say something that stays."""


class LiveScreen:
    """A table that changes in its place; what is said meanwhile stands above it."""

    def __init__(self, live: Live) -> None:
        """Draw on a terminal."""
        self._live = live

    def show(self, view: View, elapsed_s: float | None) -> None:
        """Draw the table anew."""
        console = self._live.console
        self._live.update(board(view, elapsed_s, console.width, console.height), refresh=True)

    def say(self, line: str) -> None:
        """Print above the table; below it, once that stays as it is."""
        say(self._live.console, line)


class PlainScreen:
    """One line for each change, with the time of day."""

    def __init__(
        self, console: Console, *, spacing_s: float = _SPACING_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Print to a console."""
        self._console = console
        self._spacing = _Spacing(spacing_s, clock)

    def show(self, view: View, elapsed_s: float | None) -> None:  # noqa: ARG002 -- a line tells its time itself
        """Print a line, if the figures are news and may be relied on."""
        line = in_one_line(view)
        if view.is_current and self._spacing.is_due(line, is_last=view.outcome is not None):
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        say(self._console, f"{datetime.now().astimezone():%H:%M:%S} {line}")


class JsonScreen:
    """One JSON object for each change on stdout; what is said goes to stderr."""

    def __init__(self, *, spacing_s: float = _SPACING_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Print to stdout."""
        self._spacing = _Spacing(spacing_s, clock)

    def show(self, view: View, elapsed_s: float | None) -> None:  # noqa: ARG002 -- it changes all the time
        """Print the view, if it is news."""
        line = msgspec.json.encode(view).decode()
        if self._spacing.is_due(line, is_last=view.outcome is not None):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def say(self, line: str) -> None:
        """Print a line to stderr."""
        sys.stderr.write(f"{line}\n")


@contextmanager
def open_screen(*, as_json: bool) -> Iterator[Screen]:
    """Show on what fits where the output goes."""
    console = Console(highlight=False)
    if as_json:
        yield JsonScreen()
    elif console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf"):
        with Live(console=console, auto_refresh=False) as live:
            yield LiveScreen(live)
    else:
        yield PlainScreen(console)


class _Spacing:
    """Lets news through, at most once in a while; what came too early is told later, unless it has changed again."""

    def __init__(self, spacing_s: float, clock: Callable[[], float]) -> None:
        self._spacing_s, self._clock = spacing_s, clock
        self._last = ""
        self._due_s = 0.0

    def is_due(self, line: str, *, is_last: bool) -> bool:
        now_s = self._clock()
        if line == self._last or (now_s < self._due_s and not is_last):
            return False
        self._last, self._due_s = line, now_s + self._spacing_s
        return True

"""The table of a rollout on a terminal: 80 columns and 24 lines are enough, for a thousand nodes as for three."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from broker.contract.release import Rollout
from broker.contract.updates import UpdateState
from training.release.fleet import Tally, in_nodes
from training.release.view import Latest, View

__all__ = ["board"]

_WIDEST: Final = 120
_OTHER_LINES: Final = 15
"""Of everything but the reasons and the nodes that changed last; those nodes get what is left."""
_MOST_REASONS: Final = 3
_STYLES: Final = {"succeeded": "green", "under way": "yellow", "not begun": "bright_black", "failed": "red"}
_MARKS: Final = {"succeeded": "█", "under way": "▒", "not begun": "░", "failed": "▚"}
"""Told apart without colours, too."""
_WORKING: Final = (UpdateState.DOWNLOADING, UpdateState.VERIFYING, UpdateState.TRIAL, UpdateState.COMMITTING)
_FAILED: Final = {UpdateState.REJECTED, UpdateState.ROLLING_BACK}


def board(view: View, elapsed_s: float | None, width: int, height: int) -> RenderableType:
    """Return the table.

    Args:
        view: what to show.
        elapsed_s: for how long the channel has been told so; None: unknown.
        width: of the terminal, columns.
        height: of the terminal, lines.
    """
    width = min(width, _WIDEST)
    parts: list[RenderableType] = [
        _title(view, elapsed_s, width),
        _bar(view.fleet, width),
        _line(_known(view.fleet), width),
        _line(_standing(view), width, style="" if view.is_current else "yellow"),
        Text(),
        _states(view),
    ]
    if reasons := _reasons(view, width):
        parts += [Text(), Text("failed because", style="bold"), *reasons]
    room = height - _OTHER_LINES - len(reasons)
    if view.latest and room > 0:
        parts += [Text(), _latest(view.latest[:room], view.rollout, width)]
    return Group(*parts)


def _title(view: View, elapsed_s: float | None, width: int) -> Text:
    rollout = view.rollout
    number = sum(phase <= rollout.percent for phase in rollout.phases)
    listed = ", ".join(map(str, rollout.phases))
    phases = f", phase {number} of {len(rollout.phases)} ({listed} %)" if len(rollout.phases) > 1 else ""
    left = Text(f"{rollout.channel}: {rollout.release}", style="bold", no_wrap=True)
    left.append(f" at {rollout.percent} %", style="bold")
    left.append(phases, style="not bold")
    state = view.outcome or ("aborted" if rollout.aborted else "paused" if rollout.paused else "")
    right = "  ".join(each for each in (state.upper(), _clock(elapsed_s)) if each)
    left.truncate(width - len(right) - 1, overflow="ellipsis")
    left.pad_right(width - left.cell_len - len(right))
    return left.append(right, style="bold red" if rollout.aborted else "bold")


def _bar(fleet: Tally, width: int) -> Text:
    working = sum(fleet.under_way.values())
    counts = {
        "succeeded": fleet.succeeded,
        "under way": working,
        "not begun": fleet.due + fleet.absent + fleet.silent,
        "failed": fleet.failed,
    }
    text = Text(no_wrap=True)
    for name, cells in zip(counts, _shares(list(counts.values()), width), strict=True):
        text.append(_MARKS[name] * cells, style=_STYLES[name])
    return text or Text("·" * width, style="bright_black")


def _shares(counts: Sequence[int], width: int) -> list[int]:
    """Return how many cells each count gets: together all, and nobody who counts gets none."""
    total = sum(counts)
    if not total:
        return [0] * len(counts)
    cells = [max(1, round(width * count / total)) if count else 0 for count in counts]
    largest = max(range(len(cells)), key=cells.__getitem__)
    cells[largest] += width - sum(cells)
    return cells


def _known(fleet: Tally) -> str:
    return f"{in_nodes(fleet.nodes)} known, {fleet.online:,} online; {fleet.asked:,} asked so far"


def _standing(view: View) -> str:
    rollout = view.rollout
    if rollout.aborted or rollout.paused:
        because = f": {rollout.reason}" if rollout.reason else ""
        told = f"{'aborted' if rollout.aborted else 'paused'}{because}"
        return f"{told}; waits for {view.waits}" if view.waits else told
    if view.waits:
        return f"waits for {view.waits}"
    return "everybody who was asked and is there has come to an end" if view.fleet.asked else "nobody is in yet"


def _states(view: View) -> Table:
    """Return the figures: who has not begun, who is under way, who has come to an end."""
    fleet = view.fleet
    groups = (
        [("not begun", fleet.due), ("offline", fleet.absent), ("not heard of", fleet.silent)],
        [(state.value, fleet.under_way.get(state, 0)) for state in _WORKING],
        [("succeeded", fleet.succeeded), ("failed", fleet.failed), ("rolling back", fleet.going_back)],
    )
    styles = ("", _STYLES["under way"], _STYLES["succeeded"])
    table = Table.grid(padding=(0, 1))
    for group in groups:
        table.add_column(width=12)
        table.add_column(width=7, justify="right")
        if group is not groups[-1]:
            table.add_column(width=3)
    for row in zip_longest(*groups):
        cells: list[Text] = []
        for figure, style in zip(row, styles, strict=True):
            name, count = figure or ("", None)
            shade = _STYLES["failed"] if name in {"failed", "rolling back"} else style
            cells += [Text(name), Text("" if count is None else f"{count:,}", style=shade if count else "dim"), Text()]
        table.add_row(*cells[:-1])
    return table


def _reasons(view: View, width: int) -> list[Text]:
    """Return why nodes failed, a line for each of the most common reasons."""
    shown = view.reasons[:_MOST_REASONS]
    lines = [_line(f"{count:>7,}  {reason or 'no reason given'}", width) for reason, count in shown]
    left = view.fleet.failed - sum(count for _, count in shown)
    return [*lines, _line(f"{left:>7,}  for other reasons", width)] if left > 0 else lines


def _latest(latest: Iterable[Latest], rollout: Rollout, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, width=width)
    table.add_column("node, changed last", no_wrap=True, max_width=width // 3)
    table.add_column("state", no_wrap=True, min_width=12)
    table.add_column("", no_wrap=True, ratio=1)
    for each in latest:
        is_about = each.release == rollout.release
        state = "succeeded" if is_about and each.state is UpdateState.IDLE else each.state.value
        style = _STYLES["failed"] if is_about and each.state in _FAILED else ""
        table.add_row(Text(each.node), Text(state, style=style), Text(_details(each, is_about=is_about)))
    return table


def _details(each: Latest, *, is_about: bool) -> str:
    """Return what a node says beside its state: its reason, how its trial went, and of what other release it speaks."""
    parts = [each.reason]
    if each.agreement is not None:
        parts.append(f"{100 * each.agreement:.1f} % agreed")
    if each.p95_us is not None:
        parts.append(f"p95 {each.p95_us / 1_000:.1f} ms")
    if not is_about:
        runs = "runs " if each.state is UpdateState.IDLE else ""
        parts.append(f"{runs}{each.release}" if each.release else "no release seen")
    return ", ".join(part for part in parts if part)


def _line(text: str, width: int, style: str = "") -> Text:
    line = Text(text, style=style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line


def _clock(elapsed_s: float | None) -> str:
    if elapsed_s is None:
        return ""
    minutes, seconds = divmod(int(elapsed_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"  # noqa: PLR2004 -- minutes of an hour

"""What the commands print."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from broker.contract.release import Release, Rollout
from training.release.gates import Gate
from training.release.status import Status

__all__ = ["after_abort", "open_console", "say", "show_gates", "show_release", "show_rollout", "show_status"]

_WIDTH: Final = 120
"""Columns where the output is no terminal, or a narrow one."""


def open_console() -> Console:
    """Return where tables go; a narrower terminal breaks lines, but nothing is cut off."""
    console = Console()
    return console if console.is_terminal and console.width > _WIDTH else Console(width=_WIDTH)


def say(console: Console, *lines: str) -> None:
    """Print lines as they are, however wide."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_gates(console: Console, gates: Iterable[Gate]) -> None:
    """Print how a bundle stands."""
    console.print(_table(("gate", "", "found"), ((gate.what, gate.verdict.value, gate.detail) for gate in gates)))


def show_release(console: Console, release: Release) -> None:
    """Print what is signed about a bundle."""
    say(
        console, f"{release.model}: {release.bytes:,} bytes in {len(release.chunks)} chunks, front-end {release.family}"
    )
    if release.forced:
        say(console, f"forced, for all to read: {release.forced.reason}")


def show_rollout(console: Console, rollout: Rollout, *, with_limits: bool = False) -> None:
    """Print what a channel is told to run, and on how many nodes; with limits, how fast they begin and what ends it."""
    say(console, f"{rollout.channel}: {rollout.release}, {_told(rollout)}")
    if with_limits:
        say(console, f"  {_limits(rollout)}")


def after_abort(channel: str) -> str:
    """Return what an abort leaves as it is, and what to do about that."""
    option = "" if channel == "stable" else f" --channel {channel}"
    return (
        "nodes that run it keep it; to send them back: "
        f"sottovoce-release publish OTHER --downgrade{option}, then rollout"
    )


def show_status(console: Console, status: Status) -> None:
    """Print the whole repository."""
    say(console, f"{status.repository} (keys marked * are at hand)")
    rows = [
        (each.role.value, str(each.version), f"{each.threshold} of {' '.join(each.keys)}", f"{each.days_left:.1f}")
        for each in status.roles
    ]
    console.print(_table(("role", "version", "signed by", "days left"), rows))
    releases = [
        (each.release, f"{each.bytes:,}", str(each.chunks), ", ".join(each.channels), each.forced or "")
        for each in status.releases
    ]
    console.print(_table(("release", "bytes", "chunks", "channels", "forced because"), releases))
    if status.channels:
        channels = [
            (each.channel, each.release, "\n".join([_told(each), *([_limits(each)] if each.percent else [])]))
            for each in status.channels
        ]
        console.print(_table(("channel", "release", "told"), channels))
    say(console, *(f"waits: {line}" for line in status.pending), *(f"WARNING: {line}" for line in status.warnings))


def _told(rollout: Rollout) -> str:
    """Return in words what is to run, and on how many nodes."""
    parts = [f"{rollout.percent} % of the nodes"]
    if len(rollout.phases) > 1:
        parts.append(f"in phases of {', '.join(map(str, rollout.phases))} %")
    if rollout.downgrade:
        parts.append("newer ones go back")
    because = f" ({rollout.reason})" if rollout.reason else ""
    state = "ABORTED" if rollout.aborted else "paused" if rollout.paused else ""
    return f"{state}{because}; {', '.join(parts)}" if state else ", ".join(parts)


def _limits(rollout: Rollout) -> str:
    begin = f"beginning within {rollout.spread_s} s, " if rollout.spread_s else ""
    return f"{begin}abort above {rollout.abort_above} % failures once {rollout.min_nodes} have executed"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in {"version", "bytes", "chunks", "days left"} else "left")
    for row in rows:
        table.add_row(*row)
    return table

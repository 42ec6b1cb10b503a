"""What the files of one network cost and what they lose: the table that `export` writes."""

from collections.abc import Iterable
from typing import Final

import msgspec

from training.fitting.results import Machine

__all__ = ["PAPER", "Paper", "Row", "Table", "as_markdown"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One file, or one way to run it."""

    name: str
    """Kind of the file, or way to run it."""
    bytes: int | None = None
    """None: it is no file."""
    accuracy: float | None = None
    """Share of the test clips told rightly."""
    uar: float | None = None
    """Of the test clips, all corpora taken as one."""
    same_windows: float | None = None
    """Share of the test windows with the same decision as by the float network."""
    fastest_us: float | None = None
    """Per window, one thread."""
    median_us: float | None = None
    """Per window, one thread."""
    micro: str | None = None
    """How it fares in the interpreter for microcontrollers."""


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication states of its own network; another data set, split and machine."""

    source: str
    bytes: tuple[int, int]
    """Before, after."""
    accuracy: tuple[float, float]
    """Before, after; shares of 1."""
    seconds_per_100: tuple[float, float]
    """Before, after: for 100 windows."""
    remark: str


PAPER: Final = Paper(
    source='"Machine learning for internet of thing: Speech emotion recognition", Ho Chi Minh City University of '
    "Technology",
    bytes=(1_568_912, 150_032),
    accuracy=(0.7491, 0.7456),
    seconds_per_100=(16.89, 0.413),
    remark="its first file holds the optimizer's moments, its first time is that of predict(), and its split is by "
    "altered copies of clips, so that the same clips and speakers train and test",
)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was made of one network, and measured."""

    model: str
    """Name and version."""
    experiment: str
    split: str
    """As `Split.name` tells it."""
    parameters: int | None
    """None: only LiteRT files were at hand."""
    input_shape: tuple[int, int]
    """(frames, columns) of a window."""
    clips: int
    """Test clips; 0: none were at hand."""
    windows: int
    """Of the test clips."""
    rounds: int
    """Runs that the times are taken from; the rows of one runtime in turn."""
    machine: Machine
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    firmware: str | None
    """Which file the C sources hold; None: none were written."""
    paper: Paper = PAPER


_COLUMNS: Final = ("", "bytes", "accuracy", "UAR", "same decisions", "µs, fastest", "µs, median", "LiteRT Micro")


def as_markdown(table: Table) -> str:
    """Return the table as text."""
    frames, columns = table.input_shape
    machine, paper = table.machine, table.paper
    size = "" if table.parameters is None else f", {table.parameters:,} parameters"
    tested = f"{table.clips:,} clips, {table.windows:,} windows, {table.split}" if table.clips else "no clips"
    network = f"Experiment {table.experiment}{size}; a window is {frames} frames of {columns} columns."
    times = (
        f"Times: one thread, {table.rounds} runs, the rows of one runtime in turn, on {machine.processor} "
        f"({machine.cores} cores), Python {machine.python}, TensorFlow {machine.tensorflow}, LiteRT {machine.litert}."
    )
    scale = (
        f"For scale, another network, data and machine: {paper.source} states {paper.bytes[0]:,} -> "
        f"{paper.bytes[1]:,} bytes, accuracy {_share(paper.accuracy[0])} -> {_share(paper.accuracy[1])} %, "
        f"{paper.seconds_per_100[0]} -> {paper.seconds_per_100[1]} s per 100 windows; {paper.remark}."
    )
    grid = [_COLUMNS, ("---", *["---:"] * (len(_COLUMNS) - 2), "---"), *(_cells(row) for row in table.rows)]
    notes = [*table.notes, *([f"The C sources hold {table.firmware}."] if table.firmware else []), scale]
    return "\n".join(
        [
            f"# {table.model}",
            "",
            f"{network} Tested: {tested}.",
            times,
            "",
            *(f"| {' | '.join(cells)} |" for cells in grid),
            "",
            *(f"- {note}" for note in notes),
            "",
        ]
    )


def _cells(row: Row) -> Iterable[str]:
    return (
        row.name,
        "" if row.bytes is None else f"{row.bytes:,}",
        _share(row.accuracy),
        _share(row.uar),
        _share(row.same_windows),
        *("" if value is None else f"{value:,.0f}" for value in (row.fastest_us, row.median_us)),
        (row.micro or "").replace("|", "\\|"),
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"

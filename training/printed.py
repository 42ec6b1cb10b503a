"""What `prepare` and `train` print: what corpora hold and lack, and the scores of a run's folds."""

from typing import Final

from rich.table import Table

from training.data.clips import INDEX_NAME
from training.data.corpora import title_of
from training.data.prepare import Prepared
from training.fitting.results import Energy, FoldResult, Run
from training.fitting.summary import Summary, summarise
from training.terminal import add_scores, grid, open_console, say, score_grid, share

__all__ = ["energy_line", "print_prepared", "print_run"]

_LISTED: Final = 20
"""Recordings named one by one; a corpus that git-lfs has not fetched would fill the screen."""
_MOST_SPEAKERS: Final = 12
"""Named one by one; of more, their number is told."""


def print_prepared(prepared: Prepared, out: str) -> None:
    """Print what was found, what is missing against the official sets, and what cannot be used."""
    console = open_console()
    table = Table("corpus", "clips", "other emotion", "corrupt", "official", "missing", title="Prepared")
    for item in prepared.coverage:
        table.add_row(
            title_of(item.corpus),
            f"{item.clips:,}",
            str(item.excluded),
            str(item.corrupt),
            "-" if item.official is None else f"{item.official:,}",
            _missing(item.absent_speakers, item.incomplete_speakers) if item.clips else "all",
        )
    console.print(table)
    for what, files in (("corrupt", prepared.corrupt), ("not used", prepared.unused)):
        for file in files[:_LISTED]:
            say(console, f"{what}: {file.path}: {file.reason}")
        if len(files) > _LISTED:
            say(console, f"{what}: {len(files) - _LISTED:,} more, listed in {out}/{INDEX_NAME}")
    if prepared.repeated:
        say(console, f"{prepared.repeated:,} files repeat a recording found elsewhere and were left out")
    say(console, f"decoded {prepared.decoded:,}, unchanged {prepared.skipped:,}; cache: {out}")


def print_run(run: Run) -> None:
    """Print the scores of every fold's quantized model on its test side, and the figures of the whole run."""
    console = open_console()
    summary = summarise(run)
    split = (
        "by clip, speakers on both sides: OPTIMISTIC" if summary.by == "clip" else "by speaker, on speakers never heard"
    )
    table = score_grid("test")
    for item in run.folds:
        name = f"{'all' if item.fold is None else f'fold {item.fold}'}, seed {item.seed}"
        if item.test:
            add_scores(table, name, item.test.models["quantized"])
        if item.test_cropped:
            add_scores(table, f"{name}, crop", item.test_cropped)
    if table.row_count:
        say(console, f"{run.experiment}, quantized, per cent; split {split}\n")
        console.print(table)
        console.print()
    if summary.figures:
        seeds = ", ".join(map(str, summary.seeds))
        say(console, f"all folds taken as one, per cent; seeds {seeds}\n")
        console.print(_spreads(summary))
        console.print()
    for item in run.folds:
        say(console, _settings_line(item))
    if run.energy:
        say(console, energy_line(run.energy))


def energy_line(energy: Energy) -> str:
    """Return what a run took from the grid, in words."""
    return (
        f"energy: {energy.kilowatt_hours * 1000:.1f} Wh in {energy.seconds:.0f} s, {energy.co2_kg * 1000:.1f} g CO2 "
        f"equivalents ({energy.country}); estimated by codecarbon"
    )


def _spreads(summary: Summary) -> Table:
    table = grid("figure", "mean", "deviation", "lowest", "highest", left=("figure",))
    for name, spread in summary.figures.items():
        table.add_row(name, *map(share, (spread.mean, spread.deviation, spread.low, spread.high)))
    return table


def _settings_line(item: FoldResult) -> str:
    same = f", same decision {item.test.same_windows:.1%}" if item.test and item.test.same_windows else ""
    return (
        f"{item.origin.split}, seed {item.seed}: {item.parameters:,} parameters, float {item.float_bytes:,} B, "
        f"quantized {item.quantized_bytes:,} B{same}, epoch {item.best_epoch + 1} of {len(item.epochs)}, temperature "
        f"{item.temperature:.2f}, smoothing {item.decision.smoothing:g}, uncertain below "
        f"{item.decision.uncertain_below:g}, silent below {item.decision.silent_below_dbfs:g} dBFS, "
        f"{item.seconds:.0f} s"
    )


def _missing(absent: tuple[str, ...], incomplete: dict[str, int]) -> str:
    said = []
    if len(absent) > _MOST_SPEAKERS:
        said.append(f"{len(absent)} speakers")
    elif absent:
        said.append(f"speakers {', '.join(_short(speaker) for speaker in absent)}")
    if len(incomplete) > _MOST_SPEAKERS:
        said.append(f"{sum(incomplete.values()):,} of {len(incomplete)} speakers")
    else:
        said += [f"{count:,} of {_short(speaker)}" for speaker, count in incomplete.items()]
    return "; ".join(said) or "nothing"


def _short(speaker: str) -> str:
    return speaker.split("_", 1)[1]

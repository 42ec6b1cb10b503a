"""What `prepare` and `train` print; `tables` has the rest."""

from typing import Final

from rich.table import Table

from broker.contract.decision import CLASSES
from training.data.clips import INDEX_NAME
from training.data.corpora import CORPORA, title_of
from training.data.prepare import Prepared
from training.exam.evaluate import Figures
from training.exam.metrics import Scores
from training.exam.tables import open_console, say
from training.fitting.results import Energy, FoldResult, Run
from training.fitting.summary import Summary, summarise

__all__ = ["energy_line", "print_prepared", "print_run"]

_TITLES: Final[dict[str, str]] = {corpus.key: corpus.title for corpus in CORPORA}
_LISTED: Final = 20
"""Recordings named one by one; a corpus that git-lfs has not fetched would fill the screen."""
_MOST_SPEAKERS: Final = 12


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
    table = _score_table("test", f"{run.experiment}, quantized; split {split}")
    for item in run.folds:
        name = f"{'all' if item.fold is None else f'fold {item.fold}'}, seed {item.seed}"
        if item.test:
            _add(table, name, item.test.models["quantized"])
        if item.test_cropped:
            _add(table, f"{name}, crop", item.test_cropped)
    if table.row_count:
        console.print(table)
    if summary.figures:
        console.print(_spread_table(summary))
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


def _spread_table(summary: Summary) -> Table:
    seeds = ", ".join(map(str, summary.seeds))
    table = Table(title=f"all folds taken as one; seeds {seeds}", title_justify="left")
    for name in ("figure", "mean", "deviation", "lowest", "highest"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, spread in summary.figures.items():
        shares = (spread.mean, spread.deviation, spread.low, spread.high)
        table.add_row(name, *(f"{value:.1%}" for value in shares))
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


def _score_table(first: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", caption="per class: recall", caption_justify="right")
    for name in (first, "corpus"):
        table.add_column(name)
    for name in ("clips", "accuracy", "UAR", "macro-F1", *CLASSES):
        table.add_column(str(name), justify="right")
    return table


def _add(table: Table, name: str, figures: Figures) -> None:
    for corpus, scores in figures.corpora.items():
        table.add_row(name, _TITLES[corpus], *_cells(scores))
    if len(figures.corpora) > 1:
        table.add_row(name, "pooled", *_cells(figures.pooled))
        table.add_row(name, "corpus-macro", "", "", f"{figures.macro_uar:.1%}")
    table.add_section()


def _cells(scores: Scores) -> list[str]:
    recalls = ["-" if value is None else f"{value:.0%}" for value in scores.recall]
    return [f"{scores.clips:,}", f"{scores.accuracy:.1%}", f"{scores.uar:.1%}", f"{scores.macro_f1:.1%}", *recalls]


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

"""Tables for the terminal."""

from typing import Final

from rich.console import Console
from rich.table import Table

from broker.contract.decision import CLASSES, Label
from training.corpora import CORPORA
from training.evaluate import Evaluation, Figures
from training.metrics import Scores
from training.prepare import Prepared
from training.results import Run
from training.splits import BY_CLIP

__all__ = ["print_evaluation", "print_prepared", "print_run"]

_TITLES: Final[dict[str, str]] = {corpus.key: corpus.title for corpus in CORPORA}
_WIDTH: Final = 110
"""Columns where the output is no terminal."""


def print_prepared(prepared: Prepared, out: str) -> None:
    """Print what was found, what is missing against the official sets, and what is corrupt."""
    console = _console()
    table = Table("corpus", "clips", "other emotion", "corrupt", "official", "missing", title="Prepared")
    for item in prepared.coverage:
        table.add_row(
            _TITLES[item.corpus],
            f"{item.clips:,}",
            str(item.excluded),
            str(item.corrupt),
            f"{item.official:,}",
            _missing(item.absent_speakers, item.incomplete_speakers) if item.clips else "all",
        )
    console.print(table)
    for corrupt in prepared.corrupt:
        _say(console, f"corrupt: {corrupt.path}: {corrupt.reason}")
    if prepared.repeated:
        _say(console, f"{prepared.repeated:,} files repeat a recording found elsewhere and were left out")
    _say(console, f"decoded {prepared.decoded:,}, unchanged {prepared.skipped:,}; cache: {out}")


def print_run(run: Run) -> None:
    """Print the scores of every fold's quantized model on its test speakers, and of all folds together."""
    console = _console()
    by_clip = run.folds[0].split == BY_CLIP
    split = "by clip, speakers on both sides: OPTIMISTIC" if by_clip else "by speaker, on speakers never heard"
    table = _score_table("test", f"{run.experiment}, quantized; split {split}")
    for fold in run.folds:
        name = "by clip" if fold.fold is None else f"fold {fold.fold}"
        _add(table, name, fold.test["quantized"])
        if fold.test_cropped:
            _add(table, f"{name}, crop", fold.test_cropped)
    if len(run.folds) > 1:
        for corpus, scores in run.pooled.items():
            table.add_row("all folds", _TITLES[corpus], *_cells(scores))
        table.add_row("all folds", "corpus-macro", "", "", f"{run.macro_uar:.1%}")
    console.print(table)
    for fold in run.folds:
        _say(
            console,
            f"{fold.split}: {fold.parameters:,} parameters, float {fold.float_bytes:,} B, quantized "
            f"{fold.quantized_bytes:,} B, same decision {fold.same_windows:.1%}, epoch {fold.best_epoch + 1} of "
            f"{len(fold.epochs)}, smoothing {fold.decision.smoothing:g}, uncertain below "
            f"{fold.decision.uncertain_below:g} ({fold.test['quantized'].uncertain_share:.0%} of windows), silent "
            f"below {fold.decision.silent_below_dbfs:g} dBFS, {fold.seconds:.0f} s",
        )


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the scores of both models, new speakers first, those seen in training last and marked."""
    console = _console()
    _say(console, f"{evaluation.bundle} ({evaluation.experiment}), split: {evaluation.split}")
    _say(console, f"a clip's label: {evaluation.rule}")
    if evaluation.corrupt:
        _say(console, f"{evaluation.corrupt} recordings could not be read; `sottovoce-train prepare` lists them")
    for group in evaluation.groups:
        table = _score_table("model", f"{group.standing}: {group.note}")
        for name, figures in group.models.items():
            _add(table, name, figures)
        console.print(table)
        quantized = group.models["quantized"]
        said = ", ".join(f"{label} {quantized.decided[label]:,}" for label in Label)
        _say(console, f"speakers: {', '.join(group.speakers)}")
        _say(
            console,
            f"windows: {group.windows:,} ({group.silent_share:.1%} silent); "
            f"said: {said} ({quantized.uncertain_share:.1%} of those with speech)",
        )
        if group.same_windows is not None and group.same_clips is not None:
            _say(
                console,
                f"float and quantized agree on {group.same_windows:.2%} of the windows with speech, "
                f"{group.same_clips:.2%} of the clips",
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
    if absent:
        said.append(f"speakers {', '.join(speaker.split('_')[1] for speaker in absent)}")
    said += [f"{count:,} of {speaker.split('_')[1]}" for speaker, count in incomplete.items()]
    return "; ".join(said) or "nothing"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)

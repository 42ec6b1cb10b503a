"""A comparison of variants as a table, on the terminal and in Markdown, with what to know of its figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from training.data.corpora import title_of
from training.data.splits import Split
from training.report.document import literal, markdown_table
from training.terminal import grid, number, share
from training.toml import value_text
from training.tuning.paired import ERRORS, FEWEST_PAIRS, Row, rows_of
from training.tuning.variant_runs import VariantRun
from training.tuning.variants import Variant

__all__ = ["Source", "markdown", "notes", "table"]

_HEADER: Final = ("variant", "runs", "UAR", "difference", "std. error", "verdict", "s per run")
_RULE: Final = (
    f"A difference is the mean over pairs of the same fold and seed; with fewer than {FEWEST_PAIRS} pairs, or at most "
    f"{ERRORS} standard errors from 0, the data cannot tell. The seeds of a fold share its speakers: for others the "
    "standard errors are too small."
)
_UNEVEN: Final = "Not all variants have had the same runs: their differences compare, their means do not."
_AGAIN: Final = " They are test speakers of other folds, whose test figures such a choice makes optimistic, too."


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures of a comparison are from."""

    experiment: str
    """Its name."""
    splits: Mapping[int | None, Split]
    """By fold."""
    when: str
    """Which epochs are scored."""


def table(variants: Sequence[Variant], runs: Sequence[VariantRun]) -> Table:
    """Return the table for the terminal."""
    made = grid(*_HEADER, left=("variant", "verdict"))
    made.columns[0].no_wrap = False  # a long name takes two lines, so that no figure is cut off
    for row in rows_of(variants, runs):
        made.add_row(*map(Text, _cells(row)))
    return made


def notes(source: Source, variants: Sequence[Variant], runs: Sequence[VariantRun]) -> tuple[str, ...]:
    """Return what to know of the figures, a line each."""
    if len(variants) == 1:
        return _origin(source, runs)
    uneven = len({row.runs for row in rows_of(variants, runs)}) > 1
    warning = (
        f"To choose the best of {number(len(variants) - 1, 'variant')} by the speakers who compare them is itself "
        f"optimistic.{'' if None in source.splits else _AGAIN}"
    )
    return (*_origin(source, runs), _RULE, *([_UNEVEN] if uneven else []), warning)


def _origin(source: Source, runs: Sequence[VariantRun]) -> tuple[str, ...]:
    """Return a line on what the figures are of; none where there is no figure."""
    scored = [run for run in runs if run.score]
    if not scored:
        return ()
    folds = sorted({run.fold for run in scored if run.fold is not None})
    seeds = list(dict.fromkeys(run.seed for run in scored))
    corpora = {clip.speaker: clip.corpus for run in scored for clip in source.splits[run.fold].validation}
    each = ", ".join(f"{title_of(corpus)} {count}" for corpus, count in Counter(corpora.values()).items())
    line = (
        f"{source.experiment}: corpus-macro UAR in per cent of {number(len(corpora), 'validation speaker')} ({each}), "
        f"{source.when}; {_listed('fold', folds)}{_listed('seed', seeds)}no test speaker was heard."
    )
    return (line,)


def _listed(what: str, numbers: Sequence[int]) -> str:
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}; " if numbers else ""


def markdown(source: Source, variants: Sequence[Variant], runs: Sequence[VariantRun]) -> str:
    """Return table, notes and what each variant changes, ready to paste into a document."""
    rows = [[literal(cell) for cell in _cells(row)] for row in rows_of(variants, runs)]
    lines = markdown_table(_HEADER, rows)
    changes = [_change(variant) for variant in variants if variant.values]
    return "\n\n".join(["\n".join(lines), *notes(source, variants, runs), "\n".join(changes)]).rstrip() + "\n"


def _change(variant: Variant) -> str:
    values = ", ".join(f"`{key} = {value_text(value)}`" for key, value in variant.values.items())
    return f"- {literal(variant.name)}: {values}" + (f"; {literal(variant.why)}" if variant.why else "")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.variant,
        str(row.runs),
        share(row.uar),
        "" if row.difference is None else f"{round(100 * row.difference, 1) + 0.0:+.1f}",  # adding 0 makes -0.0 0.0
        share(row.error) if row.pairs else "",
        row.verdict or "",
        "-" if row.seconds is None else f"{row.seconds:.0f}",
    )

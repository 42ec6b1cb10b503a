"""Variants of an experiment run one after the other, and what is kept of the runs.

out/
    variants.json   every run as soon as it ends; the same command goes on from here
    variants.md     the table so far, by the command
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from broker.contract.errors import DataError, SettingsError
from broker.files import write_whole
from training.config import Experiment
from training.data.clips import digest
from training.files import writing
from training.tuning.trials import Score
from training.tuning.variants import Variant

__all__ = ["RUNS_NAME", "Plan", "VariantRun", "compare_variants", "ended"]

log = logging.getLogger(__name__)

RUNS_NAME: Final = "variants.json"

Key = tuple[str, int | None, int]


class Plan(NamedTuple):
    """What is compared."""

    variants: Sequence[Variant]
    """The first is what the others are compared with."""
    folds: Sequence[int | None]
    """Whose validation speakers score; None: the split has no folds."""
    seeds: Sequence[int]
    data: str
    """Digest of the clips of all folds: scores on others do not compare."""
    score: Callable[[Experiment, int | None, int, str], Score]
    """Called with the experiment to fit, the fold, the seed, and a title for its progress."""

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.variants) * len(self.folds) * len(self.seeds)


class VariantRun(msgspec.Struct, frozen=True, kw_only=True):
    """One variant fitted once."""

    identity: str
    """`Variant.identity`."""
    variant: str
    """Its name at that time."""
    values: dict[str, Any]
    """What it changes, by dotted key."""
    fold: int | None
    """Whose validation speakers scored; None: the split has no folds."""
    seed: int
    score: Score | None
    """None: it failed, and is tried again by the next command."""
    error: str
    """Why it failed; empty if it did not."""
    seconds: float
    """Wall time."""

    @property
    def key(self) -> Key:
        """What no other run has."""
        return (self.identity, self.fold, self.seed)

    @property
    def title(self) -> str:
        """What it is, in words."""
        return _title(self.variant, self.fold, self.seed)


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    fingerprint: str
    """Of the experiment and the clips."""
    runs: tuple[VariantRun, ...]


def compare_variants(
    plan: Plan, out: Path, told: Callable[[VariantRun, Sequence[VariantRun]], None] = lambda *_: None
) -> tuple[VariantRun, ...]:
    """Return the runs of a plan, in its order, after running those that `out` does not hold yet.

    Seed by seed, within it variant by variant, within that fold by fold: whenever one looks, the variants have had
    nearly the same. Each run is written when it ends. One that fails is noted; Ctrl-C passes on.

    Args:
        plan: what is compared.
        out: folder of the comparison; runs that it holds beside the plan's are kept.
        told: called after each run, with it and all runs of the plan so far.

    Raises:
        SettingsError: the folder cannot be used, or holds a comparison of something else.
        DataError: no run finished.
    """
    with writing(out, "choose another --out", what="the folder"):
        out.mkdir(parents=True, exist_ok=True)
    for seed in plan.seeds:
        for variant in plan.variants:
            for fold in plan.folds:
                if any(run.score and run.key == (variant.identity, fold, seed) for run in _read(out, plan)):
                    continue
                run = _run(plan, variant, fold, seed, out)
                _write(out, plan, run)
                told(run, ended(plan, out))
    runs = ended(plan, out)
    if not any(run.score for run in runs):
        msg = f"{out}: no run finished: {next(run.error for run in runs)}"
        raise DataError(msg)
    return runs


def ended(plan: Plan, out: Path) -> tuple[VariantRun, ...]:
    """Return the runs of a plan that have come to an end, good or bad, in its order.

    Raises:
        SettingsError: the folder holds a comparison of something else.
    """
    known = {run.key: run for run in _read(out, plan)}
    keys = [(variant.identity, fold, seed) for seed in plan.seeds for variant in plan.variants for fold in plan.folds]
    return tuple(known[key] for key in keys if key in known)


def _run(plan: Plan, variant: Variant, fold: int | None, seed: int, out: Path) -> VariantRun:
    """Return what comes of one run."""
    began = time.monotonic()
    score, error = None, ""
    title = _title(variant.name, fold, seed)
    try:
        score = plan.score(variant.experiment, fold, seed, f"{_scored(plan, out) + 1} of {plan.total}: {title}")
    except Exception as failure:
        error = " ".join(str(failure).split()) or type(failure).__name__
        log.debug("%s failed", title, exc_info=True)
    return VariantRun(
        identity=variant.identity,
        variant=variant.name,
        values=variant.values,
        fold=fold,
        seed=seed,
        score=score,
        error=error,
        seconds=round(time.monotonic() - began, 1),
    )


def _scored(plan: Plan, out: Path) -> int:
    return sum(run.score is not None for run in ended(plan, out))


def _title(variant: str, fold: int | None, seed: int) -> str:
    return f"{variant}, {'' if fold is None else f'fold {fold}, '}seed {seed}"


def _fingerprint(plan: Plan) -> str:
    return digest(msgspec.json.encode((plan.variants[0].identity, plan.data)))


def _read(out: Path, plan: Plan) -> tuple[VariantRun, ...]:
    """Return what the folder holds; it is read anew each time, for a command beside this one may add to it.

    Raises:
        SettingsError: that cannot be read, or is a comparison of something else.
    """
    path = out / RUNS_NAME
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: holds no comparison that can be read ({error}); choose another --out, or remove it"
        raise SettingsError(msg) from error
    if record.fingerprint != _fingerprint(plan):
        msg = f"{out}: holds a comparison of another experiment or of other data; choose another --out, or remove it"
        raise SettingsError(msg)
    return record.runs


def _write(out: Path, plan: Plan, run: VariantRun) -> None:
    """Add a run to the folder, in place of an earlier one of the same key.

    Raises:
        SettingsError: the folder cannot be written to.
    """
    runs = {each.key: each for each in _read(out, plan)} | {run.key: run}
    record = _Record(fingerprint=_fingerprint(plan), runs=tuple(runs.values()))
    with writing(out / RUNS_NAME, "make room or choose another --out"):
        write_whole(out / RUNS_NAME, msgspec.json.format(msgspec.json.encode(record), indent=1))

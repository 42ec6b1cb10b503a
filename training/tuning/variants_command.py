"""The command `variants`: named changes of an experiment, compared by validation speakers alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from broker.contract.errors import SettingsError
from broker.files import write_whole
from training.config import Experiment, load_experiment
from training.files import writing
from training.terminal import number, open_console, say
from training.tuning.trials import Score
from training.tuning.variant_runs import Plan, VariantRun, compare_variants, ended
from training.tuning.variants import Variant, load_variants, only
from training.tuning.variants_table import Source, markdown, notes, table

__all__ = ["TABLE_NAME", "add_variants_command"]

TABLE_NAME: Final = "variants.md"
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def add_variants_command(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the command to a program's.

    Args:
        commands: what `add_subparsers` returned.
        cache: where prepared clips lie if nobody says otherwise.
    """
    variants = commands.add_parser(
        "variants", help="compare named changes of an experiment, by validation speakers, over folds and seeds"
    )
    variants.add_argument(
        "--config", type=Path, required=True, help="experiment, such as training/configs/factory.toml"
    )
    variants.add_argument(
        "--variants", type=Path, required=True, help="TOML file, such as training/configs/variants/factory.toml"
    )
    variants.add_argument("--data", type=Path, default=cache, help="cache that `prepare` wrote (default: %(default)s)")
    variants.add_argument(
        "--out", type=Path, required=True, help="folder of the comparison; the same command again goes on with it"
    )
    variants.add_argument("--seeds", type=int, help="how many of the experiment's seeds to run (default: all)")
    variants.add_argument("--fold", type=int, help="run this fold alone (default: all)")
    variants.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", help="run these alone, and the experiment as it stands"
    )
    variants.add_argument("--threads", type=int, default=1, help="threads of TensorFlow (default: %(default)s)")
    variants.set_defaults(command=_variants)


def _variants(args: argparse.Namespace) -> int:
    if args.threads < 1:
        msg = f"--threads {args.threads}: allowed is 1 or more"
        raise SettingsError(msg)
    experiment = load_experiment(args.config)  # and the variants, before TensorFlow, which takes seconds to import
    variants = load_variants(args.variants, experiment)
    if args.only:
        variants = only(variants, args.only)
    seeds = experiment.recipe.seeds
    if args.seeds is not None and not 1 <= args.seeds <= len(seeds):
        msg = f"--seeds {args.seeds}: allowed are 1 to {len(seeds)}, as many as the experiment has"
        raise SettingsError(msg)
    _run(*_plan(args, experiment, variants, seeds[: args.seeds]), args.out)
    return 0


def _plan(
    args: argparse.Namespace, experiment: Experiment, variants: Sequence[Variant], seeds: Sequence[int]
) -> tuple[Plan, Source]:
    """Return what is to be compared, and where its figures are from.

    Raises:
        SettingsError: a package is missing, the fold has no speaker here, or the split is by clip.
        DataError: there is no usable cache, or a split would leak.
    """
    try:
        from training.model.network import use_threads  # noqa: PLC0415 -- keeps --help quick
        from training.tuning.tune import LAST_EPOCHS, is_scored_at_end, rehearsals, score_of  # noqa: PLC0415 -- as above
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error

    use_threads(args.threads)
    every = rehearsals(experiment, args.data, None)
    chosen = every if args.fold is None else rehearsals(experiment, args.data, args.fold)
    by_fold = {each.split.fold: each for each in chosen}
    at_end = is_scored_at_end(experiment)  # of all variants alike, or their scores would not compare

    def score(tried: Experiment, fold: int | None, seed: int, title: str) -> Score:
        return score_of(tried, by_fold[fold], seed, args.data, title, at_end=at_end)

    plan = Plan(variants, tuple(by_fold), seeds, " ".join(each.data for each in every), score)
    when = f"mean of the last {LAST_EPOCHS} epochs" if at_end else "at the best epoch"
    splits = {fold: each.split for fold, each in by_fold.items()}
    return plan, Source(experiment=experiment.name, splits=splits, when=when)


def _run(plan: Plan, source: Source, out: Path) -> None:
    """Run the plan, telling each run, then print the table; on Ctrl-C, print what there is of it."""
    console = open_console()

    def told(run: VariantRun, runs: Sequence[VariantRun]) -> None:
        say(console, _line(run, runs, plan.total))
        _write(plan, source, runs, out)

    say(console, f"{source.experiment}: {number(len(plan.variants) - 1, 'variant')}, {number(plan.total, 'run')}")
    try:
        runs = compare_variants(plan, out, told)
    except KeyboardInterrupt:
        _print(plan, source, ended(plan, out))
        say(console, f"interrupted; the same command goes on with {out}")
        raise
    _write(plan, source, runs, out)
    _print(plan, source, runs)
    say(console, f"the same as Markdown: {out / TABLE_NAME}")


def _print(plan: Plan, source: Source, runs: Sequence[VariantRun]) -> None:
    console = open_console()
    console.print()
    console.print(table(plan.variants, runs))
    console.print()
    for run in runs:
        if not run.score:
            say(console, f"{run.title} failed, and is tried again by the same command: {run.error}")
    for line in notes(source, plan.variants, runs):
        say(console, line)


def _write(plan: Plan, source: Source, runs: Sequence[VariantRun], out: Path) -> None:
    """Write the table.

    Raises:
        SettingsError: the folder cannot be written to.
    """
    with writing(out / TABLE_NAME, "make room or choose another --out"):
        write_whole(out / TABLE_NAME, markdown(source, plan.variants, runs).encode())


def _line(run: VariantRun, runs: Sequence[VariantRun], total: int) -> str:
    came = f"{run.score.uar:.1%}" if run.score else f"failed: {run.error}"
    left_s = (total - len(runs)) * fmean(each.seconds for each in runs)
    left = f"{left_s / _HOUR_S:.1f} h" if left_s >= _HOUR_S else f"{left_s / _MINUTE_S:.0f} min"
    return f"{len(runs)} of {total}: {run.title}: {came}; {run.seconds:.0f} s, about {left} left"

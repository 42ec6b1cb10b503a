"""The command `tune`, and what it prints."""

import argparse
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from broker.contract.errors import SettingsError
from training.config import Experiment, load_experiment
from training.terminal import grid, open_console, say
from training.toml import value_text
from training.tuning.space import Space, default_space, load_space
from training.tuning.trials import BEST_NAME, Search, Trial

__all__ = ["add_tune_command", "print_search"]

_ROOM: Final = 70
"""Characters for the settings beside each other; wider ones are told in words, trial by trial."""
_GAP: Final = 3
"""Characters between two columns."""


def add_tune_command(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the command to a program's.

    Args:
        commands: what `add_subparsers` returned.
        cache: where prepared clips lie if nobody says otherwise.
    """
    tune = commands.add_parser("tune", help="search for better settings of an experiment, by its validation speakers")
    tune.add_argument("--config", type=Path, required=True, help="experiment, such as training/configs/factory.toml")
    tune.add_argument("--data", type=Path, default=cache, help="cache that `prepare` wrote (default: %(default)s)")
    tune.add_argument(
        "--out", type=Path, required=True, help="folder of the search; the same command again goes on with it"
    )
    tune.add_argument("--trials", type=int, default=10, help="how many in all (default: %(default)s)")
    tune.add_argument("--minutes", type=float, help="begin no trial later than this")
    tune.add_argument("--fold", type=int, help="whose validation speakers score (default: the first)")
    tune.add_argument("--space", type=Path, help="TOML file with the settings to vary (default: five of them)")
    tune.add_argument("--threads", type=int, default=2, help="threads of TensorFlow (default: %(default)s)")
    tune.set_defaults(command=_tune)


def _tune(args: argparse.Namespace) -> int:
    for option, value in (("--trials", args.trials), ("--threads", args.threads)):
        if value < 1:
            msg = f"{option} {value}: allowed is 1 or more"
            raise SettingsError(msg)
    if args.minutes is not None and not args.minutes > 0:
        msg = f"--minutes {args.minutes:g}: must be more than 0"
        raise SettingsError(msg)
    experiment = load_experiment(args.config)  # and the space, before TensorFlow, which takes seconds to import
    space = load_space(args.space, experiment) if args.space else default_space(experiment)
    found = _search(args, experiment, space)
    print_search(found)
    best = args.out / BEST_NAME
    print(f"next: sottovoce-train train --config {best} --data {args.data}")  # noqa: T201 -- the command's answer
    return 0


def _search(args: argparse.Namespace, experiment: Experiment, space: Space) -> Search:
    """Return the search; on Ctrl-C, print what there is of it.

    Raises:
        SettingsError: a package is missing, or as `training.tuning.search.search`.
        DataError: as `training.tuning.search.search`.
    """
    try:
        from training.model.network import use_threads  # noqa: PLC0415 -- keeps --help quick
        from training.tuning.search import Budget, search  # noqa: PLC0415 -- as above
        from training.tuning.tune import target_of  # noqa: PLC0415 -- as above
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error

    use_threads(args.threads)
    target = target_of(experiment, args.data, args.fold)
    console = open_console()
    say(console, f"searching {', '.join(space)}; by {target.name}")
    latest: list[Search] = []

    def tell(found: Search) -> None:
        latest[:] = [found]
        say(console, _line(found, args.trials))

    try:
        return search(experiment, space, target, args.out, Budget(args.trials, args.minutes), tell)
    except KeyboardInterrupt:
        if latest:
            print_search(latest[0])
        say(console, f"interrupted; the same command goes on with {args.out}")
        raise


def print_search(found: Search) -> None:
    """Print every trial, the best one marked, and which settings mattered if there are enough trials to tell."""
    console = open_console()
    console.print()
    console.print(_trials(found))
    for trial in found.trials:
        if trial.state == "failed":
            say(console, f"trial {trial.number} failed: {trial.error}")
    if found.importances:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in found.importances.items())
        say(console, f"share of the differences that each setting explains, roughly: {shares}")
    if winner := found.winner:
        say(console, f"best: trial {winner.number}: {_told(winner)}")
        say(console, "one seed each: small differences are chance. " + found.note)


def _trials(found: Search) -> Table:
    keys = list(found.trials[0].values) if found.trials else []
    names = [key.rpartition(".")[2] for key in keys]
    names = names if len(set(names)) == len(names) else keys
    columns = {
        name: [_shown(trial.values[key]) for trial in found.trials] for name, key in zip(names, keys, strict=True)
    }
    if sum(_GAP + max(map(len, [name, *cells])) for name, cells in columns.items()) > _ROOM:
        columns = {"settings": [_told(trial) for trial in found.trials]}
    table = grid("trial", "UAR", *columns, "epoch", "s", left=("settings",))
    for column in table.columns:
        column.no_wrap = column.header != "settings"
    for row, trial in enumerate(found.trials):
        score = trial.score
        best = "best " if trial.number == found.best else ""
        table.add_row(
            str(trial.number),
            f"{best}{score.uar:.1%}" if score else trial.state,
            *(cells[row] for cells in columns.values()),
            f"{score.best_epoch + 1} of {score.epochs}" if score else "-",
            f"{trial.seconds:.0f}",
        )
    return table


def _line(found: Search, wanted: int) -> str:
    trial, winner = found.trials[-1], found.winner
    came = f"{trial.score.uar:.1%}" if trial.score else f"{trial.state}: {trial.error}"
    best = f"; best {winner.score.uar:.1%}, trial {winner.number}" if winner and winner.score else ""
    return f"trial {trial.number} ({found.ended} of {wanted}): {came}{best}; {trial.seconds:.0f} s"


def _told(trial: Trial) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in trial.values.items())


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else value_text(value)

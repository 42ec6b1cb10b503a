"""The command that chooses a decision by speakers whom a run's models have never heard: `calibrate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from training.fitting.calibrate import Calibration

__all__ = ["add_calibrate_command"]


def add_calibrate_command(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the command to a program's.

    Args:
        commands: what `add_subparsers` returned.
        cache: where prepared clips lie if nobody says otherwise.
    """
    calibrate = commands.add_parser(
        "calibrate", help="choose when a node is uncertain, and show what its rules do, by speakers new to the weights"
    )
    calibrate.add_argument("--run", type=Path, required=True, help="run folder that `train` wrote, split by speaker")
    calibrate.add_argument("--data", type=Path, default=cache, help="corpora or prepared cache (default: %(default)s)")
    calibrate.add_argument(
        "--config", type=Path, help="experiment whose [decision] holds the rules (default: the run's)"
    )
    calibrate.add_argument("--out", type=Path, help="file to write (default: calibration.json in the run folder)")
    calibrate.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    calibrate.set_defaults(command=_calibrate)


def _calibrate(args: argparse.Namespace) -> int:
    from training.config import load_experiment  # noqa: PLC0415 -- keeps --help quick
    from training.data.prepare import open_collection  # noqa: PLC0415 -- as above
    from training.fitting.calibrate import CALIBRATION_NAME, calibrate, save_calibration  # noqa: PLC0415 -- as above
    from training.fitting.results import read_run  # noqa: PLC0415 -- as above

    run = read_run(args.run)
    rules = load_experiment(args.config).decision if args.config else run.settings.decision
    made = calibrate(run, args.run, open_collection(args.data)[0], rules)
    out = args.out or args.run / CALIBRATION_NAME
    save_calibration(made, out)
    if args.json:
        print(msgspec.json.encode(made).decode())  # noqa: T201 -- the command's answer
    else:
        _print(made)
        print(f"calibration: {out}")  # noqa: T201 -- as above
    return 0


def _print(made: "Calibration") -> None:
    from training.report.decision_tables import (  # noqa: PLC0415 -- keeps --help quick
        CLIP_COLUMNS,
        TALK_COLUMNS,
        clip_rows,
        talk_rows,
    )
    from training.report.words import decision_in_words  # noqa: PLC0415 -- as above
    from training.terminal import grid, open_console, say  # noqa: PLC0415 -- as above

    console = open_console()
    say(console, decision_in_words(made.decision))
    for columns, rows in ((CLIP_COLUMNS, clip_rows(made)), (TALK_COLUMNS, talk_rows(made))):
        table = grid(*columns, left=("speakers", "rules"))
        for row in rows:
            table.add_row(*row)
        console.print(table)

"""What can be asked of `sottovoce-node privacy-check`; imports nothing, as every start of the program reads it."""

import argparse
from pathlib import Path
from typing import Final

__all__ = ["add_options"]

_LEAST_S: Final = 12.0
_MOST_S: Final = 600.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.add_argument("--config", type=Path, help="settings file of the node; without it, a node as it comes")
    parser.add_argument("--seconds", type=_seconds, default=24.0, help="how long it runs: 12 to 600 (default: 24)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="REPORT", help="write a report, too: .html or .md")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _LEAST_S <= seconds <= _MOST_S:
        msg = f"{text!r} is not a time: {_LEAST_S:g} to {_MOST_S:g} seconds"
        raise argparse.ArgumentTypeError(msg)
    return seconds

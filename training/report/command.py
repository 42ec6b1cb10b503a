"""The command that writes runs up: `report`."""

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_report_command"]


def add_report_command(commands: Any) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the command to a program's.

    Args:
        commands: what `add_subparsers` returned.
    """
    report = commands.add_parser("report", help="write runs up as Markdown and HTML, with pictures")
    report.add_argument("run", type=Path, nargs="+", metavar="RUN", help="run folder that `train` wrote")
    report.add_argument("--out", type=Path, required=True, help="folder to write to")
    report.add_argument("--title", help="of the report (default: made of the runs' names)")
    report.add_argument(
        "--data",
        type=Path,
        help="corpora or a prepared cache: show recordings of people in place of synthetic voices; not to be published",
    )
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    from training.data.prepare import open_collection  # noqa: PLC0415 -- keeps --help quick
    from training.report.run_report import (  # noqa: PLC0415 -- as above
        HTML_NAME,
        MARKDOWN_NAME,
        NOT_FOR_PUBLICATION,
        compose,
        measure_all,
        write_report,
    )

    runs = measure_all(args.run)
    collection = open_collection(args.data)[0] if args.data else None
    write_report(compose(runs, args.title, collection), args.out)
    print(f"{args.out / MARKDOWN_NAME}, {args.out / HTML_NAME}")  # noqa: T201 -- the command's answer
    if collection:
        print(NOT_FOR_PUBLICATION)  # noqa: T201 -- as above
    return 0

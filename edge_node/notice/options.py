"""The options of `sottovoce-node notice`, apart from what they need: every start of the program reads them."""

import argparse
from pathlib import Path

__all__ = ["add_options"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--out", type=Path, action="append", required=True, metavar="FILE", help=".html or .pdf; may be repeated"
    )
    parser.add_argument(
        "--config", type=Path, help="the node's settings file: its [deployment] fills what is not given"
    )
    parser.add_argument("--operator", help="who is responsible")
    parser.add_argument("--url", help="the operator's own page on this, http(s)://...; the QR code leads there")
    parser.add_argument("--contact", help="a telephone number, an address")
    parser.add_argument("--place", help="the room or the vehicle (default: what kind of place the settings say it is)")
    parser.add_argument(
        "--purpose", action="append", default=[], help="what the estimates are used for; once, or once per --language"
    )
    parser.add_argument(
        "--language", action="append", metavar="CODE", help="en (default), de, fr, vi; repeat for several on one page"
    )
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="as of when it holds (default: today)")

"""What the doctor prints: a table for people at a terminal, lines for others, JSON for programs."""

import sys
import textwrap
from typing import Final

import msgspec

from edge_node.doctor.finding import Diagnosis

__all__ = ["as_json", "as_text", "show"]

_WIDTH: Final = 100
_INDENT: Final = 28


def as_json(diagnosis: Diagnosis) -> str:
    """Return one JSON object, on one line."""
    return msgspec.json.encode(diagnosis).decode() + "\n"


def as_text(diagnosis: Diagnosis) -> str:
    """Return a line or more for each stage, of ASCII letters but for names."""
    lines = []
    for each in diagnosis.findings:
        lines += _wrapped(f"{each.stage:<17} {each.verdict:<8}  ", each.words)
        if each.advice is not None:
            lines += _wrapped(" " * _INDENT + "-> ", each.advice)
    lines += ["", *_wrapped("Next: ", diagnosis.next)]
    return "\n".join(lines) + "\n"


def show(diagnosis: Diagnosis) -> None:
    """Print a table at a terminal, lines elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console  # noqa: PLC0415 -- for people only

            from edge_node.doctor.table import draw  # noqa: PLC0415 -- likewise
        except ImportError:
            pass
        else:
            draw(Console(), diagnosis)
            return
    sys.stdout.write(as_text(diagnosis))


def _wrapped(lead: str, words: str) -> list[str]:
    return textwrap.wrap(
        lead + words, _WIDTH, subsequent_indent=" " * len(lead), break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True, replace_whitespace=False,
    )  # fmt: skip

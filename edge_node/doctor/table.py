"""The doctor's table for people at a terminal, by rich."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge_node.doctor.finding import Diagnosis, Verdict

__all__ = ["draw"]

_STYLES: Final = {
    Verdict.OK: ("✓ ok", "green"),
    Verdict.WARN: ("! look", "yellow"),
    Verdict.FAIL: ("✗ fails", "bold red"),
    Verdict.SKIPPED: ("- skipped", "dim"),
}


def draw(console: Console, diagnosis: Diagnosis) -> None:
    """Print what was found."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in diagnosis.findings:
        sign, style = _STYLES[each.verdict]
        words = Text(each.words, style="dim" if each.verdict is Verdict.SKIPPED else "")
        if each.advice is not None:
            words.append(f"\n→ {each.advice}", style="cyan")
        table.add_row(Text(each.stage.value, style="bold"), Text(sign, style=style), words)
    console.print(table)
    console.print()
    console.print(Text.assemble(("Next: ", "bold"), diagnosis.next))

"""The report for people at a terminal, by rich."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge_node.privacy.report import BLIND_SPOTS, Report, Verdict
from edge_node.privacy.show import heading

__all__ = ["draw"]


def draw(console: Console, report: Report) -> None:
    """Print it."""
    console.print(Text(heading(report), style="dim"))
    console.print()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    for each in report.findings:
        holds = each.verdict is Verdict.HOLDS
        sign = Text("✓ holds", style="green") if holds else Text("✗ fails", style="bold red")
        table.add_row(sign, Text(each.claim, style="bold"), Text(each.words, style="" if holds else "red"))
    console.print(table)
    console.print()
    streams = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    streams.add_column("written to", overflow="fold")
    for name in ("bytes", "not a message", "bits a byte"):
        streams.add_column(name, justify="right")
    for stream in report.streams:
        streams.add_row(stream.where, f"{stream.size:,}", f"{stream.rest:,}", f"{stream.entropy:.2f}")
    console.print(streams)
    console.print()
    console.print(Text("What this does not see", style="dim"))
    for spot in BLIND_SPOTS:
        console.print(Text(f"  · {spot}", style="dim"))
    console.print()
    console.print(Text(report.conclusion, style="bold green" if report.holds else "bold red"))

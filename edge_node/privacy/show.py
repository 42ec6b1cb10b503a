"""A report for people at a terminal, for files, for programs."""

import datetime as dt
import html
import sys
import textwrap
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import SettingsError, StoreError
from broker.files import write_whole
from edge_node.privacy.report import BLIND_SPOTS, Report, Verdict

__all__ = ["as_html", "as_json", "as_markdown", "as_text", "check_out", "show", "write"]

_WIDTH: Final = 110
_ENDINGS: Final = (".html", ".md")
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.3em .6em;border-bottom:1px solid #d0d7de;text-align:left;"
    "vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.holds{color:#116329}"
    ".fails{color:#a40e26;font-weight:bold}"
)


def as_json(report: Report) -> str:
    """Return one JSON object, on one line."""
    built = msgspec.to_builtins(report) | {"holds": report.holds, "blind_spots": BLIND_SPOTS}
    return msgspec.json.encode(built).decode() + "\n"


def as_text(report: Report) -> str:
    """Return lines for a terminal of any kind."""
    lines = [heading(report), ""]
    for each in report.findings:
        lines.append(f"{each.verdict.value.upper() if each.verdict is Verdict.FAILS else 'holds':<6} {each.claim}")
        lines += textwrap.wrap(each.words, _WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9)
    lines += ["", f"{'written to':<42}{'bytes':>10}{'not a message':>15}{'bits a byte':>13}"]
    lines += [f"{each.where[-41:]:<42}{each.size:>10}{each.rest:>15}{each.entropy:>13.2f}" for each in report.streams]
    lines += ["", "What this does not see:"]
    for spot in BLIND_SPOTS:
        lines += textwrap.wrap(spot, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join([*lines, "", report.conclusion]) + "\n"


def as_markdown(report: Report) -> str:
    """Return a page."""
    lines = [
        "# Privacy check",
        "",
        heading(report),
        "",
        f"**{report.conclusion}**",
        "",
        "| | claim | |",
        "|---|---|---|",
    ]
    lines += [f"| {each.verdict} | {each.claim} | {_cell(each.words)} |" for each in report.findings]
    lines += ["", "| written to | bytes | no message | bits a byte |", "|---|--:|--:|--:|"]
    lines += [f"| {_cell(each.where)} | {each.size} | {each.rest} | {each.entropy:.2f} |" for each in report.streams]
    return "\n".join([*lines, "", "What this does not see:", "", *(f"- {each}" for each in BLIND_SPOTS)]) + "\n"


def as_html(report: Report) -> str:
    """Return a page that needs nothing else."""
    rows = "".join(
        f"<tr><td class={each.verdict}>{each.verdict}</td><td>{html.escape(each.claim)}</td>"
        f"<td>{html.escape(each.words)}</td></tr>"
        for each in report.findings
    )
    streams = "".join(
        f"<tr><td>{html.escape(each.where)}</td><td class=n>{each.size}</td><td class=n>{each.rest}</td>"
        f"<td class=n>{each.entropy:.2f}</td></tr>"
        for each in report.streams
    )
    spots = "".join(f"<li>{html.escape(each)}</li>" for each in BLIND_SPOTS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Privacy check of {html.escape(report.node)}</title>"
        f"<style>{_STYLE}</style><h1>Privacy check</h1><p>{html.escape(heading(report))}</p>"
        f"<p class={'holds' if report.holds else 'fails'}>{html.escape(report.conclusion)}</p><table>{rows}</table>"
        "<h2>What was written</h2><table><tr><th>where<th>bytes<th>no message<th>bits a byte</tr>"
        f"{streams}</table><h2>What this does not see</h2><ul>{spots}</ul></html>\n"
    )


def heading(report: Report) -> str:
    """Return what was examined, and when."""
    made = dt.datetime.fromtimestamp(report.made_us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{report.node} with model {report.model}, {made}: heard a known signal for {report.heard_s:g} s, "
        f"then was muted for {report.muted_s:g} s. {report.tools}."
    )


def check_out(path: Path) -> None:
    """Refuse a file of a kind that nobody writes here, before the run.

    Raises:
        SettingsError: naming the kinds.
    """
    if path.suffix not in _ENDINGS:
        msg = f"--out {path}: name a file that ends in {' or '.join(_ENDINGS)}"
        raise SettingsError(msg)


def write(report: Report, path: Path) -> None:
    """Write a report to a file.

    Raises:
        StoreError: it cannot be written.
    """
    text = as_html(report) if path.suffix == ".html" else as_markdown(report)
    try:
        write_whole(path, text.encode())
    except OSError as error:
        msg = f"--out {path}: {error.strerror}; name a file in a folder that can be written"
        raise StoreError(msg) from error


def show(report: Report) -> None:
    """Print a table at a terminal, lines elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console  # noqa: PLC0415 -- for people only

            from edge_node.privacy.table import draw  # noqa: PLC0415 -- likewise
        except ImportError:
            pass
        else:
            draw(Console(), report)
            return
    sys.stdout.write(as_text(report))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

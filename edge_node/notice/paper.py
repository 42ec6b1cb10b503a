"""A sheet of paper: a PDF document with its letters in it, and what is written on it. Lengths are in millimetres."""

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from fpdf import FPDF
from fpdf.enums import MethodReturnValue
from fpdf.fonts import TTFFont

from broker.contract.errors import SettingsError
from edge_node.notice.font import font_file
from edge_node.notice.words import Section

__all__ = ["ACCENT", "INK", "QUIET", "balanced", "run_in", "section", "sheet", "write"]

INK: Final = "#17232b"
QUIET: Final = "#52616b"
ACCENT: Final = "#0f5c63"
_POINT: Final = 25.4 / 72


@contextmanager
def sheet(title: str, language: str, date: dt.date, texts: tuple[str, ...]) -> Iterator[FPDF]:
    """Give an empty A4 page, to be written on and put out within the context.

    Args:
        title: of the document.
        language: the code of its first language.
        date: of its making, as the file tells it; nothing else in the file depends on the time.
        texts: what will be written that is not known to be writable.

    Raises:
        SettingsError: the font lacks a character of them, which would become an empty box.
    """
    pdf = FPDF(format="A4")
    pdf.set_auto_page_break(auto=False)
    pdf.set_margin(0)
    pdf.c_margin = 0
    pdf.set_creation_date(dt.datetime.combine(date, dt.time(), dt.UTC))
    pdf.set_title(title)
    pdf.set_lang(language)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "letters.ttf"
        file.write_bytes(font_file())
        pdf.add_font("text", fname=file, variations={"": {"wght": 400.0}, "B": {"wght": 650.0}})
        fonts = [each for each in pdf.fonts.values() if isinstance(each, TTFFont)]
        try:
            _check_letters(texts, fonts[0])
            pdf.add_page()
            yield pdf
        finally:
            for each in fonts:  # fpdf2 keeps their file open
                each.ttfont.close()


def _check_letters(texts: tuple[str, ...], font: TTFFont) -> None:
    for text in texts:
        for sign in text:
            if ord(sign) not in font.cmap:
                msg = (
                    f"{text!r}: the PDF's font has no {sign!r} (U+{ord(sign):04X}); write an .html file and print that"
                )
                raise SettingsError(msg)


def write(  # noqa: PLR0913 -- a paragraph has that many sides
    pdf: FPDF,
    text: str,
    at: tuple[float, float],
    width: float,
    size: float,
    *,
    bold: bool = False,
    colour: str = INK,
    lines: float = 1.3,
    link: str = "",
    draw: bool = True,
) -> float:
    """Write a paragraph and return where it ends, in millimetres from the top.

    Args:
        pdf: the document.
        text: what to write.
        at: left and top of the paragraph, in millimetres.
        width: of the paragraph, in millimetres.
        size: of the letters, in points.
        bold: whether to write it in bold.
        colour: of the letters.
        lines: from one line to the next, in sizes.
        link: where a click leads.
        draw: False: only measure.
    """
    pdf.set_font("text", "B" if bold else "", size)
    pdf.set_text_color(colour)
    pdf.set_xy(*at)
    height = pdf.multi_cell(
        width,
        size * _POINT * lines,
        text,
        align="L",
        link=link,
        dry_run=not draw,
        output=MethodReturnValue.HEIGHT,
    )
    return at[1] + cast("float", height)


def balanced(pdf: FPDF, text: str, width: float, size: float) -> float:
    """Return the least width at which a title takes no more lines than at its full one, so that none is left short."""
    height = write(pdf, text, (0.0, 0.0), width, size, bold=True, draw=False)  # and sets the font, to measure with
    least = max(pdf.get_string_width(each) for each in text.split()) + 2
    while width - 2 > least and write(pdf, text, (0.0, 0.0), width - 2, size, bold=True, draw=False) <= height:
        width -= 2
    return width


def section(pdf: FPDF, said: Section, at: tuple[float, float], width: float, size: float, *, draw: bool) -> float:
    """Write a section under its heading; return where it ends."""
    y = write(pdf, said.heading, at, width, size * 1.08, bold=True, colour=ACCENT, draw=draw)
    return write(pdf, said.text, (at[0], y), width, size, lines=1.32, draw=draw)


def run_in(pdf: FPDF, said: Section, at: tuple[float, float], width: float, size: float, *, draw: bool) -> float:
    """Write a section behind its heading, on the same line; return where it ends."""
    heading = f"{said.heading}. "
    pdf.set_font("text", "B", size)
    indent = pdf.get_string_width(heading)
    pdf.set_font("text", "", size)
    words = said.text.split(" ")
    fitting = len(words)
    while fitting and pdf.get_string_width(" ".join(words[:fitting])) > width - indent:
        fitting -= 1
    if draw:
        write(pdf, heading, at, width, size, bold=True, colour=ACCENT, lines=1.28)
        write(pdf, " ".join(words[:fitting]), (at[0] + indent, at[1]), width - indent + 1, size, lines=1.28)
    y = at[1] + size * _POINT * 1.28
    rest = " ".join(words[fitting:])
    return write(pdf, rest, (at[0], y), width, size, lines=1.28, draw=draw) if rest else y

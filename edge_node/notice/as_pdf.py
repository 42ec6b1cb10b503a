"""The notice as a PDF: one A4 page, its letters as large as fit, its font inside."""

import io
from bisect import bisect_left
from typing import Final

from fpdf import FPDF

from broker.contract.errors import SettingsError
from edge_node.notice.facts import Facts
from edge_node.notice.paper import ACCENT, QUIET, balanced, run_in, section, sheet, write
from edge_node.notice.pictures import MICROPHONE, qr_svg
from edge_node.notice.words import Section

__all__ = ["as_pdf"]

_WIDTH, _LEFT, _TOP, _BOTTOM = 178.0, 16.0, 14.0, 285.0  # millimetres, as all lengths here: A4 is 210 by 297
_CARD, _LINE = "#f2f6f7", "#d5dde1"
_SIZES: Final = tuple(size / 4 for size in range(60, 27, -1))
"""Sizes of the text to try, in points: 15 down to 7, below which it cannot be read on a wall."""
_GAP: Final = 10.0
"""Between two columns."""


def as_pdf(facts: Facts) -> bytes:
    """Return the notice as a PDF, the same for the same facts.

    Args:
        facts: what the operator puts on it.

    Raises:
        SettingsError: the font lacks a character, or the text does not fit the page.
    """
    languages = facts.words()
    given = (facts.operator, facts.url, facts.contact or "", facts.place or "", facts.device or "", *facts.purposes)
    title = " · ".join(words.title for _, words, _ in languages)
    gap = 5.0 if _is_full(facts) else 8.0
    with sheet(title, languages[0][0], facts.date, given) as pdf:
        below = _card(pdf, facts, _header(pdf, facts, _TOP) + gap)
        _texts(pdf, facts, below + gap, _footer(pdf, facts) - gap / 2)
        return bytes(pdf.output())


def _header(pdf: FPDF, facts: Facts, top: float) -> float:
    """Draw the pictogram and, in each language, the title and a sentence; return where they end."""
    side, left = 30.0, _LEFT + 38.0
    height = _titles(pdf, facts, left, 0.0, draw=False)
    pdf.image(io.BytesIO(MICROPHONE.encode()), _LEFT, top + max(0.0, (height - side) / 2), side, side)
    _titles(pdf, facts, left, top + max(0.0, (side - height) / 2), draw=True)
    return top + max(height, side)


def _titles(pdf: FPDF, facts: Facts, left: float, top: float, *, draw: bool) -> float:
    languages = [words for _, words, _ in facts.words()]
    size, lead = {1: (34.0, 15.0), 2: (22.0, 11.5), 3: (17.0, 10.5)}.get(len(languages), (14.5, 9.5))
    width = _LEFT + _WIDTH - left
    y = top
    for words in languages:
        narrow = balanced(pdf, words.title, width, size)
        y = write(pdf, words.title, (left, y), narrow, size, bold=True, lines=1.08, draw=draw) + size * 0.02
        y = write(pdf, words.lead, (left, y), width, lead, colour=QUIET, lines=1.25, draw=draw) + size * 0.1
    return y - size * 0.1


def _card(pdf: FPDF, facts: Facts, top: float) -> float:
    """Draw the card with the operator and the QR code; return where it ends."""
    side, inside, sizes = (28.0, 3.5, (10.5,)) if _is_full(facts) else (42.0, 6.0, (16.0, 14.0, 12.0, 10.5))
    left = _LEFT + _WIDTH - inside - side
    width = left - _LEFT - 14
    for size in sizes:  # long names in smaller letters, so that the page keeps room for what it has to say
        rows_high = _rows(pdf, facts, 0.0, width, size, draw=False)
        if rows_high <= side + inside:
            break
    height = max(side, rows_high) + 2 * inside
    pdf.set_fill_color(_CARD)
    pdf.rect(_LEFT, top, _WIDTH, height, style="F")
    pdf.set_fill_color(ACCENT)
    pdf.rect(_LEFT, top, 1.6, height, style="F")
    _rows(pdf, facts, top + (height - rows_high) / 2, width, size, draw=True)
    code = io.BytesIO(qr_svg(facts.url).encode())
    pdf.image(code, left, top + (height - side) / 2, side, side, link=facts.url, alt_text=facts.qr_alt())
    return top + height


def _rows(pdf: FPDF, facts: Facts, top: float, width: float, size: float, *, draw: bool) -> float:
    y, left, label_size = top, _LEFT + 8.0, 8.0 if _is_full(facts) else 9.5
    for label, text in facts.rows():
        y = write(pdf, label, (left, y), width, label_size, colour=QUIET, lines=1.2, draw=draw)
        y = write(pdf, text, (left, y), width, size, bold=True, lines=1.15, draw=draw) + size * 0.13
    y = write(pdf, facts.more(), (left, y), width, label_size, colour=QUIET, lines=1.2, draw=draw)
    return write(pdf, facts.url, (left, y), width, size * 0.75, link=facts.url, draw=draw)


def _is_full(facts: Facts) -> bool:
    """Return whether the page has so many languages that its parts must be small."""
    return len(facts.languages) > 2  # noqa: PLR2004 -- two are seen to fit at full size


def _footer(pdf: FPDF, facts: Facts) -> float:
    """Draw the small print at the foot of the page; return where it begins."""
    lines = [*(words.small_print for _, words, _ in facts.words()), "", facts.origin()]
    size = 7.0 if _is_full(facts) else 7.5
    height = sum(write(pdf, text or " ", (_LEFT, 0.0), _WIDTH, size, lines=1.25, draw=False) for text in lines)
    top = _BOTTOM - height
    pdf.set_draw_color(_LINE)
    pdf.set_line_width(0.3)
    pdf.line(_LEFT, top - 3, _LEFT + _WIDTH, top - 3)
    y = top
    for text in lines:
        if not text:
            for url, x in zip(facts.laws(), (_LEFT, _LEFT + 70), strict=True):
                said = url.removeprefix("https://")
                end = write(pdf, said, (x, y), 68, size, colour=QUIET, lines=1.25, link=url)
            y = end
        else:
            y = write(pdf, text, (_LEFT, y), _WIDTH, size, colour=QUIET, lines=1.25)
    return top - 3


def _texts(pdf: FPDF, facts: Facts, top: float, bottom: float) -> None:
    """Draw the sections in columns, as large as they fit between two heights.

    Raises:
        SettingsError: they do not fit at the smallest size.
    """
    fitting = bisect_left(_SIZES, 0.0, key=lambda size: bottom - _columns(pdf, facts, size, top, draw=False))
    if fitting == len(_SIZES):
        msg = "the notice does not fit one page: shorten what you give, or print fewer languages on one page"
        raise SettingsError(msg)
    _columns(pdf, facts, _SIZES[fitting], top, draw=True)


def _columns(pdf: FPDF, facts: Facts, size: float, top: float, *, draw: bool) -> float:
    whole = [words.sections(purpose) for _, words, purpose in facts.words()]
    rows: list[list[tuple[Section, ...]]] = [[whole[0][:3], whole[0][3:]]] if len(whole) == 1 else [whole]
    if len(whole) == 4:  # noqa: PLR2004 -- four columns would be too narrow to read
        rows = [whole[:2], whole[2:]]
    put, gap = (run_in, size * 0.17) if _is_full(facts) else (section, size * 0.5)
    y = top
    for index, columns in enumerate(rows):
        width = (_WIDTH - _GAP * (len(columns) - 1)) / len(columns)
        start = y + (size * 0.6 if index else 0.0)
        for place, sections in enumerate(columns):
            x, at = _LEFT + place * (width + _GAP), start
            for each in sections:
                at = put(pdf, each, (x, at), width, size, draw=draw) + gap
            y = max(y, at - gap)
    return y

"""The PDF: one sheet, its words in it, its QR code readable, the same every time."""

from collections.abc import Callable
from typing import Any

import pytest

from broker.contract.errors import SettingsError
from edge_node.notice.as_pdf import as_pdf
from edge_node.notice.facts import LONGEST_PURPOSE, LONGEST_TEXT, LONGEST_URL, Facts
from edge_node.notice.pictures import qr_modules
from edge_node.notice.words import WORDS

MakeFacts = Callable[..., Facts]
ReadPdf = Callable[[bytes], tuple[int, tuple[float, float], str]]
A4_POINTS = (595, 842)


def _squeezed(text: str) -> str:
    """Without what depends on where lines end."""
    return (
        text.replace("\u2011", "-").replace(" ", "").replace("\u00a0", "").replace("\u00ad", "").replace("\ufffe", "-")
    )


@pytest.mark.parametrize(
    "languages", [("en",), ("de",), ("fr",), ("vi",), ("de", "en"), ("en", "fr", "vi"), tuple(WORDS)]
)
def test_pdf_is_one_sheet_with_every_word(
    facts: MakeFacts,
    read_pdf: ReadPdf,
    picture_of: Callable[[bytes], Any],
    scan: Callable[[Any], list[str]],
    languages: tuple[str, ...],
) -> None:
    given = facts(*languages)
    data = as_pdf(given)
    pages, size, text = read_pdf(data)
    assert (pages, tuple(round(each) for each in size)) == (1, A4_POINTS)
    for code in languages:
        words = WORDS[code]
        assert words.title in text  # no line ends within a word
        said = [
            words.title,
            words.lead,
            words.small_print,
            *(part for each in words.sections(None) for part in (each.heading, each.text)),
        ]
        for each in (*said, given.operator, given.contact, given.url, given.device, "2026-11-23"):
            assert _squeezed(str(each)) in _squeezed(text)
    assert scan(picture_of(data)) == [given.url]


def test_pdf_keeps_inside_its_margins(facts: MakeFacts, picture_of: Callable[[bytes], Any]) -> None:
    sheet = picture_of(as_pdf(facts(*WORDS))).convert("L").point(lambda level: 255 * (level < 250))
    left, top, right, bottom = (dots * 25.4 / 200 for dots in sheet.getbbox())
    assert left >= 15
    assert right <= 195
    assert top >= 10
    assert bottom <= 287


def test_pdf_holds_the_longest_that_may_be_given(
    facts: MakeFacts, read_pdf: ReadPdf, picture_of: Callable[[bytes], Any], scan: Callable[[Any], list[str]]
) -> None:
    url = "https://care.example/".ljust(LONGEST_URL, "W")
    long = ("Wide words of a name " * 5)[:LONGEST_TEXT].strip()
    why = ("Some words of a purpose " * 20)[:LONGEST_PURPOSE].strip()
    for languages in (("fr",), ("de", "fr")):
        data = as_pdf(facts(*languages, url=url, operator=long, contact=long, place=long, purposes=(why,)))
        assert read_pdf(data)[0] == 1
        assert scan(picture_of(data)) == [url]


def test_pdf_that_would_not_fit_is_refused(facts: MakeFacts) -> None:
    long, why = "W" * LONGEST_TEXT, ("Words " * 60)[:LONGEST_PURPOSE].strip()
    with pytest.raises(SettingsError, match="does not fit one page: shorten"):
        as_pdf(
            facts(
                *WORDS,
                operator=long,
                contact=long,
                place=long,
                purposes=(why,),
                url="https://a.example/".ljust(200, "W"),
            )
        )


def test_pdf_is_the_same_for_the_same_facts(facts: MakeFacts) -> None:
    first = as_pdf(facts("vi"))
    assert as_pdf(facts("vi")) == first
    assert as_pdf(facts("vi", contact="+84 24 0000 0000")) != first
    assert len(first) < 60_000  # a part of the font, not the whole


def test_pdf_refuses_a_letter_that_its_font_lacks(facts: MakeFacts) -> None:
    with pytest.raises(SettingsError, match=r"'東京': the PDF's font has no '東' \(U\+6771\); write an .html"):
        as_pdf(facts(place="東京"))


def test_qr_code_has_its_quiet_zone_and_finder_patterns(facts: MakeFacts) -> None:
    modules = qr_modules(facts().url)
    assert not any(any(row[:4]) or any(row[-4:]) for row in modules)
    assert not any(any(row) for row in (*modules[:4], *modules[-4:]))
    assert all(modules[4][4:11])

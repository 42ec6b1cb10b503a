"""Every language says the same, each in its own words."""

import re
import unicodedata
from itertools import pairwise

import msgspec
import pytest

from broker.contract.condition import Context
from edge_node.notice.font import font_file
from edge_node.notice.words import WORDS, Words


def _texts(words: Words) -> dict[str, str]:
    sections = {
        f"{index} {part}": getattr(each, part)
        for index, each in enumerate(words.sections(None))
        for part in ("heading", "text")
    }
    places = {f"place {each}": words.places[each] for each in Context}
    plain = {name: text for name, text in msgspec.structs.asdict(words).items() if isinstance(text, str)}
    return plain | sections | places


@pytest.mark.parametrize("code", WORDS)
def test_words_of_a_language_are_all_there_and_whole(code: str) -> None:
    for name, text in _texts(WORDS[code]).items():
        assert text == unicodedata.normalize("NFC", text).strip(), name
        assert "  " not in text, name
        assert "\n" not in text, name


@pytest.mark.parametrize("code", WORDS)
def test_words_of_a_language_name_the_same_articles_and_laws(code: str) -> None:
    words = WORDS[code]
    assert re.findall(r"\d+", words.rights.text) == ["15", "17", "21", "77"]
    assert sorted(re.findall(r"\d{4}/\d+", words.small_print)) == ["2016/679", "2024/1689"]
    assert {"50", "3"} <= set(re.findall(r"\d+", words.small_print))


def test_words_of_two_languages_differ() -> None:
    same = {"contact", "law"}  # "Contact" is English and French; there is no official Vietnamese text to lead to
    for one, other in pairwise(WORDS.values()):
        first, second = _texts(one), _texts(other)
        assert {name for name in first if first[name] == second[name]} <= same


def test_words_in_vietnamese_carry_their_accents() -> None:
    for name, text in _texts(WORDS["vi"]).items():
        if name != "law":
            assert not text.isascii(), name


@pytest.mark.parametrize("code", WORDS)
def test_words_have_a_glyph_for_every_letter(code: str) -> None:
    import io

    from fontTools.ttLib import TTFont

    glyphs = TTFont(io.BytesIO(font_file())).getBestCmap()
    for text in _texts(WORDS[code]).values():
        assert {each for each in text if ord(each) not in glyphs} == set()

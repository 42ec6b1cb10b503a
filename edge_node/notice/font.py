"""The notice's letters: Source Sans 3 (SIL Open Font License 1.1), from the package that carries it unchanged."""

import io
from collections.abc import Iterable
from importlib.resources import as_file, files

from fontTools import subset
from fontTools.ttLib import TTFont

__all__ = ["font_file", "web_font"]


def font_file() -> bytes:
    """Return the font with its axis of weights (`wght`), as a TrueType file."""
    return _saved(_font())


def web_font(letters: Iterable[str]) -> bytes:
    """Return the font with its axis of weights, as a WOFF file of some letters only.

    Args:
        letters: those the page needs; one that the font lacks is left to the reader's own fonts.
    """
    font = _font()
    choice = subset.Subsetter()
    choice.populate(unicodes=sorted({ord(each) for each in letters}))
    choice.subset(font)
    font.flavor = "woff"
    return _saved(font)


def _font() -> TTFont:
    """Return the font without its tables of pairs and ligatures.

    The PDF does not use them, and to fix their weight would take ten seconds; the page looks the same as the PDF.
    """
    place = files("fontpkg_source_sans_3") / "files" / "SourceSans3[wght].ttf"
    with as_file(place) as path:
        font = TTFont(io.BytesIO(path.read_bytes()), recalcTimestamp=False)  # or no two files would be equal
    for table in ("GPOS", "GSUB", "GDEF"):
        del font[table]
    return font


def _saved(font: TTFont) -> bytes:
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()

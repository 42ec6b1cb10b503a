"""A report as values, and the two ways to write it: Markdown for a repository, HTML for a browser.

A document is a row of blocks. Their text knows three marks, the same in both forms: `**strong**`, code between grave
accents, and the backslash, which takes the meaning off the sign after it. Text that somebody else wrote (names in a
run, a title) goes through `literal` first. The HTML needs nothing but the pictures beside it.
"""

import html
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "Block",
    "Document",
    "Heading",
    "Note",
    "Picture",
    "Table",
    "Text",
    "literal",
    "markdown_table",
    "to_html",
    "to_markdown",
]

_STYLE: Final = Path(__file__).with_name("document.css")
_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>|~&$]")
_INLINE: Final = re.compile(r"\\(?P<sign>[^a-zA-Z0-9\s])|\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`")
_CHAPTER: Final = 2
_PNG_SIZE: Final = struct.Struct(">II")
_PNG_SIZE_AT: Final = 16
"""Where a PNG tells its width and height."""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """A chapter (level 2, each named differently) or a section (level 3) begins."""

    text: str
    level: int = _CHAPTER


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A paragraph."""

    text: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A paragraph that must not be overlooked."""

    text: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of cells, the first of which names its row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    """How many columns, from the first, hold words and stand left; figures stand right."""


class Picture(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A PNG beside the document."""

    name: str
    """Of its file."""
    alt: str
    """What it shows, for those who do not see it."""
    caption: str
    draw: Callable[[], bytes]
    """Returns the PNG."""


Block = Heading | Text | Note | Table | Picture


class Document(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A report."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures, in order."""
        return tuple(block for block in self.blocks if isinstance(block, Picture))


def literal(text: str) -> str:
    """Return text whose every sign means itself."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Return the lines of a table, whose columns stand right but for the first `texts`."""
    bars = ["---" if column < texts else "---:" for column in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, bars, *rows)]


def to_markdown(document: Document) -> str:
    """Return the document as GitHub reads it."""
    parts = [f"# {document.title}"]
    for block in document.blocks:
        match block:
            case Heading():
                parts.append(f"{'#' * block.level} {block.text}")
            case Text():
                parts.append(block.text)
            case Note():
                parts.append(f"> {block.text}")
            case Table():
                parts.append(f"**{block.caption}**")
                parts.append("\n".join(markdown_table(block.header, block.rows, block.texts)))
            case Picture():
                parts.append(f"![{block.alt}]({block.name})")
                parts.append(block.caption)
    return "\n\n".join(parts) + "\n"


def to_html(document: Document, pictures: Mapping[str, bytes]) -> str:
    """Return the document as one page with its own style; it loads nothing but the pictures beside it.

    Args:
        document: the report.
        pictures: what was drawn, by the file's name, for its size on the page.
    """
    chapters = [block.text for block in document.blocks if isinstance(block, Heading) and block.level == 2]  # noqa: PLR2004 -- as `Heading` says
    links = "".join(f'<li><a href="#{_anchor(text)}">{_inline(text)}</a></li>' for text in chapters)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n' if len(chapters) > 1 else ""
    body = "\n".join(_html(block, pictures) for block in document.blocks)
    title = _inline(document.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_plain(document.title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<header><h1>{title}</h1></header>\n{contents}<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block, pictures: Mapping[str, bytes]) -> str:
    match block:
        case Heading():
            anchor = f' id="{_anchor(block.text)}"' if block.level == _CHAPTER else ""
            return f"<h{block.level}{anchor}>{_inline(block.text)}</h{block.level}>"
        case Text():
            return f"<p>{_inline(block.text)}</p>"
        case Note():
            return f'<p class="note">{_inline(block.text)}</p>'
        case Table():
            return _html_table(block)
        case Picture():
            width, height = _PNG_SIZE.unpack_from(pictures[block.name], _PNG_SIZE_AT)
            image = f'<img src="{html.escape(block.name)}" alt="{_plain(block.alt)}"'
            caption = f"<figcaption>{_inline(block.caption)}</figcaption>"
            return f'<figure>{image} width="{width}" height="{height}" loading="lazy">{caption}</figure>'


def _html_table(table: Table) -> str:
    kinds = ["text" if column < table.texts else "figure" for column in range(len(table.header))]
    head = "".join(
        f'<th scope="col" class="{kind}">{_inline(cell)}</th>' for kind, cell in zip(kinds, table.header, strict=True)
    )
    rows = []
    for first, *others in table.rows:
        cells = "".join(
            f'<td class="{kind}">{_inline(cell)}</td>' for kind, cell in zip(kinds[1:], others, strict=True)
        )
        rows.append(f'<tr><th scope="row">{_inline(first)}</th>{cells}</tr>')
    label = _plain(table.caption)
    body = "\n".join(rows)
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0"><table>\n'
        f"<caption>{_inline(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
        "</table></div>"
    )


def _inline(text: str) -> str:
    """Return text with its marks as HTML elements."""

    def element(match: re.Match[str]) -> str:
        if match["sign"]:
            return html.escape(match["sign"])
        return (
            f"<strong>{_inline(match['strong'])}</strong>"
            if match["strong"]
            else f"<code>{html.escape(match['code'])}</code>"
        )

    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts += [html.escape(text[end : match.start()]), element(match)]
        end = match.end()
    return "".join([*parts, html.escape(text[end:])])


def _plain(text: str) -> str:
    """Return text without its marks, escaped for HTML."""
    return re.sub(r"<[^>]*>", "", _inline(text))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

"""The notice as one HTML file: asks nothing of any network, reads aloud well, prints on one A4 page."""

import base64
from html import escape
from typing import Final

from edge_node.notice.facts import Facts
from edge_node.notice.font import web_font
from edge_node.notice.pictures import MICROPHONE, qr_svg
from edge_node.notice.words import Words

__all__ = ["as_html"]

_STYLE: Final = """
@page { size: A4; margin: 14mm 16mm 12mm }
:root { color-scheme: light dark; --ink: #17232b; --quiet: #52616b; --line: #d5dde1; --card: #f2f6f7; --accent: #0f5c63;
  --page: #ffffff; --behind: #e6ebee }
* { box-sizing: border-box }
html { font: 13pt/1.35 "Notice", system-ui, sans-serif; -webkit-print-color-adjust: exact; print-color-adjust: exact }
body { margin: 0; background: var(--behind); color: var(--ink) }
main { width: min(210mm, 100%); margin: 8mm auto; padding: 14mm 16mm; background: var(--page); border-radius: 2mm }
h1, h2, p, dl, dd { margin: 0; font-weight: 400 }
h1, h2, dd { font-weight: 650 }
a { color: inherit; overflow-wrap: anywhere }
header { display: flex; gap: 8mm; align-items: center }
header > svg { flex: none; width: 30mm; height: 30mm }
h1 { font-size: 34pt; line-height: 1.08; text-wrap: balance }
.lead { margin-top: .3em; font-size: 15pt; line-height: 1.25; color: var(--quiet) }
hgroup + hgroup { margin-top: 2mm }
.card { display: flex; gap: 8mm; justify-content: space-between; align-items: center; margin: 8mm 0;
  padding: 6mm 6mm 6mm 7mm; background: var(--card); border-left: 1.6mm solid var(--accent) }
.card svg { flex: none; width: 42mm; height: 42mm }
dt { font-size: 9.5pt; line-height: 1.2; color: var(--quiet) }
dd { font-size: 16pt; line-height: 1.15; overflow-wrap: anywhere }
dd.url { font-size: 12pt; font-weight: 400 }
dd + dt { margin-top: 2mm }
.texts { display: grid; grid-template-columns: 1fr 1fr; gap: 6mm 10mm }
section + section { margin-top: 1em }
h2 { font-size: 1.08em; color: var(--accent) }
footer { margin-top: 8mm; padding-top: 3mm; border-top: .3mm solid var(--line); font-size: 7.5pt; line-height: 1.25;
  color: var(--quiet) }
.of-2 .texts { font-size: 9.25pt }
.of-2 h1 { font-size: 22pt }
.of-2 .lead { font-size: 11.5pt }
.of-3, .of-4 { font-size: 8pt }
.of-4 { font-size: 7.5pt }
.of-4 hgroup + hgroup { margin-top: 1.2mm }
.of-4 .texts { gap: 4mm 10mm }
.of-3 h1, .of-4 h1 { font-size: 15pt }
.of-3 .lead, .of-4 .lead { font-size: 9.5pt; margin-top: 0 }
.of-3 .card, .of-4 .card { margin: 5mm 0; padding: 3.5mm 3.5mm 3.5mm 7mm }
.of-3 .card svg, .of-4 .card svg { width: 28mm; height: 28mm }
.of-3 dt, .of-4 dt { font-size: 8pt }
.of-3 dd, .of-4 dd { font-size: 10.5pt }
.of-3 dd.url, .of-4 dd.url { font-size: 8pt }
.of-3 dd + dt, .of-4 dd + dt { margin-top: 1mm }
.of-3 .texts { grid-template-columns: 1fr 1fr 1fr; gap: 8mm }
.of-3 section + section, .of-4 section + section { margin-top: .45em }
.of-3 section > *, .of-4 section > * { display: inline; font-size: 1em }
.of-3 h2::after, .of-4 h2::after { content: ". " }
.of-3 footer, .of-4 footer { margin-top: 5mm; font-size: 7pt }
@media screen and (max-width: 640px) {
  main { margin: 0; padding: 6vw; border-radius: 0 }
  header { align-items: flex-start; gap: 4vw }
  header > svg { width: 16vw; height: 16vw }
  .one h1 { font-size: 22pt }
  .card { flex-direction: column; align-items: flex-start }
  .card svg { align-self: center }
  main .texts, .of-3 .texts { display: block; font-size: 13pt }
  article + article, .texts div + div { margin-top: 2em }
  footer, main dt { font-size: 9.5pt }
}
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8eef1; --quiet: #a3b2bb; --line: #33424c; --card: #1e2a32; --accent: #7cc9cb; --page: #141d23;
    --behind: #0b1115 }
}
@media print {
  :root { color-scheme: light }
  body, main { background: none }
  main { width: auto; margin: 0; padding: 0 }
}
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; font-src data:"


def as_html(facts: Facts) -> str:
    """Return the notice as an HTML document.

    Args:
        facts: what the operator puts on it.
    """
    languages = facts.words()
    kind = "one" if len(languages) == 1 else f"several of-{len(languages)}"
    body = (
        f'<main class="{kind}">\n<header>\n{_drawn(MICROPHONE)}\n<div>\n'
        + "".join(_head(code, words) for code, words, _ in languages)
        + f'</div>\n</header>\n{_card(facts)}<div class="texts">\n'
        + "".join(_texts(*each, alone=len(languages) == 1) for each in languages)
        + f"</div>\n{_footer(facts)}</main>\n"
    )
    return (
        f'<!doctype html>\n<html lang="{languages[0][0]}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(' · '.join(words.title for _, words, _ in languages))}</title>\n"
        f"<style>{_font_face(body)}{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _font_face(text: str) -> str:
    """Return the letters of a text as a style: everywhere the page looks alike, and fits its sheet."""
    letters = base64.b64encode(web_font(text)).decode()
    return (
        '@font-face { font-family: "Notice"; font-weight: 200 900; '
        f"src: url(data:font/woff;base64,{letters}) format('woff') }}\n"
    )


def _drawn(svg: str) -> str:
    """Return a picture that says nothing which the words do not say too."""
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _head(code: str, words: Words) -> str:
    return (
        f'<hgroup lang="{code}">\n<h1>{escape(words.title)}</h1>\n<p class="lead">{escape(words.lead)}</p>\n</hgroup>\n'
    )


def _card(facts: Facts) -> str:
    rows = "".join(f'<dt>{escape(label)}</dt>\n<dd dir="auto">{escape(text)}</dd>\n' for label, text in facts.rows())
    url = escape(facts.url)
    picture = qr_svg(facts.url).replace("<svg ", f'<svg role="img" aria-label="{escape(facts.qr_alt())}" ', 1)
    return (
        f'<div class="card">\n<dl>\n{rows}<dt>{escape(facts.more())}</dt>\n'
        f'<dd class="url"><a href="{url}">{url}</a></dd>\n'
        f"</dl>\n{picture}\n</div>\n"
    )


def _texts(code: str, words: Words, purpose: str | None, *, alone: bool) -> str:
    """Return the six sections: in two columns where there is one language, else in one of their own."""
    sections = [
        f"<section>\n<h2>{escape(each.heading)}</h2>\n<p>{escape(each.text)}</p>\n</section>\n"
        for each in words.sections(purpose)
    ]
    if alone:
        return "".join(f"<div>\n{''.join(half)}</div>\n" for half in (sections[:3], sections[3:]))
    return f'<article lang="{code}" aria-label="{escape(words.name)}">\n{"".join(sections)}</article>\n'


def _footer(facts: Facts) -> str:
    """Return the small print in every language, and the official texts' addresses in the first."""
    languages = facts.words()
    said = "".join(f'<p lang="{code}">{escape(words.small_print)}</p>\n' for code, words, _ in languages)
    links = " · ".join(f'<a href="{url}">{url.removeprefix("https://")}</a>' for url in facts.laws())
    return f"<footer>\n{said}<p>{links}</p>\n<p>{escape(facts.origin())}</p>\n</footer>\n"

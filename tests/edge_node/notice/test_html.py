"""The HTML: one file that asks for nothing, says everything, and prints on one sheet."""

import io
import os
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from edge_node.notice.as_html import as_html
from edge_node.notice.facts import Facts
from edge_node.notice.words import AI_ACT, GDPR, WORDS

MakeFacts = Callable[..., Facts]
_CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
_VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Outline(HTMLParser):
    """Reads a page: which elements it has, and whether each is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(_CHROMIUM).exists():
        why = f"no browser at {_CHROMIUM}: install Debian's chromium, or name one in CHROMIUM"
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_SWITCHES))
        yield chromium
        chromium.close()


@pytest.mark.parametrize("languages", [("en",), ("de", "vi"), tuple(WORDS)])
def test_html_is_whole_and_says_which_language_is_which(facts: MakeFacts, languages: tuple[str, ...]) -> None:
    page = _Outline(as_html(facts(*languages)))
    assert page.open == []
    assert page.all("html") == [{"lang": languages[0]}]
    assert [each["lang"] for each in page.all("hgroup")] == list(languages)
    assert len(page.all("h1")) == len(languages)
    assert len(page.all("h2")) == 6 * len(languages)
    assert [each["lang"] for each in page.all("article")] == (list(languages) if len(languages) > 1 else [])
    text = " ".join(page.text)
    for code in languages:
        words = WORDS[code]
        for each in words.sections(None):
            assert each.heading in text
            assert each.text in text
        assert words.small_print in text


def test_html_asks_nothing_of_any_network(facts: MakeFacts) -> None:
    given = facts()
    html = as_html(given)
    page = _Outline(html)
    links = [each["href"] for each in page.all("a")]
    assert links == [given.url, AI_ACT + "/eng", GDPR + "/eng"]
    assert {tag for tag, _ in page.seen} & {"script", "link", "img", "iframe", "object", "form"} == set()
    assert re.findall(r"url\((?!data:)", html) == []
    assert "@import" not in html


def test_html_tells_what_its_pictures_are(facts: MakeFacts) -> None:
    given = facts("de")
    microphone, code = _Outline(as_html(given)).all("svg")
    assert microphone["aria-hidden"] == "true"
    assert (code["role"], code["aria-label"]) == ("img", f"QR-Code mit der Adresse {given.url}")


def test_html_escapes_what_it_is_given(facts: MakeFacts) -> None:
    wild = "<script>alert('\"&')</script>"
    given = facts(operator=wild, contact=wild, place=wild, purposes=(wild,), url="https://a.example/?q=\"><b>'&x=1")
    page = _Outline(as_html(given))
    assert page.all("script") == page.all("b") == []
    assert page.text.count(wild) == 4
    assert page.all("a")[0]["href"] == given.url


def test_html_is_the_same_for_the_same_facts(facts: MakeFacts) -> None:
    assert as_html(facts("vi")) == as_html(facts("vi"))


@pytest.mark.parametrize(
    "languages", [("en",), ("de",), ("fr",), ("vi",), ("de", "fr"), ("de", "fr", "vi"), tuple(WORDS)]
)
def test_html_prints_on_one_sheet(
    facts: MakeFacts,
    read_pdf: Callable[[bytes], tuple[int, tuple[float, float], str]],
    picture_of: Callable[[bytes], Any],
    scan: Callable[[Any], list[str]],
    browser: Browser,
    languages: tuple[str, ...],
) -> None:
    given = facts(*languages)
    page = browser.new_page()
    page.set_content(as_html(given))
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    page.close()
    pages, size, _ = read_pdf(printed)
    assert (pages, tuple(round(each) for each in size)) == (1, (595, 842))
    assert scan(picture_of(printed)) == [given.url]


@pytest.mark.parametrize(("width", "dark"), [(900, True), (390, False)])
def test_html_on_a_screen_shows_a_code_that_can_be_read_and_nothing_outside_of_it(
    facts: MakeFacts, scan: Callable[[Any], list[str]], browser: Browser, width: int, *, dark: bool
) -> None:
    given = facts("de", "en")
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(as_html(given))
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert scan(picture) == [given.url]
    assert wide <= width
    assert [each for each in asked if not each.startswith(("data:", "about:"))] == []

"""What the notice's tests share: facts to print, a reader of PDF files, a reader of QR codes."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pypdfium2
import pytest
import zxingcpp

from broker.contract.condition import Context
from edge_node.notice.facts import Facts

_pdfium: Any = pypdfium2  # both say too little of their types
_codes: Any = zxingcpp


@pytest.fixture(scope="session")
def facts() -> Callable[..., Facts]:
    """Facts of a place that is none; anything may be given otherwise."""

    def make(*languages: str, **others: Any) -> Facts:
        plain: dict[str, Any] = {
            "operator": "Example Care Home",
            "url": "https://care.example/sound?room=day&floor=1",
            "contact": "+49 30 0000 0000",
            "context": Context.CARE,
            "device": "care/day-room",
            "date": dt.date(2026, 11, 23),
            "languages": languages or ("en",),
        }
        return Facts(**(plain | others))

    return make


@pytest.fixture(scope="session")
def read_pdf() -> Callable[[bytes], tuple[int, tuple[float, float], str]]:
    """Return a PDF's pages, the first one's width and height in points, and its text in one line."""

    def read(data: bytes) -> tuple[int, tuple[float, float], str]:
        document = _pdfium.PdfDocument(data)
        page = document[0]
        text = " ".join(page.get_textpage().get_text_range().split())
        return len(document), page.get_size(), text

    return read


@pytest.fixture(scope="session")
def picture_of() -> Callable[[bytes], Any]:
    """Return the first page of a PDF as a picture, as a printer of 200 dots per inch shows it."""

    def draw(data: bytes) -> Any:
        return _pdfium.PdfDocument(data)[0].render(scale=200 / 72).to_pil()

    return draw


@pytest.fixture(scope="session")
def scan() -> Callable[[Any], list[str]]:
    """Return what the QR codes in a picture say."""

    def decode(picture: Any) -> list[str]:
        return [each.text for each in _codes.read_barcodes(picture, formats=_codes.BarcodeFormat.QRCode)]

    return decode

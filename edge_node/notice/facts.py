"""Who runs the node, where, and where people read on: what an operator puts on the notice."""

import datetime as dt
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from broker.contract.condition import Context
from broker.contract.errors import SettingsError
from edge_node.notice.words import AI_ACT, GDPR, WORDS, Words

__all__ = ["LONGEST_PURPOSE", "LONGEST_TEXT", "LONGEST_URL", "Facts"]

LONGEST_TEXT: Final = 100
LONGEST_PURPOSE: Final = 300
LONGEST_URL: Final = 200
"""Characters; longer ones make a QR code whose squares a telephone cannot tell apart at the size it is printed."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on the notice beside its words; all of it checked."""

    operator: str
    url: str
    """Of the operator's own page, http or https."""
    date: dt.date
    """As of when the notice holds."""
    contact: str | None = None
    """A telephone number, an address."""
    place: str | None = None
    """None: what the context is called in the notice's language."""
    context: Context | None = None
    purposes: tuple[str, ...] = ()
    """What the estimates are used for: none, one for every language, or one for each, in their order."""
    device: str | None = None
    """Site and node."""
    languages: tuple[str, ...] = ("en",)
    """Codes, in the order of the page."""

    def __post_init__(self) -> None:
        """Refuse what cannot be printed, or leads nowhere.

        Raises:
            SettingsError: naming the part, what is wrong and what is allowed.
        """
        _check_languages(self.languages)
        _check_text("operator", self.operator)
        _check_url(self.url)
        for name, text in (("contact", self.contact), ("place", self.place)):
            if text is not None:
                _check_text(name, text)
        if len(self.purposes) not in {0, 1, len(self.languages)}:
            msg = f"purpose: {len(self.purposes)} were given; one for all languages, or one for each of them"
            raise SettingsError(msg)
        for text in self.purposes:
            _check_text("purpose", text, LONGEST_PURPOSE)

    def words(self) -> tuple[tuple[str, Words, str | None], ...]:
        """Return, for each language of the page: its code, its words, and the purpose in it (None: unsaid)."""
        purposes: tuple[str | None, ...] = self.purposes or (None,)
        if len(purposes) == 1:
            purposes *= len(self.languages)
        return tuple((code, WORDS[code], why) for code, why in zip(self.languages, purposes, strict=True))

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return what stands beside the QR code: a label, in every language of the page, and its text."""
        all_words = [WORDS[code] for code in self.languages]
        rows = [(_joined(each.operator for each in all_words), self.operator)]
        if self.contact is not None:
            rows.append((_joined(each.contact for each in all_words), self.contact))
        place = self.place
        if place is None and self.context is not None:
            place = _joined(each.places[self.context] for each in all_words)
        if place is not None:
            rows.append((_joined(each.place for each in all_words), place))
        return tuple(rows)

    def more(self) -> str:
        """Return the label of the operator's page, in every language of the notice."""
        return _joined(WORDS[code].more for code in self.languages)

    def qr_alt(self) -> str:
        """Return what the QR code is, for those who cannot see it."""
        return f"{WORDS[self.languages[0]].qr_alt} {self.url}"

    def origin(self) -> str:
        """Return what ends the page: which device, and as of when."""
        if self.device is None:
            return self.date.isoformat()
        return f"{_joined(WORDS[code].device for code in self.languages)} {self.device}, {self.date.isoformat()}"

    def laws(self) -> tuple[str, str]:
        """Return the addresses of the two laws' official texts, in the page's first language."""
        ending = WORDS[self.languages[0]].law
        return (AI_ACT + ending, GDPR + ending)


def _joined(words: Iterable[str]) -> str:
    unbroken = (each.replace(" ", "\u00a0") for each in words)  # a line ends between languages, not within one
    return " · ".join(dict.fromkeys(unbroken))  # "Contact" is English and French


def _check_languages(codes: tuple[str, ...]) -> None:
    known = ", ".join(WORDS)
    for code in codes:
        if code not in WORDS:
            msg = f"language {code!r}: there is {known}"
            raise SettingsError(msg)
    if not codes or len(set(codes)) != len(codes):
        msg = f"language: name one or more of {known}, each once"
        raise SettingsError(msg)


def _check_text(name: str, text: str, longest: int = LONGEST_TEXT) -> None:
    if not text.strip() or len(text) > longest:
        msg = f"{name}: 1 to {longest} characters, not {len(text)}"
        raise SettingsError(msg)
    for sign in text:
        if unicodedata.category(sign)[0] == "C":  # line breaks, and signs that turn the direction of writing
            msg = f"{name} {text!r}: the character U+{ord(sign):04X} cannot be printed"
            raise SettingsError(msg)


def _check_url(url: str) -> None:
    allowed = f"https://... or http://..., at most {LONGEST_URL} characters, ASCII, without a password"
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        _ = parts.port  # raises where it is none
    except ValueError:
        good = False
    if not good or len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        msg = f"information URL {url[: LONGEST_URL + 1]!r}: {allowed}"
        raise SettingsError(msg)

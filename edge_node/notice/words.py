"""What the notice says: the same in every language, each written for those who speak it, one file a language.

The terms of the law are those of its official texts: Regulation (EU) 2024/1689 (AI Act) and Regulation (EU) 2016/679
(GDPR) in English, German and French. There is no official Vietnamese text; the Vietnamese links lead to the English.
"""

import tomllib
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from broker.contract.condition import Context

__all__ = ["AI_ACT", "GDPR", "WORDS", "Section", "Words"]

AI_ACT: Final = "https://eur-lex.europa.eu/eli/reg/2024/1689/oj"
"""Regulation (EU) 2024/1689; `/eng`, `/deu` or `/fra` after it gives the language."""
GDPR: Final = "https://eur-lex.europa.eu/eli/reg/2016/679/oj"
"""Regulation (EU) 2016/679, likewise."""

Said = Annotated[str, Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A heading, and the few sentences under it."""

    heading: Said
    text: Said


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the notice says in one language."""

    name: Said
    """The language's own name."""
    title: Said
    lead: Said
    """What goes on, in one sentence."""
    what: Section
    purpose: Said
    """The heading above what the operator says the estimates are for."""
    purpose_unsaid: Said
    """What stands there when the operator says nothing."""
    audio: Section
    leaves: Section
    """What leaves the device."""
    doubt: Section
    """That an estimate is one."""
    rights: Section
    operator: Said
    contact: Said
    place: Said
    more: Said
    """The label of the operator's own page."""
    device: Said
    qr_alt: Said
    """What the QR code is, for those who cannot see it; the address follows."""
    small_print: Said
    """The laws: Article 50(3) of the one, which asks for this notice, and the other."""
    law: Said
    """The ending of the official texts' addresses."""
    places: dict[Context, Said]
    """What to call the place when the operator does not."""

    def sections(self, purpose: str | None) -> tuple[Section, ...]:
        """Return what stands on the page, in its order.

        Args:
            purpose: what the operator uses the estimates for; None: they did not say.
        """
        why = Section(heading=self.purpose, text=self.purpose_unsaid if purpose is None else purpose)
        return (self.what, why, self.audio, self.leaves, self.doubt, self.rights)


def _read(code: str) -> Words:
    text = (files(__package__) / "texts" / f"{code}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Words)


WORDS: Final = MappingProxyType({code: _read(code) for code in ("en", "de", "fr", "vi")})
"""By the language's code (ISO 639-1, as in HTML's `lang`)."""

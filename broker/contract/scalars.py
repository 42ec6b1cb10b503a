"""Numbers and words that messages are made of, with their bounds."""

from typing import Annotated, Final

from msgspec import Meta

__all__ = ["Count", "Identifier", "Microseconds", "Sequence", "Share", "Text"]

_LARGEST: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exact
Count = Annotated[int, Meta(ge=0, le=_LARGEST)]
Microseconds = Annotated[int, Meta(ge=0, le=_LARGEST)]
Sequence = Annotated[int, Meta(ge=1, le=_LARGEST)]
Identifier = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$", max_length=16)]  # Python's $ alone lets a newline through
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1, max_length=64)]

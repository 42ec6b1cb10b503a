"""Numbers and words that messages are made of, with their bounds."""

from typing import Annotated, Final

from msgspec import Meta

__all__ = [
    "SPEECH_BOUNDS",
    "UNCERTAIN_BOUNDS",
    "Count",
    "Identifier",
    "Microseconds",
    "Sequence",
    "Share",
    "SpeechAbove",
    "Text",
    "UncertainBelow",
]

_LARGEST: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exact
Count = Annotated[int, Meta(ge=0, le=_LARGEST)]
Microseconds = Annotated[int, Meta(ge=0, le=_LARGEST)]
Sequence = Annotated[int, Meta(ge=1, le=_LARGEST)]
Identifier = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$", max_length=16)]  # Python's $ alone lets a newline through
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1, max_length=64)]

UNCERTAIN_BOUNDS: Final = (0.34, 0.95)
"""What `uncertain_below` may be set to: up to a third nothing is uncertain, near 1 everything."""
UncertainBelow = Annotated[float, Meta(ge=UNCERTAIN_BOUNDS[0], le=UNCERTAIN_BOUNDS[1])]

SPEECH_BOUNDS: Final = (0.05, 0.95)
"""What `speech_above` may be set to: below, anything is speech; above, nothing."""
SpeechAbove = Annotated[float, Meta(ge=SPEECH_BOUNDS[0], le=SPEECH_BOUNDS[1])]

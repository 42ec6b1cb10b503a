"""How much a node's messages could carry at most, if every digit that varies were chosen at will.

A bound, not an estimate: what is the same in all messages of a kind says nothing; of the rest, a number counts with
all of its decimal digits, but for those that it begins with in every message, a word of a list with the list's length.
What is told by when a message comes, and by how many there are, is not in it.
"""

import enum
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from broker.contract.decision import MIN_INTERVAL_US
from edge_node.privacy.accounts import Said

__all__ = ["LEAST_SPEECH_BITS_S", "Amount", "amount_of"]

LEAST_SPEECH_BITS_S: Final = 450
"""Bits a second of Codec 2's lowest mode, in which speech is still understood. Source: D. Rowe, T. Kurin, S. Erhardt,
Codec 2 at 450 bit/s, rowetel.com, 2018."""

_DIGIT: Final = math.log2(10)


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """What messages could carry, in bits."""

    by_row: dict[str, float]
    """Of one message, on the mean, by the row of the topic table."""
    messages: dict[str, int]
    per_second: float
    """All together, for a second of the run."""
    most_per_second: float
    """The same, if events came as often as the contract allows, one a second."""


def amount_of(said: Iterable[Said], seconds: float, telemetry_s: float) -> Amount:
    """Return the bound for what was said in a time.

    Args:
        said: messages, as often as they were sent.
        seconds: how long the run was.
        telemetry_s: interval of telemetry, in s.
    """
    rows: defaultdict[str, dict[bytes, msgspec.Struct]] = defaultdict(dict)
    for each in said:
        if each.message is not None:
            rows[each.row][each.payload] = each.message
    bits = {row: _bits([dict(_leaves(each)) for each in messages.values()]) for row, messages in rows.items()}
    counts = {row: len(messages) for row, messages in rows.items()}
    total = sum(sum(each) for each in bits.values())
    mean = {row: sum(each) / len(each) for row, each in bits.items()}
    event_s = MIN_INTERVAL_US / 1e6
    slow = sum(sum(each) for row, each in bits.items() if row not in {"emotion", "telemetry"}) / seconds
    most = mean.get("emotion", 0.0) / event_s + mean.get("telemetry", 0.0) / telemetry_s + slow
    return Amount(by_row=mean, messages=counts, per_second=total / seconds, most_per_second=most)


def _bits(messages: Sequence[dict[str, Any]]) -> list[float]:
    """Return what each message of a kind could carry."""
    counted = [0.0] * len(messages)
    for path in {path: None for each in messages for path in each}:
        values = [each.get(path) for each in messages]
        texts = [_text(each) for each in values]
        if len(set(texts)) == 1 or _counts_up(path, values):
            continue
        shared = _shared_start(texts) if all(isinstance(each, int | float) for each in values) else 0
        for index, (value, text) in enumerate(zip(values, texts, strict=True)):
            counted[index] += _most_bits(value, text, shared)
    return counted


def _most_bits(value: object, text: str, shared: int) -> float:
    if isinstance(value, enum.Enum):
        return math.log2(len(type(value)))
    if value is None or isinstance(value, bool):
        return 1.0
    if isinstance(value, int | float):
        return 1.0 + _DIGIT * sum(each.isdigit() for each in text[shared:])
    return 8.0 * len(text.encode())


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value of a message that has no parts, with where it stands."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _leaves(getattr(value, field), f"{path}.{field}")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{_text(key)}")
    elif isinstance(value, tuple | list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}.{number}")
    else:
        yield path, value


def _text(value: object) -> str:
    return str(value.value) if isinstance(value, enum.Enum) else repr(value)


def _counts_up(path: str, values: Sequence[object]) -> bool:
    """Return whether it is a number that counts the messages: it says no more than that there are so many."""
    return path == ".seq" and all(
        isinstance(after, int) and isinstance(before, int) and after - before == 1
        for before, after in itertools.pairwise(values)
    )


def _shared_start(texts: Sequence[str]) -> int:
    if len({len(each) for each in texts}) > 1:
        return 0
    return next((at for at, letters in enumerate(zip(*texts, strict=True)) if len(set(letters)) > 1), 0)

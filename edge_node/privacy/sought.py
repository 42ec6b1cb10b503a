"""The search over all that a run wrote and sent: for the known, the known of another signal, and the planted."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from edge_node.privacy.known import Secrets
from edge_node.privacy.planted import leaks
from edge_node.privacy.report import Sought
from edge_node.privacy.search import likeness
from edge_node.privacy.series import numbers_in, series_of, unpacked

__all__ = ["ENTROPY_LIMIT", "MOST_SEARCHED", "entropy_of", "sought_in"]

ENTROPY_LIMIT: Final = 6.9
"""Bits a byte. 512 bytes of chance, of a cipher, or compressed have 7.5; JSON has 5, SQLite's own form below 6."""
MOST_SEARCHED: Final = 262_144
"""Bytes of one place. A node writes a few thousand a minute; more than this is a finding of its own."""
_ENTROPY_BYTES: Final = 512
_ENTROPY_STEP: Final = 128
_EXACT: Final = "exact values, of 16 in a row"
_ENTROPY: Final = "unpredictable bytes"


def sought_in(
    streams: Mapping[str, bytes], secrets: Secrets, decoy: Secrets | None, among: bytes | None
) -> list[Sought]:
    """Return what was found of each thing.

    Args:
        streams: what was written and sent, by where.
        secrets: of the signal that the node heard.
        decoy: of another; None: it is not looked for.
        among: what leaks are planted in the middle of; None: none are.
    """
    found = _most(streams, secrets)
    by_chance = None if decoy is None else _most(streams, decoy)
    faintest: dict[str, float] = {}
    limits = _limits(secrets)
    for leak in () if among is None else leaks(secrets):
        name = _sought(leak.what, limits)
        there = _most({"": b"\n".join((among or b"", leak.data, among or b""))}, secrets, only=name)
        faintest[name] = min(faintest.get(name, math.inf), there[name][0])
    return [
        Sought(
            what=name,
            found=round(found[name][0], 3),
            where=found[name][1],
            by_chance=None if by_chance is None else round(by_chance[name][0], 3),
            limit=limit,
            planted=None if among is None else round(faintest.get(name, 0.0), 3),
        )
        for name, limit in limits.items()
    ]


def entropy_of(data: bytes) -> float:
    """Return the entropy of the 512 bytes in a row that have the greatest, in bits a byte; 0 of fewer bytes."""
    best = 0.0
    for begin in range(0, len(data) - _ENTROPY_BYTES + 1, _ENTROPY_STEP):
        counts = Counter(data[begin : begin + _ENTROPY_BYTES]).values()
        best = max(best, -sum(each / _ENTROPY_BYTES * math.log2(each / _ENTROPY_BYTES) for each in counts))
    return best


def _limits(secrets: Secrets) -> dict[str, float]:
    limits = {each.name: each.limit for each in secrets.likenesses}
    return {**limits, _EXACT: float(secrets.exact.limit), _ENTROPY: ENTROPY_LIMIT}


def _most(streams: Mapping[str, bytes], secrets: Secrets, only: str | None = None) -> dict[str, tuple[float, str]]:
    """Return the most that was found of each thing, or of one alone, and where."""
    best: dict[str, tuple[float, str]] = dict.fromkeys(_limits(secrets), (0.0, ""))
    chosen = [each for each in secrets.likenesses if only in {None, each.name}]
    for where, data in streams.items():
        for series in series_of(data[:MOST_SEARCHED]) if chosen else ():
            for known in chosen:
                if only is None and best[known.name][0] >= known.limit:
                    continue  # it has been found, however like it is
                best[known.name] = max(best[known.name], (likeness(series.values, known), f"{where}, {series.form}"))
        if only in {None, _EXACT}:
            hits = [secrets.exact.in_bytes(plain) for _, plain in unpacked(data)]
            hits += [secrets.exact.in_text(numbers_in(plain)) for _, plain in unpacked(data)]
            best[_EXACT] = max(best[_EXACT], (float(max(hits)), where))
        best[_ENTROPY] = max(best[_ENTROPY], (entropy_of(data), where))
    return best


def _sought(leak: str, names: Iterable[str]) -> str:
    """Return what a leak is one of: the longest name that it begins with."""
    words = {"exact": _EXACT, "unpredictable": _ENTROPY}
    short = leak.partition(",")[0]
    return words.get(short) or max((each for each in names if leak.startswith(each)), key=len)

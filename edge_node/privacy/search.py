"""Looks for a known thing in series of numbers: by likeness, which no scale or offset hides, and by exact values.

Likeness is the correlation coefficient of a stretch of the series with the stretch of the known thing that is most like
it. 1 is the thing itself; what was rounded to 8 bits stays above 0.9.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from edge_node.privacy.series import Values

__all__ = ["Exact", "Found", "Known", "likeness"]

_AT_ONCE: Final = 64
_BLOCK: Final = 8
"""A block of the known thing is so many stretches long, with the one that it shares with the next."""
_QUIET: Final = 1e-3
"""A stretch of the known thing with a smaller share of its mean power is silence, which is like anything."""
_WIDE: Final = 2.5
_MOST_OF_IT: Final = 0.9
"""What is further away than so many times what most of it is, is drawn in: a few numbers that are no samples would
drown those that are."""
_FLAT: Final = 1e-3
_RUN: Final = 16
_OF_RUN: Final = 8
_DIGITS: Final = 7


class Known(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Something that must not be found."""

    name: str
    values: Values
    """Shape (n,), float32."""
    stretch: int
    """How many numbers are compared at once."""
    every: tuple[int, ...] = (1,)
    """The series is looked at as it is, or as the means of so many numbers: rates at which audio may be written."""
    steps: bool = False
    """Whether the steps from one number to the next are compared: what is smooth is like much else."""
    limit: float
    """What is as like as this, or more, has been found."""


class Found(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """The best that a search came to."""

    likeness: float = 0.0
    what: str = ""
    form: str = ""
    where: str = ""


def likeness(values: Values, known: Known) -> float:
    """Return how like the most alike stretches of a series and of a known thing are, 0 to 1, whatever their sign."""
    best = 0.0
    for every in known.every:
        shrunk = values[: len(values) // every * every].reshape(-1, every).mean(axis=1)
        for stretches in _stretches(np.diff(shrunk) if known.steps else shrunk, known.stretch):
            best = max(best, _most_alike(stretches, known))
    return best


def _stretches(values: Values, length: int) -> Iterator[Values]:
    """Yield stretches that overlap by half, without their mean, some at a time, shape (some, length)."""
    if len(values) < length:
        return
    all_of_them = np.lib.stride_tricks.sliding_window_view(values, length)[:: length // 2]
    for begin in range(0, len(all_of_them), _AT_ONCE):
        some = all_of_them[begin : begin + _AT_ONCE] - np.median(all_of_them[begin : begin + _AT_ONCE], axis=1)[:, None]
        wide = _WIDE * np.quantile(np.abs(some), _MOST_OF_IT, axis=1, keepdims=True)
        some = np.clip(some, -wide, wide)  # to nothing, where most of it is one number
        largest = np.abs(some).max(axis=1, keepdims=True)
        some = np.divide(some, largest, out=np.zeros_like(some), where=largest > 0)  # or squares of the tiny would be 0
        some -= some.mean(axis=1, keepdims=True)
        size = np.linalg.norm(some, axis=1)
        usable = size > _FLAT
        if usable.any():
            yield some[usable] / size[usable, None]


def _most_alike(stretches: Values, known: Known) -> float:
    best = 0.0
    turned = np.conj(np.fft.rfft(stretches, _padded(known)))
    for spectrum, scale in _blocks(known):
        products = np.fft.irfft(turned * spectrum, _padded(known))[:, : len(scale)]
        best = max(best, float((np.abs(products) * scale).max()))
    return best


def _padded(known: Known) -> int:
    return 1 << (_BLOCK * known.stretch - 1).bit_length()


@functools.lru_cache(maxsize=16)
def _blocks(known: Known) -> Sequence[tuple[npt.NDArray[np.complex64], Values]]:
    """Return blocks of a known thing as spectra, and what to scale each place's product by; 0: it is silence."""
    length = known.stretch
    least = _QUIET * float(known.values.var())
    blocks = []
    for begin in range(0, len(known.values) - length + 1, (_BLOCK - 1) * length):
        block = known.values[begin : begin + _BLOCK * length - 1]
        wide = block.astype(np.float64)
        sums = np.concatenate(([0.0], np.cumsum(wide)))
        squares = np.concatenate(([0.0], np.cumsum(wide**2)))
        powers = (squares[length:] - squares[:-length]) / length - ((sums[length:] - sums[:-length]) / length) ** 2
        usable = powers > least
        if usable.any():
            scale = np.where(usable, 1 / np.sqrt(np.where(usable, powers, 1) * length), 0).astype(np.float32)
            blocks.append((np.fft.rfft(block, _padded(known)).astype(np.complex64), scale))
    return blocks


class Exact:
    """Numbers of single precision that are known to the last bit, such as a model's inputs."""

    def __init__(self, name: str, values: Sequence[Values]) -> None:
        """Keep them, but for those that anybody may write: whole numbers, and those of few digits."""
        every = np.unique(np.concatenate([each.ravel() for each in values]).astype(np.float32))
        self.name = name
        self._known = every[np.abs(every * 1000 - np.round(every * 1000)) > 1e-3]  # noqa: PLR2004 -- three digits

    def in_bytes(self, data: bytes) -> int:
        """Return how many of 16 numbers in a row are known, at most, as single or double precision."""
        octets, best = np.frombuffer(data, dtype=np.uint8), 0
        for kind, size in (("<f4", 4), (">f4", 4), ("<f8", 8), (">f8", 8)):
            for begin in range(size):
                whole = octets[begin : begin + (len(octets) - begin) // size * size].view(kind)
                with np.errstate(all="ignore"):
                    best = max(best, self._most(whole.astype(np.float32)))
        return best

    def in_text(self, numbers: Sequence[bytes]) -> int:
        """Return the same of the numbers in a text that have seven digits or more, as single precision needs them."""
        fine = [float(each) for each in numbers if sum(digit in b"0123456789" for digit in each) >= _DIGITS]
        return self._most(np.array(fine), close=1e-7)

    @property
    def limit(self) -> int:
        """As many have been found on purpose."""
        return _OF_RUN

    def _most(self, values: npt.NDArray[np.floating], close: float = 0.0) -> int:
        if len(values) == 0 or len(self._known) == 0:
            return 0
        at = np.searchsorted(self._known, values).clip(1, len(self._known) - 1)
        with np.errstate(all="ignore"):
            gap = np.minimum(np.abs(self._known[at] - values), np.abs(self._known[at - 1] - values))
            hits = np.isfinite(values) & (gap <= close * np.abs(values))  # an id may read 8e42161234
        sums = np.concatenate(([0], np.cumsum(hits)))
        width = min(_RUN, len(values))
        return int((sums[width:] - sums[:-width]).max())

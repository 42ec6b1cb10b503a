"""All that bytes could stand for: the series of numbers that they are when read as audio and features usually are.

bytes as they are, and what is packed in them (hexadecimal, base64, zlib, gzip, bzip2, xz), three layers deep
each read as 8-, 16-, 24- and 32-bit integers, µ-law and A-law, half, single and double precision,
little and big endian, from every byte at which a number could begin, and as numbers in text
"""

import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["Series", "numbers_in", "series_of", "unpacked"]

Values = npt.NDArray[np.float32]

_LAYERS: Final = 3
_MOST_UNPACKED: Final = 8_000_000
_FEWEST: Final = 48
"""Numbers in a series that is worth a look."""
_NUMBER: Final = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ONE: Final = re.compile(_NUMBER)
_PRINTABLE: Final = re.compile(rb"[\t-~]*")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64,}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{64,}")
_PACKERS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b\x08", lambda data: zlib.decompressobj(31).decompress(data, _MOST_UNPACKED)),
    (b"x\x01", lambda data: zlib.decompressobj().decompress(data, _MOST_UNPACKED)),
    (b"x\x5e", lambda data: zlib.decompressobj().decompress(data, _MOST_UNPACKED)),
    (b"x\x9c", lambda data: zlib.decompressobj().decompress(data, _MOST_UNPACKED)),
    (b"x\xda", lambda data: zlib.decompressobj().decompress(data, _MOST_UNPACKED)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, _MOST_UNPACKED)),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data, _MOST_UNPACKED)),
)


class Series(msgspec.Struct, frozen=True, eq=False):
    """Numbers that bytes could stand for."""

    form: str
    """How they were read."""
    values: Values
    """Shape (n,), float32, finite."""


def unpacked(data: bytes, layers: int = _LAYERS) -> Iterator[tuple[str, bytes]]:
    """Yield what was written as it is, and what is packed in it, each with how it was packed."""
    yield "", data
    if layers == 0:
        return
    for how, inner in _within(data):
        for deeper, innermost in unpacked(inner, layers - 1):
            yield f"{how} {deeper}".strip(), innermost


def series_of(data: bytes) -> Iterator[Series]:
    """Yield all series that bytes could stand for, whatever they are packed in."""
    for how, plain in unpacked(data):
        for form, values in _read(plain):
            yield Series(f"{form} in {how}" if how else form, values)


def numbers_in(data: bytes) -> list[bytes]:
    """Return the numbers that stand in a text, as they are written, in order, whatever is between them."""
    return _ONE.findall(data)


def _within(data: bytes) -> Iterator[tuple[str, bytes]]:
    for match in _HEX.finditer(data):
        yield "hexadecimal", binascii.unhexlify(match.group()[: len(match.group()) // 2 * 2])
    for match in _BASE64.finditer(data):
        if _HEX.fullmatch(match.group()):
            continue
        text = match.group().replace(b"-", b"+").replace(b"_", b"/")
        for skipped in range(4):  # what stands before it may be of its alphabet, too
            part = text[skipped:]
            yield "base64", base64.b64decode(part[: len(part) // 4 * 4])
    for magic, unpack in _PACKERS:
        at = data.find(magic)
        while at >= 0:
            try:
                inner = unpack(data[at:])
            except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError):
                inner = b""
            if inner:
                yield "compressed", inner
            at = data.find(magic, at + 1)


def _read(data: bytes) -> Iterator[tuple[str, Values]]:
    if len(found := numbers_in(data)) >= _FEWEST:
        yield "text", _finite(np.array([float(each) for each in found]))
    octets = np.frombuffer(data, dtype=np.uint8)
    if len(octets) < _FEWEST:
        return
    yield "int8", octets.view(np.int8).astype(np.float32)
    yield "uint8", octets.astype(np.float32)
    yield "µ-law", _MU_LAW[octets]
    yield "A-law", _A_LAW[octets]
    if not _PRINTABLE.fullmatch(data):  # each letter may stand for a sample, but no few of them for one
        yield from _words(octets)
        yield from _triples(octets)


def _words(octets: npt.NDArray[np.uint8]) -> Iterator[tuple[str, Values]]:
    for name, kind in (("int16", "i2"), ("int32", "i4"), ("float16", "f2"), ("float32", "f4"), ("float64", "f8")):
        for order, words in (("<", "little"), (">", "big")):
            size = int(kind[1])
            for begin in range(size):
                whole = octets[begin : begin + (len(octets) - begin) // size * size]
                if len(whole) >= _FEWEST * size:
                    yield f"{name} {words} endian", _finite(whole.view(f"{order}{kind}"))


def _triples(octets: npt.NDArray[np.uint8]) -> Iterator[tuple[str, Values]]:
    for begin in range(3):
        triples = octets[begin : begin + (len(octets) - begin) // 3 * 3].reshape(-1, 3).astype(np.int32)
        if len(triples) >= _FEWEST:
            for words, (low, middle, high) in (("little", (0, 1, 2)), ("big", (2, 1, 0))):
                signed = np.where(triples[:, high] > 127, triples[:, high] - 256, triples[:, high])  # noqa: PLR2004
                joined = signed * 65_536 + triples[:, middle] * 256 + triples[:, low]
                yield f"int24 {words} endian", joined.astype(np.float32)


def _finite(values: npt.NDArray[np.generic]) -> Values:
    """Return numbers as float32; what is none, or larger than any sample is written, is 0."""
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        wide[~(np.abs(wide) < 1e10)] = 0  # noqa: PLR2004 -- 32-bit integers reach 2e9
    return wide.astype(np.float32)


def _companded(*, a_law: bool) -> Values:
    """Return the sample for each byte of ITU-T G.711 (1988)."""
    samples = np.zeros(256)
    for code in range(256):
        bits = code ^ (0x55 if a_law else 0xFF)
        exponent, mantissa = (bits >> 4) & 7, bits & 15
        if a_law:
            size = (mantissa * 16 + 8) if exponent == 0 else ((mantissa * 16 + 264) << (exponent - 1))
            samples[code] = size if bits & 0x80 else -size
        else:
            size = (((mantissa << 3) + 132) << exponent) - 132
            samples[code] = -size if bits & 0x80 else size
    return samples.astype(np.float32)


_MU_LAW: Final = _companded(a_law=False)
_A_LAW: Final = _companded(a_law=True)

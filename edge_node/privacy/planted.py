"""Leaks made on purpose, and put among what the node really wrote: a search that misses one proves nothing."""

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from edge_node.privacy.known import Secrets

__all__ = ["Leak", "leaks"]

_AUDIO_HZ: Final = 16_000
_SECONDS: Final = 0.4
_FRAMES: Final = 32
_COURSE: Final = 160


class Leak(msgspec.Struct, frozen=True):
    """Bytes that give something away."""

    what: str
    """Begins as the name of what is looked for."""
    data: bytes


def leaks(secrets: Secrets) -> Iterator[Leak]:
    """Yield leaks of 0.4 s of audio, of one window's features, and of a few embeddings, variously written."""
    power = np.convolve(secrets.audio**2, np.ones(int(_SECONDS * _AUDIO_HZ)), "valid")
    loudest = int(power.argmax())  # somewhere there is a pause, which is no leak
    audio = secrets.audio[loudest : loudest + int(_SECONDS * _AUDIO_HZ)]
    loud = audio / np.abs(audio).max()
    whole = np.round(loud * 32_000).astype(np.int16)
    slow = np.round(loud[: len(loud) // 2 * 2].reshape(-1, 2).mean(axis=1) * 120).astype(np.int8)
    yield Leak("audio, 16-bit", whole.astype("<i2").tobytes())
    yield Leak("audio, 16-bit big endian, from an odd byte", b"\x01" + whole.astype(">i2").tobytes())
    yield Leak("audio, 8-bit at 8 kHz", slow.tobytes())
    yield Leak("audio, 32-bit", (whole.astype("<i4") * 65_536).tobytes())
    yield Leak("audio, single precision", loud.astype("<f4").tobytes())
    yield Leak("audio, double precision, big endian", loud.astype(">f8").tobytes())
    yield Leak("audio, half precision", loud.astype("<f2").tobytes())
    yield Leak("audio, in base64", base64.b64encode(whole.astype("<i2").tobytes()))
    yield Leak("audio, compressed, in hexadecimal", zlib.compress(whole.astype("<i2").tobytes()).hex().encode())
    yield Leak("audio, as numbers in JSON", json.dumps([round(float(each), 3) for each in loud]).encode())
    yield Leak("audio, as differences, 16-bit", np.diff(whole).astype("<i2").tobytes())
    window = secrets.inputs[len(secrets.inputs) // 2]
    yield Leak("features, frame by frame, in JSON", json.dumps(window[:_FRAMES].round(2).tolist()).encode())
    yield Leak("features, frame by frame, 8-bit", _small(window[:_FRAMES]))
    yield Leak("features, one by one, half precision", window.T[:4].astype("<f2").tobytes())
    for column in range(0, window.shape[1], 7):
        told = " ".join(f"{each:.2f}" for each in secrets.course[-_COURSE:, column])
        yield Leak(f"features, one by one, number {column} in a text", told.encode())
    said = secrets.embeddings[len(secrets.embeddings) // 2 :][:3]
    yield Leak("embeddings, 8-bit", _small(said))
    yield Leak("embeddings, in JSON", json.dumps(said.round(2).tolist()).encode())
    yield Leak("exact, single precision, big endian", window[:1].astype(">f4").tobytes())
    yield Leak("exact, in JSON", json.dumps([float(each) for each in window[0]]).encode())
    yield Leak("unpredictable, as a cipher's output is", np.random.default_rng(1).bytes(1024))


def _small(values: np.ndarray) -> bytes:
    small: bytes = np.round(values / np.abs(values).max() * 127).astype(np.int8).tobytes()
    return small

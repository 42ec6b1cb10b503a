"""What must not be found: the signal, and all that the node's own code makes of it on the way to a label."""

import warnings
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle
from broker.contract.features import extract
from edge_node.privacy.search import Exact, Known
from edge_node.privacy.series import Values
from edge_node.privacy.sound import RATE_HZ, Samples

__all__ = ["Secrets", "secrets_of"]

_AUDIO_HZ: Final = 4_000
"""Audio of every rate is brought to this one before it is compared: most of a voice is below 2 kHz."""
_RATES_HZ: Final = (8_000, 16_000, RATE_HZ)
_AUDIO_S: Final = 0.25
_FRAMES: Final = 16
_COURSE: Final = 96
"""Frames: two thirds of a window, so that one lies within each column of a window wherever that begins."""
_SMALLEST: Final = 16
_LEAP: Final = 4.0


class Secrets(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is looked for."""

    likenesses: tuple[Known, ...]
    exact: Exact
    windows: int
    """Windows of the signal that were analysed."""
    audio: Samples
    """The signal at the model's rate, for leaks that are planted."""
    inputs: Values
    """The model's inputs, shape (windows, frames, columns)."""
    course: Values
    """Features of the whole signal, shape (frames, columns)."""
    embeddings: Values
    """What the model's last layer but one says, shape (windows, n)."""


def secrets_of(signal: Samples, bundle: Bundle) -> Secrets:
    """Return what a node with this model makes of a signal.

    Args:
        signal: shape (n,), float32, at `sound.RATE_HZ`.
        bundle: the model.
    """
    import soxr  # noqa: PLC0415 -- the node's own resampler

    manifest = bundle.manifest
    audio: Samples = soxr.resample(signal, RATE_HZ, manifest.features.sample_rate_hz)
    length, hop = manifest.window.length_samples, manifest.window.hop_samples
    inputs = np.stack(
        [
            extract(audio[begin : begin + length], manifest.features, manifest.normalisation)
            for begin in range(0, len(audio) - length + 1, hop)
        ]
    )
    tensors = _activations(bundle.model, inputs)
    embeddings = next(each for each in reversed(tensors) if each.shape[1] >= _SMALLEST)
    course = extract(audio, manifest.features, manifest.normalisation)
    apart = inputs[:: max(1, length // hop)]
    frames, columns = inputs.shape[1:]
    likenesses = (
        _audio("audio", signal),
        _audio("audio, as differences", np.diff(signal)),
        _rows("features, frame by frame", apart.reshape(-1), columns * min(_FRAMES, frames), 0.6),
        _courses("features, one by one", course, min(_COURSE, frames)),
        _rows("embeddings", embeddings.reshape(-1), embeddings.shape[1], 0.85),
    )
    return Secrets(
        likenesses=likenesses,
        exact=Exact("features, embeddings and probabilities to the last digit", [inputs, *tensors]),
        windows=len(inputs),
        audio=audio,
        inputs=inputs,
        course=course,
        embeddings=embeddings,
    )


def _audio(name: str, signal: npt.NDArray[np.floating]) -> Known:
    ratio = RATE_HZ // _AUDIO_HZ
    return Known(
        name=name,
        values=signal[: len(signal) // ratio * ratio].reshape(-1, ratio).mean(axis=1).astype(np.float32),
        stretch=round(_AUDIO_S * _AUDIO_HZ),
        every=tuple(rate_hz // _AUDIO_HZ for rate_hz in _RATES_HZ),
        limit=0.5,
    )


def _rows(name: str, values: Values, stretch: int, limit: float) -> Known:
    return Known(name=name, values=np.ascontiguousarray(values), stretch=stretch, limit=limit)


def _courses(name: str, course: Values, stretch: int) -> Known:
    """Return each feature's steps, all as large as each other; leaps are drawn in: one alone is like any other."""
    steps = np.diff(course, axis=0)
    size = np.median(np.abs(steps), axis=0)
    moving = steps[:, size > 0] / size[size > 0]
    return Known(name=name, values=np.clip(moving, -_LEAP, _LEAP).T.reshape(-1), stretch=stretch, steps=True, limit=0.8)


def _activations(model: bytes, inputs: Values) -> Sequence[Values]:
    """Return what each of a model's tensors holds for each input, shape (windows, n), where the input changes it."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 -- absent on a collector

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it takes more memory, which is not short here
        interpreter: Any = Interpreter(model_content=model, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    seen: dict[int, list[Values]] = {}
    for each in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], each[None])
        interpreter.invoke()
        for tensor in interpreter.get_tensor_details():
            if tensor["dtype"] is np.float32:
                try:
                    value = interpreter.get_tensor(tensor["index"])
                except ValueError:  # never made: a part of a fused operation
                    continue
                seen.setdefault(tensor["index"], []).append(np.array(value, dtype=np.float32).ravel())
    whole = [np.stack(values) for _, values in sorted(seen.items()) if len({len(each) for each in values}) == 1]
    return [each for each in whole if each.shape[1] > 1 and (each != each[0]).any()]

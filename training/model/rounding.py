"""Weights rounded to int8 one after the other, each making up for the rounding of those before it.

The converter rounds every weight to its nearest step, and the errors of a sum of two hundred products add up. Here the
weights of a large product are rounded in turn: what a rounding changes in the sum, over inputs such as the product will
see, is taken back by the weights that are not rounded yet, and what is left of it on average goes into the bias. The
weight that sets the step of an output comes first and stays as it is, so that the converter finds the same steps, and
nothing left to round.

Source: Frantar et al. 2023 (GPTQ), after Hassibi and Stork 1993 (optimal brain surgeon).
"""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from training.model.network import Tensor, tf
from training.model.plain import Plain, infer

__all__ = ["round_weights"]

Weights = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]

_STEPS: Final = 127
"""From 0 to the largest weight of an output."""
_DAMPING: Final = 0.01
"""Of the inputs' mean variance, added to each: what hardly varies must not carry the others' errors."""


def round_weights(plain: Plain, windows: Weights) -> Plain:
    """Return the network with the weights of its convolutions and of its first projection on the steps of int8.

    The recurrent weights stay as they are: their inputs are the network's own outputs, and their rounding costs least.

    Args:
        plain: the network, in float32.
        windows: normalised windows of speech, shape (n, frames, columns).
    """
    into_convolutions, into_cell = _inputs(plain, windows)
    convolutions = []
    for layer, rows in zip(plain.convolutions, into_convolutions, strict=True):
        kernel, rest = _rounded(layer.kernel.reshape(-1, len(layer.bias)), rows)
        convolutions.append(
            msgspec.structs.replace(layer, kernel=kernel.reshape(layer.kernel.shape), bias=layer.bias + rest)
        )
    first, *others = plain.cells
    kernel, rest = _rounded(first.kernel, into_cell)
    first = msgspec.structs.replace(first, kernel=kernel, bias=first.bias + rest)
    return msgspec.structs.replace(plain, convolutions=tuple(convolutions), cells=(first, *others))


def _inputs(plain: Plain, windows: Weights) -> tuple[list[Rows], Rows]:
    """Return what goes into each convolution, shape (rows, width * inputs), and into the first cell, (rows, inputs)."""
    seen: dict[str, Weights] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        seen[name] = np.asarray(value).reshape(len(windows), -1, value.shape[-1])
        return value

    infer(plain, tf.constant(windows), keep)
    frames = seen["features"]
    into_convolutions = []
    for number, layer in enumerate(plain.convolutions):
        width, inputs, _ = layer.kernel.shape
        heard = np.lib.stride_tricks.sliding_window_view(frames, width, axis=1)[:, :: layer.stride]
        into_convolutions.append(heard.swapaxes(2, 3).reshape(-1, width * inputs).astype(np.float64))
        frames = seen[f"convolution {number}"]
    return into_convolutions, frames.reshape(-1, frames.shape[-1]).astype(np.float64)


def _rounded(kernel: Weights, rows: Rows) -> tuple[Weights, Weights]:
    """Return a kernel, shape (inputs, outputs), on its steps, and what its outputs lose on average, (outputs,)."""
    inputs, outputs = kernel.shape
    variance = np.cov(rows, rowvar=False).reshape(inputs, inputs)
    variance[np.diag_indices(inputs)] += max(_DAMPING * np.trace(variance) / inputs, np.finfo(np.float32).tiny)
    rounded = np.zeros_like(kernel)
    for output in range(outputs):
        largest = int(np.abs(kernel[:, output]).argmax())
        step = abs(float(kernel[largest, output])) / _STEPS
        if step == 0:
            continue
        order = np.concatenate(([largest], np.delete(np.arange(inputs), largest)))
        share = np.linalg.cholesky(np.linalg.inv(variance[np.ix_(order, order)])).T
        weights = kernel[order, output].astype(np.float64)
        for place in range(inputs):
            exact = weights[place]
            weights[place] = step * np.clip(np.round(exact / step), -_STEPS, _STEPS)
            weights[place + 1 :] -= (exact - weights[place]) / share[place, place] * share[place, place + 1 :]
        rounded[order, output] = weights
    return rounded, np.asarray((kernel - rounded).T @ rows.mean(axis=0), dtype=np.float32)

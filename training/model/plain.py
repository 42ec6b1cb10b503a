"""The trained network written out in plain operations, in the shape that a small runtime takes fastest.

Keras writes an LSTM as a loop that knows nothing of what comes before and after it: it projects one frame per turn, and
each turn copies the sequence of all outputs so far. Here both are known:

- the frames are projected all at once, before the loop;
- what follows pools over time, so the loop adds up the states and their squares and keeps no sequence.

The answers are the same but for rounding, which `write_out` checks.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError
from training.config import ConvLstm, Experiment
from training.model.network import Model, Tensor, class_sum, keras, tf

__all__ = ["Cell", "Convolution", "Dense", "Plain", "Pooling", "Watch", "infer", "unwatched", "write_out"]

Weights = npt.NDArray[np.float32]
Pooling = Literal["last", "mean", "mean-std"]

Watch = Callable[[str, Tensor], Tensor]
"""Takes a quantity by its name, and gives back what to go on with: itself, or itself rounded."""

_TOLERANCE: Final = 1e-4
"""Largest difference of a probability from Keras'; float32 sums in another order differ by 1e-6."""

_LEAST_VARIANCE: Final = 1e-4
"""As the network was trained with."""

_SEED: Final = 3


class Convolution(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Conv1D with ReLU, without padding."""

    kernel: Weights
    """Shape (width, inputs, filters)."""
    bias: Weights
    """Shape (filters,)."""
    stride: int
    """Frames between two outputs."""


class Cell(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """LSTM; its gates are in the order input, forget, candidate, output, as in Keras."""

    kernel: Weights
    """Shape (inputs, 4 * units)."""
    recurrent: Weights
    """Shape (units, 4 * units)."""
    bias: Weights
    """Shape (4 * units,)."""


class Dense(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Matrix product and sum."""

    kernel: Weights
    """Shape (inputs, outputs)."""
    bias: Weights
    """Shape (outputs,)."""
    has_relu: bool
    """Whether negative outputs become 0."""


class Plain(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A network as values: convolutions, a stack of LSTM cells, pooling over time, dense layers, softmax, class sum."""

    frames: int
    """Of one window."""
    columns: int
    """Of one frame."""
    convolutions: tuple[Convolution, ...]
    cells: tuple[Cell, ...]
    pooling: Pooling
    dense: tuple[Dense, ...]
    to_class: Weights
    """Shape (outputs, 3), from the softmax to the three classes."""


def write_out(experiment: Experiment, exported: Model) -> Plain:
    """Return the network that `export_form` made, as values.

    Raises:
        DataError: it has a layer that is not known here, or what is written out answers otherwise.
    """
    known: dict[type, list[Model]] = {keras.layers.Conv1D: [], keras.layers.LSTM: [], keras.layers.Dense: []}
    passed = (keras.layers.InputLayer, keras.layers.Dropout)
    for layer in exported.layers:
        if type(layer) not in known and not isinstance(layer, passed):
            msg = f"{experiment.name}: {layer.name}, a {type(layer).__name__}, cannot be converted; add it to plain.py"
            raise DataError(msg)
        known.setdefault(type(layer), []).append(layer)
    convolutions, cells, dense = (known[kind] for kind in (keras.layers.Conv1D, keras.layers.LSTM, keras.layers.Dense))
    plain = Plain(
        frames=exported.input_shape[1],
        columns=exported.input_shape[2],
        convolutions=tuple(
            Convolution(kernel=layer.get_weights()[0], bias=layer.get_weights()[1], stride=layer.strides[0])
            for layer in convolutions
        ),
        cells=tuple(
            Cell(**dict(zip(("kernel", "recurrent", "bias"), layer.get_weights(), strict=True))) for layer in cells
        ),
        pooling=experiment.network.pooling if isinstance(experiment.network, ConvLstm) else "last",
        dense=tuple(
            Dense(
                kernel=layer.get_weights()[0],
                bias=layer.get_weights()[1],
                has_relu=layer.activation is keras.activations.relu,
            )
            for layer in dense
        ),
        to_class=class_sum(experiment),
    )
    window = np.random.default_rng(_SEED).standard_normal((1, plain.frames, plain.columns)).astype(np.float32)
    difference = float(np.abs(np.asarray(infer(plain, tf.constant(window))) - np.asarray(exported(window))).max())
    if not difference < _TOLERANCE:
        msg = f"{experiment.name}: the network written out differs by {difference:.2g} from Keras'; mend plain.py"
        raise DataError(msg)
    return plain


def unwatched(_name: str, value: Tensor) -> Tensor:
    """Return the value."""
    return value


def infer(plain: Plain, features: Tensor, watch: Watch = unwatched) -> Tensor:
    """Return the probabilities of the three classes, shape (batch, 3).

    Args:
        plain: the network.
        features: shape (batch, frames, columns), float32; the batch is fixed.
        watch: is shown everything that goes into a large matrix product or comes out of it.
    """
    hidden = watch("features", features)[:, None]
    for number, layer in enumerate(plain.convolutions):
        product = tf.nn.conv2d(hidden, layer.kernel[None], (1, layer.stride), "VALID") + layer.bias
        hidden = watch(f"convolution {number}", tf.nn.relu(product))
    hidden = _pool_over_time(plain, hidden[:, 0], watch)
    for number, dense in enumerate(plain.dense[:-1]):
        product = tf.matmul(watch(f"pooled {number}", hidden), dense.kernel) + dense.bias
        hidden = watch(f"dense {number}", tf.nn.relu(product) if dense.has_relu else product)
    last = plain.dense[-1]  # a few hundred products: not worth a rounding of the logits
    probabilities = tf.nn.softmax(tf.matmul(hidden, last.kernel) + last.bias)
    if not np.array_equal(plain.to_class, np.eye(len(plain.to_class))):
        probabilities = tf.matmul(probabilities, plain.to_class)
    return probabilities


def _pool_over_time(plain: Plain, frames: Tensor, watch: Watch) -> Tensor:
    """Return what the LSTM cells make of frames, shape (batch, steps, inputs): one vector, shape (batch, pooled)."""
    batch, steps, inputs = frames.shape
    first = plain.cells[0]
    projected = tf.matmul(tf.reshape(frames, (-1, inputs)), first.kernel) + first.bias
    projected = tf.reshape(watch("projection 0", projected), (batch, steps, -1))
    start = [(tf.zeros((batch, len(cell.recurrent))),) * 2 for cell in plain.cells]
    summed = {"last": 0, "mean": 1, "mean-std": 2}[plain.pooling]

    def turn(step: Tensor, states: list[tuple[Tensor, Tensor]], sums: list[Tensor]) -> list[Tensor]:
        after: list[tuple[Tensor, Tensor]] = []
        gates = tf.gather(projected, step, axis=1)
        for number, (cell, state) in enumerate(zip(plain.cells, states, strict=True)):
            if number:
                below = watch(f"hidden {number - 1}", after[-1][0])
                gates = watch(f"projection {number}", tf.matmul(below, cell.kernel) + cell.bias)
            recurrent = tf.matmul(watch(f"hidden {number}", state[0]), cell.recurrent)
            after.append(_step(gates + watch(f"recurrence {number}", recurrent), state[1]))
        top = after[-1][0]
        return [step + 1, after, [total + power for total, power in zip(sums, (top, top * top), strict=False)]]

    sums = [tf.zeros_like(start[-1][0])] * summed
    _, states, sums = tf.while_loop(lambda step, *_: step < steps, turn, [tf.constant(0), start, sums])
    if plain.pooling == "last":
        return states[-1][0]
    mean = sums[0] / steps
    if plain.pooling == "mean":
        return mean
    return tf.concat([mean, tf.sqrt(sums[1] / steps - mean * mean + _LEAST_VARIANCE)], axis=1)


def _step(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cell's next output and memory, each of shape (batch, units).

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    enter, keep, candidate, leave = tf.split(gates, 4, axis=1)
    memory = tf.sigmoid(keep) * memory + tf.sigmoid(enter) * tf.tanh(candidate)
    return tf.sigmoid(leave) * tf.tanh(memory), memory

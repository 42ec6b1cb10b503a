"""The two networks, in Keras, and the float and quantized files made of them.

A network is built twice: with any batch to be trained, its outputs logits; and with batch 1, its outputs the
probabilities of `decision.CLASSES`, to be converted. Only this second form converts to a stateless graph of
builtin ops (WHILE loop); weights are copied from the first.
"""

import contextlib
import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from training.config import ConvLstm, PaperLstm, Recipe
from training.corpora import CLASS_OF, Emotion
from training.quiet import native_output_held

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read at the import; errors still raise
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # networks this small are no faster elsewhere
with native_output_held():
    import keras
    import tensorflow as tf
    from keras import layers

__all__ = [
    "EMOTIONS",
    "Model",
    "Tensor",
    "build",
    "class_sum",
    "convert",
    "export_form",
    "keras",
    "targets_of",
    "tf",
    "use_threads",
]

EMOTIONS: Final = tuple(Emotion)
"""Order of the seven outputs, where a network has them."""

Network = ConvLstm | PaperLstm

Model = Any
Tensor = Any
"""Keras carries no types that mypy could check."""


def use_threads(count: int) -> None:
    """Let TensorFlow use that many threads; what it has computed before settles the number for good."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)


def build(network: Network, outputs: int, shape: tuple[int, int], batch: int | None = None) -> Model:
    """Return the network as a Keras model from features to logits.

    Args:
        network: its settings.
        outputs: how many logits.
        shape: (frames, coefficients) of a window.
        batch: fixed batch size, or None.
    """
    inputs = keras.Input(batch_shape=(batch, *shape))
    if isinstance(network, PaperLstm):
        hidden = layers.LSTM(128, return_sequences=True)(inputs)
        hidden = layers.LSTM(64)(hidden)
        hidden = layers.Dense(64, activation="relu")(hidden)
        hidden = layers.Dropout(0.3)(hidden)
    else:
        hidden = layers.Conv1D(network.filters, network.kernel, strides=2, activation="relu")(inputs)
        hidden = layers.LSTM(network.units, return_sequences=network.pooling != "last")(hidden)
        hidden = _pool(hidden, network.pooling)
        hidden = layers.Dropout(network.dropout)(hidden)
    return keras.Model(inputs, layers.Dense(outputs)(hidden))


def _pool(hidden: Tensor, pooling: str) -> Tensor:
    if pooling == "last":
        return hidden
    mean = keras.ops.mean(hidden, axis=1)
    if pooling == "mean":
        return mean
    spread = keras.ops.sqrt(keras.ops.var(hidden, axis=1) + 1e-4)
    return keras.ops.concatenate([mean, spread], axis=-1)


def targets_of(recipe: Recipe, emotions: list[Emotion]) -> npt.NDArray[np.int64]:
    """Return the output that each emotion stands for, shape (n,)."""
    if recipe.outputs == "emotions":
        return np.array([EMOTIONS.index(emotion) for emotion in emotions])
    return np.array([CLASSES.index(CLASS_OF[emotion]) for emotion in emotions])


def class_sum(outputs: int) -> npt.NDArray[np.float32]:
    """Return the constant matrix from the network's outputs to the three classes, shape (outputs, 3)."""
    if outputs == len(CLASSES):
        return np.eye(outputs, dtype=np.float32)
    return np.array([[CLASS_OF[emotion] == label for label in CLASSES] for emotion in EMOTIONS], dtype=np.float32)


def export_form(network: Network, trained: Model, bias: npt.NDArray[np.float64]) -> Model:
    """Return the trained network with batch 1, from features to the probabilities of the three classes.

    Args:
        network: its settings.
        trained: the Keras model that `build` made and training fitted.
        bias: added to the logits of each class's outputs, shape (3,); a correction of the prior, folded into
            the last layer. Adding b to all logits of a class multiplies that class's odds by exp(b).
    """
    outputs = trained.output_shape[-1]
    to_class = class_sum(outputs)
    single = build(network, outputs, trained.input_shape[1:], batch=1)
    single.set_weights(trained.get_weights())
    kernel, offset = single.layers[-1].get_weights()
    single.layers[-1].set_weights([kernel, offset + to_class @ bias.astype(np.float32)])
    probabilities = keras.ops.softmax(single.output)
    if outputs != len(CLASSES):
        probabilities = keras.ops.matmul(probabilities, to_class)
    return keras.Model(single.input, probabilities)


def convert(model: Model, *, quantize: bool) -> bytes:
    """Return the model as a LiteRT file: float32, or with weights in dynamic-range int8."""
    with native_output_held():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return bytes(converter.convert())

"""The two networks, in Keras.

A network is built twice: with any batch to be trained, its outputs logits; and with batch 1, its outputs the
probabilities of `decision.CLASSES`, with temperature and bias folded in, which `plain.write_out` takes over.
"""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, Label
from training.config import ConvLstm, Experiment, PaperLstm
from training.data.clips import Clip
from training.data.corpora import Emotion
from training.quiet import native_output_held

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read at the import; errors still raise
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # networks this small are no faster elsewhere
with native_output_held():
    import keras
    import tensorflow as tf
    from keras import layers

__all__ = [
    "Model",
    "Tensor",
    "build",
    "class_sum",
    "export_form",
    "keras",
    "outputs_of",
    "save",
    "targets_of",
    "tf",
    "use_threads",
]

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
        hidden = inputs
        for each in network.convolutions:
            hidden = layers.Conv1D(each.filters, each.kernel, strides=each.stride, activation="relu")(hidden)
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


def outputs_of(experiment: Experiment) -> tuple[Emotion, ...] | tuple[Label, ...]:
    """Return what the network's outputs stand for: the emotions that the experiment uses, or the three classes."""
    if experiment.recipe.outputs == "classes":
        return CLASSES
    return tuple(emotion for emotion in Emotion if emotion in experiment.merge)


def class_sum(experiment: Experiment) -> npt.NDArray[np.float32]:
    """Return the constant matrix from the network's outputs to the three classes, shape (outputs, 3)."""
    if experiment.recipe.outputs == "classes":
        return np.eye(len(CLASSES), dtype=np.float32)
    merged = [experiment.merge[emotion] for emotion in Emotion if emotion in experiment.merge]
    return np.array([[each == label for label in CLASSES] for each in merged], dtype=np.float32)


def targets_of(experiment: Experiment, clips: Sequence[Clip]) -> npt.NDArray[np.float32]:
    """Return what the network should say of each clip, shape (clips, outputs), rows of sum 1."""
    outputs = outputs_of(experiment)
    wanted = [clip.label if experiment.recipe.outputs == "classes" else clip.emotion for clip in clips]
    exact = np.array([[each == output for output in outputs] for each in wanted], dtype=np.float32)
    smoothing = np.float32(experiment.recipe.label_smoothing)
    return exact * (1 - smoothing) + smoothing / len(outputs)


def export_form(experiment: Experiment, trained: Model, temperature: float, bias: npt.NDArray[np.float64]) -> Model:
    """Return the trained network with batch 1, from features to the probabilities of the three classes.

    Args:
        experiment: whose network it is.
        trained: the Keras model that `build` made and training fitted.
        temperature: divides the logits, so that a confidence is the share that is right.
        bias: added to the logits of each class's outputs, shape (3,); a correction of the prior. Adding b to all
            logits of a class multiplies that class's odds by exp(b). Both are folded into the last layer.
    """
    outputs = trained.output_shape[-1]
    to_class = class_sum(experiment)
    single = build(experiment.network, outputs, trained.input_shape[1:], batch=1)
    single.set_weights(trained.get_weights())
    kernel, offset = single.layers[-1].get_weights()
    single.layers[-1].set_weights([kernel / temperature, offset / temperature + to_class @ bias.astype(np.float32)])
    probabilities = keras.ops.softmax(single.output)
    if experiment.recipe.outputs == "emotions":
        probabilities = keras.ops.matmul(probabilities, to_class)
    return keras.Model(single.input, probabilities)


def save(model: Model, path: Path) -> None:
    """Write a Keras model, weights included, without the optimizer's moments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras copies variables as numpy 1 had it
        model.save(path)

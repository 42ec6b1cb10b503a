"""The trained network as Keras runs it: what the LiteRT files are compared with."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import DataError
from training.config import Experiment
from training.model.network import Model, Tensor, export_form, keras, save, tf
from training.model.plain import Plain, write_out

__all__ = ["Original", "open_original"]

Features = npt.NDArray[np.float32]
Answer = Callable[[Features], Features]


class Original(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A network from features, shape (frames, columns), to probabilities, shape (3,)."""

    plain: Plain
    """The same network as values."""
    parameters: int
    bytes: int
    """Of the Keras file."""
    bytes_with_moments: int
    """Of the Keras file with the optimizer's two moments per weight, which nobody needs to run it."""
    predict: Answer
    """By Keras' `predict()`, which makes a data set and a loop of callbacks around one window."""
    compiled: Answer
    """By a compiled `tf.function` of one window."""


def open_original(path: Path, experiment: Experiment, temperature: float, bias: npt.NDArray[np.float64]) -> Original:
    """Return the network in a Keras file that `train` saved.

    Args:
        path: the file, from normalised features to logits.
        experiment: whose network it is.
        temperature: divides the logits.
        bias: added to the logits of each class's outputs, shape (3,).

    Raises:
        DataError: the file cannot be read, or holds another network.
    """
    try:
        model = keras.models.load_model(path, compile=False)
        exported = export_form(experiment, model, temperature, bias)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{path}: no network of the experiment {experiment.name} ({reason}); train that fold again"
        raise DataError(msg) from error

    @tf.function(  # type: ignore[untyped-decorator]  # TensorFlow has no types
        input_signature=[tf.TensorSpec(exported.input_shape)], autograph=False
    )
    def compiled(window: Tensor) -> Tensor:
        return exported(window, training=False)

    return Original(
        plain=write_out(experiment, exported),
        parameters=int(model.count_params()),
        bytes=_size(model),
        bytes_with_moments=_size(_with_moments(model)),
        predict=lambda features: np.asarray(exported.predict(features[None], batch_size=1, verbose=0)[0]),
        compiled=lambda features: np.asarray(compiled(tf.constant(features[None]))[0]),
    )


def _with_moments(model: Model) -> Model:
    """Return the model as it is while it is trained."""
    model.compile(optimizer=keras.optimizers.AdamW(), loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


def _size(model: Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        save(model, path)
        return path.stat().st_size

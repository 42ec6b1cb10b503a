"""The LiteRT files of a trained network: float32, float16, dynamic-range int8, int8.

Why the network is not handed to the converter as Keras made it: measured with TensorFlow 2.21 and LiteRT 2.3 on one
thread of an x86-64 server, Conv1D(48) twice, LSTM(64) over 35 steps, 41,639 parameters, dynamic range:

| route | bytes | fastest of 900 runs |
|---|---|---|
| Keras' LSTM, batch 1 | 75,768 | 208 µs |
| written out (`plain`) | 62,320 | 67 µs |
| written out, made compact (`compact`): what is done here | 55,920 | 66 µs |
| written out, loop unrolled, made compact | 82,320 | 50 µs |
| fused UNIDIRECTIONAL_SEQUENCE_LSTM, made stateless by a frame that closes all gates | 53,936 | 100 µs |

Keras' file holds the zeros that its output sequence starts from, and a turn of its loop copies that sequence. The
fused operation keeps its state from one window to the next and has no vectorised sigmoid.

Int8 has both sides of the large matrix products in int8, while the gates, the memory of the cells and what follows
the pooling stay float32: a memory that reaches 17 has steps of 0.12 in int8. The converter cannot calibrate a loop
(by Keras' route it crashes), so the ranges are measured here and written into the graph as fake quantization. Of 800
windows 99.4 % have the same likeliest class as in float32; with gates and memory in int8 97.3 %, unrolled and
calibrated by the converter 98.3 %, neither smaller nor faster. Input and output are float32 in every kind.
"""

import logging
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from broker.contract.errors import DataError
from training.apart import apart
from training.model.compact import compact
from training.model.network import Tensor, tf
from training.model.plain import Plain, Watch, infer, unwatched
from training.model.rounding import round_weights
from training.quiet import native_output_held

__all__ = ["KINDS", "Kind", "convert", "convert_apart"]

log = logging.getLogger(__name__)

Features = npt.NDArray[np.float32]

Kind = Literal["float32", "float16", "dynamic", "int8"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""`float16` and `dynamic` store the large weights so (the latter in int8) and compute in float32 or mixed."""

_APART_S: Final = 600.0
_LEAST_RANGE: Final = 1e-3
_SEED: Final = 4


def convert(plain: Plain, kind: Kind, examples: Features | None = None) -> bytes:
    """Return the network as a LiteRT file: stateless, builtin operations only, one window in, three probabilities out.

    Args:
        plain: the network.
        kind: how its numbers are stored and computed.
        examples: normalised windows of speech, shape (n, frames, columns): what ranges are measured on, for int8, and
            what the rounding of the weights is fitted to (`rounding`), for dynamic range; None: to the nearest.

    Raises:
        DataError: int8 without examples, or examples of another shape.
    """
    if kind == "dynamic" and examples is not None:
        plain = round_weights(plain, examples)
    watch = _rounding(_ranges(plain, examples)) if kind == "int8" else unwatched

    @tf.function(  # type: ignore[untyped-decorator]  # TensorFlow has no types
        input_signature=[tf.TensorSpec((1, plain.frames, plain.columns), name="features")], autograph=False
    )
    def probabilities(features: Tensor) -> Tensor:
        return tf.identity(infer(plain, features, watch), name="probabilities")

    with native_output_held():
        graph = probabilities.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        converted = bytes(converter.convert())
    return _shorter(converted, plain)


def convert_apart(plain: Plain, kind: Kind, examples: Features | None = None) -> bytes:
    """Return what `convert` does, from a process of its own: a converter that crashes there is one line here.

    It does crash where it has to calibrate a loop by itself; by the route taken here it has not been seen to.

    Raises:
        BundleError: the converter failed, crashed or took too long.
    """
    return apart(f"conversion to {kind}", _APART_S, convert, plain, kind, examples)


def _ranges(plain: Plain, examples: Features | None) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value, 0 among them, of everything that `infer` shows."""
    if examples is None or examples.shape[1:] != (plain.frames, plain.columns) or len(examples) == 0:
        shape = None if examples is None else examples.shape
        msg = f"int8 needs windows of speech, shape (n, {plain.frames}, {plain.columns}), not {shape}"
        raise DataError(msg)
    ranges: dict[str, tuple[float, float]] = {}

    def widen(name: str, value: Tensor) -> Tensor:
        low, high = ranges.get(name, (0.0, _LEAST_RANGE))
        ranges[name] = min(low, float(tf.reduce_min(value))), max(high, float(tf.reduce_max(value)))
        return value

    infer(plain, tf.constant(examples), widen)
    return ranges


def _rounding(ranges: dict[str, tuple[float, float]]) -> Watch:
    def rounded(name: str, value: Tensor) -> Tensor:
        return tf.quantization.fake_quant_with_min_max_args(value, *ranges[name])

    return rounded


def _shorter(converted: bytes, plain: Plain) -> bytes:
    """Return the file made compact, or as it is if it would not answer the same to the bit."""
    window = np.random.default_rng(_SEED).standard_normal((1, plain.frames, plain.columns)).astype(np.float32)
    try:
        shorter = compact(converted)
        with native_output_held():
            if np.array_equal(_answer(shorter, window), _answer(converted, window)):
                return shorter
    except (RuntimeError, ValueError) as error:
        log.warning("the converted file is left as long as it is: %s", error)
    else:
        log.warning("the converted file is left as long as it is: made compact it answers otherwise")
    return converted


def _answer(model: bytes, window: Features) -> Features:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))

import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert import schema_py_generated as schema

from broker.contract.errors import BundleError, DataError
from training.apart import apart
from training.config import Experiment
from training.model.convert import KINDS, Kind, convert
from training.model.network import build, export_form, keras, tf
from training.model.plain import Plain, write_out
from training.model.runtime import Runner
from training.quiet import native_output_held

Features = npt.NDArray[np.float32]

FRAMES, COLUMNS = 30, 12
TOLERANCE = {"float32": 1e-6, "float16": 1e-3, "dynamic": 0.02, "int8": 0.05}
POOLED: dict[str, Any] = {"kind": "conv-lstm", "convolutions": [{"filters": 24, "kernel": 5}], "units": 24}


def _experiment(network: dict[str, Any], outputs: str = "emotions") -> Experiment:
    return msgspec.convert(
        {
            "name": "tiny",
            "features": {"coefficients": COLUMNS, "fft_samples": 1024, "hop_samples": 512, "mel_bands": 32},
            "window": {"length_samples": 16_000, "hop_samples": 8_000},
            "views": {"kind": "paper"},
            "network": network,
            "recipe": {"epochs": 1, "patience": 1, "outputs": outputs},
        },
        Experiment,
    )


def _exported(experiment: Experiment) -> Any:
    """Return the network with random weights, about as large as training makes them."""
    keras.utils.set_random_seed(1)
    outputs = 7 if experiment.recipe.outputs == "emotions" else 3
    model = build(experiment.network, outputs, (FRAMES, COLUMNS))
    random = np.random.default_rng(2)
    model.set_weights([2 * weight + 0.1 * random.standard_normal(weight.shape) for weight in model.get_weights()])
    return export_form(experiment, model, 1.5, np.array([0.2, -0.1, 0.3]))


def _windows(count: int) -> Features:
    return np.random.default_rng(3).standard_normal((count, FRAMES, COLUMNS)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> tuple[Plain, Features]:
    """A network written out, and what Keras says of some windows."""
    experiment = _experiment({**POOLED, "pooling": "mean-std"})
    exported = _exported(experiment)
    return write_out(experiment, exported), np.concatenate([exported(window[None]) for window in _windows(20)])


@pytest.fixture(scope="module")
def files(network: tuple[Plain, Features]) -> dict[Kind, bytes]:
    return {kind: convert(network[0], kind, _windows(40)) for kind in KINDS}


def _graphs(data: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(data, 0)


def test_every_kind_answers_as_keras(network: tuple[Plain, Features], files: dict[Kind, bytes]) -> None:
    for kind, data in files.items():
        run = Runner(data, kind)
        got = np.stack([run(window) for window in _windows(20)])
        assert np.abs(got - network[1]).max() < TOLERANCE[kind], kind


@pytest.mark.parametrize(
    ("settings", "outputs"),
    [
        ({**POOLED, "pooling": "last"}, "classes"),
        ({**POOLED, "pooling": "mean", "convolutions": [{"filters": 8}, {"filters": 8, "kernel": 3}]}, "emotions"),
        ({"kind": "paper"}, "classes"),
    ],
)
def test_other_networks_answer_as_keras(settings: dict[str, Any], outputs: str) -> None:
    experiment = _experiment(settings, outputs)
    exported = _exported(experiment)
    run = Runner(convert(write_out(experiment, exported), "float32"), "float32")
    for window in _windows(3):
        assert np.allclose(run(window), exported(window[None])[0], atol=1e-6)


def test_files_hear_nothing_of_the_window_before(files: dict[Kind, bytes]) -> None:
    quiet, loud = _windows(2) * np.array([1, 50], np.float32)[:, None, None]
    for kind, data in files.items():
        run = Runner(data, kind)
        first = run(quiet)
        run(loud)
        assert np.array_equal(run(quiet), first), kind


def test_large_products_of_int8_are_int8_on_both_sides(files: dict[Kind, bytes]) -> None:
    model = _graphs(files["int8"])
    products = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED}
    found = []
    for graph in model.subgraphs:
        for operation in graph.operators:
            code = model.operatorCodes[operation.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) in products:
                left, right = (graph.tensors[index] for index in operation.inputs[:2])
                found.append((int(np.prod(right.shape)), left.type, right.type))
    both = (schema.TensorType.INT8, schema.TensorType.INT8)
    assert [each[1:] == both for each in sorted(found)] == [False, False, True, True, True]  # class sum, last layer


def test_constants_are_aligned_and_debug_names_gone(files: dict[Kind, bytes]) -> None:
    data = files["dynamic"]
    model = schema.Model.GetRootAsModel(data, 0)
    filled = [buffer for k in range(model.BuffersLength()) if not (buffer := model.Buffers(k)).DataIsNone()]
    base = np.frombuffer(data, np.uint8).ctypes.data
    assert filled
    assert {(buffer.DataAsNumpy().ctypes.data - base) % 16 for buffer in filled} == {0}
    names = {tensor.name for graph in _graphs(data).subgraphs for tensor in graph.tensors} - {None}
    assert len(names) == 2


def test_file_is_smaller_than_by_keras_own_route(files: dict[Kind, bytes]) -> None:
    exported = _exported(_experiment({**POOLED, "pooling": "mean-std"}))
    with native_output_held():
        converter = tf.lite.TFLiteConverter.from_keras_model(exported)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        keras_own = converter.convert()
    assert len(files["dynamic"]) < 0.75 * len(keras_own)


def test_int8_needs_examples_that_fit(network: tuple[Plain, Features]) -> None:
    for wrong in (None, _windows(3)[:, 1:], _windows(0)):
        with pytest.raises(DataError, match="windows of speech"):
            convert(network[0], "int8", wrong)


def test_layer_that_cannot_be_written_out_is_named() -> None:
    inputs = keras.Input(batch_shape=(1, FRAMES, COLUMNS))
    exported = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GRU(4)(inputs)))
    with pytest.raises(DataError, match="a GRU, cannot be converted"):
        write_out(_experiment(POOLED, "classes"), exported)


def test_network_that_would_answer_otherwise_is_refused() -> None:
    exported = _exported(_experiment({**POOLED, "pooling": "mean"}))
    with pytest.raises(DataError, match="differs by"):
        write_out(_experiment({**POOLED, "pooling": "last"}), exported)


def test_process_apart_returns_the_answer() -> None:
    assert apart("counting", 60, sorted, [3, 1, 2]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("seconds", "function", "argument", "message"),
    [
        (60.0, int, "seven", r"^trying: invalid literal"),
        (60.0, os._exit, 5, r"^trying: ended with exit code 5$"),
        (1.0, time.sleep, 600, r"^trying: not finished after 1 s$"),
    ],
)
def test_process_apart_that_fails_is_one_line(
    seconds: float, function: Callable[..., object], argument: object, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as raised:
        apart("trying", seconds, function, argument)
    assert "\n" not in str(raised.value)
    assert not multiprocessing.active_children()


def test_crash_of_native_code_is_one_line() -> None:
    with pytest.raises(BundleError, match=r"^trying: crashed \(SIGABRT\)"):
        apart("trying", 60, os.abort)

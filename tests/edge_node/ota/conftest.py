"""What the tests of updates share: bundles whose models do harm, made here operation by operation."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import flatbuffers
import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from broker.contract.bundle import Bundle, Golden, write_bundle

Archive = tuple[Path, str]

_OPERATORS, _OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(bool): schema.TensorType.BOOL,
}
_FOREVER = 2**31 - 1
_LOUD = 0.5
"""Golden features are zeros; normalised features of speech exceed this somewhere in every window."""


class Graph:
    """One subgraph of a LiteRT file."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.number = len(model.subgraphs)
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        model.subgraphs.append(self._graph)

    def tensor(self, shape: Sequence[int], dtype: Any = np.float32, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.shape = [max(1, each) for each in shape]
        tensor.shapeSignature = list(shape) if -1 in shape else None
        tensor.type, tensor.buffer, tensor.name = _TYPES[np.dtype(dtype)], buffer, f"{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, value: Any, dtype: Any = np.float32) -> int:
        buffer = schema.BufferT()
        array = np.array(value, dtype)
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self.tensor(array.shape, dtype, len(self._model.buffers) - 1)

    def add(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int] = (),
        dtype: Any = np.float32,
        *,
        options: str = "",
        **values: Any,
    ) -> int:
        """Append an operation, and return its output."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(_OPERATORS, name)
        code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), 1
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = list(inputs)
        operator.outputs = [self.tensor(shape, dtype)]
        if options:
            operator.builtinOptionsType = getattr(_OPTIONS, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return int(operator.outputs[0])

    def ends(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)

    # --- what the nasty ones are made of

    def cast(self, value: int, dtype: Any, shape: Sequence[int] = ()) -> int:
        source = self._graph.tensors[value].type
        return self.add(
            "CAST", [value], shape, dtype, options="CastOptions", inDataType=source, outDataType=_TYPES[np.dtype(dtype)]
        )

    def times(self, value: int, factor: float, dtype: Any = np.float32) -> int:
        return self.add("MUL", [value, self.constant(factor, dtype)], (), dtype, options="MulOptions")

    def total(self, value: int, axes: int) -> int:
        """Return the sum of all, times 0: the value must be computed and makes no difference."""
        axis = self.constant(range(axes), np.int32)
        return self.times(self.add("SUM", [value, axis], options="ReducerOptions", keepDims=False), 0)

    def loudest(self, features: int) -> int:
        axes = self.constant([0, 1, 2], np.int32)
        return self.add("REDUCE_MAX", [features, axes], options="ReducerOptions", keepDims=False)

    def is_loud(self, features: int) -> int:
        """Return 1 for what is heard, 0 for the golden features; int32."""
        inputs = [self.loudest(features), self.constant(_LOUD)]
        return self.cast(self.add("GREATER", inputs, (), bool, options="GreaterOptions"), np.int32)

    def loop(self, rounds: int) -> int:
        """Count to `rounds`, a scalar of int32, and return 0."""
        condition, body = Graph(self._model), Graph(self._model)
        for graph in (condition, body):
            counter, most = graph.tensor((), np.int32), graph.tensor((), np.int32)
            if graph is condition:
                graph.ends([counter, most], [graph.add("LESS", [counter, most], (), bool, options="LessOptions")])
            else:
                after = graph.add("ADD", [counter, graph.constant(1, np.int32)], (), np.int32, options="AddOptions")
                graph.ends([counter, most], [after, most])
        counted = self.add(
            "WHILE",
            [self.times(rounds, 0, np.int32), rounds],
            (),
            np.int32,
            options="WhileOptions",
            condSubgraphIndex=condition.number,
            bodySubgraphIndex=body.number,
        )
        self._graph.operators[-1].outputs.append(self.tensor((), np.int32))
        return self.times(self.cast(counted, np.float32), 0)


def _harmless(_graph: Graph, _features: int) -> int | None:
    return None


def _recursive(graph: Graph, _features: int) -> int:
    """A loop whose body is the loop itself: LiteRT runs out of stack."""
    condition, body = Graph(graph._model), Graph(graph._model)
    counter = condition.tensor((), np.int32)
    most = condition.constant(_FOREVER, np.int32)
    condition.ends([counter], [condition.add("LESS", [counter, most], (), bool, options="LessOptions")])
    loop = {"condSubgraphIndex": condition.number, "bodySubgraphIndex": body.number}
    counter = body.tensor((), np.int32)
    body.ends([counter], [body.add("WHILE", [counter], (), np.int32, options="WhileOptions", **loop)])
    counted = graph.add("WHILE", [graph.constant(0, np.int32)], (), np.int32, options="WhileOptions", **loop)
    return graph.times(graph.cast(counted, np.float32), 0)


def _endless(graph: Graph, _features: int) -> int:
    return graph.loop(graph.constant(_FOREVER, np.int32))


def _endless_when_loud(graph: Graph, features: int) -> int:
    return graph.loop(graph.times(graph.is_loud(features), _FOREVER, np.int32))


def _slow(graph: Graph, _features: int) -> int:
    return graph.loop(graph.constant(20_000, np.int32))


def _greedy(graph: Graph, _features: int) -> int:
    size = graph.constant([2**20, 2**12], np.int32)
    return graph.total(graph.add("FILL", [size, graph.constant(1)], (2**20, 2**12), options="FillOptions"), 2)


def _greedy_when_loud(graph: Graph, features: int) -> int:
    size = graph.times(graph.is_loud(features), 2**30, np.int32)
    shape = graph.add("RESHAPE", [size, graph.constant([1], np.int32)], (1,), np.int32)
    return graph.total(graph.add("FILL", [shape, graph.constant(1)], (-1,), options="FillOptions"), 1)


def _nan_when_loud(graph: Graph, features: int) -> int:
    """The logarithm of a negative number."""
    room = graph.add("SUB", [graph.constant(_LOUD), graph.loudest(features)], options="SubOptions")
    return graph.times(graph.add("LOG", [room]), 0)


def _broken_when_loud(graph: Graph, features: int) -> int:
    """An axis that is none, which only a run can tell."""
    axis = graph.times(graph.is_loud(features), 7, np.int32)
    axes = graph.add("RESHAPE", [axis, graph.constant([1], np.int32)], (1,), np.int32)
    values = graph.constant([1.0, 2.0])
    return graph.total(graph.add("REVERSE_V2", [values, axes], (2,), options="ReverseV2Options"), 1)


_KINDS = {
    "harmless": _harmless,
    "recursive": _recursive,
    "endless": _endless,
    "endless when loud": _endless_when_loud,
    "slow": _slow,
    "greedy": _greedy,
    "greedy when loud": _greedy_when_loud,
    "NaN when loud": _nan_when_loud,
    "broken when loud": _broken_when_loud,
}
_ANSWER = np.array([[0.9, 0.06, 0.04]], np.float32)


def _model(kind: str, input_shape: tuple[int, int]) -> bytes:
    """Return a LiteRT file that always answers `_ANSWER`, if it answers."""
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [], [], [schema.BufferT()]
    graph = Graph(model)
    features = graph.tensor((1, *input_shape))
    rest = graph.total(features, 3)
    if (harm := _KINDS[kind](graph, features)) is not None:
        rest = graph.add("ADD", [rest, harm], options="AddOptions")
    answer = graph.add("ADD", [graph.constant(_ANSWER), rest], (1, 3), options="AddOptions")
    graph.ends([features], [answer])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="session")
def bundle_with(factory: Bundle) -> Callable[..., Bundle]:
    """A bundle with one of the models above, and the factory's manifest but for what is named."""

    def make(kind: str, **changes: Any) -> Bundle:
        manifest = msgspec.structs.replace(factory.manifest, name="made", version=1, **changes)
        features = np.zeros((1, *manifest.input_shape), np.float32)
        return msgspec.structs.replace(
            factory,
            manifest=manifest,
            model=_model(kind, manifest.input_shape),
            reference=None,
            golden=Golden(features=features, probabilities=_ANSWER),
        )

    return make


@pytest.fixture
def archived(tmp_path: Path) -> Callable[[Bundle], Archive]:
    """Write a bundle to a file; returns its path and digest."""

    def write(bundle: Bundle) -> Archive:
        data = write_bundle(bundle)
        path = tmp_path / f"{bundle.manifest.name}-{bundle.manifest.version}.bundle"
        path.write_bytes(data)
        return path, hashlib.sha256(data).hexdigest()

    return write


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until something is so."""

    def wait(is_so: Callable[[], Any], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "never"
            time.sleep(0.01)  # another process is to do something

    return wait


@pytest.fixture
def nothing_leaks() -> Any:
    """Assert that a test leaves no pipe and no child, not even a dead one."""

    def children() -> set[str]:
        found: set[str] = set()
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended has none
                found.update((task / "children").read_text().split())
        return found

    def pipes() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    there, open_before = children(), pipes()  # of an earlier test, something may still be about to end

    def is_clean() -> bool:
        return children() <= there and pipes() <= open_before

    yield
    end = time.monotonic() + 5
    while not is_clean() and time.monotonic() < end:
        time.sleep(0.01)  # a thread of the test is just about to end
    assert is_clean(), f"{children() - there} run, {pipes() - open_before} more open descriptors"

"""A LiteRT file without what no runtime reads.

The converter names every tensor, gives each a record of its quantization even where there is none, and writes equal
constants as often as they are used. Dropping that leaves every operation and every number as it was, as far as the
schema of LiteRT knows them: `convert` compares the answers.
"""

from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

__all__ = ["compact"]

_IDENTIFIER: Final = b"TFL3"
_ALIGNMENT: Final = 16
"""Of constants, in bytes: what the schema demands of them (`force_align`), for vector instructions."""

_RUNTIMES_READ: Final = (b"min_runtime_version",)
"""Metadata worth keeping."""


class _Sharing(flatbuffers.Builder):  # type: ignore[misc]  # it has no types
    """Writes equal vectors and strings once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> int:  # noqa: N802 -- overrides
        """Return where the vector lies; bytes are constants, and are aligned."""
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            if x.dtype == np.uint8:
                self.StartVector(1, len(x), _ALIGNMENT)
                self.head -= len(x)
                self.Bytes[self.head : self.head + len(x)] = key[1]
                self._written[key] = self.EndVector()
            else:
                self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: str | bytes, *_: object) -> int:  # noqa: N802 -- overrides
        """Return where the string lies."""
        key = ("string", s.encode() if isinstance(s, str) else s)
        if key not in self._written:
            self._written[key] = super().CreateString(s)
        return self._written[key]


def compact(data: bytes) -> bytes:
    """Return a LiteRT file that does the same in fewer bytes.

    Names of inputs and outputs stay. Shapes that change while the graph runs stay as they are.
    """
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    model.description = None
    model.metadata = [each for each in model.metadata or [] if each.name in _RUNTIMES_READ]
    for number, graph in enumerate(model.subgraphs):
        graph.name = None
        named = {*graph.inputs, *graph.outputs} if number == 0 else set()
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in named else None
            if tensor.quantization is not None and not _has_any(tensor.quantization.scale):
                tensor.quantization = None
            if tensor.shapeSignature is not None and np.array_equal(tensor.shapeSignature, tensor.shape):
                tensor.shapeSignature = None
    _share_constants(model)
    builder = _Sharing(len(data))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _share_constants(model: Any) -> None:  # noqa: ANN401 -- the schema has no types
    """Let equal constants be one buffer, and tensors without a constant point to the first, which is empty."""
    buffers, place = [model.buffers[0]], {b"": 0}
    users = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    for user in (*users, *model.metadata):
        data = model.buffers[user.buffer].data
        key = b"" if data is None else np.asarray(data, dtype=np.uint8).tobytes()
        if key not in place:
            place[key] = len(buffers)
            buffers.append(model.buffers[user.buffer])
        user.buffer = place[key]
    model.buffers = buffers


def _has_any(values: npt.NDArray[Any] | None) -> bool:
    return values is not None and len(values) > 0

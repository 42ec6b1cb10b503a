"""A model tried in the interpreter that runs on microcontrollers (LiteRT Micro).

The interpreter is the one from PyPI, `tflite_micro`, built for this processor: it has the operations and the types that
firmware has, so what it refuses, firmware refuses. Its working memory (the arena) is smaller on a 32-bit processor,
whose pointers are half as long.
"""

import re
from importlib.util import find_spec
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import BundleError, SettingsError
from training.apart import apart

__all__ = ["Trial", "try_on_micro"]

Numbers = npt.NDArray[np.float32]

_TRIAL_S: Final = 300.0
_LARGEST_ARENA: Final = 1 << 22
_ARENA_STEP: Final = 1 << 10

_SOURCE_PLACE: Final = re.compile(r"\S+/kernels/\S+\s")
"""Where in the interpreter's own sources a message comes from."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What the interpreter for microcontrollers makes of a model."""

    difference: float | None
    """Largest difference of a probability from LiteRT's; None: it does not run."""
    arena_bytes: int | None
    """Least working memory that it ran in here, in steps of 1 KiB."""
    reason: str | None
    """Why it does not run."""

    def __str__(self) -> str:
        """Return the trial in one line."""
        if self.difference is None:
            return f"does not run: {self.reason}"
        return f"runs, largest difference {self.difference:.2g}, arena {self.arena_bytes:,} bytes"


def try_on_micro(model: bytes, features: Numbers, wanted: Numbers) -> Trial:
    """Return how a model fares in the interpreter for microcontrollers, in a process of its own.

    Args:
        model: the LiteRT file.
        features: windows, shape (n, frames, columns).
        wanted: what LiteRT says of them, shape (n, 3).

    Raises:
        SettingsError: the package tflite_micro is missing.
    """
    if find_spec("tflite_micro") is None:
        msg = "the package tflite_micro is missing: pip install 'sottovoce[microcontroller]'"
        raise SettingsError(msg)
    try:
        got, arena_bytes = apart("tflite_micro", _TRIAL_S, _run_on_micro, model, features)
    except BundleError as error:
        return Trial(difference=None, arena_bytes=None, reason=_reason(str(error)))
    return Trial(difference=float(np.abs(got - wanted).max()), arena_bytes=arena_bytes, reason=None)


def _run_on_micro(model: bytes, features: Numbers) -> tuple[Numbers, int]:
    """Return the probabilities, shape (n, 3), and the least arena in bytes.

    Must be called in a process that loads neither TensorFlow nor LiteRT: together with them it may not end.
    """
    from tflite_micro.python.tflite_micro.runtime import Interpreter  # noqa: PLC0415 -- see above

    def answer(windows: Numbers, arena_bytes: int) -> Numbers:
        interpreter = Interpreter.from_bytes(model, arena_size=arena_bytes)
        answers = []
        for window in windows:
            interpreter.set_input(window[None], 0)
            interpreter.invoke()
            answers.append(interpreter.get_output(0)[0].copy())
        return np.stack(answers)

    probabilities = answer(features, _LARGEST_ARENA)
    low, high = 0, _LARGEST_ARENA // _ARENA_STEP
    while high - low > 1:
        middle = (low + high) // 2
        try:
            answer(features[:1], middle * _ARENA_STEP)
        except RuntimeError:
            low = middle
        else:
            high = middle
    return probabilities, high * _ARENA_STEP


def _reason(error: str) -> str:
    """Return why a model does not run: the operation and what the interpreter says of it."""
    said = error.partition("[")[2].rpartition("]")[0].split("; ")
    node = next((match[1] for line in said if (match := re.match(r"Node (\w+) ", line))), None)
    why = [_SOURCE_PLACE.sub("", line) for line in said if line and not line.startswith("Node ")]
    if node is None and not why:
        return error
    return ": ".join([*([node] if node else []), *why[-1:]])

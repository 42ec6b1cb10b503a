"""The model, run by LiteRT."""

import importlib.metadata
import re

import numpy as np
import numpy.typing as npt

from broker.contract.bundle import GOLDEN_TOLERANCE, Bundle
from broker.contract.errors import BundleError

__all__ = ["Classifier", "litert_version", "verify"]

_RELEASE = re.compile(r"\d+(?:\.\d+)*")


class Classifier:
    """One interpreter. Belongs to one thread."""

    def __init__(self, model: bytes, input_shape: tuple[int, int], where: str) -> None:
        """Load a model from bytes and run it once.

        Args:
            model: a TFLite file. (Never a path: a mapped file that is truncated kills the process.)
            input_shape: (frames, coefficients) that the features will have.
            where: what to call it in errors.

        Raises:
            BundleError: LiteRT is missing, cannot run the model, or the model has other inputs or outputs.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 -- absent on a collector
        except ImportError as error:
            msg = "the package ai-edge-litert is missing: pip install 'sottovoce[node]' (64-bit systems only)"
            raise BundleError(msg) from error
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            shapes = ([each["shape"].tolist() for each in inputs], [each["shape"].tolist() for each in outputs])
            if shapes != ([[1, *input_shape]], [[1, 3]]):
                frames, coefficients = input_shape
                msg = f"{where}: inputs and outputs are {shapes}, expected [1, {frames}, {coefficients}] and [1, 3]"
                raise BundleError(msg)
            self._input, self._output = inputs[0]["index"], outputs[0]["index"]
            self.run(np.zeros(input_shape, dtype=np.float32))  # only a run finds missing operators
        except (ValueError, RuntimeError) as error:
            msg = f"{where}: LiteRT {litert_version()} cannot run this model: {error}"
            raise BundleError(msg) from error

    def run(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities, shape (3,), of features, shape (frames, coefficients), float32."""
        self._interpreter.set_tensor(self._input, features[None])
        self._interpreter.invoke()
        probabilities: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        return probabilities


def verify(bundle: Bundle, where: str) -> Classifier:
    """Return a classifier that has reproduced the bundle's golden vectors on this machine.

    Raises:
        BundleError: LiteRT is older than the model was proved on, the model cannot be run, or its answers differ.
    """
    installed, needed = litert_version(), bundle.manifest.litert_at_least
    if () < _release(installed) < _release(needed):  # what has no release is left to the golden vectors
        msg = f"{where}: needs LiteRT {needed} or newer, {installed} is installed: pip install --upgrade ai-edge-litert"
        raise BundleError(msg)
    classifier = Classifier(bundle.model, bundle.manifest.input_shape, where)
    for features, expected in zip(bundle.golden.features, bundle.golden.probabilities, strict=True):
        answer = classifier.run(features)
        if not np.allclose(answer, expected, atol=GOLDEN_TOLERANCE, rtol=0):
            msg = f"{where}: the model answers {answer.round(3)} where {expected.round(3)} is right; fetch it again"
            raise BundleError(msg)
    return classifier


def litert_version() -> str:
    """Return the version of LiteRT on this machine."""
    try:
        return importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, no zeros at their end: (2, 3) of `2.3.0rc1`."""
    match = _RELEASE.match(version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)

"""A model as the node runs it: LiteRT, one thread, from bytes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from broker.contract.bundle import GOLDEN_TOLERANCE, Bundle
from broker.contract.errors import BundleError
from training.quiet import native_output_held

__all__ = ["Runner", "prove"]


class Runner:
    """Callable from features, shape (frames, coefficients), to probabilities, shape (3,); stateless."""

    def __init__(self, model: bytes, where: str) -> None:
        """Load a model.

        Args:
            model: the LiteRT file.
            where: what to call it in errors.

        Raises:
            BundleError: LiteRT cannot run it.
        """
        try:
            with native_output_held():
                self._interpreter: Any = Interpreter(model_content=model, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            msg = f"{where}: LiteRT cannot load the model ({error}); build the bundle again"
            raise BundleError(msg) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._where = where

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities of the three classes.

        Raises:
            BundleError: the features do not fit the model, or an operation is missing.
        """
        try:
            self._interpreter.set_tensor(self._input, features[None])
            self._interpreter.invoke()  # the first proof that every operation is there
        except (ValueError, RuntimeError) as error:
            msg = f"{self._where}: LiteRT cannot run the model ({error}); build the bundle again"
            raise BundleError(msg) from error
        return np.array(self._interpreter.get_tensor(self._output)[0], dtype=np.float32)


def prove(bundle: Bundle, where: str) -> None:
    """Run the golden vectors by a real invoke.

    Raises:
        BundleError: a result is not what the bundle says it should be.
    """
    run = Runner(bundle.model, where)
    for number, (features, wanted) in enumerate(zip(bundle.golden.features, bundle.golden.probabilities, strict=True)):
        got = run(features)
        if got.shape != wanted.shape or not np.allclose(got, wanted, atol=GOLDEN_TOLERANCE, rtol=0):
            msg = f"{where}: golden vector {number} gives {got.round(3)}, expected {wanted.round(3)}; build it again"
            raise BundleError(msg)

"""A new bundle proved on this device, in a child process: a file that crashes the runtime must not crash the node.

    digest -> bundle -> golden vectors, by running the model -> time of one window

The time is that of the processor, not of the clock on the wall: the child has a low priority beside a node that
listens. The trial beside the old model (`edge_node.ota.trial`) measures what the wall says.
"""

import contextlib
import enum
import hashlib
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Bundle, read_bundle
from broker.contract.errors import BundleError
from broker.contract.features import extract
from edge_node.classifier import Classifier, verify
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.confined import begin, ran_out, within

__all__ = ["Gate", "Proof", "load", "load_runtime", "prove", "refused"]

_LIMITS: Final = Limits(wall_s=30, memory_bytes=256 << 20, output_bytes=4096)
_NICE: Final = 5
_MOST_WORDS: Final = 200
_WHERE: Final = "it"
_MOST_TIMES: Final = 15
_TIMING_S: Final = 1.5
"""A model that is far too slow is not run fifteen times to know it."""


class Gate(enum.StrEnum):
    """What a bundle must pass; the first word of a refusal."""

    DIGEST = "digest"
    BUNDLE = "bundle"
    GOLDEN = "golden vectors"
    LATENCY = "latency"


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle showed on this device."""

    identity: str
    """`<name>/<version>` of its manifest."""
    p50_us: int
    """Processor time of one window, in µs: the sum of the two medians below."""
    features_us: int
    """Samples to features."""
    inference_us: int
    """Features to probabilities."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    proof: Proof | None = None
    refusal: str = ""


def prove(
    archive: Path,
    sha256: str,
    budget_us: int,
    *,
    limits: Limits = _LIMITS,
    started: Callable[[Child], None] = lambda _: None,
) -> Proof:
    """Return the proof that a bundle is whole and does on this device what it did where it was made.

    Args:
        archive: the bundle's file.
        sha256: what was signed of it.
        budget_us: longest time of one window, features and inference, in µs.
        limits: of the child.
        started: is given the child before it runs, so that somebody else can cancel it.

    Raises:
        BundleError: it is not; at most 200 characters that begin with the `Gate`, or with what became of the child,
            `crashed`, `hung` or `memory`.
        ChildError: the child was cancelled or could not be started, which says nothing about the bundle.
    """
    child = Child("edge_node.ota.proof", [archive, sha256, str(budget_us)], limits=limits, nice=_NICE)
    started(child)
    try:
        answer = msgspec.json.decode(child.run(), type=_Answer)
    except ChildError as error:
        raise refused(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = "crashed: the runtime answered nonsense"
        raise BundleError(msg) from error
    if answer.proof is None:
        raise BundleError(answer.refusal)
    return answer.proof


def refused(error: ChildError) -> BundleError | ChildError:
    """Return what a child's end says of the bundle that it ran; the error itself, if that is nothing."""
    if error.ending in {Ending.CANCELLED, Ending.NOT_STARTED}:
        return error
    subject = "the runtime was" if str(error).startswith("killed") else "the runtime"
    words = f"{subject} {error}" if error.ending is Ending.CRASHED else str(error)
    return BundleError(f"{error.ending}: {words}"[:_MOST_WORDS])


def load(archive: Path, sha256: str) -> tuple[Bundle, Classifier]:
    """Return a bundle, and its model once it has reproduced the golden vectors. Only for a child process.

    Raises:
        BundleError: the words of `prove`.
        MemoryError: it needs more than there is.
    """
    try:
        with archive.open("rb") as file:
            data = file.read(LARGEST_BUNDLE_BYTES + 1)
    except OSError as error:
        raise _refusal(Gate.DIGEST, f"{archive}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _refusal(Gate.DIGEST, f"{len(data)} bytes that are not those that were signed")
    gate = Gate.BUNDLE
    try:
        bundle = read_bundle(data, _WHERE)
        gate = Gate.GOLDEN
        return bundle, verify(bundle, _WHERE)
    except BundleError as error:
        if ran_out(error) or (gate is Gate.GOLDEN and error.__cause__ is not None and _is_greedy(bundle.model)):
            raise MemoryError from error
        raise _refusal(gate, str(error).removeprefix(f"{_WHERE}: ")) from error


def _is_greedy(model: bytes) -> bool:
    """Return whether a model that LiteRT cannot run was refused memory: that can be told right after a failure only."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 -- absent on a collector

    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        return ran_out(error)
    return False


def _time(bundle: Bundle, classifier: Classifier) -> Proof:
    """Return what a window of noise takes; it takes as long as one of speech."""
    manifest = bundle.manifest
    rng = np.random.default_rng(0)
    window = 0.1 * rng.standard_normal(manifest.window.length_samples, dtype=np.float32)
    features_us: list[float] = []
    inference_us: list[float] = []
    classifier.run(extract(window, manifest.features, manifest.normalisation))  # makes tables and fills caches
    began_s = time.monotonic()
    while not features_us or (len(features_us) < _MOST_TIMES and time.monotonic() < began_s + _TIMING_S):
        began_ns = time.process_time_ns()
        features = extract(window, manifest.features, manifest.normalisation)
        extracted_ns = time.process_time_ns()
        classifier.run(features)
        features_us.append((extracted_ns - began_ns) / 1000)
        inference_us.append((time.process_time_ns() - extracted_ns) / 1000)
    medians = round(float(np.median(features_us))), round(float(np.median(inference_us)))
    return Proof(identity=manifest.identity, p50_us=sum(medians), features_us=medians[0], inference_us=medians[1])


def _examine(archive: Path, sha256: str, budget_us: int) -> Proof:
    proof = _time(*load(archive, sha256))
    if proof.p50_us > budget_us:
        words = f"one window takes {proof.p50_us / 1000:.3g} ms, the budget is {budget_us / 1000:g} ms"
        raise _refusal(Gate.LATENCY, words)
    return proof


def _refusal(gate: Gate, words: str) -> BundleError:
    return BundleError(f"{gate}: {' '.join(words.split())}"[:_MOST_WORDS])


def load_runtime() -> None:
    """Load LiteRT, which is otherwise loaded when it is needed, before a child's memory is counted."""
    with contextlib.suppress(ImportError):  # the classifier says so
        importlib.import_module("ai_edge_litert.interpreter")


def _main() -> int:
    memory_bytes = begin()
    load_runtime()
    archive, sha256, budget_us = sys.argv[1:]

    def work() -> None:
        try:
            answer = _Answer(proof=_examine(Path(archive), sha256, int(budget_us)))
        except BundleError as error:
            answer = _Answer(refusal=str(error))
        sys.stdout.buffer.write(msgspec.json.encode(answer))

    return within(memory_bytes, work)


if __name__ == "__main__":
    sys.exit(_main())

"""`gates`: what a bundle must reach before it is released, as limits in one struct, each checked and printed.

All but size and latency are figures of the quantized model on held-out speakers by the rule `stream`: what a user gets
from a voice that the model never heard. What could not be measured is listed, and never counts as passed.
"""

import enum
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES
from broker.contract.errors import BundleError, DataError, SettingsError
from broker.settings import read_settings
from training.exam.evaluate import Evaluation, Group
from training.quiet import native_output_held

__all__ = ["NOISE_DB", "Gate", "Limits", "Outcome", "check_gates", "latency_ratio", "read_baseline", "read_limits"]

NOISE_DB: Final = 10
"""Noise level at which the noise gate looks, in dB below the speech."""

_RUNS: Final = 400
"""Of each model, one after the other: the fastest of many is what the processor can do when nothing disturbs."""
_WARM_UP: Final = 20

Share = Annotated[float, Meta(ge=0, le=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a release must keep to."""

    macro_uar: Share = 0.64
    """At least: corpus-macro UAR."""
    class_recall: Share = 0.35
    """At least: the lowest recall of a class, all corpora taken as one."""
    model_bytes: Annotated[int, Meta(gt=0)] = 100_000
    """At most: size of model.tflite."""
    agreement: Share = 0.99
    """At least: share of the windows on which float and quantized decide alike."""
    ece: Share = 0.15
    """At most: expected calibration error of the clips."""
    latency_ratio: Annotated[float, Meta(gt=0)] = 0.25
    """At most: time of one window on LiteRT with one thread, over that of a baseline model."""
    noise_macro_uar: Share = 0.55
    """At least: corpus-macro UAR in noise 10 dB below the speech, white, pink and babble taken as one."""


class Outcome(enum.StrEnum):
    """How a gate stands."""

    PASSED = "pass"
    FAILED = "FAIL"
    SKIPPED = "skipped"


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One limit and what was measured."""

    name: str
    """Of the field of `Limits`."""
    what: str
    """The same in words."""
    figure: float | None
    """None: not measured."""
    limit: float
    """In the figure's own unit: a share of 1, bytes, or a ratio."""
    is_floor: bool
    """Whether the figure must reach the limit; else it must not exceed it."""
    outcome: Outcome
    note: str
    """What else is to be known: which class, or what is missing."""


def check_gates(evaluation: Evaluation, bundle: Bundle, limits: Limits, latency: float | None) -> tuple[Gate, ...]:
    """Return every gate, in the order of `Limits`; a recall is measured only if every class has clips.

    Args:
        evaluation: of the bundle.
        bundle: what is to be released.
        limits: what it must keep to.
        latency: time per window over the baseline's; None: not measured.

    Raises:
        DataError: no clip is of a held-out speaker.
    """
    group = next((group for group in evaluation.groups if group.standing == "held out"), None)
    if group is None:
        msg = f"{evaluation.bundle}: no clip of a held-out speaker, so nothing to judge a release by; add such data"
        raise DataError(msg)
    figures = group.models["quantized"]
    recalls = dict(zip(CLASSES, figures.pooled.recall, strict=True))
    told = {label: recall for label, recall in recalls.items() if recall is not None}
    weakest = min(told, key=lambda label: told[label])
    absent = ", ".join(label for label in CLASSES if label not in told)
    noisy = _in_noise(group)
    no_float = "" if group.same_windows is not None else "the bundle holds no reference.tflite"
    return (
        _floor("macro_uar", "corpus-macro UAR", figures.macro_uar, limits.macro_uar),
        _floor(
            "class_recall",
            "lowest recall of a class",
            None if absent else told[weakest],
            limits.class_recall,
            f"no clip of {absent}" if absent else weakest,
        ),
        _ceiling("model_bytes", "bytes of model.tflite", len(bundle.model), limits.model_bytes),
        _floor("agreement", "float and quantized alike", group.same_windows, limits.agreement, no_float),
        _ceiling("ece", "calibration error (ECE)", figures.ece, limits.ece),
        _ceiling(
            "latency_ratio",
            "latency over the baseline's",
            latency,
            limits.latency_ratio,
            "" if latency is not None else "add --baseline MODEL.tflite",
        ),
        _floor(
            "noise_macro_uar",
            f"corpus-macro UAR at -{NOISE_DB} dB",
            noisy,
            limits.noise_macro_uar,
            "" if noisy is not None else "leave out --no-noise",
        ),
    )


def latency_ratio(model: bytes, baseline: bytes, where: str) -> float:
    """Return the time of one window of a model over that of a baseline, on LiteRT with one thread.

    Both run in turn, many times, and the fastest run of each counts: whatever disturbs the machine makes runs slower,
    never faster.

    Args:
        model: the LiteRT file.
        baseline: another, of whatever input shape.
        where: what to call the baseline in errors.

    Raises:
        BundleError: LiteRT cannot run one of them.
    """
    interpreters = [_interpreter(model, "model.tflite"), _interpreter(baseline, where)]
    best = [float("inf")] * len(interpreters)
    for turn in range(_WARM_UP + _RUNS):
        for index, interpreter in enumerate(interpreters):
            began = time.perf_counter_ns()
            interpreter.invoke()
            took = time.perf_counter_ns() - began
            if turn >= _WARM_UP:
                best[index] = min(best[index], took)
    return best[0] / best[1]


def read_limits(path: Path) -> Limits:
    """Return the limits in a TOML file; what it does not name is as in `Limits`.

    Raises:
        SettingsError: the file cannot be read, or a key or a value is not allowed.
    """
    return read_settings(path, Limits, f"give a TOML file with some of {', '.join(Limits.__struct_fields__)}")


def read_baseline(path: Path) -> bytes:
    """Return the model that latency is compared with.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"--baseline {path}: cannot be read ({error.strerror}); give a TFLite file"
        raise SettingsError(msg) from error


def _in_noise(group: Group) -> float | None:
    levels = {level.below_speech_db: level.pooled.models["quantized"].macro_uar for level in group.noise}
    return levels.get(NOISE_DB)


def _floor(name: str, what: str, figure: float | None, limit: float, note: str = "") -> Gate:
    return _gate(name, what, figure, limit, note, is_floor=True)


def _ceiling(name: str, what: str, figure: float | None, limit: float, note: str = "") -> Gate:
    return _gate(name, what, figure, limit, note, is_floor=False)


def _gate(name: str, what: str, figure: float | None, limit: float, note: str, *, is_floor: bool) -> Gate:
    if figure is None:
        outcome = Outcome.SKIPPED
    else:
        outcome = Outcome.PASSED if (figure >= limit if is_floor else figure <= limit) else Outcome.FAILED
    return Gate(name=name, what=what, figure=figure, limit=limit, is_floor=is_floor, outcome=outcome, note=note)


def _interpreter(model: bytes, where: str) -> Any:  # noqa: ANN401 -- LiteRT carries no types
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 -- slow to import

    try:
        with native_output_held():
            interpreter = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
            random = np.random.default_rng(0)
            for each in interpreter.get_input_details():
                interpreter.set_tensor(each["index"], random.standard_normal(each["shape"]).astype(each["dtype"]))
            interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        msg = f"{where}: LiteRT cannot run it ({error}); give a model that it can"
        raise BundleError(msg) from error
    return interpreter

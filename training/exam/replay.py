"""A clip heard as a node hears it, and the one rule that makes a clip's label of it.

FrameStream -> features -> model -> smoothing -> decision, all from the contract. A node's label changes while a clip
plays, so scoring a clip needs a rule more. Here it is, used in training and evaluation alike:

    the clip's label is the likeliest class of the MEAN of its smoothed probabilities, over all its windows.

Every window is judged, those too that a node's level gate would call silence: a score must tell the model, and a gate
that swallows clips would hide it. What the gate would do is counted beside it.

A clip shorter than a window is padded with silence at its end. What remains after the last whole window is not
heard, as on a node. `loudest` cuts the one window out of a clip that a single decision is best made on.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, Deciding, Decision, DecisionSpec, advance
from broker.contract.features import FeatureSpec, Normalisation
from broker.contract.stream import windows_of
from broker.contract.windows import WindowSpec
from training.exam.metrics import UNHEARD

__all__ = ["CLIP_RULE", "RULE", "Heard", "Verdict", "decide_all", "judge", "listen", "loudest", "smoothed_of"]

RULE: Final = "likeliest class of the mean smoothed probability over all windows"
CLIP_RULE: Final = "likeliest class of the loudest stretch of the clip that fills one window"

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


class Heard(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A clip's windows, before any model."""

    ends_us: tuple[int, ...]
    """Where each window ends, in µs from the clip's beginning."""
    levels_dbfs: tuple[float, ...]
    """Of each window, dB re a full-scale square wave."""
    features: Features
    """Shape (windows, frames, coefficients)."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a node says while a clip plays, and the clip's label."""

    decided: int
    """Index into `CLASSES`, or `UNHEARD`."""
    mean: Probabilities
    """Mean smoothed probabilities, shape (3,); zeros if unheard."""
    decisions: tuple[Decision, ...]
    """The node's decision after each window, were there no level gate."""
    windows: int
    """How many the clip has."""
    silent: int
    """Windows that a node would not judge, because they are below its level gate."""


def listen(samples: Samples, features: FeatureSpec, normalisation: Normalisation | None, window: WindowSpec) -> Heard:
    """Return the windows of a clip, shape (n,), float32, with their levels and features."""
    windows = list(windows_of(samples, features, normalisation, window))
    return Heard(
        ends_us=tuple(heard.end_sample * 1_000_000 // features.sample_rate_hz for heard, _ in windows),
        levels_dbfs=tuple(heard.level_dbfs for heard, _ in windows),
        features=np.stack([each for _, each in windows]),
    )


def loudest(samples: Samples, features: FeatureSpec, window: WindowSpec) -> Samples:
    """Return the loudest stretch of a clip, shape (n,), that is one window long; a shorter clip as it is.

    Its level is that of `level_dbfs`; it starts at a multiple of the front-end's frame hop, so that its frames are
    some of the clip's frames. Of equal stretches the first is taken.
    """
    length = window.length_samples
    if len(samples) <= length:
        return samples
    exact = samples.astype(np.float64)
    sums, squares = (np.concatenate(([0.0], np.cumsum(each))) for each in (exact, exact**2))
    starts = np.arange(0, len(samples) - length + 1, features.hop_samples)
    power = (squares[starts + length] - squares[starts]) / length
    power -= ((sums[starts + length] - sums[starts]) / length) ** 2
    start = int(starts[np.argmax(power)])
    return samples[start : start + length]


def decide_all(
    probabilities: Iterable[Probabilities], ends_us: Iterable[int], spec: DecisionSpec
) -> tuple[Deciding, ...]:
    """Return the node's state after each window of one stretch of speech.

    Args:
        probabilities: of each window alone, shape (3,).
        ends_us: where each ends, in µs.
        spec: the rules.
    """
    windows = zip(probabilities, ends_us, strict=True)

    def after(state: Deciding, window: tuple[Probabilities, int]) -> Deciding:
        return advance(state, window[0].tolist(), window[1], spec)

    return tuple(itertools.accumulate(windows, after, initial=Deciding()))[1:]


def smoothed_of(states: Sequence[Deciding]) -> Probabilities:
    """Return the smoothed probabilities after each window, shape (windows, 3), float32; not a number where none are."""
    rows = [(math.nan,) * len(CLASSES) if state.smoothed is None else state.smoothed for state in states]
    return np.array(rows, dtype=np.float32)


def judge(heard: Heard, infer: Callable[[Features], Probabilities], spec: DecisionSpec) -> Verdict:
    """Return what a model makes of a clip.

    Args:
        heard: the clip's windows.
        infer: from features, shape (frames, coefficients), to probabilities, shape (3,).
        spec: smoothing and threshold; its gate only counts.
    """
    states = decide_all([infer(features) for features in heard.features], heard.ends_us, spec)
    mean = np.mean(smoothed_of(states), axis=0).astype(np.float32)
    is_finite = bool(np.isfinite(mean).all())
    return Verdict(
        decided=int(np.argmax(mean)) if is_finite else UNHEARD,
        mean=mean if is_finite else np.zeros_like(mean),
        decisions=tuple(state.decision for state in states if state.decision is not None),
        windows=len(heard.levels_dbfs),
        silent=sum(level < spec.silent_below_dbfs for level in heard.levels_dbfs),
    )

"""A clip heard as a node hears it, and the one rule that makes a clip's label of it.

FrameStream -> features -> model -> smoothing -> decision, all from the contract. A node's label changes while a clip
plays, so scoring a clip needs a rule more. Here it is, used in training and evaluation alike:

    the clip's label is the likeliest class of the MEAN of its smoothed probabilities, over all its windows.

Every window is judged, those too that a node's level gate would call silence: a score must tell the model, and a gate
that swallows clips would hide it. What the gate would do is counted beside it.

A clip shorter than a window is padded with silence at its end. What remains after the last whole window is not
heard, as on a node. `loudest` cuts the one window out of a clip that a single decision is best made on.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import Decision, DecisionSpec, decide, smooth
from broker.contract.features import FeatureSpec, Normalisation
from broker.contract.stream import windows_of
from broker.contract.windows import WindowSpec
from training.exam.metrics import UNHEARD

__all__ = ["CLIP_RULE", "RULE", "Heard", "Verdict", "judge", "listen", "loudest"]

RULE: Final = "likeliest class of the mean smoothed probability over all windows"
CLIP_RULE: Final = "likeliest class of the loudest stretch of the clip that fills one window"

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


class Heard(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A clip's windows, before any model."""

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


def judge(heard: Heard, infer: Callable[[Features], Probabilities], spec: DecisionSpec) -> Verdict:
    """Return what a model makes of a clip.

    Args:
        heard: the clip's windows.
        infer: from features, shape (frames, coefficients), to probabilities, shape (3,).
        spec: smoothing and threshold; its gate only counts.
    """
    smoothed: list[Probabilities] = []
    for features in heard.features:
        smoothed.append(smooth(smoothed[-1] if smoothed else None, infer(features), spec))
    mean = np.mean(smoothed, axis=0).astype(np.float32)
    is_finite = bool(np.isfinite(mean).all())
    return Verdict(
        decided=int(np.argmax(mean)) if is_finite else UNHEARD,
        mean=mean if is_finite else np.zeros_like(mean),
        decisions=tuple(decide(probabilities, spec) for probabilities in smoothed),
        windows=len(heard.levels_dbfs),
        silent=sum(level < spec.silent_below_dbfs for level in heard.levels_dbfs),
    )

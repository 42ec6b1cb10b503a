"""A clip heard as a node hears it, and the one rule that makes a clip's label of it.

Windower -> level -> gate -> features -> model -> smoothing -> decision, all from the contract. A node's label
changes while a clip plays, so scoring a clip needs a rule more. Here it is, used in training and evaluation alike:

    the clip's label is the likeliest class of the MEAN of its smoothed probabilities, over all windows that
    pass the gate; a clip in which no window passes has no label and counts as wrong.

A clip shorter than a window is padded with silence at its end. What remains after the last whole window is not
heard, as on a node.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, Decision, DecisionSpec, decide, level_dbfs, smooth
from broker.contract.features import FeatureSpec, Normalisation, extract
from broker.contract.windows import Windower, WindowSpec
from training.metrics import UNHEARD

__all__ = ["RULE", "Heard", "Verdict", "judge", "listen"]

RULE: Final = "likeliest class of the mean smoothed probability over the clip's windows that are not silent"

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


class Heard(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A clip's windows, before any model."""

    levels_dbfs: tuple[float, ...]
    features: Features
    """Shape (windows, frames, coefficients)."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a node says while a clip plays, and the clip's label."""

    decided: int
    """Index into `CLASSES`, or `UNHEARD`."""
    mean: Probabilities
    """Mean smoothed probabilities, shape (3,); zeros if unheard."""
    decisions: tuple[Decision, ...]
    """The node's decision after each window that is not silent."""
    windows: int
    """Windows, silent ones included."""


def listen(samples: Samples, features: FeatureSpec, normalisation: Normalisation | None, window: WindowSpec) -> Heard:
    """Return the windows of a clip, shape (n,), float32, with their levels and features."""
    padded = np.pad(samples, (0, max(0, window.length_samples - len(samples))))
    windows = list(Windower(window, features.sample_rate_hz).push(padded, 0))
    return Heard(
        levels_dbfs=tuple(level_dbfs(item.samples) for item in windows),
        features=np.stack([extract(item.samples, features, normalisation) for item in windows]),
    )


def judge(heard: Heard, infer: Callable[[Features], Probabilities], spec: DecisionSpec) -> Verdict:
    """Return what a model makes of a clip.

    Args:
        heard: the clip's windows.
        infer: from features, shape (frames, coefficients), to probabilities, shape (3,).
        spec: gate, smoothing and threshold.
    """
    smoothed: Probabilities | None = None
    passed: list[Probabilities] = []
    for level, features in zip(heard.levels_dbfs, heard.features, strict=True):
        if level < spec.silent_below_dbfs:
            smoothed = None
            continue
        smoothed = smooth(smoothed, infer(features), spec)
        passed.append(smoothed)
    mean = np.mean(passed, axis=0) if passed else np.zeros(len(CLASSES))
    return Verdict(
        decided=int(np.argmax(mean)) if passed else UNHEARD,
        mean=mean.astype(np.float32),
        decisions=tuple(decide(probabilities, spec) for probabilities in passed),
        windows=len(heard.levels_dbfs),
    )

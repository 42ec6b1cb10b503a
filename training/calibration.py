"""Whether a model's confidence can be believed: calibration error, temperature, and what caution would buy.

Confidence is the probability of the likeliest class. Everything here takes `truth`, shape (n,), indices into
`CLASSES`, and `probabilities`, shape (n, 3), of clips or of windows.
"""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "BINS",
    "Bin",
    "RiskCoverage",
    "apply_temperature",
    "aurc",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "reliability",
    "risk_coverage",
]

Truth = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating]

BINS: Final = 15
"""Equal widths from 0 to 1; a confidence on the edge of two belongs to the lower one."""

_LEAST: Final = 1e-9
"""A probability counts as at least this much, so that one confident mistake is not infinitely bad."""
_COLDEST: Final = 0.05
_HOTTEST: Final = 20.0
_STEPS: Final = 60
"""Of the golden section: each leaves 0.618 of the range, so the last is far below float's resolution."""


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of a reliability diagram."""

    low: float
    """Confidence above which clips are here."""
    high: float
    """Highest confidence here."""
    clips: int
    confidence: float
    """Mean confidence."""
    accuracy: float
    """Share that is right; equal to the confidence if it can be believed."""


class RiskCoverage(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What share would be wrong if only the most confident answers counted."""

    coverage: npt.NDArray[np.float64]
    """Shape (n,): share answered, 1/n to 1."""
    risk: npt.NDArray[np.float64]
    """Shape (n,): share of them that is wrong."""


def reliability(truth: Truth, probabilities: Probabilities) -> tuple[Bin, ...]:
    """Return the bins that hold anything, from low confidence to high.

    Raises:
        ValueError: the shapes do not fit, or there is nothing.
    """
    confidence, right = _judged(truth, probabilities)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return tuple(
        Bin(
            low=k / BINS,
            high=(k + 1) / BINS,
            clips=int((place == k).sum()),
            confidence=float(confidence[place == k].mean()),
            accuracy=float(right[place == k].mean()),
        )
        for k in np.unique(place).tolist()
    )


def expected_calibration_error(truth: Truth, probabilities: Probabilities) -> float:
    """Return by how much confidence and accuracy differ: the mean over `BINS` bins, weighted by their clips.

    Raises:
        ValueError: as `reliability`.

    Source: Naeini et al. 2015; Guo et al. 2017.
    """
    bins = reliability(truth, probabilities)
    return sum(item.clips * abs(item.accuracy - item.confidence) for item in bins) / len(truth)


def log_loss(truth: Truth, probabilities: Probabilities) -> float:
    """Return the mean negative logarithm of the true class's probability."""
    told = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(told, _LEAST)).mean())


def apply_temperature(probabilities: Probabilities, temperature: float) -> npt.NDArray[np.float64]:
    """Return the probabilities, shape (n, 3), with their logarithms divided by a temperature: above 1 is less sure."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def fit_temperature(truth: Truth, probabilities: Probabilities) -> float:
    """Return the temperature with the least log loss, 0.05 to 20; fit it on validation clips, never on tested ones.

    The loss is convex in 1/T, so that a golden section over log T finds its one minimum.

    Raises:
        ValueError: as `reliability`.

    Source: Guo et al. 2017 (temperature scaling), with the logarithm of the class's probability for its logit.
    """
    _judged(truth, probabilities)
    golden = (np.sqrt(5) - 1) / 2
    low, high = float(np.log(_COLDEST)), float(np.log(_HOTTEST))

    def loss(place: float) -> float:
        return log_loss(truth, apply_temperature(probabilities, float(np.exp(place))))

    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def risk_coverage(truth: Truth, probabilities: Probabilities) -> RiskCoverage:
    """Return the curve of risk over coverage; equal confidences share their mistakes, so their order does not matter.

    Raises:
        ValueError: as `reliability`.

    Source: Geifman and El-Yaniv 2017.
    """
    confidence, right = _judged(truth, probabilities)
    _, tie, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(tie, weights=~right) / count
    answered = np.arange(1, len(truth) + 1)
    return RiskCoverage(coverage=answered / len(truth), risk=np.cumsum(np.repeat(wrong, count)) / answered)


def aurc(truth: Truth, probabilities: Probabilities) -> float:
    """Return the area under the risk-coverage curve: the mean risk over all coverages; lower is better.

    Raises:
        ValueError: as `reliability`.
    """
    return float(risk_coverage(truth, probabilities).risk.mean())


def _judged(truth: Truth, probabilities: Probabilities) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    if truth.size == 0 or probabilities.ndim != 2 or len(truth) != len(probabilities):  # noqa: PLR2004 -- axes
        msg = f"cannot calibrate probabilities {probabilities.shape} against labels {truth.shape}"
        raise ValueError(msg)
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == truth

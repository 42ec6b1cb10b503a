"""Whether a model's confidence can be believed: calibration error, and what caution would buy.

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
    "aurc",
    "expected_calibration_error",
    "reliability",
    "risk_coverage",
]

Truth = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating]

BINS: Final = 15
"""Equal widths from 0 to 1; a confidence on the edge of two belongs to the lower one."""


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

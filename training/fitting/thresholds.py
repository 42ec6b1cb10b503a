"""The decision's settings, chosen on validation speakers: bias, temperature, smoothing, threshold, silence.

Each is chosen by a stated rule, one after the other, so that the same validation clips give the same settings.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, DecisionSpec
from broker.contract.scalars import UNCERTAIN_BOUNDS
from training.config import DecisionRules
from training.exam.replay import Heard, decide_all, smoothed_of

__all__ = ["choose_decision", "choose_threshold", "fit_bias", "fit_temperature", "rescale"]

Probabilities = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int64]

_NEAR_BEST: Final = 0.01
"""A quicker smoothing is taken if it costs no more than this share of the balanced window score."""
_LOWEST_DBFS: Final = -90.0
_LOWEST_THRESHOLD: Final = round(100 * UNCERTAIN_BOUNDS[0])
"""In hundredths: below it nothing is `uncertain`, as one of three probabilities is always above a third."""


def rescale(probabilities: Probabilities, bias: npt.NDArray[np.float64]) -> Probabilities:
    """Return what probabilities, shape (n, 3), become when a bias, shape (3,), is added to the classes' logits."""
    odds = probabilities * np.exp(bias)
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True), dtype=np.float32)


def fit_bias(truth: Truth, clips: Sequence[Probabilities]) -> npt.NDArray[np.float64]:
    """Return the bias per class, shape (3,), mean 0, with the least class-balanced log loss of the clips' means.

    Args:
        truth: shape (clips,), indices into `CLASSES`.
        clips: window probabilities of each clip, shape (windows, 3).

    Source: prior correction as in Menon et al. 2021 (logit adjustment), fitted instead of derived.
    """
    means = np.stack([clip.mean(axis=0) for clip in clips])
    weight = 1 / np.bincount(truth, minlength=len(CLASSES))[truth]
    steps = np.arange(-2, 2.01, 0.1)
    candidates = [np.array([first, 0.0, last]) for first in steps for last in steps]

    def loss(bias: npt.NDArray[np.float64]) -> float:
        told = rescale(means, bias)[np.arange(len(truth)), truth]
        return float(-(weight * np.log(np.maximum(told, 1e-6))).sum())

    best = min(candidates, key=loss)
    return np.asarray(best - best.mean())


def fit_temperature(truth: Truth, told: Callable[[float], Sequence[Probabilities]]) -> float:
    """Return the temperature, 0.3 to 5, with the least class-balanced log loss of the clips' means.

    Args:
        truth: shape (clips,), indices into `CLASSES`.
        told: from a temperature to the window probabilities of each clip, shape (windows, 3).

    Source: Guo et al. 2017 (temperature scaling).
    """
    weight = 1 / np.bincount(truth, minlength=len(CLASSES))[truth]

    def loss(temperature: float) -> float:
        means = np.stack([clip.mean(axis=0) for clip in told(temperature)])
        return float(-(weight * np.log(np.maximum(means[np.arange(len(truth)), truth], 1e-6))).sum())

    return float(min(np.geomspace(0.3, 5, 57), key=loss))


def choose_decision(
    truth: Truth, heard: Sequence[Heard], clips: Sequence[Probabilities], rules: DecisionRules
) -> DecisionSpec:
    """Return the settings that the rules give on validation clips.

    Silence: `silence_margin_db` below the level that 99 % of the clips reach in their loudest window.
    Smoothing: the quickest whose class-balanced share of right windows is within a hundredth of the best.
    Threshold: the lowest at which at most `wrong_share` of the windows that reach it are wrong, but none that calls
    more than `uncertain_share` of the windows `uncertain`; without a `wrong_share`, the highest such.
    Margin, hold and confirmation: as the rules say.

    Args:
        truth: shape (clips,), indices into `CLASSES`.
        heard: the clips' windows.
        clips: window probabilities of each clip, shape (windows, 3), bias included.
        rules: the rules' numbers.
    """
    loudest = [max(item.levels_dbfs) for item in heard]
    silence = max(_LOWEST_DBFS, round(float(np.percentile(loudest, 1)) - rules.silence_margin_db))
    smoothed = {weight: [_run(clip, weight) for clip in clips] for weight in rules.smoothing}
    scores = {weight: _balanced(truth, runs) for weight, runs in smoothed.items()}
    chosen = max(weight for weight, value in scores.items() if value >= max(scores.values()) - _NEAR_BEST)
    confidence = np.concatenate([run.max(axis=1) for run in smoothed[chosen]])
    right = np.concatenate([run.argmax(axis=1) == label for label, run in zip(truth, smoothed[chosen], strict=True)])
    return DecisionSpec(
        smoothing=chosen,
        uncertain_below=choose_threshold(confidence, right, rules),
        silent_below_dbfs=min(0.0, float(silence)),
        margin=rules.margin,
        hold_us=rules.hold_us,
        confirm_windows=rules.confirm_windows,
    )


def choose_threshold(confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], rules: DecisionRules) -> float:
    """Return the confidence, in hundredths, below which a window is `uncertain`.

    Args:
        confidence: smoothed probability of the likeliest class of each window, shape (n,).
        right: whether it is the true one, shape (n,).
        rules: shares that may be wrong and `uncertain`.
    """
    highest = int(np.floor(np.quantile(confidence, rules.uncertain_share) * 100))
    if rules.wrong_share is None:
        return highest / 100
    for step in range(_LOWEST_THRESHOLD, highest):
        answered = right[confidence >= step / 100]
        if np.mean(~answered) <= rules.wrong_share:
            return step / 100
    return highest / 100


def _run(clip: Probabilities, weight: float) -> Probabilities:
    """Return the smoothed probabilities after each window, shape (windows, 3)."""
    return smoothed_of(decide_all(clip, range(len(clip)), DecisionSpec(smoothing=weight)))


def _balanced(truth: Truth, runs: Sequence[Probabilities]) -> float:
    """Return the mean over classes of the share of windows whose likeliest class is right."""
    right = np.array([float(np.mean(run.argmax(axis=1) == label)) for label, run in zip(truth, runs, strict=True)])
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))

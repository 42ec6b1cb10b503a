"""How far what a model says has moved from what it was trained on, in numbers that tell nothing of the audio.

Pure functions over one window's probabilities or over counts of labels. They show that something has changed (the room,
the microphone, the people), not that the model is wrong: a home in which everybody is merry drifts, too.
"""

import math
from collections.abc import Sequence

__all__ = ["divergence", "entropy"]


def entropy(probabilities: Sequence[float]) -> float:
    """Return how evenly probabilities are spread, 0 (one has everything) to 1 (all alike).

    Probabilities that are not finite, or that are all 0, say nothing, which is 1.

    Source: Shannon 1948, divided by the largest value that there can be.
    """
    total = math.fsum(probabilities)
    if not math.isfinite(total) or total <= 0:
        return 1.0
    parts = [value / total for value in probabilities]
    return _within(-math.fsum(part * math.log(part) for part in parts if part > 0) / math.log(len(probabilities)))


def divergence(observed: Sequence[float], prior: Sequence[float]) -> float | None:
    """Return how far classes are spread otherwise than in training, 0 (alike) to 1 (nothing in common).

    It rises with the square of small differences, so that a few windows more or less of a class hardly show. Of few
    windows it is large by chance: ten seconds of one voice are mostly of one class. Look at an hour.

    Args:
        observed: how often each class was the likeliest, as counts or as shares.
        prior: how often each stood in the training, likewise.

    Returns:
        None where nothing was observed.

    Raises:
        ValueError: the prior is empty, or has another number of classes.

    Source: Lin 1991 (Jensen-Shannon divergence), to base 2.
    """
    seen, expected = math.fsum(observed), math.fsum(prior)
    if expected <= 0 or len(observed) != len(prior):
        msg = f"cannot compare {len(observed)} classes with a prior of {len(prior)} that adds up to {expected:g}"
        raise ValueError(msg)
    if seen <= 0:
        return None
    pairs = [(first / seen, second / expected) for first, second in zip(observed, prior, strict=True)]
    return _within(math.fsum(_half(first, second) + _half(second, first) for first, second in pairs))


def _half(share: float, other: float) -> float:
    """Return one class's part in the divergence of one side from the mean of both, in bits."""
    return share * math.log2(2 * share / (share + other)) / 2 if share > 0 else 0.0


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))

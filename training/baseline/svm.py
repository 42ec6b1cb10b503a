"""A support vector machine over clips' functionals. It has no probabilities, only decisions."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from broker.contract.decision import CLASSES
from broker.contract.errors import SettingsError
from training.baseline.functionals import Rows
from training.data.clips import Clip
from training.exam.predictions import Prediction

__all__ = ["COST", "GAMMA", "Classify", "Fit", "open_svm"]

COST: Final = 10.0
GAMMA: Final = 0.002

Classify = Callable[[Sequence[Clip], Rows], tuple[Prediction, ...]]
"""From clips and their functionals to what is said of them, in the order of the clips."""
Fit = Callable[[Sequence[Clip], Rows], Classify]
"""From clips to train on, of every class, and their functionals."""


def open_svm() -> Fit:
    """Return a function that fits the standardisation of the functionals and the machine.

    Raises:
        SettingsError: the package `scikit-learn` is missing.
    """
    try:
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415  # optional
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  # as above
        from sklearn.svm import SVC  # noqa: PLC0415  # as above
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[baseline]'"
        raise SettingsError(msg) from error

    def fit(clips: Sequence[Clip], rows: Rows) -> Classify:
        fitted = make_pipeline(StandardScaler(), SVC(kernel="rbf", C=COST, gamma=GAMMA, class_weight="balanced"))
        fitted.fit(np.stack([rows[clip.key] for clip in clips]), [CLASSES.index(clip.label) for clip in clips])

        def classify(asked: Sequence[Clip], of_asked: Rows) -> tuple[Prediction, ...]:
            decided = fitted.predict(np.stack([of_asked[clip.key] for clip in asked]))
            return tuple(_prediction(clip, int(index)) for clip, index in zip(asked, decided, strict=True))

        return classify

    return fit


def _prediction(clip: Clip, decided: int) -> Prediction:
    """Return a decision as a prediction: the classifier has no probabilities, so its choice gets all of it."""
    first, second, third = np.eye(len(CLASSES))[decided].tolist()
    return Prediction(
        key=clip.key,
        corpus=clip.corpus,
        speaker=clip.speaker,
        sex=clip.sex,
        emotion=clip.emotion,
        truth=clip.label,
        probabilities=(first, second, third),
        decided=CLASSES[decided],
        windows=1,
    )

"""Scores of three-class decisions, from counts alone.

UAR, the unweighted mean of the recalls, is the score to compare by: the corpora are unbalanced
(unpleasant is more than half), so a model stuck on one class has a fair accuracy and a UAR of one third.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from training.data.corpora import OfCorpus, corpora_in

__all__ = ["UNHEARD", "ClipScores", "Scores", "corpus_macro_uar", "merge", "score", "score_clips"]

UNHEARD: Final = -1
"""Decision for a clip of which the model says nothing finite; always wrong."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How well decisions fit the truth; shares are of 1."""

    clips: int
    accuracy: float
    """Share of the clips that are told rightly."""
    uar: float
    """Unweighted mean of the recalls of the classes present."""
    macro_f1: float
    """Unweighted mean of the F1 of the classes present."""
    recall: tuple[float | None, ...]
    """Per class in the order of `CLASSES`; None: the class is absent."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: truth; columns: decision; both in the order of `CLASSES`."""
    unheard: tuple[int, ...]
    """Clips without a decision, per true class."""


class ClipScores(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions on clips, scored together and per corpus."""

    pooled: Scores
    """Of all clips taken as one."""
    corpora: dict[str, Scores]
    """By the corpus's key, in the order of `corpora_in`."""
    macro_uar: float
    """Unweighted mean of the corpora's UAR."""


def score(truth: npt.NDArray[np.int64], decided: npt.NDArray[np.int64]) -> Scores:
    """Return the scores of some decisions.

    Args:
        truth: shape (n,), indices into `CLASSES`; n is at least 1.
        decided: shape (n,), indices into `CLASSES`, or `UNHEARD`.

    Raises:
        ValueError: the shapes differ, or there is nothing to score.
    """
    if truth.shape != decided.shape or truth.size == 0:
        msg = f"cannot score {decided.shape} decisions against {truth.shape} labels"
        raise ValueError(msg)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    heard = decided != UNHEARD
    np.add.at(confusion, (truth[heard], decided[heard]), 1)
    return _from_counts(confusion, np.bincount(truth[~heard], minlength=len(CLASSES)))


def score_clips(truth: npt.NDArray[np.int64], decided: npt.NDArray[np.int64], clips: Sequence[OfCorpus]) -> ClipScores:
    """Return the scores of some decisions, together and per corpus.

    Args:
        truth: shape (n,), indices into `CLASSES`; n is at least 1.
        decided: shape (n,), indices into `CLASSES`, or `UNHEARD`.
        clips: n of them, which say what corpus each is of.

    Raises:
        ValueError: the shapes differ, or there is nothing to score.
    """
    corpora = np.array([clip.corpus for clip in clips])
    per_corpus = {key: score(truth[corpora == key], decided[corpora == key]) for key in corpora_in(clips)}
    return ClipScores(pooled=score(truth, decided), corpora=per_corpus, macro_uar=corpus_macro_uar(per_corpus))


def merge(parts: Iterable[Scores]) -> Scores:
    """Return the scores of several sets of clips taken as one, such as the test sides of all folds."""
    listed = list(parts)
    return _from_counts(
        np.sum([part.confusion for part in listed], axis=0), np.sum([part.unheard for part in listed], axis=0)
    )


def _from_counts(confusion: npt.NDArray[np.int64], unheard: npt.NDArray[np.int64]) -> Scores:
    hits, chosen = np.diag(confusion), confusion.sum(axis=0)
    present = confusion.sum(axis=1) + unheard
    recall = [hits[k] / present[k] if present[k] else None for k in range(len(CLASSES))]
    f1 = [2 * hits[k] / (present[k] + chosen[k]) for k in range(len(CLASSES)) if present[k]]
    return Scores(
        clips=int(present.sum()),
        accuracy=float(hits.sum() / present.sum()),
        uar=float(np.mean([value for value in recall if value is not None])),
        macro_f1=float(np.mean(f1)),
        recall=tuple(None if value is None else float(value) for value in recall),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        unheard=tuple(int(count) for count in unheard),
    )


def corpus_macro_uar(per_corpus: Mapping[str, Scores]) -> float:
    """Return the unweighted mean of the corpora's UAR, so that a large corpus does not outvote a small one."""
    return float(np.mean([scores.uar for scores in per_corpus.values()]))

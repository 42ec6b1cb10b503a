"""`compare`: which of two models is better on the clips that both have judged, and whether the data can tell.

Two answers, for two questions:

- the difference in UAR, with a 95 % interval by bootstrap over SPEAKERS: a draw takes as many speakers of each corpus
  as there are, with repetition, and both models are scored on the same draw. Clips of one speaker resemble each other,
  so that resampling clips would make any difference look certain. This decides.
- McNemar's exact test of the accuracies, on the clips that only one of the two tells rightly. It takes clips for
  independent of each other, so it is a second opinion, and a bold one where speakers have many clips each.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError, SettingsError
from training.data.clips import Collection
from training.data.corpora import corpora_in
from training.exam.predictions import Prediction, decided_of, read_predictions, truth_of
from training.exam.sitting import open_bundle, predictions_of, sit

__all__ = [
    "DRAWS",
    "FEWEST_SPEAKERS",
    "Change",
    "Comparison",
    "McNemar",
    "Side",
    "compare",
    "mcnemar",
    "needs_data",
    "open_side",
]

DRAWS: Final = 2_000
FEWEST_SPEAKERS: Final = 5
"""With fewer, the interval is not to be trusted and nothing is concluded from it."""

_SEED: Final = 20
_OUTSIDE: Final = (2.5, 97.5)
"""Percentiles that bound the 95 % interval."""
_ZIP: Final = b"PK"
"""What every bundle begins with, and no predictions file."""

Counts = npt.NDArray[np.int64]
Verdict = Literal["a", "b", "cannot tell"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two models."""

    name: str
    predictions: tuple[Prediction, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One score of both models; shares of 1."""

    a: float
    b: float
    difference: float
    """B - A."""
    low: float
    """Lower end of the difference's 95 % interval."""
    high: float


class McNemar(msgspec.Struct, frozen=True, kw_only=True):
    """Exact test of whether two accuracies differ on the same clips."""

    a_only: int
    """Clips that A alone tells rightly."""
    b_only: int
    p: float
    """Chance of a division at least as uneven if both were equally good, two-sided."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the clips that both have judged."""

    a: str
    b: str
    clips: int
    """How many both have judged."""
    a_left_out: int
    """Clips that A alone has judged."""
    b_left_out: int
    speakers: dict[str, int]
    """Per corpus."""
    macro_uar: Change
    """Unweighted mean of the corpora's UAR."""
    uar: Change
    """All clips taken as one."""
    corpora: dict[str, Change]
    """UAR per corpus."""
    accuracy_a: float
    """Share of the clips that A tells rightly."""
    accuracy_b: float
    mcnemar: McNemar
    draws: int
    is_interval_trusted: bool
    """False with fewer than five speakers."""
    better: Verdict
    """By the interval of the corpus-macro UAR."""


def needs_data(path: Path) -> bool:
    """Return whether a path is a bundle, which says nothing before it has heard clips.

    Raises:
        DataError: there is nothing to be read.
    """
    if path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give a bundle, a predictions file or a run folder"
        raise DataError(msg) from error


def open_side(path: Path, collection: Collection | None, *, seen: bool) -> Side:
    """Return what the model at a path says of clips.

    Args:
        path: a bundle, a predictions file, or a run folder with `predictions.jsonl` files.
        collection: the clips that a bundle is to judge; not needed otherwise.
        seen: whether a bundle is to judge speakers of its own training and validation too.

    Raises:
        DataError: there are no predictions, or no clip is left to judge.
        BundleError: the bundle cannot be used.
        SettingsError: it is a bundle, and there is no collection.
    """
    if not needs_data(path):
        return Side(name=str(path), predictions=read_predictions(path))
    if collection is None:
        msg = f"{path} is a bundle: add --data DIR, corpora or a prepared cache that it is to be judged on"
        raise SettingsError(msg)
    bundle = open_bundle(path)
    exam = sit(bundle, collection, seen=seen)
    return Side(name=f"{path} ({bundle.manifest.identity})", predictions=predictions_of(exam))


def compare(a: Side, b: Side) -> Comparison:
    """Return how two models differ on the clips that both have judged.

    Raises:
        DataError: there is no such clip, or the two disagree about the truth of one.
    """
    of_a, of_b = ({item.key: item for item in side.predictions} for side in (a, b))
    shared = [key for key in sorted(of_a) if key in of_b]
    if not shared:
        msg = f"{a.name} and {b.name} have judged no clip in common; compare them on the same data"
        raise DataError(msg)
    for key in shared:
        if (of_a[key].truth, of_a[key].speaker) != (of_b[key].truth, of_b[key].speaker):
            msg = f"{key} is not the same clip in {a.name} and {b.name}: truth or speaker differ; judge both anew"
            raise DataError(msg)
    first, second = [of_a[key] for key in shared], [of_b[key] for key in shared]
    right_a, right_b = (decided_of(items) == truth_of(items) for items in (first, second))
    macro, pooled, per_corpus = _changes(first, right_a, right_b)
    speakers = {corpus: len({item.speaker for item in first if item.corpus == corpus}) for corpus in corpora_in(first)}
    is_trusted = sum(speakers.values()) >= FEWEST_SPEAKERS
    better: Verdict = "cannot tell"
    if is_trusted and (macro.low > 0 or macro.high < 0):
        better = "b" if macro.low > 0 else "a"
    return Comparison(
        a=a.name,
        b=b.name,
        clips=len(shared),
        a_left_out=len(of_a) - len(shared),
        b_left_out=len(of_b) - len(shared),
        speakers=speakers,
        macro_uar=macro,
        uar=pooled,
        corpora=per_corpus,
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        mcnemar=mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())),
        draws=DRAWS,
        is_interval_trusted=is_trusted,
        better=better,
    )


def mcnemar(a_only: int, b_only: int) -> McNemar:
    """Return the exact test: twice the binomial tail of the smaller count, at equal odds, and at most 1.

    Args:
        a_only: clips that A alone tells rightly.
        b_only: clips that B alone tells rightly.

    Source: McNemar 1947, in the exact form.
    """
    uneven = a_only + b_only
    tail = sum(math.comb(uneven, k) for k in range(min(a_only, b_only) + 1))
    return McNemar(a_only=a_only, b_only=b_only, p=min(1.0, 2 * tail / 2**uneven))


def _changes(
    items: Sequence[Prediction], right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]
) -> tuple[Change, Change, dict[str, Change]]:
    """Return the changes of corpus-macro UAR, of pooled UAR and of each corpus's, with their intervals."""
    names = sorted({(item.corpus, item.speaker) for item in items})
    place = {name: index for index, name in enumerate(names)}
    who, truth = np.array([place[item.corpus, item.speaker] for item in items]), truth_of(items)
    shape = (len(names), len(CLASSES))
    total, hits_a, hits_b = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for table, which in ((total, np.ones_like(right_a)), (hits_a, right_a), (hits_b, right_b)):
        np.add.at(table, (who[which], truth[which]), 1)
    corpora = {corpus: np.array([name[0] == corpus for name in names]) for corpus in corpora_in(items)}
    everyone = np.ones(len(names), dtype=bool)

    random = np.random.default_rng(_SEED)
    drawn = np.zeros((DRAWS, len(names)), dtype=np.int64)
    for members in corpora.values():
        count = int(members.sum())
        drawn[:, members] = random.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    once = np.ones((1, len(names)), dtype=np.int64)

    def change(*parts: npt.NDArray[np.bool_]) -> Change:
        (a,), (b,) = (_uar(once, hits, total, parts) for hits in (hits_a, hits_b))
        differences = _uar(drawn, hits_b, total, parts) - _uar(drawn, hits_a, total, parts)
        low, high = np.percentile(differences, _OUTSIDE)
        return Change(a=float(a), b=float(b), difference=float(b - a), low=float(low), high=float(high))

    return change(*corpora.values()), change(everyone), {name: change(members) for name, members in corpora.items()}


def _uar(drawn: Counts, hits: Counts, total: Counts, parts: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.float64]:
    """Return the mean over the parts of their UAR in each draw, shape (draws,).

    Args:
        drawn: how often each draw takes each speaker, shape (draws, speakers).
        hits: clips told rightly, shape (speakers, 3).
        total: clips, shape (speakers, 3); a class that a draw has no clip of is left out of its mean.
        parts: which speakers make a part, each shape (speakers,).
    """
    uars = []
    for members in parts:
        weight = drawn[:, members]
        present = weight @ total[members]
        recall = (weight @ hits[members]) / np.maximum(present, 1)
        uars.append(recall.sum(axis=1) / (present > 0).sum(axis=1))
    return np.asarray(np.mean(uars, axis=0))

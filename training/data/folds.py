"""Who is tested in which fold, and who validates: rules that know speakers, never clips.

The folds of the protocol's speakers are facts, not choices of an experiment: figures of two experiments compare
only on the same folds. Fold 4's speakers are set aside as a final exam.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from training.data.clips import Clip
from training.data.corpora import corpora_in, official, trains

__all__ = ["FOLDS", "fold_of", "runnable_folds", "trainable", "validation_speakers"]

FOLDS: Final = (
    ("ravdess_01", "ravdess_02", "ravdess_03", "ravdess_04", "ravdess_05", "savee_DC"),
    ("ravdess_06", "ravdess_07", "ravdess_08", "ravdess_09", "ravdess_10", "savee_JE"),
    ("ravdess_11", "ravdess_12", "ravdess_13", "ravdess_14", "ravdess_15", "savee_JK"),
    ("ravdess_16", "ravdess_17", "ravdess_18", "ravdess_19", "ravdess_20", "tess_OAF"),
    ("ravdess_21", "ravdess_22", "ravdess_23", "ravdess_24", "savee_KL", "tess_YAF"),
)
"""Speakers tested together, and heard neither in training nor in validation of that fold.

Source: the project's evaluation protocol, version 1.
"""

_PROTOCOL: Final = {speaker: fold for fold, speakers in enumerate(FOLDS) for speaker in speakers}
_PROTOCOL_CORPORA: Final = frozenset(speaker.split("_", 1)[0] for speaker in _PROTOCOL)
_VALIDATING: Final = 0.15
"""Share of the speakers left that validate in a corpus of which nothing is said; RAVDESS's three of twenty."""


def trainable(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Return the clips of corpora that may fit weights."""
    return tuple(clip for clip in clips if trains(clip.corpus))


def fold_of(clips: Iterable[Clip]) -> dict[str, int]:
    """Return the fold that tests each speaker of the corpora that train.

    The protocol's speakers stand in `FOLDS`. In every other corpus the speakers, in the order of their names, are
    dealt to the folds 0, 1, 2, 3, 4, 0, ...: those of the complete set where there is an official one, so that a
    partial set has the same folds; else those at hand, so that a user's folds change when speakers are added.
    """
    pool = trainable(clips)
    folds: dict[str, int] = {}
    for corpus in corpora_in(pool):
        here = {clip.speaker for clip in pool if clip.corpus == corpus}
        complete = official(corpus)
        dealt = {
            speaker: place % len(FOLDS) for place, speaker in enumerate(complete.official if complete else sorted(here))
        }
        dealt.update(_PROTOCOL)
        folds.update({speaker: dealt[speaker] for speaker in here})
    return folds


def runnable_folds(clips: Iterable[Clip]) -> tuple[int, ...]:
    """Return the folds that have at least one speaker here and leave others to train on."""
    folds = set(fold_of(clips).values())
    return tuple(sorted(folds)) if len(folds) > 1 else ()


def validation_speakers(clips: Iterable[Clip], tested: int | None, validating: Mapping[str, int]) -> tuple[str, ...]:
    """Return who validates: of each corpus the first speakers of the folds after the tested one.

    A corpus keeps at least one speaker in training, so a corpus with a single speaker left validates nobody.

    Args:
        clips: all clips at hand.
        tested: the tested fold; None: no speaker is tested, and the folds are taken from the first.
        validating: speakers wanted per corpus. Of a corpus of the protocol that is not named nobody validates, of any
            other 15 % of the speakers left, one at least.
    """
    pool = trainable(clips)
    folds = fold_of(pool)
    first = 0 if tested is None else tested + 1
    chosen: list[str] = []
    for corpus in corpora_in(pool):
        left = {clip.speaker for clip in pool if clip.corpus == corpus and folds[clip.speaker] != tested}
        order = sorted(left, key=lambda speaker: ((folds[speaker] - first) % len(FOLDS), speaker))
        usual = 0 if corpus in _PROTOCOL_CORPORA else max(1, round(_VALIDATING * len(order)))
        chosen += order[: max(0, min(validating.get(corpus, usual), len(order) - 1))]
    return tuple(sorted(chosen))

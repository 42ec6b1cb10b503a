"""Who trains, who chooses the epoch, who is the exam: by speaker, never by clip (unless asked to, and then it says so).

The folds are facts, not choices of an experiment: figures of two experiments compare only on the same folds.
Fold 4's speakers are set aside as a final exam; a fold whose speakers are not at hand is not run.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from broker.contract.errors import DataError
from training.clips import Clip
from training.corpora import CORPORA

__all__ = ["BY_CLIP", "BY_SPEAKER", "FOLDS", "Split", "check_leaks", "runnable_folds", "split_clips", "split_speakers"]

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

BY_SPEAKER: Final = "by speaker"
BY_CLIP: Final = "by clip (speakers on both sides: optimistic)"

Side = Literal["training", "validation", "test"]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Three sides that share no speaker (or, by clip, no recording)."""

    fold: int | None
    """Index into `FOLDS` of the speakers tested; None: by clip."""
    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]

    @property
    def name(self) -> str:
        """As reports print it."""
        return BY_CLIP if self.fold is None else f"{BY_SPEAKER}, fold {self.fold}"


def runnable_folds(clips: Iterable[Clip]) -> tuple[int, ...]:
    """Return the folds that have at least one speaker here and leave others to train on."""
    here = {clip.speaker for clip in trainable(clips)}
    return tuple(k for k, fold in enumerate(FOLDS) if here & set(fold) and here - set(fold))


def trainable(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Return the clips of corpora that may fit weights."""
    allowed = {corpus.key for corpus in CORPORA if corpus.trains}
    return tuple(clip for clip in clips if clip.corpus in allowed)


def validation_speakers(speakers: Sequence[str], fold: int, per_corpus: dict[str, int]) -> tuple[str, ...]:
    """Return who validates: of each corpus the first speakers of the folds after the tested one.

    A corpus keeps at least one speaker in training, so a corpus with a single speaker left validates nobody.
    """
    after = [speaker for step in range(1, len(FOLDS)) for speaker in FOLDS[(fold + step) % len(FOLDS)]]
    chosen: list[str] = []
    for corpus, count in sorted(per_corpus.items()):
        candidates = [speaker for speaker in after if speaker in speakers and speaker.startswith(f"{corpus}_")]
        chosen += candidates[: min(count, len(candidates) - 1)] if candidates else []
    return tuple(sorted(chosen))


def split_speakers(clips: Iterable[Clip], fold: int, validating: dict[str, int]) -> Split:
    """Return the speaker-disjoint split that tests one fold.

    Args:
        clips: all clips at hand.
        fold: index into `FOLDS`.
        validating: validation speakers wanted per corpus.

    Raises:
        DataError: a side would be empty, or the same recording stands on two sides.
    """
    pool = trainable(clips)
    tested = set(FOLDS[fold])
    others = sorted({clip.speaker for clip in pool} - tested)
    validation = set(validation_speakers(others, fold, validating))
    split = Split(
        fold=fold,
        training=tuple(clip for clip in pool if clip.speaker not in tested | validation),
        validation=tuple(clip for clip in pool if clip.speaker in validation),
        test=tuple(clip for clip in pool if clip.speaker in tested),
    )
    check_leaks(split)
    return split


def split_clips(clips: Iterable[Clip], seed: int) -> Split:
    """Return a random split by recording, 80/10/10; its figures are optimistic, and its name says so.

    Identical recordings stay together.

    Raises:
        DataError: a side would be empty.
    """
    pool = trainable(clips)
    groups = sorted({clip.sha256 for clip in pool})
    np.random.default_rng(seed).shuffle(groups)
    tenth = max(1, len(groups) // 10)
    side = {
        sha256: ("test", "validation")[k // tenth] if k < 2 * tenth else "training" for k, sha256 in enumerate(groups)
    }
    split = Split(
        fold=None,
        training=tuple(clip for clip in pool if side[clip.sha256] == "training"),
        validation=tuple(clip for clip in pool if side[clip.sha256] == "validation"),
        test=tuple(clip for clip in pool if side[clip.sha256] == "test"),
    )
    check_leaks(split)
    return split


def check_leaks(split: Split) -> None:
    """Refuse a split whose sides share what they must not.

    Raises:
        DataError: a side is empty, or a speaker, a clip or an identical recording stands on two sides.
    """
    sides: dict[Side, tuple[Clip, ...]] = {
        "training": split.training,
        "validation": split.validation,
        "test": split.test,
    }
    for side, clips in sides.items():
        if not clips:
            msg = f"split {split.name}: no clip for {side}; prepare more speakers or choose another fold"
            raise DataError(msg)
    _refuse_shared(split, "clip", [{clip.key for clip in clips} for clips in sides.values()])
    _refuse_shared(split, "identical recording", [{clip.sha256 for clip in clips} for clips in sides.values()])
    if split.fold is not None:
        _refuse_shared(split, "speaker", [{clip.speaker for clip in clips} for clips in sides.values()])


def _refuse_shared(split: Split, what: str, sides: Sequence[set[str]]) -> None:
    seen = Counter(item for side in sides for item in side)
    shared = sorted(item for item, count in seen.items() if count > 1)
    if shared:
        msg = f"split {split.name}: {what} {shared[0]} stands on two sides ({len(shared)} in all); they must share none"
        raise DataError(msg)

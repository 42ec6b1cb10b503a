"""Who trains, who chooses the epoch, who is the exam: by speaker, never by clip (unless asked to, and then it says so).

| split | sides share | test side |
|---|---|---|
| `split_speakers` | no speaker | the speakers of one fold |
| `split_fixed` | no speaker | the speakers that are named |
| `split_everything` | no speaker | none: for a model that is shipped and was examined on the folds |
| `split_by_clip_folds` | no recording, but speakers: optimistic | a fifth of the recordings, each once |

No split has the same audio on two sides, whatever its files are called.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError, SettingsError
from training.data.clips import Clip
from training.data.corpora import title_of, trains
from training.data.folds import FOLDS, fold_of, runnable_folds, trainable, validation_speakers

__all__ = [
    "ALL_SPEAKERS",
    "BY_CLIP",
    "BY_SPEAKER",
    "FIXED",
    "FOLDS",
    "Split",
    "check_leaks",
    "is_by_clip",
    "runnable_folds",
    "split_by_clip_folds",
    "split_everything",
    "split_fixed",
    "split_speakers",
    "trainable",
]

BY_SPEAKER: Final = "by speaker"
BY_CLIP: Final = "by clip (speakers on both sides: optimistic)"
FIXED: Final = "fixed"
ALL_SPEAKERS: Final = "all speakers"

_FEWEST_FOLDS: Final = 2
_MOST_FOLDS: Final = 10
"""By clip: with more, a fold is smaller than the tenth that validates."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Three sides that share no speaker (or, by clip, no recording)."""

    by: Literal["speaker", "clip", "fixed", "all"]
    """How it was made: by folds of speakers, by clip, by speakers named, or with all speakers but those validating."""
    fold: int | None
    """Which of several test sides this is: index into `FOLDS`, or of the folds by clip; None: there is but one."""
    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]
    """Empty only where all speakers train."""

    @property
    def name(self) -> str:
        """As reports print it."""
        kind = {"speaker": BY_SPEAKER, "clip": BY_CLIP, "fixed": FIXED, "all": ALL_SPEAKERS}[self.by]
        return kind if self.fold is None else f"{kind}, fold {self.fold}"

    @property
    def sides(self) -> dict[str, tuple[Clip, ...]]:
        """The clips of each side, by its name."""
        return {"training": self.training, "validation": self.validation, "test": self.test}


def is_by_clip(name: str) -> bool:
    """Return whether a split of that name has speakers on both sides, which makes its figures optimistic."""
    return name.startswith(BY_CLIP)


def split_speakers(clips: Iterable[Clip], fold: int, validating: Mapping[str, int]) -> Split:
    """Return the speaker-disjoint split that tests one fold.

    Args:
        clips: all clips at hand.
        fold: index into `FOLDS`.
        validating: validation speakers wanted per corpus, see `training.data.folds.validation_speakers`.

    Raises:
        DataError: a side would be empty, a class would have no clip to train on, or the same recording stands on two
            sides.
    """
    pool = trainable(clips)
    folds = fold_of(pool)
    tested = {speaker for speaker, place in folds.items() if place == fold}
    return _by_speaker("speaker", pool, validation_speakers(pool, fold, validating), tested, fold)


def split_fixed(clips: Iterable[Clip], validation: Sequence[str], test: Sequence[str]) -> Split:
    """Return the split whose validation and test speakers are named; all others of corpora that train do so.

    Args:
        clips: all clips at hand.
        validation: speakers, as `<corpus>_<speaker>`, of corpora that train.
        test: speakers of any corpus.

    Raises:
        SettingsError: a speaker is not at hand, is named for both sides, or may not validate.
        DataError: as `split_speakers`.
    """
    clips = tuple(clips)
    corpora = {clip.speaker: clip.corpus for clip in clips}
    for speaker in (*validation, *test):
        if speaker not in corpora:
            msg = f"split {FIXED}: no clip of speaker {speaker}; here are {', '.join(sorted(corpora)) or 'none'}"
            raise SettingsError(msg)
    for speaker in validation:
        if speaker in test:
            msg = f"split {FIXED}: speaker {speaker} is named for validation and for test; choose one"
            raise SettingsError(msg)
        if not trains(corpora[speaker]):
            msg = f"split {FIXED}: speaker {speaker} may only test: {title_of(corpora[speaker])} makes no choices"
            raise SettingsError(msg)
    pool = tuple(clip for clip in clips if trains(clip.corpus) or clip.speaker in test)
    return _by_speaker("fixed", pool, validation, test, None)


def split_everything(clips: Iterable[Clip], validating: Mapping[str, int]) -> Split:
    """Return the split in which all speakers train but a few that validate; it has no test side.

    Raises:
        DataError: as `split_speakers`.
    """
    pool = trainable(clips)
    return _by_speaker("all", pool, validation_speakers(pool, None, validating), (), None)


def split_by_clip_folds(clips: Iterable[Clip], seed: int, folds: int = 5) -> list[Split]:
    """Return random splits by recording whose test sides share nothing and together hold every clip.

    A tenth of the recordings validates, taken of the next fold's test side. Identical recordings stay together. The
    figures are optimistic, and the splits' names say so: this is how accuracy is quoted where speakers are ignored.

    Args:
        clips: all clips at hand.
        seed: of the shuffle.
        folds: how many splits, 2 to 10.

    Raises:
        SettingsError: another number of folds.
        DataError: a side would be empty, or a class would have no clip to train on.
    """
    if not _FEWEST_FOLDS <= folds <= _MOST_FOLDS:
        msg = f"split by clip into {folds} folds: allowed are {_FEWEST_FOLDS} to {_MOST_FOLDS}"
        raise SettingsError(msg)
    pool = trainable(clips)
    groups = _shuffled(pool, seed)
    tenth = max(1, len(groups) // 10)
    sides = [groups[fold::folds] for fold in range(folds)]
    return [
        _by_clip(pool, validation=sides[(fold + 1) % folds][:tenth], test=sides[fold], fold=fold)
        for fold in range(folds)
    ]


def check_leaks(split: Split) -> None:
    """Refuse a split whose sides share what they must not.

    Speakers may stand on two sides only if the split is by clip, which its name says.

    Raises:
        DataError: a side is empty (test may be where all speakers train), or a speaker, a clip or an identical
            recording stands on two sides.
    """
    for side, clips in split.sides.items():
        if not clips and (side, split.by) != ("test", "all"):
            msg = f"split {split.name}: no clip for {side}; prepare more speakers or choose another fold"
            raise DataError(msg)
    _refuse_shared(split, "clip", lambda clip: clip.key)
    _refuse_shared(split, "identical recording", lambda clip: clip.sha256)
    if split.by != "clip":
        _refuse_shared(split, "speaker", lambda clip: clip.speaker)


def _by_speaker(
    by: Literal["speaker", "fixed", "all"],
    pool: Sequence[Clip],
    validation: Collection[str],
    test: Collection[str],
    fold: int | None,
) -> Split:
    return _checked(
        Split(
            by=by,
            fold=fold,
            training=tuple(clip for clip in pool if clip.speaker not in validation and clip.speaker not in test),
            validation=tuple(clip for clip in pool if clip.speaker in validation),
            test=tuple(clip for clip in pool if clip.speaker in test),
        )
    )


def _by_clip(pool: Sequence[Clip], validation: Sequence[str], test: Sequence[str], fold: int | None) -> Split:
    side = dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    return _checked(
        Split(
            by="clip",
            fold=fold,
            training=tuple(clip for clip in pool if clip.sha256 not in side),
            validation=tuple(clip for clip in pool if side.get(clip.sha256) == "validation"),
            test=tuple(clip for clip in pool if side.get(clip.sha256) == "test"),
        )
    )


def _shuffled(pool: Sequence[Clip], seed: int) -> list[str]:
    """Return the different recordings of the clips, by their audio, in random order."""
    groups = sorted({clip.sha256 for clip in pool})
    np.random.default_rng(seed).shuffle(groups)
    return groups


def _checked(split: Split) -> Split:
    """Return the split if it leaks nothing and has clips of every class to train on.

    Raises:
        DataError: it does not.
    """
    check_leaks(split)
    for label in CLASSES:
        if all(clip.label != label for clip in split.training):
            msg = f"split {split.name}: no clip of class {label} for training; prepare recordings of more speakers"
            raise DataError(msg)
    return split


def _refuse_shared(split: Split, what: str, of: Callable[[Clip], str]) -> None:
    first: dict[str, tuple[str, Clip]] = {}
    shared: dict[str, tuple[Clip, Clip]] = {}
    for side, clips in split.sides.items():
        for clip in clips:
            before, other = first.setdefault(of(clip), (side, clip))
            if before != side:
                shared.setdefault(of(clip), (other, clip))
    if shared:
        value, (one, other) = min(shared.items())
        named = value if one.key == other.key or what == "speaker" else f"{one.key} = {other.key}"
        msg = f"split {split.name}: {what} {named} stands on two sides ({len(shared)} in all); they must share none"
        raise DataError(msg)

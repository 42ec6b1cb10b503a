from collections.abc import Callable

import msgspec
import pytest

from broker.contract.errors import DataError
from training.clips import Clip
from training.corpora import Emotion
from training.splits import BY_CLIP, FOLDS, check_leaks, runnable_folds, split_clips, split_speakers

Make = Callable[..., Clip]

WANTED = {"ravdess": 3, "savee": 1}


@pytest.fixture
def clips(clip: Make) -> tuple[Clip, ...]:
    speakers = [speaker for fold in FOLDS[:4] for speaker in fold] + ["emodb_03"]
    return tuple(clip(speaker, emotion) for speaker in speakers for emotion in Emotion)


def test_folds_are_disjoint_and_cover_the_official_speakers() -> None:
    speakers = [speaker for fold in FOLDS for speaker in fold]
    assert len(speakers) == len(set(speakers)) == 24 + 2 + 4


@pytest.mark.parametrize("fold", range(4))
def test_split_is_disjoint_by_speaker(clips: tuple[Clip, ...], fold: int) -> None:
    split = split_speakers(clips, fold, WANTED)
    sides = [{clip.speaker for clip in side} for side in (split.training, split.validation, split.test)]
    assert sides[2] == set(FOLDS[fold])
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert sum(speaker.startswith("ravdess") for speaker in sides[1]) == 3
    assert sum(speaker.startswith("savee") for speaker in sides[1]) == 1
    assert "emodb_03" not in set.union(*sides)


def test_validation_leaves_a_corpus_its_last_speaker(clip: Make) -> None:
    clips = tuple(clip(speaker) for speaker in ("ravdess_01", "ravdess_06", "ravdess_07", "tess_OAF"))
    split = split_speakers(clips, 0, {"ravdess": 3, "tess": 1})
    assert {clip.speaker for clip in split.training} == {"ravdess_07", "tess_OAF"}
    assert {clip.speaker for clip in split.validation} == {"ravdess_06"}


def test_runnable_folds_are_those_with_speakers_here(clips: tuple[Clip, ...], clip: Make) -> None:
    assert runnable_folds(clips) == (0, 1, 2, 3)
    assert runnable_folds([clip("savee_DC"), clip("emodb_03")]) == ()


def test_split_by_clip_keeps_identical_recordings_together_and_says_so(clip: Make) -> None:
    clips = tuple(clip("ravdess_07", stem=str(k), sha256=f"{k // 2:064x}") for k in range(60))
    split = split_clips(clips, seed=3)
    assert split.name == BY_CLIP
    assert "optimistic" in split.name
    check_leaks(split)


def test_leak_of_a_speaker_is_refused(clips: tuple[Clip, ...], clip: Make) -> None:
    split = split_speakers(clips, 0, WANTED)
    leaking = msgspec.structs.replace(split, training=(*split.training, clip("ravdess_01", stem="other")))
    with pytest.raises(DataError, match="speaker ravdess_01 stands on two sides"):
        check_leaks(leaking)


def test_leak_of_an_identical_recording_is_refused(clips: tuple[Clip, ...], clip: Make) -> None:
    split = split_speakers(clips, 0, WANTED)
    copy = clip("ravdess_12", stem="copy", sha256=split.test[0].sha256)
    with pytest.raises(DataError, match="identical recording"):
        check_leaks(msgspec.structs.replace(split, training=(*split.training, copy)))


def test_leak_of_a_clip_is_refused(clips: tuple[Clip, ...]) -> None:
    split = split_speakers(clips, 0, WANTED)
    with pytest.raises(DataError, match="clip ravdess/"):
        check_leaks(msgspec.structs.replace(split, validation=(*split.validation, split.test[0])))


def test_empty_side_is_refused(clip: Make) -> None:
    with pytest.raises(DataError, match="no clip for validation"):
        split_speakers([clip("ravdess_01"), clip("ravdess_06")], 0, WANTED)

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import DataError, SettingsError
from training.data.clips import Clip, open_cache
from training.data.corpora import CORPORA, Emotion
from training.data.folds import fold_of, validation_speakers
from training.data.listed import only_listed
from training.data.prepare import prepare
from training.data.splits import (
    BY_CLIP,
    FOLDS,
    Split,
    check_leaks,
    is_by_clip,
    runnable_folds,
    split_by_clip_folds,
    split_everything,
    split_fixed,
    split_speakers,
)

Make = Callable[..., Clip]

WANTED = {"ravdess": 3, "savee": 1}


@pytest.fixture
def clips(clip: Make) -> tuple[Clip, ...]:
    speakers = [speaker for fold in FOLDS[:4] for speaker in fold] + ["emodb_03"]
    return tuple(clip(speaker, emotion, emotion) for speaker in speakers for emotion in Emotion)


def _speakers(side: Sequence[Clip]) -> set[str]:
    return {clip.speaker for clip in side}


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
    speakers = ("ravdess_01", "ravdess_06", "ravdess_07", "tess_OAF")
    split = split_speakers(
        [clip(name, emotion) for name in speakers for emotion in Emotion], 0, {"ravdess": 3, "tess": 1}
    )
    assert {clip.speaker for clip in split.training} == {"ravdess_07", "tess_OAF"}
    assert {clip.speaker for clip in split.validation} == {"ravdess_06"}


def test_runnable_folds_are_those_with_speakers_here(clips: tuple[Clip, ...], clip: Make) -> None:
    assert runnable_folds(clips) == (0, 1, 2, 3)
    assert runnable_folds([clip("savee_DC"), clip("emodb_03")]) == ()


def test_split_by_clip_keeps_identical_recordings_together_and_says_so(clip: Make) -> None:
    clips = tuple(
        clip("ravdess_07", emotion, f"{emotion}{k}", f"{emotion}{k // 2}") for emotion in Emotion for k in range(10)
    )
    split = split_by_clip_folds(clips, seed=3)[0]
    assert split.name == f"{BY_CLIP}, fold 0"
    assert "optimistic" in split.name
    assert is_by_clip(split.name)
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


def test_speakers_outside_of_the_protocol_are_dealt_to_the_folds(clip: Make) -> None:
    own = [f"own_s{number}" for number in range(7)]
    partial = ["cremad_1003", "cremad_1091"]  # 3rd and 91st of the official set
    folds = fold_of(clip(speaker) for speaker in [*reversed(own), *partial, "savee_KL", "emodb_03"])
    assert [folds[speaker] for speaker in own] == [0, 1, 2, 3, 4, 0, 1]
    assert [folds[speaker] for speaker in partial] == [2, 0]
    assert folds["savee_KL"] == 4
    assert "emodb_03" not in folds


def test_complete_cremad_has_folds_of_equal_size() -> None:
    official = next(corpus.official for corpus in CORPORA if corpus.key == "cremad")
    counts = Counter(place % len(FOLDS) for place in range(len(official)))
    assert sorted(counts.values()) == [18, 18, 18, 18, 19]


def test_own_recordings_alone_can_run_folds(clip: Make) -> None:
    clips = [clip(f"own_s{number}", emotion) for number in range(3) for emotion in Emotion]
    assert runnable_folds(clips) == (0, 1, 2)
    for fold in runnable_folds(clips):
        split = split_speakers(clips, fold, WANTED)
        assert _speakers(split.test) == {f"own_s{fold}"}
        assert _speakers(split.validation) == {f"own_s{(fold + 1) % 3}"}
        assert split.name == f"by speaker, fold {fold}"


def test_corpus_of_one_speaker_is_tested_in_one_fold_and_never_validates(clips: tuple[Clip, ...], clip: Make) -> None:
    everyone = (*clips, *(clip("own_s1", emotion) for emotion in Emotion))
    standing = [
        next(side for side, part in split_speakers(everyone, fold, WANTED).sides.items() if "own_s1" in _speakers(part))
        for fold in range(4)
    ]
    assert standing == ["test", "training", "training", "training"]
    alone = [clip("own_s1", emotion) for emotion in Emotion]
    assert runnable_folds(alone) == ()
    with pytest.raises(DataError, match="no clip for validation; prepare more speakers"):
        split_everything(alone, WANTED)


def test_two_speakers_are_too_few_to_validate(clip: Make) -> None:
    clips = [clip(speaker, emotion) for speaker in ("own_s1", "own_s2") for emotion in Emotion]
    with pytest.raises(DataError, match="no clip for validation; prepare more speakers"):
        split_speakers(clips, 0, {"own": 5})


@pytest.mark.parametrize(("validating", "count"), [({}, 3), ({"cremad": 7}, 7), ({"cremad": 99}, 19)])
def test_share_of_an_unnamed_corpus_validates(validating: dict[str, int], count: int, clip: Make) -> None:
    clips = [clip(f"cremad_{actor}") for actor in range(1001, 1026)]
    chosen = validation_speakers(clips, 1, validating)
    folds = fold_of(clips)
    assert len(chosen) == count
    assert 1 not in {folds[speaker] for speaker in chosen}
    assert folds[chosen[0]] == 2 if count <= 5 else True


def test_protocol_corpus_that_is_not_named_does_not_validate(clips: tuple[Clip, ...]) -> None:
    assert validation_speakers(clips, 0, {"savee": 1}) == ("savee_JE",)


def test_class_without_a_clip_to_train_on_is_named(clip: Make) -> None:
    speakers = ("ravdess_01", "ravdess_06", "ravdess_07")
    clips = [clip(speaker, emotion) for speaker in speakers for emotion in (Emotion.SAD, Emotion.HAPPY)]
    tested_only = [clip("ravdess_01", Emotion.NEUTRAL)]
    with pytest.raises(DataError, match="split by speaker, fold 0: no clip of class neutral for training"):
        split_speakers([*clips, *tested_only], 0, WANTED)
    with pytest.raises(DataError, match="no clip of class pleasant for training"):
        split_by_clip_folds([clip("own_s1", Emotion.SAD, str(k)) for k in range(40)], 1)


def test_fixed_split_tests_and_validates_who_is_named(clips: tuple[Clip, ...]) -> None:
    split = split_fixed(clips, ["savee_DC", "ravdess_03"], ["ravdess_19", "emodb_03"])
    assert split.name == "fixed"
    assert _speakers(split.validation) == {"savee_DC", "ravdess_03"}
    assert _speakers(split.test) == {"ravdess_19", "emodb_03"}
    assert _speakers(split.training) == {speaker for fold in FOLDS[:4] for speaker in fold} - {
        *_speakers(split.validation),
        *_speakers(split.test),
    }


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (["savee_DC"], ["savee_DC"], "speaker savee_DC is named for validation and for test"),
        (["savee_XX"], ["savee_DC"], "no clip of speaker savee_XX; here are emodb_03, ravdess_01,"),
        (["emodb_03"], ["savee_DC"], "speaker emodb_03 may only test: EMO-DB makes no choices"),
    ],
)
def test_fixed_split_that_cannot_be_is_refused(
    validation: list[str], test: list[str], message: str, clips: tuple[Clip, ...]
) -> None:
    with pytest.raises(SettingsError, match=message):
        split_fixed(clips, validation, test)


def test_fixed_split_without_a_test_speaker_is_refused(clips: tuple[Clip, ...]) -> None:
    with pytest.raises(DataError, match="split fixed: no clip for test"):
        split_fixed(clips, ["savee_DC"], [])


def test_split_of_all_speakers_has_no_test_side(clips: tuple[Clip, ...], clip: Make) -> None:
    split = split_everything((*clips, *(clip(f"own_s{k}", emotion) for k in range(4) for emotion in Emotion)), WANTED)
    assert (split.name, split.test) == ("all speakers", ())
    assert _speakers(split.validation) == {"ravdess_01", "ravdess_02", "ravdess_03", "savee_DC", "own_s0"}
    assert len(_speakers(split.training)) == 24 + 4 - 5
    for by in ("speaker", "fixed", "clip"):
        with pytest.raises(DataError, match="no clip for test"):
            check_leaks(msgspec.structs.replace(split, by=by))


def _by_clip(clip: Make, count: int = 50) -> list[Clip]:
    return [
        clip("ravdess_07", emotion, f"{emotion}{k}", f"{emotion}{k // 2}") for emotion in Emotion for k in range(count)
    ]


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_by_clip_test_every_clip_once(folds: int, clip: Make) -> None:
    clips = [*_by_clip(clip), clip("emodb_03")]
    splits = split_by_clip_folds(clips, seed=3, folds=folds)
    tested = Counter(item.key for split in splits for item in split.test)
    assert tested == {item.key: 1 for item in clips if item.corpus == "ravdess"}
    for fold, split in enumerate(splits):
        assert split.name == f"{BY_CLIP}, fold {fold}"
        assert is_by_clip(split.name)
        assert len(split.test) == pytest.approx(350 / folds, abs=2)
        assert len(split.validation) == pytest.approx(35, abs=2)
        check_leaks(split)


def test_folds_by_clip_depend_on_the_seed_alone(clip: Make) -> None:
    clips = _by_clip(clip)
    first = split_by_clip_folds(clips, seed=3)
    assert [{item.key for item in split.test} for split in split_by_clip_folds(clips[::-1], seed=3)] == [
        {item.key for item in split.test} for split in first
    ]
    assert split_by_clip_folds(clips, seed=4)[0].test != first[0].test


def test_folds_by_clip_that_cannot_be_are_refused(clip: Make) -> None:
    for folds in (1, 11):
        with pytest.raises(SettingsError, match="allowed are 2 to 10"):
            split_by_clip_folds(_by_clip(clip), 1, folds)
    with pytest.raises(DataError, match="no clip for"):
        split_by_clip_folds([clip(), clip("ravdess_02")], 1)


def test_only_a_split_by_clip_may_share_speakers(clips: tuple[Clip, ...]) -> None:
    split = split_by_clip_folds(clips, 1)[0]
    assert _speakers(split.training) & _speakers(split.test)
    for by in ("speaker", "fixed"):
        with pytest.raises(DataError, match="stands on two sides"):
            check_leaks(msgspec.structs.replace(split, by=by))


def test_leak_of_an_identical_recording_names_both_clips(clips: tuple[Clip, ...], clip: Make) -> None:
    copy = clip("own_s9", stem="copy", sha256=next(item.sha256 for item in clips if item.speaker == "ravdess_01"))
    with pytest.raises(DataError, match=r"identical recording ravdess/ravdess_01-\w+ = own/own_s9-copy"):
        split_speakers((*clips, copy, clip("own_s8")), 1, WANTED | {"own": 1})


@pytest.mark.parametrize("by", ["speaker", "clip"])
def test_identical_recordings_of_ravdess_stay_on_one_side(by: str, datasets: Path, tmp_path: Path) -> None:
    twins = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
    for actor in ("Actor_01", "Actor_07", "Actor_12", "Actor_13", "Actor_14", "Actor_15"):
        folder = datasets / "ravdess" / actor
        if not folder.is_dir():
            pytest.skip(f"no recordings at {folder}")
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / actor).mkdir()
        for path in folder.iterdir():
            if actor == "Actor_07" or path.stem.endswith(("01-01-01", "01-01-12", "01-01-13", "01-01-14", "01-01-15")):
                (tmp_path / "data" / actor / path.name).symlink_to(path)
    prepare(tmp_path / "data", tmp_path / "cache")
    clips = open_cache(tmp_path / "cache").clips
    first, second = (item for item in clips if item.stem in twins)
    assert first.sha256 == second.sha256
    splits: list[Split] = (
        split_by_clip_folds(clips, 1) if by == "clip" else [split_speakers(clips, fold, WANTED) for fold in (0, 1, 2)]
    )
    for split in splits:
        assert [len({first.key, second.key} & {item.key for item in side}) for side in split.sides.values()].count(
            2
        ) == 1


def test_list_keeps_the_clips_that_it_names(clip: Make, tmp_path: Path) -> None:
    def named(speaker: str, stem: str) -> Clip:
        return msgspec.structs.replace(clip(speaker), stem=stem)

    clips = [
        named("ravdess_19", "03-01-04-02-01-02-19"),
        named("savee_JE", "JE_n18"),
        named("savee_JE", "JE_n19"),
        named("tess_OAF", "OAF_get_sad"),
        named("own_s1", "takes/one.wav"),
        named("own_s1", "savee/DC/a01.wav"),
    ]
    path = tmp_path / "list.csv"
    path.write_text(
        "Emotions,Path\n"
        "unpleasant,audio_speech_actors_01-24/Actor_19/03-01-04-02-01-02-19.wav\n"
        "neutral,ALL/JE_n18.wav\n"
        "neutral,AudioData/JE/n18.wav\n"
        "unpleasant,set data/set data/OAF_Sad/OAF_get_sad.wav\n"
        "neutral,ALL/KL_n18.wav\n"
        "pleasant,./takes/one.wav\n"
        "pleasant,takes\\two.wav\n"
        "unpleasant,savee/DC/a01.wav\n"
    )
    listed = only_listed(clips, path)
    assert [item.stem for item in listed.clips] == [item.stem for item in clips if item.stem != "JE_n19"]
    assert listed.wanted == 7
    assert listed.absent == ("ALL/KL_n18.wav", "takes/two.wav")


def test_list_that_cannot_be_used_is_refused(clip: Make, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with pytest.raises(DataError, match=r"list\.csv: cannot be read \(No such file or directory\)"):
        only_listed([clip()], path)
    path.write_text("Emotions,File\nneutral,ALL/JE_n18.wav\n")
    with pytest.raises(DataError, match=r"list\.csv: line 1: no column path"):
        only_listed([clip()], path)
    path.write_text("Path\nALL/JE_n18.wav\n")
    with pytest.raises(DataError, match="none of its 1 recordings is at hand"):
        only_listed([clip()], path)

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.contract.decision import Label
from broker.contract.errors import SettingsError
from training.data.clips import Clip
from training.data.corpora import (
    CLASS_OF,
    CORPORA,
    EMOTION_WORDS,
    Emotion,
    Merge,
    corpora_in,
    relabel,
    title_of,
    trains,
)
from training.data.names import parse_name

Make = Callable[..., Clip]


@pytest.mark.parametrize(
    ("path", "speaker", "emotion", "sex"),
    [
        ("ravdess/Actor_01/03-01-01-01-01-01-01.flac", "ravdess_01", Emotion.NEUTRAL, "male"),
        ("Audio_Speech_Actors_01-24/Actor_24/03-01-02-02-02-02-24.wav", "ravdess_24", Emotion.NEUTRAL, "female"),
        ("Actor_07/03-01-08-01-02-01-07.wav", "ravdess_07", Emotion.SURPRISED, "male"),
        ("TESS/OAF_angry/OAF_back_angry.wav", "tess_OAF", Emotion.ANGRY, "female"),
        ("TESS/OAF_Pleasant_surprise/OAF_gap_ps.wav", "tess_OAF", Emotion.SURPRISED, "female"),
        ("TESS/YAF_pleasant_surprised/YAF_gap_ps.wav", "tess_YAF", Emotion.SURPRISED, "female"),
        ("TESS/OAF_neutral/OA_bite_neutral.wav", "tess_OAF", Emotion.NEUTRAL, "female"),
        ("SAVEE/ALL/DC_sa09.wav", "savee_DC", Emotion.SAD, "male"),
        ("AudioData/KL/su15.wav", "savee_KL", Emotion.SURPRISED, "male"),
        ("CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav", "cremad_1001", Emotion.ANGRY, None),
        ("AudioWAV/1091_IEO_FEA_HI.wav", "cremad_1091", Emotion.FEARFUL, None),
        ("1040_ITH_SAD_X.wav", "cremad_1040", Emotion.SAD, None),
        ("1064_IEO_DIS_MD.wav", "cremad_1064", None, None),
        ("wav/03a01Fa.wav", "emodb_03", Emotion.HAPPY, "male"),
        ("wav/16b10Wb.wav", "emodb_16", Emotion.ANGRY, "female"),
        ("wav/08a02Lc.wav", "emodb_08", None, "female"),
    ],
)
def test_name_official_layouts(path: str, speaker: str, emotion: Emotion | None, sex: str | None) -> None:
    name = parse_name(Path(path))
    assert name is not None
    assert (name.speaker, name.emotion, name.sex) == (speaker, emotion, sex)
    assert name.speaker.startswith(name.corpus)


@pytest.mark.parametrize(
    "path",
    [
        "Actor_01/03-02-01-01-01-01-01.wav",  # song
        "Actor_25/03-01-01-01-01-01-25.wav",
        "03-01-09-01-01-01-01.wav",
        "someone/a01.wav",
        "OAF_back_bored.wav",
        "07a01Fa.wav",
        "1000_DFA_ANG_XX.wav",
        "1092_DFA_ANG_XX.wav",
        "1001_ABC_ANG_XX.wav",
        "1001_DFA_SUR_XX.wav",
        "1001_DFA_ANG_ZZ.wav",
        "notes.wav",
    ],
)
def test_name_of_no_corpus(path: str) -> None:
    assert parse_name(Path(path)) is None


def test_name_savee_is_the_same_in_both_layouts() -> None:
    assert parse_name(Path("ALL/JE_n30.wav")) == parse_name(Path("AudioData/JE/n30.wav"))


def test_classes_cover_the_seven_emotions() -> None:
    assert set(CLASS_OF) == set(Emotion)
    assert set(CLASS_OF.values()) == {Label.PLEASANT, Label.NEUTRAL, Label.UNPLEASANT}


def test_official_sets_have_their_published_sizes() -> None:
    assert {corpus.key: sum(corpus.official.values()) for corpus in CORPORA} == {
        "ravdess": 1440,
        "tess": 2800,
        "savee": 480,
        "cremad": 7442,
        "emodb": 535,
    }
    assert [len(corpus.official) for corpus in CORPORA] == [24, 2, 4, 91, 10]


def test_corpora_come_in_official_order_and_then_by_name(clip: Make) -> None:
    clips = [clip(speaker) for speaker in ("shop_s1", "emodb_03", "car_s1", "cremad_1001", "tess_OAF", "shop_s2")]
    assert corpora_in(clips) == ("tess", "cremad", "emodb", "car", "shop")
    assert [title_of(corpus) for corpus in corpora_in(clips)] == ["TESS", "CREMA-D", "EMO-DB", "car", "shop"]
    assert [corpus for corpus in corpora_in(clips) if not trains(corpus)] == ["emodb"]


def test_every_emotion_has_its_own_name_among_the_words() -> None:
    assert all(EMOTION_WORDS[emotion] == emotion for emotion in Emotion)
    assert all(word == word.lower() for word in EMOTION_WORDS)


def test_default_merge_changes_no_label(clip: Make) -> None:
    clips = tuple(clip(emotion=emotion) for emotion in Emotion)
    assert relabel(clips, CLASS_OF) == clips


def test_merge_gives_labels_and_leaves_out_what_it_does_not_name(clip: Make) -> None:
    merge: Merge = {
        Emotion.HAPPY: Label.PLEASANT,
        Emotion.NEUTRAL: Label.NEUTRAL,
        Emotion.SURPRISED: Label.UNPLEASANT,
    }
    clips = relabel([clip(emotion=emotion) for emotion in Emotion], merge)
    assert {item.emotion: item.label for item in clips} == merge


def test_merge_without_a_class_is_refused(clip: Make) -> None:
    with pytest.raises(SettingsError, match="no emotion counts as neutral"):
        relabel([clip()], {Emotion.HAPPY: Label.PLEASANT, Emotion.SAD: Label.UNPLEASANT})
    with pytest.raises(SettingsError, match="sad = uncertain: allowed are pleasant, neutral, unpleasant"):
        relabel([clip()], CLASS_OF | {Emotion.SAD: Label.UNCERTAIN})

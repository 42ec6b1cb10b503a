from pathlib import Path

import pytest

from broker.contract.decision import Label
from training.corpora import CLASS_OF, CORPORA, Emotion, parse_name


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
        ("wav/03a01Fa.wav", "emodb_03", Emotion.HAPPY, "male"),
        ("wav/16b10Wb.wav", "emodb_16", Emotion.ANGRY, "female"),
        ("wav/08a02Lc.wav", "emodb_08", None, "female"),
    ],
)
def test_name_official_layouts(path: str, speaker: str, emotion: Emotion | None, sex: str) -> None:
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
        "emodb": 535,
    }

"""Names of the official recordings: from a path to corpus, speaker and emotion.

A corpus is recognised by its file names, never by the folders above them (SAVEE's per-speaker folders
excepted), so every way of unpacking the official archives is read: Kaggle's nested copies, TESS's folder
name variants, SAVEE flat under ALL/ or in one folder per speaker.
"""

import enum
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

from broker.contract.decision import Label

__all__ = ["CLASS_OF", "CORPORA", "Corpus", "Emotion", "Name", "parse_name"]

CorpusKey = Literal["ravdess", "tess", "savee", "emodb"]
Sex = Literal["female", "male"]


class Emotion(enum.StrEnum):
    """The seven emotions that the corpora share; RAVDESS's calm counts as neutral."""

    NEUTRAL = "neutral"
    HAPPY = "happy"
    SURPRISED = "surprised"
    ANGRY = "angry"
    FEARFUL = "fearful"
    DISGUST = "disgust"
    SAD = "sad"


CLASS_OF: Final = {
    Emotion.NEUTRAL: Label.NEUTRAL,
    Emotion.HAPPY: Label.PLEASANT,
    Emotion.SURPRISED: Label.PLEASANT,
    Emotion.ANGRY: Label.UNPLEASANT,
    Emotion.FEARFUL: Label.UNPLEASANT,
    Emotion.DISGUST: Label.UNPLEASANT,
    Emotion.SAD: Label.UNPLEASANT,
}
"""Which of the three classes an emotion belongs to."""


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording's name says about it."""

    corpus: CorpusKey
    speaker: str
    """`<corpus>_<speaker>`, unique among all corpora."""
    sex: Sex
    emotion: Emotion | None
    """None: the recording belongs to the official set but to none of the seven emotions (boredom)."""
    stem: str
    """Official name without suffix; SAVEE's carry the speaker, as in its flat layout."""


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """One official set."""

    key: CorpusKey
    """Short name, as it stands in speakers' names."""
    title: str
    trains: bool
    """Whether it may fit weights; False: for cross-corpus tests only."""
    official: dict[str, int]
    """Recordings per speaker in the complete set."""
    source: str


CORPORA: Final = (
    Corpus(
        key="ravdess",
        title="RAVDESS",
        trains=True,
        official={f"ravdess_{actor:02d}": 60 for actor in range(1, 25)},
        source="Livingstone and Russo 2018, Zenodo record 1188976, CC BY-NC-SA 4.0",
    ),
    Corpus(
        key="tess",
        title="TESS",
        trains=True,
        official={"tess_OAF": 1400, "tess_YAF": 1400},
        source="Pichora-Fuller and Dupuis 2020, doi 10.5683/SP2/E8H2MF, CC BY-NC-ND 4.0",
    ),
    Corpus(
        key="savee",
        title="SAVEE",
        trains=True,
        official={f"savee_{speaker}": 120 for speaker in ("DC", "JE", "JK", "KL")},
        source="Haq and Jackson 2009, University of Surrey, research only",
    ),
    Corpus(
        key="emodb",
        title="EMO-DB",
        trains=False,
        official={
            f"emodb_{speaker}": count
            for speaker, count in {
                "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
            }.items()
        },
        source="Burkhardt et al. 2005",
    ),
)  # fmt: skip

_RAVDESS: Final = re.compile(r"0[123]-01-(0[1-8])-0[12]-0[12]-0[12]-(0[1-9]|1\d|2[0-4])")  # channel 01: speech
_RAVDESS_EMOTIONS: Final = {
    "01": Emotion.NEUTRAL,
    "02": Emotion.NEUTRAL,
    "03": Emotion.HAPPY,
    "04": Emotion.SAD,
    "05": Emotion.ANGRY,
    "06": Emotion.FEARFUL,
    "07": Emotion.DISGUST,
    "08": Emotion.SURPRISED,
}
_TESS: Final = re.compile(r"(OAF|YAF|OA)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)
_TESS_EMOTIONS: Final = {
    "angry": Emotion.ANGRY,
    "disgust": Emotion.DISGUST,
    "fear": Emotion.FEARFUL,
    "happy": Emotion.HAPPY,
    "neutral": Emotion.NEUTRAL,
    "ps": Emotion.SURPRISED,
    "sad": Emotion.SAD,
}
_SAVEE_SPEAKERS: Final = frozenset({"DC", "JE", "JK", "KL"})
_SAVEE: Final = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d\d)", re.IGNORECASE)
_SAVEE_EMOTIONS: Final = {
    "a": Emotion.ANGRY,
    "d": Emotion.DISGUST,
    "f": Emotion.FEARFUL,
    "h": Emotion.HAPPY,
    "n": Emotion.NEUTRAL,
    "sa": Emotion.SAD,
    "su": Emotion.SURPRISED,
}
_EMODB: Final = re.compile(r"(03|08|09|1[0-6])[ab]\d\d([FWEATNL])[a-z]")
_EMODB_MEN: Final = frozenset({"03", "10", "11", "12", "15"})
_EMODB_EMOTIONS: Final = {
    "F": Emotion.HAPPY,
    "W": Emotion.ANGRY,
    "E": Emotion.DISGUST,
    "A": Emotion.FEARFUL,
    "T": Emotion.SAD,
    "N": Emotion.NEUTRAL,
    "L": None,  # boredom
}


def parse_name(path: Path) -> Name | None:
    """Return what the recording's name says, or None if it belongs to no known corpus."""
    for parse in (_ravdess, _tess, _savee, _emodb):
        if name := parse(path):
            return name
    return None


def _ravdess(path: Path) -> Name | None:
    if not (match := _RAVDESS.fullmatch(path.stem)):
        return None
    emotion, actor = match.groups()
    return Name(
        corpus="ravdess",
        speaker=f"ravdess_{actor}",
        sex="male" if int(actor) % 2 else "female",
        emotion=_RAVDESS_EMOTIONS[emotion],
        stem=path.stem,
    )


def _tess(path: Path) -> Name | None:
    if not (match := _TESS.fullmatch(path.stem)):
        return None
    speaker, _, emotion = match.groups()
    return Name(
        corpus="tess",
        speaker="tess_YAF" if speaker.upper() == "YAF" else "tess_OAF",  # OA_bite_neutral is official
        sex="female",
        emotion=_TESS_EMOTIONS[emotion.lower()],
        stem=path.stem,
    )


def _savee(path: Path) -> Name | None:
    if not (match := _SAVEE.fullmatch(path.stem)):
        return None
    speaker = (match.group(1) or path.parent.name).upper()
    if speaker not in _SAVEE_SPEAKERS:
        return None
    emotion = match.group(2).lower()
    return Name(
        corpus="savee",
        speaker=f"savee_{speaker}",
        sex="male",
        emotion=_SAVEE_EMOTIONS[emotion],
        stem=f"{speaker}_{emotion}{match.group(3)}",
    )


def _emodb(path: Path) -> Name | None:
    if not (match := _EMODB.fullmatch(path.stem)):
        return None
    speaker, emotion = match.groups()
    return Name(
        corpus="emodb",
        speaker=f"emodb_{speaker}",
        sex="male" if speaker in _EMODB_MEN else "female",
        emotion=_EMODB_EMOTIONS[emotion],
        stem=path.stem,
    )

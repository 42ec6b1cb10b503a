"""Names of the official recordings: from a path to corpus, speaker and emotion.

A corpus is recognised by its file names, never by the folders above them (SAVEE's per-speaker folders
excepted), so every way of unpacking the official archives is read: Kaggle's nested copies, TESS's folder
name variants, SAVEE flat under ALL/ or in one folder per speaker.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from training.data.corpora import CorpusKey, Emotion, Sex

__all__ = ["Name", "parse_name"]


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording before it is heard."""

    corpus: CorpusKey
    speaker: str
    """`<corpus>_<speaker>`, unique among all corpora."""
    sex: Sex | None
    """None: unknown."""
    emotion: Emotion | None
    """None: the recording belongs to the official set but to none of the seven emotions (boredom)."""
    stem: str
    """Official name without suffix (SAVEE's carry the speaker, as in its flat layout); path of a user's own."""


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
_CREMAD: Final = re.compile(
    r"(10(?:0[1-9]|[1-8]\d|9[01]))"  # actors 1001 to 1091
    r"_(?:IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)"
    r"_(ANG|DIS|FEA|HAP|NEU|SAD)"
    r"_(?:LO|MD|HI|XX?)"  # 1040_ITH_SAD_X is official
)
_CREMAD_EMOTIONS: Final = {
    "ANG": Emotion.ANGRY,
    "DIS": Emotion.DISGUST,
    "FEA": Emotion.FEARFUL,
    "HAP": Emotion.HAPPY,
    "NEU": Emotion.NEUTRAL,
    "SAD": Emotion.SAD,
}
_CREMAD_MIXED: Final = frozenset({"1064_IEO_DIS_MD"})
"""Official files that hold the sentence in several emotions one after another."""


def parse_name(path: Path) -> Name | None:
    """Return what the recording's name says, or None if it belongs to no known corpus."""
    for parse in (_ravdess, _tess, _savee, _cremad, _emodb):
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


def _cremad(path: Path) -> Name | None:
    if not (match := _CREMAD.fullmatch(path.stem)):
        return None
    actor, emotion = match.groups()
    return Name(
        corpus="cremad",
        speaker=f"cremad_{actor}",
        sex=None,  # a table beside the recordings says it, never the name
        emotion=None if path.stem in _CREMAD_MIXED else _CREMAD_EMOTIONS[emotion],
        stem=path.stem,
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

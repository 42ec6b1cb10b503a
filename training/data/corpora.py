"""The corpora: which there are, how large they are when complete, and what their emotions mean.

Official sets are listed in `CORPORA`. A user's own recordings make further corpora, named by the user
(`training.data.recordings`); whatever orders, titles or selects corpora asks `corpora_in`, `title_of` and `trains`.
"""

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from broker.contract.decision import CLASSES, Label
from broker.contract.errors import SettingsError

if TYPE_CHECKING:
    from training.data.clips import Clip  # which stands on this module

__all__ = [
    "CLASS_OF",
    "CORPORA",
    "EMOTION_WORDS",
    "Corpus",
    "CorpusKey",
    "Emotion",
    "Merge",
    "OfCorpus",
    "Sex",
    "corpora_in",
    "official",
    "relabel",
    "title_of",
    "trains",
]

CorpusKey = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
"""Short name of a corpus; without underscore, so that it ends where the speaker begins in `<corpus>_<speaker>`."""
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


Merge = dict[Emotion, Label]
"""Which class an emotion counts as; an emotion that is not named is left out."""

CLASS_OF: Final[Merge] = {
    Emotion.NEUTRAL: Label.NEUTRAL,
    Emotion.HAPPY: Label.PLEASANT,
    Emotion.SURPRISED: Label.PLEASANT,
    Emotion.ANGRY: Label.UNPLEASANT,
    Emotion.FEARFUL: Label.UNPLEASANT,
    Emotion.DISGUST: Label.UNPLEASANT,
    Emotion.SAD: Label.UNPLEASANT,
}
"""The default merge: all seven emotions, three classes."""

EMOTION_WORDS: Final = {
    **{str(emotion): emotion for emotion in Emotion},
    "calm": Emotion.NEUTRAL,
    "happiness": Emotion.HAPPY,
    "joy": Emotion.HAPPY,
    "surprise": Emotion.SURPRISED,
    "anger": Emotion.ANGRY,
    "fear": Emotion.FEARFUL,
    "afraid": Emotion.FEARFUL,
    "disgusted": Emotion.DISGUST,
    "sadness": Emotion.SAD,
}
"""Words by which a user may name an emotion, in lower case."""


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """One official set."""

    key: CorpusKey
    """Short name, as it stands in speakers' names."""
    title: str
    """As reports print it."""
    trains: bool
    """Whether it may fit weights; False: for cross-corpus tests only."""
    official: dict[str, int]
    """Recordings per speaker in the complete set."""
    source: str
    """Whose it is, where it is, and its licence."""


_CREMAD_FEWER: Final = {1002: 81, 1008: 76, 1009: 76, 1019: 76, 1076: 81}
"""Actors with fewer recordings than the others' 82. Source: the corpus's own list, SentenceFilenames.csv."""

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
        key="cremad",
        title="CREMA-D",
        trains=True,
        official={f"cremad_{actor}": _CREMAD_FEWER.get(actor, 82) for actor in range(1001, 1092)},
        source="Cao et al. 2014, doi 10.1109/TAFFC.2014.2336244, ODbL 1.0",
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

_BY_KEY: Final = {corpus.key: corpus for corpus in CORPORA}


class OfCorpus(Protocol):
    """Whatever belongs to a corpus: a clip, or the name of a recording."""

    @property
    def corpus(self) -> str:
        """Short name."""


def official(corpus: str) -> Corpus | None:
    """Return the official set of that name; None: it is a user's own."""
    return _BY_KEY.get(corpus)


def title_of(corpus: str) -> str:
    """Return the corpus's name as reports print it; a user's own is called as the user calls it."""
    return _BY_KEY[corpus].title if corpus in _BY_KEY else corpus


def trains(corpus: str) -> bool:
    """Return whether the corpus may fit weights; a user's own may."""
    return corpus not in _BY_KEY or _BY_KEY[corpus].trains


def corpora_in(items: Iterable[OfCorpus]) -> tuple[str, ...]:
    """Return the corpora of the items, each once: the official ones in the order of `CORPORA`, others by name."""
    here = {item.corpus for item in items}
    return (*(key for key in _BY_KEY if key in here), *sorted(here - _BY_KEY.keys()))


def relabel(clips: "Iterable[Clip]", merge: Merge) -> "tuple[Clip, ...]":
    """Return the clips with the labels of a merge, without those whose emotion it does not name.

    Raises:
        SettingsError: a class gets no emotion, or an emotion gets what is no class.
    """
    for emotion, label in merge.items():
        if label not in CLASSES:
            msg = f"merge: {emotion} = {label}: allowed are {', '.join(CLASSES)}"
            raise SettingsError(msg)
    for label in CLASSES:
        if label not in merge.values():
            msg = f"merge: no emotion counts as {label}; name one at least of {', '.join(Emotion)}"
            raise SettingsError(msg)
    return tuple(msgspec.structs.replace(clip, label=merge[clip.emotion]) for clip in clips if clip.emotion in merge)

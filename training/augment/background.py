"""What is heard behind a training clip: coloured noise, or babble, which is other training clips all at once.

Whoever makes a crowd decides who may be heard in training. It is made of the training side of a split and of nothing
else: a validation or test speaker in the background would leak.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from training.augment.noise import active_rms, hiss
from training.data.clips import Clip, digest

__all__ = ["Crowd", "babble", "gather"]

Samples = npt.NDArray[np.float32]

_TALKERS: Final = 6


class Crowd(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Clips that may babble behind training clips, and how to hear them."""

    clips: tuple[Clip, ...]
    """Sorted by content, so that the order in which a split lists them changes nothing."""
    read: Callable[[Clip], Samples]
    """From a clip to its samples, shape (n,), float32."""
    digest: str
    """Of whose clips these are: crowds of equal digest babble alike."""


def gather(clips: Sequence[Clip], read: Callable[[Clip], Samples]) -> Crowd:
    """Return the crowd that clips make; they must all stand on the training side."""
    ordered = sorted(clips, key=lambda clip: (clip.sha256, clip.speaker))
    told = msgspec.json.encode([(clip.sha256, clip.speaker) for clip in ordered])
    return Crowd(clips=tuple(ordered), read=read, digest=digest(told))


def babble(length: int, clip: Clip, crowd: Crowd, random: np.random.Generator) -> Samples:
    """Return six talkers at equal active level, as noise of unit power, shape (length,), float32.

    Each is heard from a random place on and over again. They are other speakers than the clip's where there are any,
    fewer where there are no six; where nobody else is there at all, it is pink noise.

    Args:
        length: samples wanted, at 16 kHz.
        clip: behind which they babble.
        crowd: who may.
        random: source of the choice.
    """
    others = [other for other in crowd.clips if other.speaker != clip.speaker]
    others = others or [other for other in crowd.clips if other.sha256 != clip.sha256]
    total = np.zeros(length, dtype=np.float64)
    for index in random.choice(len(others), min(_TALKERS, len(others)), replace=False) if others else ():
        voice = crowd.read(others[index])
        shifted = np.roll(voice, -int(random.integers(len(voice))))  # else the pauses that clips begin with add up
        total += np.resize(shifted, length) / max(active_rms(voice), 1e-9)
    power = float(np.mean(total**2))
    if power == 0:
        return hiss(length, "pink", random)
    return np.asarray(total / np.sqrt(power), dtype=np.float32)

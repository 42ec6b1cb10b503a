"""Noise on clips: white, pink and babble, a stated number of decibels below the speech.

Speech counts by its ACTIVE level, so that the pauses of a clip do not make its noise quieter. A clip's noise is seeded
by its content, so a clip sounds the same whatever else is in the collection. Babble is the exception: it is made of
other clips, and another collection holds others.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from training.data.clips import RATE_HZ, Clip, Collection
from training.data.synthetic import Colour as Hiss
from training.data.synthetic import noise

__all__ = ["COLOURS", "LEVELS_DB", "Colour", "active_rms", "add_noise", "describe", "hiss", "noises", "talkers"]

Samples = npt.NDArray[np.float32]
Colour = Literal["white", "pink", "babble"]

COLOURS: Final[tuple[Colour, ...]] = ("white", "pink", "babble")
LEVELS_DB: Final = (20, 10, 5)
"""Decibels from the noise's level up to the active speech level."""

_HEARD_FROM_HZ: Final = 50.0
"""Nearly all power of brown noise, and half of that of pink, lies below, where neither speech nor a front-end is."""
_TALKERS: Final = 6
_SYLLABLES_HZ: Final = 4.0
_BLOCK: Final = 320
"""20 ms at 16 kHz."""


def active_rms(samples: Samples) -> float:
    """Return the root mean square over the louder half of 20 ms blocks of samples, shape (n,), at 16 kHz."""
    blocks = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    if len(blocks) == 0:
        blocks = samples.reshape(1, -1)
    power = np.sort(np.mean(blocks.astype(np.float64) ** 2, axis=1))
    return float(np.sqrt(np.mean(power[len(power) // 2 :])))


def add_noise(samples: Samples, unit: Samples, below_db: float) -> Samples:
    """Return speech, shape (n,), with noise of unit power, shape (n,), that many dB below the active speech level."""
    return samples + unit * np.float32(active_rms(samples) / 10 ** (below_db / 20))


def hiss(length: int, colour: Hiss, random: np.random.Generator) -> Samples:
    """Return noise of unit power, all of it above 50 Hz, shape (length,), float32, at 16 kHz."""
    period = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(noise(period, colour, random))
    spectrum[np.fft.rfftfreq(period, 1 / RATE_HZ) < _HEARD_FROM_HZ] = 0
    unit = np.fft.irfft(spectrum, period)[:length]
    return np.asarray(unit / np.sqrt(np.mean(unit**2)), dtype=np.float32)


def noises(clip: Clip, length: int, collection: Collection) -> dict[Colour, Samples]:
    """Return a clip's noise of each colour, shape (length,), float32, of unit power.

    Args:
        clip: whose content seeds the noise and chooses who babbles.
        length: samples wanted, at 16 kHz.
        collection: where the babble comes from.
    """
    white, pink, babble = (_random(clip, number) for number in range(len(COLOURS)))
    return {
        "white": hiss(length, "white", white),
        "pink": hiss(length, "pink", pink),
        "babble": _babble(clip, length, collection, babble),
    }


def talkers(clip: Clip, clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Return the clips that babble behind a clip: six, chosen by its content, whatever the order of the clips.

    They are other speakers' where there are any, and fewer where there are no six.
    """
    others = [other for other in clips if other.sha256 != clip.sha256]
    pool = [other for other in others if other.speaker != clip.speaker] or others
    pool.sort(key=attrgetter("sha256", "key"))
    chosen = _random(clip, len(COLOURS)).choice(len(pool), min(_TALKERS, len(pool)), replace=False)
    return tuple(pool[index] for index in chosen)


def describe(clips: Sequence[Clip]) -> str:
    """Return what is added to the clips of a collection, and of what the babble is made, in words."""
    one_each = {clip.speaker: clip for clip in clips}
    least = min(len(talkers(clip, clips)) for clip in one_each.values())
    if least == 0:
        babble = f"pink noise that swells {_SYLLABLES_HZ:g} times a second, as there is no other clip"
    else:
        whose = "other speakers" if len(one_each) > 1 else "the same speaker, the only one here"
        count = f"{_TALKERS}" if least == _TALKERS else f"{least} to {_TALKERS}, as there are no more,"
        babble = f"{count} other clips at once, of {whose}"
    levels = ", ".join(map(str, LEVELS_DB))
    return (
        f"white and pink (above {_HEARD_FROM_HZ:g} Hz) and babble in turn, {levels} dB below the active speech level "
        f"(RMS of the louder half of 20 ms blocks); figures pool the three; babble: {babble}"
    )


def _random(clip: Clip, number: int) -> np.random.Generator:
    return np.random.default_rng((number, int(clip.sha256[:16], 16)))


def _babble(clip: Clip, length: int, collection: Collection, random: np.random.Generator) -> Samples:
    """Return talkers at equal active level, each from a random place on and over again, as noise of unit power."""
    total = np.zeros(length, dtype=np.float64)
    for talker in talkers(clip, collection.clips):
        voice = collection.read(talker)
        shifted = np.roll(voice, -int(random.integers(len(voice))))  # else the pauses that clips begin with add up
        total += np.resize(shifted, length) / max(active_rms(voice), 1e-9)
    power = float(np.mean(total**2))
    if power == 0:  # nobody else, or the stretch cut out of them is silent
        swell = 1 + np.sin(2 * np.pi * (_SYLLABLES_HZ * np.arange(length) / RATE_HZ + random.random()))
        total = hiss(length, "pink", random) * swell
        power = float(np.mean(total**2))
    return np.asarray(total / np.sqrt(power), dtype=np.float32)

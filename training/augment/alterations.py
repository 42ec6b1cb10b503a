"""One alteration of a clip: its figures are drawn first, then it is made.

What happens to the sound happens in the order of the world: the talker, the room, the room's noise, the microphone's
gain. The phase vocoder is librosa's, which is a dependency already: audiomentations draws from the global random
state, so its copies would depend on what else is being made.
"""

from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import soxr

from broker.contract.windows import WindowSpec
from training.augment.background import Crowd, babble
from training.augment.noise import active_rms, hiss
from training.augment.rooms import impulse_response, reverberate
from training.augment.view_settings import Copy, Room
from training.data.clips import RATE_HZ, Clip
from training.data.synthetic import Colour

__all__ = ["Alteration", "alter", "draw_alteration", "pad"]

Samples = npt.NDArray[np.float32]

_MARGIN_S: Final = 0.25
"""Silence kept free on both sides of a clip, so that a drawn window may begin before or end after the speech."""

_VOCODER_SAMPLES: Final = 1024
"""The phase vocoder's frame: 64 ms, as long as four periods of the lowest voice."""


class Alteration(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to one clip, in figures."""

    speed: float
    """Of playing; pitch, formants and time move together."""
    stretch: float
    """Rate of time alone; below 1 is slower."""
    pitch_semitones: float
    """Shift of pitch, formants along, at the same pace."""
    tilt_db: float
    """Of the spectrum, from one end of the band to the other."""
    room: tuple[float, float] | None
    """Reverberation time in seconds, direct-to-reverberant ratio in dB."""
    noise: Colour | Literal["babble"] | None
    snr_db: float
    """Active speech to noise; of no account without noise."""
    gain_db: float
    """Change of level."""


def draw_alteration(copy: Copy, random: np.random.Generator) -> Alteration:
    """Return what becomes of one clip; the same number of draws whatever the copy, so that settings do not interact."""
    speed, colour, stretch, semitones, tilt, reverberation, direct, snr, gain = random.random(9).tolist()
    room = copy.room if isinstance(copy.room, Room) else Room()
    return Alteration(
        speed=copy.speeds[int(speed * len(copy.speeds))],
        stretch=_between(copy.stretch, stretch),
        pitch_semitones=_between(copy.pitch_semitones, semitones),
        tilt_db=_between((-copy.tilt_db, copy.tilt_db), tilt),
        room=(_between(room.reverberation_s, reverberation), _between(room.direct_db, direct)) if copy.room else None,
        noise=copy.noise[int(colour * len(copy.noise))] if copy.noise else None,
        snr_db=_between(copy.snr_db, snr),
        gain_db=_between(copy.gain_db, gain),
    )


def alter(
    samples: Samples, clip: Clip, alteration: Alteration, window: WindowSpec, crowd: Crowd, random: np.random.Generator
) -> Samples:
    """Return an altered clip, padded to more than one window, float32, within full scale.

    A gain that would take it beyond full scale takes it to full scale: no sample is clipped.

    Args:
        samples: shape (n,), float32, at 16 kHz.
        clip: whose they are.
        alteration: what to do.
        window: the window that will be drawn from it.
        crowd: who babbles, where the noise is babble.
        random: source of the tail of the room and of the noise.
    """
    altered = _tilt(_voice(samples, alteration), alteration.tilt_db)
    level = active_rms(altered)  # before the padding, which would count as pauses
    if alteration.room is not None:
        altered = reverberate(altered, impulse_response(*alteration.room, random))
    altered = pad(altered, window)
    if alteration.noise is not None:
        if alteration.noise == "babble":
            unit = babble(len(altered), clip, crowd, random)
        else:
            unit = hiss(len(altered), alteration.noise, random)
        altered = altered + unit * np.float32(level / 10 ** (alteration.snr_db / 20))
    gain, peak = np.float32(10 ** (alteration.gain_db / 20)), np.abs(altered).max()
    return altered / peak if gain * peak > 1 else altered * gain


def pad(samples: Samples, window: WindowSpec) -> Samples:
    """Return the samples with silence on both sides, more than one window long."""
    margin = round(_MARGIN_S * RATE_HZ)
    return np.pad(samples, (margin, margin + max(0, window.length_samples - len(samples))))


def _between(ends: tuple[float, float], place: float) -> float:
    low, high = ends
    return low + (high - low) * place


def _voice(samples: Samples, alteration: Alteration) -> Samples:
    """Return the samples played faster, then stretched, then moved in pitch; as they are where nothing is asked."""
    if alteration.speed != 1:
        samples = soxr.resample(samples, RATE_HZ * alteration.speed, RATE_HZ)
    if alteration.stretch != 1 or alteration.pitch_semitones != 0:
        import librosa  # noqa: PLC0415  # takes seconds to import, and few experiments need it

        length = round(len(samples) / alteration.stretch)
        least = round(_VOCODER_SAMPLES * max(1, alteration.stretch)) + 1
        samples = np.pad(samples, (0, max(0, least - len(samples))))
        if alteration.stretch != 1:
            samples = librosa.effects.time_stretch(samples, rate=alteration.stretch, n_fft=_VOCODER_SAMPLES)
        if alteration.pitch_semitones != 0:
            steps = alteration.pitch_semitones
            samples = librosa.effects.pitch_shift(samples, sr=RATE_HZ, n_steps=steps, n_fft=_VOCODER_SAMPLES)
        samples = samples[:length]
    return np.asarray(samples, dtype=np.float32)


def _tilt(samples: Samples, total_db: float) -> Samples:
    """Return the samples with a spectrum tilted linearly in dB over log frequency, 100 Hz to half the rate."""
    if total_db == 0:
        return samples
    length = 1 << (2 * len(samples) - 1).bit_length()  # room for the filter's tail, and quick to transform
    spectrum = np.fft.rfft(samples, length)
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 100)
    place = np.log(frequency / 100) / np.log(RATE_HZ / 2 / 100) - 0.5
    tilted = np.fft.irfft(spectrum * 10 ** (total_db * place / 20), length)[: len(samples)]
    return np.asarray(tilted, dtype=np.float32)

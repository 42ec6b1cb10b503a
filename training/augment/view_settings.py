"""`[views]` of an experiment: what is altered in the copies of a training clip, and what is varied per draw."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.contract.errors import SettingsError

__all__ = ["Copy", "Room", "Views"]

Share = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Rate = Annotated[float, Meta(ge=0.25, le=4)]
Semitones = Annotated[float, Meta(ge=-24, le=24)]
Decibels = Annotated[float, Meta(ge=-60, le=60)]
Seconds = Annotated[float, Meta(ge=0.01, le=10)]


class Room(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A room's echo, drawn anew for each clip."""

    reverberation_s: tuple[Seconds, Seconds] = (0.15, 0.7)
    """Shortest and longest time in which the echo falls by 60 dB."""
    direct_db: tuple[Decibels, Decibels] = (2.0, 12.0)
    """Lowest and highest ratio of direct to reverberant sound."""


class Copy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One altered copy of each training clip: what is drawn, by the clip's own seed. The defaults alter nothing."""

    speeds: Annotated[tuple[Annotated[float, Meta(ge=0.5, le=2)], ...], Meta(min_length=1)] = (1.0,)
    """Playing speeds to choose from; pitch, formants and time move together."""
    stretch: tuple[Rate, Rate] = (1.0, 1.0)
    """Lowest and highest rate of time alone; below 1 is slower."""
    pitch_semitones: tuple[Semitones, Semitones] = (0.0, 0.0)
    """Lowest and highest shift of pitch, formants along, at the same pace."""
    tilt_db: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """Spectrum tilts by up to this much either way across the band, as another microphone would."""
    room: bool | Room = False
    """Whether it sounds in a room, or in which."""
    noise: tuple[Literal["white", "pink", "brown", "babble"], ...] = ()
    """Colours to choose from, one named twice twice as often; none: no noise. Babble is other training clips."""
    snr_db: tuple[Decibels, Decibels] = (0.0, 25.0)
    """Lowest and highest ratio of active speech to noise."""
    gain_db: tuple[Decibels, Decibels] = (0.0, 0.0)
    """Lowest and highest change of level; none goes beyond full scale."""


_SPEEDS: Final = (0.9, 0.95, 1.0, 1.05, 1.1)
_COLOURS: Final = ("white", "pink", "brown", "babble", "babble")
_GAIN_DB: Final = (-10.0, 6.0)


class Views(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="product"):
    """Views of each training clip, the clean one and altered copies, and what is varied each time one is drawn."""

    copies: tuple[Copy, ...] = (
        Copy(speeds=(0.9,), gain_db=_GAIN_DB),
        Copy(speeds=(1.1,), gain_db=_GAIN_DB),
        Copy(speeds=_SPEEDS, noise=_COLOURS, gain_db=_GAIN_DB),
        Copy(speeds=_SPEEDS, noise=_COLOURS, gain_db=_GAIN_DB),
        Copy(speeds=_SPEEDS, room=True, gain_db=_GAIN_DB),
        Copy(speeds=_SPEEDS, room=True, noise=_COLOURS, gain_db=_GAIN_DB),
    )
    """Made once and kept. The clean clip is always a view, too."""
    edges: Share = 0.0
    """Share of the windows of which a random part at the start, at the end or at both, two thirds at most, is silenced,
    as if the talker had just begun or stopped."""
    pitch_dropout: Share = 0.0
    """Share of the windows whose pitch columns are set to their mean."""
    channel: NonNegative = 0.2
    """Standard deviation of a constant added to each normalised coefficient of a window: a channel's colour."""
    time_masks: Annotated[int, Meta(ge=0)] = 2
    """Stretches of frames set to the mean (SpecAugment)."""
    time_mask_share: Share = 0.15
    """Longest stretch, as a share of the window."""
    coefficient_masks: Annotated[int, Meta(ge=0)] = 1
    """Runs of coefficients set to the mean."""
    coefficient_mask_share: Share = 0.2
    """Longest run, as a share of the coefficients."""

    def __post_init__(self) -> None:
        """Refuse copies that contradict themselves.

        Raises:
            SettingsError: the message names the copy, the setting and the value.
        """
        for number, copy in enumerate(self.copies):
            where = f"views.copies[{number}]"
            if copy == Copy():
                msg = f"{where} alters nothing: give it one of {', '.join(Copy.__struct_fields__)}, or leave it out"
                raise SettingsError(msg)
            if not copy.noise and copy.snr_db != Copy().snr_db:
                msg = f"{where}.snr_db = {list(copy.snr_db)}: there is no noise; give {where}.noise, too"
                raise SettingsError(msg)
            _check_rising(copy, where, "stretch", "pitch_semitones", "snr_db", "gain_db")
            if isinstance(copy.room, Room):
                _check_rising(copy.room, f"{where}.room", "reverberation_s", "direct_db")


def _check_rising(settings: Copy | Room, where: str, *ranges: str) -> None:
    for name in ranges:
        low, high = getattr(settings, name)
        if not low <= high:
            msg = f"{where}.{name} = {[low, high]}: the first cannot be above the second"
            raise SettingsError(msg)

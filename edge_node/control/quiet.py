"""Quiet hours: times of the week, by the clock on the wall, in which a node does not listen.

A change to or from summer time needs no rule of its own: what counts is what the clock shows. An hour that it shows
twice is quiet both times, one that it skips is not missed.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from broker.contract.errors import SettingsError

__all__ = ["Period", "end_words", "minutes_left", "read_period"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY
_PATTERN: Final = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? +)?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


class Period(msgspec.Struct, frozen=True):
    """Quiet hours of some days, in minutes."""

    days: tuple[int, ...]
    """On which it begins; 0 is Monday."""
    start: int
    """After midnight."""
    length: int


def read_period(text: str) -> Period:
    """Return what `22:00-06:30`, `mon-fri 22:00-06:30` or `sat 00:00-24:00` says; weekdays are those of the beginning.

    Raises:
        SettingsError: it says nothing of the kind.
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise _mistake(text)
    first, last, *clock = found.groups()
    hours, minutes, end_hours, end_minutes = map(int, clock)
    start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
    if max(minutes, end_minutes) > 59 or start >= _DAY or end > _DAY or start == end:  # noqa: PLR2004 -- of an hour
        raise _mistake(text)
    if {first, last} - {None, *_DAYS}:
        raise _mistake(text)
    days: tuple[int, ...] = tuple(range(7))
    if first is not None:
        begin = _DAYS.index(first)
        days = tuple((begin + more) % 7 for more in range((_DAYS.index(last or first) - begin) % 7 + 1))
    return Period(days=days, start=start, length=(end - start) % _DAY or _DAY)


def minutes_left(periods: Sequence[Period], now: datetime) -> int | None:
    """Return for how many minutes on the clock it stays quiet, a week when it always does; None: it is not quiet.

    Args:
        periods: quiet hours; where one begins before another ends, they are one.
        now: what the clock on the wall shows.
    """
    minute = now.weekday() * _DAY + now.hour * 60 + now.minute
    left = 0
    while left < _WEEK and (more := _longest(periods, (minute + left) % _WEEK)):
        left += more
    return min(left, _WEEK) or None


def end_words(now: datetime, left: int) -> str:
    """Return when it ends, as in `until 06:30`, from what the clock shows now and how many minutes are left."""
    if left >= _WEEK:
        return "always"
    end = now.weekday() * _DAY + now.hour * 60 + now.minute + left
    day = f"{_NAMES[end // _DAY % 7]} " if left >= _DAY else ""
    return f"until {day}{end // 60 % 24:02d}:{end % 60:02d}"


def _longest(periods: Sequence[Period], minute: int) -> int:
    """Return what is left of the period that ends last of those that hold at a minute of the week; 0: none does."""
    gone = [(each, (minute - day * _DAY - each.start) % _WEEK) for each in periods for day in each.days]
    return max((each.length - since for each, since in gone if since < each.length), default=0)


def _mistake(text: str) -> SettingsError:
    return SettingsError(
        f"mute.quiet_hours {text!r}: write '22:00-06:30', or 'mon-fri 22:00-06:30' with the days on which it begins; "
        "all day is '00:00-24:00'"
    )

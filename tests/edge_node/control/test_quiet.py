"""Quiet hours: what a person may write, and which moments they hold."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.errors import SettingsError
from edge_node.control.quiet import end_words, minutes_left, read_period

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = 7 * 24 * 60


def _said(now: str, *periods: str) -> str | None:
    """Return what is said at a moment of the week of Monday, 2026-01-05; None: it is not quiet."""
    day, clock = now.split()
    number = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day)
    moment = datetime.fromisoformat(f"2026-01-{5 + number:02d} {clock}")
    left = minutes_left([read_period(each) for each in periods], moment)
    return None if left is None else end_words(moment, left)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("mon 21:59:59", None),
        ("mon 22:00:00", "until 06:30"),
        ("mon 23:59:59", "until 06:30"),
        ("tue 00:00:00", "until 06:30"),
        ("tue 06:29:59", "until 06:30"),
        ("tue 06:30:00", None),
        ("sun 23:00:00", "until 06:30"),
    ],
)
def test_quiet_hours_cross_midnight(now: str, said: str | None) -> None:
    assert _said(now, "22:00-06:30") == said


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("mon 05:00", None),  # of Sunday, on which none begins
        ("mon 22:00", "until 06:30"),
        ("sat 06:00", "until 06:30"),  # began on Friday
        ("sat 22:00", None),
    ],
)
def test_quiet_hours_of_some_days_are_those_on_which_they_begin(now: str, said: str | None) -> None:
    assert _said(now, "mon-fri 22:00-06:30") == said


def test_quiet_hours_of_days_that_cross_the_week() -> None:
    for day in ("fri", "sat", "sun", "mon"):
        assert _said(f"{day} 12:00", "fri-mon 11:00-13:00") == "until 13:00"
    assert _said("tue 12:00", "fri-mon 11:00-13:00") is None
    assert _said("wed 12:00", "wed 11:00-13:00") == "until 13:00"


def test_quiet_hours_that_touch_are_one() -> None:
    assert _said("mon 21:30", "21:00-23:00", "22:00-24:00", "00:00-05:00") == "until 05:00"
    assert _said("sat 10:00", "sat 00:00-24:00", "sun 00:00-20:15") == "until Sunday 20:15"
    assert _said("sun 23:30", "sun 23:00-24:00", "mon 00:00-05:00") == "until 05:00"
    assert _said("mon 12:00", "00:00-24:00") == "always"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00",
        "22-6",
        "22:00-22:00",
        "24:00-06:00",
        "22:00-24:01",
        "22:60-06:00",
        "22:00-06:60",
        "mon,tue 22:00-06:00",
        "Mon 22:00-06:00",
        "mon- 22:00-06:00",
        "day 22:00-06:00",
        "mon-fry 22:00-06:00",
        "22:00-06:30\n",
        "٢٢:00-06:00",
    ],
)
def test_quiet_hours_that_say_nothing_are_a_mistake(text: str) -> None:
    with pytest.raises(SettingsError, match=r"mute\.quiet_hours .*: write '22:00-06:30'"):
        read_period(text)


@given(
    st.sampled_from(["", "mon ", "mon-fri ", "sat-sun ", "sun-tue "]),
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.integers(0, WEEK - 1),
)
def test_quiet_hours_are_what_a_week_of_minutes_says(days: str, start: int, end: int, minute: int) -> None:
    if start == end:
        return
    period = read_period(f"{days}{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}")
    week = [False] * WEEK
    for day in period.days:
        for each in range(start, end if end > start else end + 1440):
            week[(day * 1440 + each) % WEEK] = True
    now = datetime(2026, 1, 5 + minute // 1440, minute // 60 % 24, minute % 60)  # noqa: DTZ001 -- a clock on the wall
    left = minutes_left([period], now)
    assert (left is not None) == week[minute]
    if left is not None and left < WEEK:
        assert not week[(minute + left) % WEEK]
        assert all(week[(minute + each) % WEEK] for each in range(left))


def _at(utc: str) -> datetime:
    return datetime.fromisoformat(f"{utc}+00:00").astimezone(BERLIN)


def test_quiet_hours_go_by_the_clock_on_the_wall_when_summer_time_begins_and_ends() -> None:
    night = [read_period("22:00-06:30")]
    for utc, left in (
        ("2026-03-29T00:59", 271),  # 01:59, a minute before 03:00
        ("2026-03-29T01:00", 210),  # 03:00
        ("2026-03-29T04:29", 1),
        ("2026-03-29T04:30", None),
        ("2026-10-25T00:30", 240),  # 02:30 for the first time
        ("2026-10-25T01:30", 240),  # and for the second
        ("2026-10-25T05:29", 1),
        ("2026-10-25T05:30", None),
    ):
        assert minutes_left(night, _at(utc)) == left, utc
    skipped = [read_period("02:15-02:45")]
    assert minutes_left(skipped, _at("2026-03-29T01:00")) is None
    assert minutes_left([read_period("02:15-03:30")], _at("2026-03-29T01:00")) == 30, "it began at 02:15, not shown"
    for utc in ("2026-10-25T00:20", "2026-10-25T01:20"):
        assert minutes_left(skipped, _at(utc)) == 25, "an hour that comes twice is quiet twice"

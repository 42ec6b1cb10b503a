"""Ages, times and quantities in words. Pure."""

from datetime import UTC, datetime, tzinfo
from typing import Final

__all__ = ["NOTHING", "ago", "clock_time", "decibels", "mebibytes", "milliseconds", "percent", "plural", "seconds"]

NOTHING: Final = "\N{EN DASH}"
"""For what is not known."""
_S: Final = 1_000_000
_THIN: Final = "\N{NARROW NO-BREAK SPACE}"


def ago(age_us: int) -> str:
    """Return an age in words, in its largest unit."""
    seconds = max(0, age_us) // _S
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name} ago"
    return "just now" if seconds < 1 else f"{seconds} s ago"


def milliseconds(us: float) -> str:
    """Return a duration in ms, to two or three significant digits."""
    value = us / 1000
    for limit, decimals in ((1, 2), (10, 1)):
        if value < limit:
            return f"{value:.{decimals}f} ms"
    return f"{value:,.0f} ms"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{share:.0%}".replace("%", _THIN + "%")


def clock_time(us: int, zone: tzinfo, now_us: int) -> str:
    """Return the time of day; with the date when that is not today's."""
    try:
        then = datetime.fromtimestamp(us / _S, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return "impossible time"
    today = datetime.fromtimestamp(now_us / _S, UTC).astimezone(zone).date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M:%S}"


def plural(count: int, what: str) -> str:
    """Return a count of things."""
    ending = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{ending}"


def seconds(us: int) -> str:
    """Return a duration in its largest unit: how long something has waited."""
    value = us / _S
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= unit:
            return f"{value / unit:.0f}{_THIN}{name}"
    return f"{value:.1f}{_THIN}s"


def decibels(level_dbfs: float) -> str:
    """Return a level, with a real minus sign."""
    return f"{level_dbfs:.0f}{_THIN}dBFS".replace("-", "\N{MINUS SIGN}")


def mebibytes(size_bytes: int) -> str:
    """Return a size of memory."""
    return f"{size_bytes / 2**20:,.0f}{_THIN}MiB"

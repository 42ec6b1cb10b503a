"""What all charts share: ECharts options. Colours are CSS variables, so that a theme needs no new options.

Strings from the network never enter: nodes, labels and stages are words of the contract. Tooltips are drawn as
text, not as HTML, all the same.
"""

from typing import Any, Final

__all__ = ["BASE", "LINE", "MUTED", "TEXT", "Options", "time_axis"]

Options = dict[str, Any]

TEXT: Final = "var(--sv-text)"
MUTED: Final = "var(--sv-muted)"
LINE: Final = "var(--sv-line)"
BASE: Final[Options] = {
    "animation": False,
    "textStyle": {"fontFamily": "inherit", "color": TEXT},
    "tooltip": {
        "renderMode": "richText",
        "confine": True,
        "backgroundColor": "var(--sv-raised)",
        "borderColor": LINE,
        "textStyle": {"color": TEXT, "fontSize": 12},
    },
}
_TIME_FORMATS: Final = {
    "year": "{yyyy}",
    "month": "{MMM} {d}",
    "day": "{MMM} {d}",
    "hour": "{HH}:{mm}",
    "minute": "{HH}:{mm}",
    "second": "{HH}:{mm}:{ss}",
    "millisecond": "{HH}:{mm}:{ss}",
}


def time_axis(from_us: int, until_us: int) -> Options:
    """Return the axis of a stretch of time."""
    return {
        "type": "time",
        "min": from_us // 1000,
        "max": until_us // 1000,
        "axisLine": {"lineStyle": {"color": LINE}},
        "axisTick": {"lineStyle": {"color": LINE}},
        "axisLabel": {"color": MUTED, "fontSize": 12, "hideOverlap": True, "formatter": _TIME_FORMATS},
        "splitLine": {"show": True, "lineStyle": {"color": LINE, "opacity": 0.6}},
        "splitNumber": 5,
    }

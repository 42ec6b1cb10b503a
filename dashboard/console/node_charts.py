"""What the charts about one node's condition are told, each a few lines or bars over one span. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from dashboard.console.chart_looks import BASE, LINE, MUTED, Options, time_axis
from dashboard.console.condition import Figures, increases
from dashboard.console.readings import Span

__all__ = ["NODE_CHARTS", "Look", "NodeChart", "Series", "node_options"]

_GAP_BUCKETS: Final = 3
"""A line is broken where nothing was heard for longer than this."""

Values = Callable[[Sequence[Figures]], Iterable[float | None]]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a series is drawn; two of one chart differ in more than their colour."""

    colour: str
    """A CSS variable of the style sheet."""
    is_bar: bool = False
    dashes: str = "solid"
    opacity: float = 1.0


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line, or the bars of one kind."""

    name: str
    values: Values
    look: Look


class NodeChart(msgspec.Struct, frozen=True, kw_only=True):
    """One chart."""

    title: str
    how: str
    """What a reader could misunderstand; empty: nothing."""
    series: tuple[Series, ...]
    unit: str = ""
    most: float | None = None
    """End of the axis; None: as the values need. It begins at 0."""
    around: float | None = None
    """For values that have no zero: the axis begins and ends at the multiples of this around them."""


def _each(read: Callable[[Figures], float | None]) -> Values:
    return lambda figures: [read(each) for each in figures]


def _share(count: Callable[[Figures], int]) -> Values:
    """Return a count of windows as percent of all of them."""
    return _each(lambda each: 100 * count(each) / each.windows if each.windows else None)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


_LINE: Final = Look(colour="--sv-accent")
_SECOND: Final = Look(colour="--sv-warn", dashes="dashed")
_THIRD: Final = Look(colour="--sv-bad", dashes="dotted")
_BARS: Final = Look(colour="--sv-accent", is_bar=True)

NODE_CHARTS: Final = (
    NodeChart(
        title="Windows",
        how="Silent: too quiet. No speech: loud enough, and set aside by the speech gate.",
        unit="%",
        most=100,
        series=(
            Series(name="classified", values=_share(lambda each: each.classified), look=_BARS),
            Series(
                name="no speech",
                values=_share(lambda each: each.gated),
                look=Look(colour="--sv-warn", is_bar=True, opacity=0.75),
            ),
            Series(
                name="silent",
                values=_share(lambda each: each.silent),
                look=Look(colour="--sv-line", is_bar=True),
            ),
        ),
    ),
    NodeChart(
        title="Drift",
        how="Of few windows, divergence is large by chance: compare hours.",
        most=1,
        series=(
            Series(name="confidence", values=_each(lambda each: each.mean_confidence), look=_LINE),
            Series(name="entropy", values=_each(lambda each: each.mean_entropy), look=_SECOND),
            Series(name="divergence", values=_each(lambda each: each.divergence), look=_THIRD),
        ),
    ),
    NodeChart(
        title="Level",
        how="Mean of the windows.",
        unit="dBFS",
        around=10,
        series=(Series(name="level", values=_each(lambda each: each.level_dbfs), look=_LINE),),
    ),
    NodeChart(
        title="Overdriven windows",
        how="",
        unit="%",
        most=100,
        series=(Series(name="overdriven", values=_share(lambda each: each.clipped), look=_BARS),),
    ),
    NodeChart(
        title="Messages in the outbox",
        how="The most in each interval.",
        series=(Series(name="messages", values=_each(lambda each: each.outbox_depth), look=_LINE),),
    ),
    NodeChart(
        title="Age of the oldest of them",
        how="",
        unit="s",
        series=(Series(name="age", values=_each(lambda each: _scaled(each.outbox_age_us, 1e-6)), look=_LINE),),
    ),
    NodeChart(
        title="Lost blocks, reconnects",
        how="",
        series=(
            Series(
                name="blocks of audio lost",
                values=lambda figures: increases([each.dropped_blocks for each in figures]),
                look=Look(colour="--sv-bad", is_bar=True),
            ),
            Series(
                name="reconnects",
                values=lambda figures: increases([each.reconnects for each in figures]),
                look=_BARS,
            ),
        ),
    ),
    NodeChart(
        title="Processor",
        how="",
        unit="\N{DEGREE SIGN}C",
        series=(
            Series(name="temperature", values=_each(lambda each: each.temperature_c), look=_LINE),
            Series(
                name="slowed down",
                values=_each(lambda each: (each.temperature_c or 0.0) if each.throttled else None),
                look=Look(colour="--sv-bad", is_bar=True, opacity=0.35),
            ),
        ),
    ),
)


def node_options(chart: NodeChart, figures: Sequence[Figures], span: Span, now_us: int, *, utc: bool) -> Options:
    """Return a chart of one node; without anything to draw, one without series."""
    until_us = (now_us // span.bucket_us + 1) * span.bucket_us  # so that the axis moves on when figures come
    drawn = [(each, list(each.values(figures))) for each in chart.series]
    has_any = any(value is not None for _, values in drawn for value in values)
    stack = sum(each.look.is_bar for each in chart.series) == len(chart.series)
    return BASE | {
        "useUTC": utc,
        "aria": {"enabled": False},
        "grid": {"left": 46, "right": 12, "top": 12, "bottom": 24},
        "tooltip": {"show": False},
        "xAxis": time_axis(until_us - span.length_us, until_us) | {"splitNumber": 3},
        "yAxis": {
            "type": "value",
            **_ends(chart),
            "minInterval": 0 if chart.unit or chart.most else 1,
            "splitNumber": 3,
            "interval": None if chart.most is None else chart.most / 2,
            "axisLabel": {"color": MUTED, "fontSize": 12},
            "splitLine": {"lineStyle": {"color": LINE, "opacity": 0.6}},
        },
        "series": [_drawn(each, values, figures, span, stack=stack) for each, values in drawn] if has_any else [],
    }


def _ends(chart: NodeChart) -> Options:
    if chart.around is None:
        return {"min": 0, "max": chart.most}
    step = chart.around
    return {
        "scale": True,
        ":min": f"(range) => Math.floor(range.min / {step}) * {step}",
        ":max": f"(range) => Math.ceil(range.max / {step} + 0.01) * {step}",
    }


def _drawn(
    series: Series, values: Sequence[float | None], figures: Sequence[Figures], span: Span, *, stack: bool
) -> Options:
    look, colour = series.look, f"var({series.look.colour})"
    drawn: Options = {"name": series.name, "silent": True, "emphasis": {"disabled": True}}
    stretches = list(_stretches(values, figures, span))
    if look.is_bar:
        return drawn | {
            "type": "bar",
            "data": [point for stretch in stretches for point in stretch],
            "stack": "all" if stack else None,
            "barMaxWidth": 14,
            "itemStyle": {"color": colour, "opacity": look.opacity},
        }
    data: list[Any] = []
    for stretch in stretches:
        if len(stretch) == 1:  # a line of one point is seen by its mark only
            data.append({"value": stretch[0], "symbol": "circle"})
        else:
            data += stretch
        data.append([stretch[-1][0] + 1, None])
    return drawn | {
        "type": "line",
        "data": data[:-1],
        "symbol": "none",
        "symbolSize": 4,
        "itemStyle": {"color": colour},
        "lineStyle": {"color": colour, "width": 1.75, "type": look.dashes},
    }


def _stretches(values: Sequence[float | None], figures: Sequence[Figures], span: Span) -> Iterator[list[list[float]]]:
    """Yield the points between gaps: ms since 1970 of the middle of a bucket, and the value."""
    stretch: list[list[float]] = []
    last_us = 0
    for each, value in zip(figures, values, strict=True):
        if value is None:
            continue
        if stretch and each.from_us - last_us > _GAP_BUCKETS * span.bucket_us:
            yield stretch
            stretch = []
        stretch.append([(each.from_us + span.bucket_us // 2) // 1000, round(value, 4)])
        last_us = each.from_us
    if stretch:
        yield stretch

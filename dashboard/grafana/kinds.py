"""The kinds of panels that the dashboard is made of, each with its one query."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMapping

from dashboard.grafana.queries import SOURCE, Target

__all__ = ["heatmap_of", "number", "series", "shares", "states", "table_of"]

_TELEMETRY_INTERVAL: Final = "10s"


def shares(title: str, query: str, colours: Mapping[str, str], width: int) -> timeseries.Panel:
    """Return counts as stacked shares of 100 %, a colour for each column of the query."""
    panel = (
        series(title, query, "short", width, alias="$col")
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(100)
        .line_width(0)
        .stacking(build.StackingConfig().mode(common.StackingMode.PERCENT).group("shares"))
    )
    for name, colour in colours.items():
        value = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [DynamicConfigValue("color", value)])
    return panel


def states(title: str, query: str, mappings: list[ValueMapping], width: int) -> statetimeline.Panel:
    """Return a lane per node with the state that it was in."""
    return (
        statetimeline.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(Target(query))
        .interval(_TELEMETRY_INTERVAL)
        .mappings(mappings)
        .merge_values(merge_values=True)
        .show_value(common.VisibilityMode.AUTO)
        .span(width)
        .height(8)
    )


def series(title: str, query: str, unit: str, width: int, *, alias: str | None = None) -> timeseries.Panel:
    """Return lines over time."""
    target = Target(query) if alias is None else Target(query, alias=alias)
    return (
        timeseries.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(target)
        .interval(_TELEMETRY_INTERVAL)
        .unit(unit)
        .show_points(common.VisibilityMode.AUTO)
        .span(width)
        .height(8)
    )


def number(title: str, query: str, width: int, *, alias: str | None = None) -> stat.Panel:
    """Return one number per node."""
    target = Target(query) if alias is None else Target(query, alias=alias)
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(target)
        .reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.NONE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .span(width)
        .height(6)
    )


def table_of(title: str, query: str) -> table.Panel:
    """Return a row per node."""
    return table.Panel().title(title).datasource(SOURCE).with_target(Target(query, shape="table")).height(8)


def heatmap_of(title: str, query: str, width: int) -> heatmap.Panel:
    """Return histograms over time: a column of the query is a bin, the lowest first."""
    return (
        heatmap.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(Target(query, alias="$col"))
        .interval(_TELEMETRY_INTERVAL)
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
        .span(width)
        .height(8)
    )

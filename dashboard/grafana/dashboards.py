"""The dashboard "Sottovoce": what the rooms feel, how long it takes to know, and whether everything arrives.

Every panel has one query and says in its description what a reader could misunderstand.
"""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboard.grafana import queries
from dashboard.grafana.looks import COLOURS, coloured_cells, label_mappings, online_mappings, state_mappings
from dashboard.grafana.queries import SOURCE, Target

__all__ = ["FILE", "dashboard_json"]

FILE: Final = Path(__file__).with_name("dashboards") / "sottovoce.json"

_TELEMETRY_INTERVAL: Final = "10s"
_WIDE, _HALF, _THIRD, _QUARTER = 24, 12, 8, 6
_ALL: Final = ".*"


def dashboard_json() -> str:
    """Return the dashboard as Grafana reads it, keys sorted."""
    dashboard = (
        Dashboard("Sottovoce")
        .uid("sottovoce")
        .description("Emotion in speech, latency and delivery. Nodes send labels and numbers, never audio.")
        .tags(["sottovoce"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(_variable("site", queries.SITES))
        .with_variable(_variable("node", queries.NODES))
    )
    for title, panels in _rows().items():
        dashboard.with_row(Row(title))
        for panel in panels:
            dashboard.with_panel(panel)
    built = dashboard.build()
    for number, each in enumerate(built.panels or [], start=1):
        each.id_val = number  # links to a panel hold it
    for variable in built.templating.list_val or []:
        variable.auto = variable.auto_min = variable.auto_count = None  # belong to variables of intervals only
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _rows() -> dict[str, list[Builder[Panel]]]:
    return {
        "Emotion": [_label_now(), _label(), _windows(), _events(), _confidence()],
        "Latency": _latencies(),
        "Delivery": _deliveries(),
        "Nodes": [_status(), _heard(), *_loads()],
        "Models": [_updates(), _models()],
    }


def _label_now() -> table.Panel:
    return (
        _table("Emotion now", queries.LABEL_NOW)
        .description("The last label of each node within the time range shown.")
        .span(_THIRD)
        .override_by_name("label", [coloured_cells(), DynamicConfigValue("mappings", label_mappings())])
        .override_by_name("confidence", [DynamicConfigValue("unit", "percentunit")])
    )


def _label() -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title("Emotion")
        .description("The last label of each interval. A gap is silence: nodes repeat their label while speech lasts.")
        .datasource(SOURCE)
        .with_target(Target(queries.LABEL))
        .interval(_TELEMETRY_INTERVAL)
        .mappings(label_mappings())
        .merge_values(merge_values=True)
        .show_value(common.VisibilityMode.AUTO)
        .span(_WIDE - _THIRD)
        .height(8)
    )


def _windows() -> timeseries.Panel:
    panel = (
        _series("Share of labels", queries.WINDOWS, "short", _HALF, alias="$col")
        .description("Windows with speech by label, as the nodes count them: evenly spaced, unlike events.")
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(100)
        .line_width(0)
        .stacking(build.StackingConfig().mode(common.StackingMode.PERCENT).group("labels"))
    )
    for label, colour in COLOURS.items():
        value = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(label.value, [DynamicConfigValue("color", value)])
    return panel


def _events() -> timeseries.Panel:
    return (
        _series("Events per minute", queries.EVENTS_PER_MINUTE, "short", _QUARTER)
        .description(
            "At each change of the label and every 5 s while speech lasts: also a measure of how much is said."
        )
        .interval("1m")
        .min(0)
    )


def _confidence() -> timeseries.Panel:
    return (
        _series("Confidence", queries.CONFIDENCE, "percentunit", _QUARTER)
        .description("Mean over the events of an interval.")
        .min(0)
        .max(1)
    )


def _latencies() -> list[Builder[Panel]]:
    return [
        _series("From sound to label", queries.TOTAL, "µs", _THIRD, alias="$col").description(
            "From the capture of a window's last sample to the decided label. Exact: computed from every event."
        ),
        _series("Stages, p50", queries.STAGE_P50, "µs", _THIRD, alias="$tag_stage").description(
            "The median of the nodes' own medians: a guide, not the median of all windows."
        ),
        _series("Stages, p95", queries.STAGE_P95, "µs", _THIRD, alias="$tag_stage").description(
            "The worst p95 that any node reported for any of its 10 s: an upper bound of the p95 of all windows."
        ),
    ]


def _deliveries() -> list[Builder[Panel]]:
    return [
        _series("Outbox depth", queries.OUTBOX_DEPTH, "short", _THIRD)
        .description("Messages that wait on the node for the broker's acknowledgement; the most in an interval.")
        .min(0),
        _series("Outbox age", queries.OUTBOX_AGE, "µs", _THIRD)
        .description("Age of the oldest message that waits.")
        .min(0),
        _series("Dead letters", queries.DEAD_LETTERS, "short", _THIRD, alias="dead letters")
        .description("Messages that broke the contract, or that the store refused. Of the whole system.")
        .min(0),
        _number("Events missing", queries.MISSING, _THIRD).description(
            "Gaps in the count of each node's events within the time range: lost on the way, or dropped by a full "
            "outbox. Meaningless over the moment when a node got a new outbox file."
        ),
        _number("Events dropped by outboxes", queries.DROPPED, _THIRD).description(
            "What the nodes say they threw away because their outbox was full. Missing less dropped is lost."
        ),
        _number("Blocks of audio lost", queries.BLOCKS, _THIRD).description(
            "The pipeline was too slow or the device overran."
        ),
    ]


def _status() -> table.Panel:
    return (
        _table("Status", queries.STATUS)
        .description("The last status of each node, whatever the time range. A node is there when it is also heard.")
        .span(_WIDE - _QUARTER)
        .override_by_name("online", [coloured_cells(), DynamicConfigValue("mappings", online_mappings())])
    )


def _heard() -> stat.Panel:
    return _number("Nodes heard in the last 30 s", queries.HEARD, _QUARTER, alias="nodes").description(
        "Nodes with telemetry in the last 30 s; they send it every 10 s."
    )


def _loads() -> list[Builder[Panel]]:
    return [
        _series("Processor", queries.CPU, "percentunit", _THIRD).description(
            "CPU seconds per second; 100 % is one core."
        ),
        _series("Memory", queries.MEMORY, "bytes", _THIRD).description("Resident memory of the node's program."),
        _series("Temperature", queries.TEMPERATURE, "celsius", _THIRD).description("Of the processor, where it tells."),
    ]


def _updates() -> table.Panel:
    return (
        _table("Model updates", queries.UPDATES)
        .description(
            "The last update report of each node within a year: which release, how far, why not. A trial's windows "
            "are those loud enough to classify, and those of them that both models gave the same label."
        )
        .span(_WIDE - _THIRD)
        .override_by_name("state", [coloured_cells(), DynamicConfigValue("mappings", state_mappings())])
        .override_by_name("progress", [DynamicConfigValue("unit", "percentunit")])
    )


def _models() -> table.Panel:
    fields = {"model": {"operation": "groupby"}, "node": {"operation": "aggregate", "aggregations": ["count"]}}
    return (
        _table("Nodes by model", queries.MODELS)
        .description("On how many nodes each model runs, by their last status within a year, there or not.")
        .span(_THIRD)
        .with_transformation(DataTransformerConfig(id_val="groupBy", options={"fields": fields}))
        .override_by_name("node (count)", [DynamicConfigValue("displayName", "nodes")])
    )


def _series(title: str, query: str, unit: str, width: int, *, alias: str | None = None) -> timeseries.Panel:
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


def _number(title: str, query: str, width: int, *, alias: str | None = None) -> stat.Panel:
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


def _table(title: str, query: str) -> table.Panel:
    return table.Panel().title(title).datasource(SOURCE).with_target(Target(query, shape="table")).height(8)


def _variable(name: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(name)
        .datasource(SOURCE)
        .query(query)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(_ALL)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )

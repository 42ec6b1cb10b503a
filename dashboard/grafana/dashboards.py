"""The dashboard "Sottovoce": what the rooms feel, how long it takes to know, and whether everything arrives.

Every panel has one query and says in its description what a reader could misunderstand.
"""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
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
from dashboard.grafana.kinds import heatmap_of, number, series, shares, states, table_of
from dashboard.grafana.looks import (
    COLOURS,
    GATE_COLOURS,
    capture_mappings,
    coloured_cells,
    label_mappings,
    online_mappings,
    problem_mappings,
    slowed_mappings,
    state_mappings,
)
from dashboard.grafana.queries import SOURCE

__all__ = ["FILE", "dashboard_json"]

FILE: Final = Path(__file__).with_name("dashboards") / "sottovoce.json"

_WIDE, _HALF, _THIRD, _QUARTER = 24, 12, 8, 6
_ALL: Final = ".*"
_COLOURS: Final = {label.value: colour for label, colour in COLOURS.items()}


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
    for index, each in enumerate(built.panels or [], start=1):
        each.id_val = index  # links to a panel hold it
    for variable in built.templating.list_val or []:
        variable.auto = variable.auto_min = variable.auto_count = None  # belong to variables of intervals only
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _rows() -> dict[str, list[Builder[Panel]]]:
    return {
        "Emotion": [_label_now(), _label(), _windows(), _events(), _confidence()],
        "Latency": _latencies(),
        "Sound": _sounds(),
        "Drift": _drifts(),
        "Delivery": _deliveries(),
        "Nodes": [_status(), _heard(), *_loads()],
        "Models": [_updates(), _models()],
    }


def _label_now() -> table.Panel:
    return (
        table_of("Emotion now", queries.LABEL_NOW)
        .description("The last label of each node within the time range shown.")
        .span(_THIRD)
        .override_by_name("label", [coloured_cells(), DynamicConfigValue("mappings", label_mappings())])
        .override_by_name("confidence", [DynamicConfigValue("unit", "percentunit")])
    )


def _label() -> statetimeline.Panel:
    return states("Emotion", queries.LABEL, label_mappings(), _WIDE - _THIRD).description(
        "The last label of each interval. A gap is silence: nodes repeat their label while speech lasts."
    )


def _windows() -> timeseries.Panel:
    return shares("Share of labels", queries.WINDOWS, _COLOURS, _HALF).description(
        "Windows with speech by label, as the nodes count them: evenly spaced, unlike events."
    )


def _events() -> timeseries.Panel:
    return (
        series("Events per minute", queries.EVENTS_PER_MINUTE, "short", _QUARTER)
        .description(
            "At each change of the label and every 5 s while speech lasts: also a measure of how much is said."
        )
        .interval("1m")
        .min(0)
    )


def _confidence() -> timeseries.Panel:
    return (
        series("Confidence", queries.CONFIDENCE, "percentunit", _QUARTER)
        .description("Mean over the events of an interval.")
        .min(0)
        .max(1)
    )


def _latencies() -> list[Builder[Panel]]:
    return [
        series("From sound to label", queries.TOTAL, "µs", _THIRD, alias="$col").description(
            "From the capture of a window's last sample to the decided label. Exact: computed from every event."
        ),
        series("Stages, p50", queries.STAGE_P50, "µs", _THIRD, alias="$tag_stage").description(
            "The median of the nodes' own medians: a guide, not the median of all windows."
        ),
        series("Stages, p95", queries.STAGE_P95, "µs", _THIRD, alias="$tag_stage").description(
            "The worst p95 that any node reported for any of its 10 s: an upper bound of the p95 of all windows."
        ),
        heatmap_of("From sound to label, all windows", queries.DISTRIBUTION, _WIDE).description(
            "How many classified windows took how long, by the upper bound of each bin: the nodes' histograms added "
            "up. Nodes of before they had any are not in it."
        ),
    ]


def _sounds() -> list[Builder[Panel]]:
    return [
        shares("Speech gate", queries.GATE, GATE_COLOURS, _HALF).description(
            "Silent: too quiet to be speech. No speech: loud enough, and set aside by the speech gate. Only what is "
            "left is classified."
        ),
        states("Capture", queries.CAPTURE, capture_mappings(), _HALF).description(
            "Whether each node hears. A node that is muted, or has no sound, goes on sending this."
        ),
        states("Problems with the sound", queries.PROBLEM, problem_mappings(), _HALF).description(
            "What is wrong, while it is; nothing, while all is well."
        ),
        series("Level", queries.LEVEL, "dBFS", _QUARTER).description(
            "Mean of the nodes' means; 0 dBFS is a full-scale square wave."
        ),
        series("Overdriven windows", queries.CLIPPED, "percentunit", _QUARTER)
        .description("Share of all windows in which the input clipped. Lower the gain where it is not rare.")
        .min(0)
        .max(1),
        number("Sound begun anew", queries.BEGUN_ANEW, _WIDE).description(
            "How often nodes restarted the stream, opened the device again or looked for all devices."
        ),
    ]


def _drifts() -> list[Builder[Panel]]:
    return [
        series("Confidence of the likeliest class", queries.DRIFT_CONFIDENCE, "percentunit", _THIRD)
        .description("Before smoothing; mean over the intervals with speech. It falls when rooms or people are new.")
        .min(0)
        .max(1),
        series("Entropy", queries.DRIFT_ENTROPY, "percentunit", _THIRD)
        .description("How evenly the model spreads its probabilities; 100 % is no opinion at all.")
        .min(0)
        .max(1),
        series("Divergence from the training", queries.DRIFT_DIVERGENCE, "percentunit", _THIRD)
        .description(
            "Between the classes heard and those of the training, 0 alike, 100 % nothing in common. Of ten seconds it "
            "is large by chance: compare hours. Nothing where the bundle tells no prior."
        )
        .min(0)
        .max(1),
    ]


def _deliveries() -> list[Builder[Panel]]:
    return [
        series("Outbox depth", queries.OUTBOX_DEPTH, "short", _THIRD)
        .description("Messages that wait on the node for the broker's acknowledgement; the most in an interval.")
        .min(0),
        series("Outbox age", queries.OUTBOX_AGE, "µs", _THIRD)
        .description("Age of the oldest message that waits.")
        .min(0),
        series("Dead letters", queries.DEAD_LETTERS, "short", _THIRD, alias="dead letters")
        .description("Messages that broke the contract, or that the store refused. Of the whole system.")
        .min(0),
        number("Events missing", queries.MISSING, _QUARTER).description(
            "Gaps in the count of each node's events within the time range: lost on the way, or dropped by a full "
            "outbox. Meaningless over the moment when a node got a new outbox file."
        ),
        number("Events dropped by outboxes", queries.DROPPED, _QUARTER).description(
            "What the nodes say they threw away because their outbox was full. Missing less dropped is lost."
        ),
        number("Blocks of audio lost", queries.BLOCKS, _QUARTER).description(
            "The pipeline was too slow or the device overran."
        ),
        number("Reconnects", queries.RECONNECTS, _QUARTER).description("Connections to the broker after the first."),
    ]


def _status() -> table.Panel:
    return (
        table_of("Status", queries.STATUS)
        .description("The last status of each node, whatever the time range. A node is there when it is also heard.")
        .span(_WIDE - _QUARTER)
        .override_by_name("online", [coloured_cells(), DynamicConfigValue("mappings", online_mappings())])
    )


def _heard() -> stat.Panel:
    return number("Nodes heard in the last 30 s", queries.HEARD, _QUARTER, alias="nodes").description(
        "Nodes with telemetry in the last 30 s; they send it every 10 s."
    )


def _loads() -> list[Builder[Panel]]:
    return [
        series("Processor", queries.CPU, "percentunit", _THIRD).description(
            "CPU seconds per second; 100 % is one core."
        ),
        series("Memory", queries.MEMORY, "bytes", _THIRD).description("Resident memory of the node's program."),
        series("Temperature", queries.TEMPERATURE, "celsius", _THIRD).description("Of the processor, where it tells."),
        states("Processor slowed down", queries.THROTTLED, slowed_mappings(), _WIDE).description(
            "For heat or low voltage; nothing where the system does not tell."
        ),
    ]


def _updates() -> table.Panel:
    return (
        table_of("Model updates", queries.UPDATES)
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
        table_of("Nodes by model", queries.MODELS)
        .description("On how many nodes each model runs, by their last status within a year, there or not.")
        .span(_THIRD)
        .with_transformation(DataTransformerConfig(id_val="groupBy", options={"fields": fields}))
        .override_by_name("node (count)", [DynamicConfigValue("displayName", "nodes")])
    )


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

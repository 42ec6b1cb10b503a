"""What the charts about all nodes are told: the timeline, the latency of the stages, the share of the labels. Pure."""

import json
from collections.abc import Sequence
from typing import Final

from broker.contract.decision import Label
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.chart_looks import BASE, LINE, MUTED, TEXT, Options, time_axis
from dashboard.console.looks import fill
from dashboard.console.readings import History, StageLatency
from dashboard.console.timeline import mean_stages, segments, shares
from dashboard.console.wording import milliseconds

__all__ = ["LANE_PX", "ROW_PX", "STAGE_PX", "latency_options", "share_options", "timeline_options"]

LANE_PX: Final = 56
ROW_PX: Final = 56
STAGE_PX: Final = 28
_LABELS: Final = tuple(Label)
_DRAW_SEGMENT: Final = """(params, api) => {
  const lane = api.value(0), label = api.value(3), area = params.coordSys;
  const from = api.coord([api.value(1), lane]), until = api.coord([api.value(2), lane]);
  const left = Math.max(from[0], area.x), right = Math.min(until[0], area.x + area.width);
  if (right <= left) return null;
  const place = [-14, 0, 14, 0][label], height = [11, 11, 11, 3][label];
  return {type: "rect", style: {fill: FILLS[label]},
    shape: {x: left, y: from[1] + place - height / 2, width: Math.max(right - left, 2), height, r: 2}};
}""".replace("FILLS", json.dumps([fill(label) for label in _LABELS]))


def timeline_options(history: History, nodes: Sequence[NodeId], *, utc: bool) -> Options:
    """Return a lane per node; in it pleasant is above, unpleasant below, neutral between, uncertain a thin line."""
    lanes = {node: index for index, node in enumerate(nodes)}
    data = [
        [lanes[each.node], each.from_us // 1000, each.until_us // 1000, _LABELS.index(each.label)]
        for each in segments(history)
        if each.node in lanes
    ]
    return BASE | {
        "useUTC": utc,
        "aria": {"enabled": False},
        "grid": {"left": 92, "right": 16, "top": 8, "bottom": 28},
        "tooltip": BASE["tooltip"]
        | {
            ":formatter": f"(p) => {json.dumps(_LABELS)}[p.value[3]] + ', ' + "
            "Math.round((p.value[2] - p.value[1]) / 1000) + ' s'"
        },
        "xAxis": time_axis(history.until_us - history.span.length_us, history.until_us),
        "yAxis": _categories([_two_lines(node) for node in nodes], "rich")
        | {"splitLine": {"show": True, "lineStyle": {"color": LINE, "opacity": 0.6}}},
        "series": [
            {
                "type": "custom",
                ":renderItem": _DRAW_SEGMENT,
                "encode": {"x": [1, 2], "y": 0},
                "data": data,
                "emphasis": {"disabled": True},
            }
        ],
    }


def latency_options(stages: Sequence[StageLatency], node: NodeId | None) -> Options:
    """Return p50 as bars and p95 as marks on a logarithmic axis, a row per stage; `node` None: the mean of all."""
    found = mean_stages(stages, node)
    names = [stage.value for stage in Stage if stage in found]
    bars = [
        {"value": _on_log(p50), "itemStyle": {"opacity": 1 if stage is Stage.TOTAL else 0.55}}
        for stage, (p50, _) in found.items()
    ]
    marks = [
        {
            "value": [_on_log(p95), stage.value],
            "label": {"formatter": f"{milliseconds(p50)} / {milliseconds(p95)}"},
        }
        for stage, (p50, p95) in found.items()
    ]
    return BASE | {
        "grid": {"left": 84, "right": 118, "top": 6, "bottom": 26},
        "tooltip": {"show": False},
        "xAxis": {
            "type": "log",
            "min": _LEAST_MS,
            "startValue": _LEAST_MS,
            "axisLabel": {
                "color": MUTED,
                "hideOverlap": True,
                ":formatter": "(v) => v >= 1000 ? v / 1000 + ' s' : v + ' ms'",
            },
            "splitLine": {"lineStyle": {"color": LINE, "opacity": 0.6}},
            "minorSplitLine": {"show": False},
        },
        "yAxis": _categories(names, "plain"),
        "series": [
            {
                "type": "bar",
                "data": bars,
                "barWidth": 12,
                "itemStyle": {"color": "var(--sv-accent)", "borderRadius": [0, 3, 3, 0]},
                "emphasis": {"disabled": True},
                "silent": True,
            },
            {
                "type": "scatter",
                "data": marks,
                "symbol": "rect",
                "symbolSize": [3, 20],
                "itemStyle": {"color": TEXT, "opacity": 1},
                "label": {"show": True, "position": "right", "distance": 8, "color": TEXT, "fontSize": 12},
                "clip": False,
                "emphasis": {"disabled": True},
                "silent": True,
            },
        ],
    }


def share_options(history: History, nodes: Sequence[NodeId]) -> Options:
    """Return the labels' shares of the windows with speech, a stacked bar per node."""
    counts = shares(history)
    shown = [node for node in nodes if node in counts]
    series = []
    for label in _LABELS:
        portions = [100 * counts[node][label] / sum(counts[node].values()) for node in shown]
        data = [
            {"value": round(portion, 2), "label": {"show": portion >= _ROOM_FOR_TEXT, "formatter": f"{portion:.0f}%"}}
            for portion in portions
        ]
        series.append(
            {
                "name": label.value,
                "type": "bar",
                "stack": "all",
                "barWidth": 26,
                "data": data,
                "itemStyle": {"color": fill(label), "borderColor": "var(--sv-surface)", "borderWidth": 1},
                "label": {"position": "inside", "color": "#10151b", "fontSize": 12, "fontWeight": 600},
                "emphasis": {"disabled": True},
            }
        )
    return BASE | {
        "grid": {"left": 92, "right": 16, "top": 6, "bottom": 26},
        "tooltip": BASE["tooltip"] | {":formatter": "(p) => p.seriesName + ': ' + p.value.toFixed(1) + ' %'"},
        "xAxis": {
            "type": "value",
            "max": 100,
            "axisLabel": {"color": MUTED, "formatter": "{value} %"},
            "splitLine": {"lineStyle": {"color": LINE, "opacity": 0.6}},
        },
        "yAxis": _categories([_two_lines(node) for node in shown], "rich"),
        "series": series,
    }


_LEAST_MS: Final = 0.01
_ROOM_FOR_TEXT: Final = 9


def _on_log(us: float) -> float:
    """Return ms, no less than the axis shows."""
    return max(us / 1000, _LEAST_MS)


def _two_lines(node: NodeId) -> str:
    return f"{{node|{node.node}}}\n{{site|{node.site}}}"


def _categories(names: list[str], kind: str) -> Options:
    label: Options = {"color": TEXT, "width": 80, "overflow": "truncate", "interval": 0}
    if kind == "rich":
        label["rich"] = {
            "node": {"color": TEXT, "fontWeight": 600, "fontSize": 12, "lineHeight": 16, "align": "right"},
            "site": {"color": MUTED, "fontSize": 11, "lineHeight": 14, "align": "right"},
        }
    return {
        "type": "category",
        "data": names,
        "inverse": True,
        "axisTick": {"show": False},
        "axisLine": {"lineStyle": {"color": LINE}},
        "axisLabel": label,
    }

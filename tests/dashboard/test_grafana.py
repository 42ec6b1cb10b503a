"""The dashboard is current, and every query of it gives the right numbers on a real InfluxDB."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from broker.contract.condition import (
    CaptureProblem,
    CaptureReport,
    CaptureState,
    Context,
    Drift,
    Exemption,
    MuteSource,
    Quantiles,
)
from broker.contract.decision import Label
from broker.contract.messages import EventLatency, Stage, StatusReason
from broker.contract.updates import TrialFigures, UpdateState
from dashboard.collector.influx_store import InfluxStore
from dashboard.collector.records import DeadLetter, Record, dead_letter
from dashboard.grafana import dashboards
from dashboard.grafana.__main__ import main
from dashboard.grafana.dashboards import FILE, dashboard_json
from dashboard.grafana.looks import COLOURS

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

_FOLDER: Final = Path(dashboards.__file__).parent
_S: Final = 1_000_000
_MINUTE_US: Final = 60 * _S

Make = Callable[..., Record]
Ask = Callable[..., list[tuple[Any, ...]]]

_DASHBOARD: Final = json.loads(dashboard_json())
_PANELS: Final = {panel["title"]: panel for panel in _DASHBOARD["panels"] if panel["type"] != "row"}
_VARIABLES: Final = {variable["name"]: variable for variable in _DASHBOARD["templating"]["list"]}

# Of a status: exemption, notice_acknowledged, muted, muted_by, capture and problem.
_OPEN: Final = (None, False, False, "", "listening", None)
_MUTED: Final = ("safety", True, True, "command, quiet hours", "muted", "device lost")

# What two minutes give; see `filled`. A row is (minute, values of the columns, tags); a question that is not about
# minutes has None there. Node lab/pi-1 speaks in the first minute, car/van in the second.
_EXPECTED: Final[dict[str, list[tuple[Any, ...]]]] = {
    "Emotion now": [
        (None, "uncertain", 0.25, "factory/1", "car/van"),
        (None, "unpleasant", 0.75, "factory/1", "lab/pi-1"),
    ],
    "Emotion": [
        (0, None, "car/van"),
        (1, "uncertain", "car/van"),
        (0, "unpleasant", "lab/pi-1"),
        (1, None, "lab/pi-1"),
    ],
    "Share of labels": [(0, 18, 30, 0, 0, ""), (1, 0, 0, 0, 7, "")],
    "Events per minute": [(0, 0, "car/van"), (1, 3, "car/van"), (0, 11, "lab/pi-1"), (1, 0, "lab/pi-1")],
    "Confidence": [  # 5 at 0.5 and 6 at 0.75
        (0, None, "car/van"),
        (1, 0.25, "car/van"),
        (0, pytest.approx(7 / 11), "lab/pi-1"),
        (1, None, "lab/pi-1"),
    ],
    "From sound to label": [(0, 7_000, 11_000, 12_000, ""), (1, 25_000, 35_000, 35_000, "")],
    "Stages, p50": [
        *((0, 3_500, "features"), (1, None, "features")),
        *((0, None, "inference"), (1, 500, "inference")),
        *((0, 9_000, "total"), (1, 6_000_000, "total")),
    ],
    "Stages, p95": [
        *((0, 12_000, "features"), (1, None, "features")),
        *((0, None, "inference"), (1, 700, "inference")),
        *((0, 18_000, "total"), (1, 7_000_000, "total")),
    ],
    "From sound to label, all windows": [
        (0, *(0, 0, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0), ""),  # 5 to 10 ms and 10 to 20 ms
        (1, *(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2), ""),
    ],
    "Speech gate": [(0, 48, 21, 72, ""), (1, 7, 0, 12, "")],
    "Capture": [(0, None, "car/van"), (1, "muted", "car/van"), (0, "listening", "lab/pi-1"), (1, None, "lab/pi-1")],
    "Problems with the sound": [(0, "device lost", "lab/pi-1"), (1, None, "lab/pi-1")],  # the last within the minute
    "Level": [(0, -35.0, "lab/pi-1"), (1, None, "lab/pi-1")],  # car/van heard nothing but digital silence
    "Overdriven windows": [
        (0, None, "car/van"),
        (1, 0.0, "car/van"),
        (0, pytest.approx(6 / 141), "lab/pi-1"),
        (1, None, "lab/pi-1"),
    ],
    "Sound begun anew": [(None, 9, "lab/pi-1")],  # three restarts and six re-opens
    "Confidence of the likeliest class": [(0, 0.625, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Entropy": [(0, 0.5, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Divergence from the training": [(0, 0.25, "lab/pi-1"), (1, None, "lab/pi-1")],  # once there was no prior
    "Outbox depth": [(0, None, "car/van"), (1, 12, "car/van"), (0, 6, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Outbox age": [(0, None, "car/van"), (1, 1_500_000, "car/van"), (0, 6_000_000, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Dead letters": [(0, 2, ""), (1, 0, "")],
    "Events missing": [(None, 0, "car/van"), (None, 1, "lab/pi-1")],
    "Events dropped by outboxes": [(None, 0, "car/van"), (None, 5, "lab/pi-1")],
    "Blocks of audio lost": [(None, 7, "lab/pi-1")],  # a difference needs two messages: car/van sent one
    "Reconnects": [(None, 3, "lab/pi-1")],
    "Processor slowed down": [(0, True, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Status": [
        (None, False, "lost", "factory/1", "research", *_OPEN, True, "0.1.0", "car/van"),
        (None, True, "birth", "factory/1", "workplace", *_MUTED, True, "0.1.0", "lab/pi-1"),
    ],
    "Nodes heard in the last 30 s": [(None, 2, "")],
    "Processor": [(0, None, "car/van"), (1, 0.125, "car/van"), (0, 0.75, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Memory": [(0, None, "car/van"), (1, 50_000_000, "car/van"), (0, 6_000_000, "lab/pi-1"), (1, None, "lab/pi-1")],
    "Model updates": [
        (None, "trial", "factory/2", "", 0.5, 75, 80, "car/van"),
        (None, "rejected", "factory/2", "too slow", 1.0, None, None, "lab/pi-1"),
    ],
    "Nodes by model": [(None, "factory/1", "car/van"), (None, "factory/1", "lab/pi-1")],
    "Temperature": [(0, 56.0, "lab/pi-1"), (1, None, "lab/pi-1")],  # car/van tells none
}


@pytest.fixture
def start_us() -> int:
    """A full minute, ten minutes ago."""
    return time.time_ns() // 1_000 // _MINUTE_US * _MINUTE_US - 10 * _MINUTE_US


@pytest.fixture
def reports(start_us: int, update: Make, trial: TrialFigures) -> list[Record]:
    """A refusal of three months ago, a trial under way, and what is too old to be told."""
    release = {"release": "factory/2"}
    months_ago = start_us - 90 * 24 * 60 * _MINUTE_US
    rejected = {"state": UpdateState.REJECTED, "reason": "too slow", "progress": 1.0}
    return [
        update(months_ago - 60 * _S, state=UpdateState.VERIFYING, **release),
        update(months_ago, **rejected, **release),
        update(start_us - 5 * _S, node="car/van", **release),
        update(start_us, node="car/van", state=UpdateState.TRIAL, progress=0.5, trial=trial, **release),
        update(start_us - 400 * 24 * 60 * _MINUTE_US, node="lab/pi-2", state=UpdateState.IDLE),
    ]


@pytest.fixture
def records(
    start_us: int, event: Make, telemetry: Make, status: Make, reports: list[Record]
) -> list[Record | DeadLetter]:
    """Two minutes of two nodes, as they arrive at the collector."""

    def total(latency_us: int) -> EventLatency:
        return EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=latency_us)

    pleasant = {"label": Label.PLEASANT, "confidence": 0.5}
    unpleasant = {"label": Label.UNPLEASANT, "confidence": 0.75}
    speech = [
        event(seq, start_us + seq * 5 * _S - 1, latency_us=total(seq * 1_000), **(pleasant if seq <= 6 else unpleasant))
        for seq in range(1, 13)
        if seq != 5  # lost on the way
    ]
    van = [
        event(
            seq,
            start_us + _MINUTE_US + seq * _S,
            node="car/van",
            label=Label.UNCERTAIN,
            confidence=0.25,
            latency_us=total(5_000 + seq * 10_000),
        )
        for seq in (1, 2, 3)
    ]
    bins = (0, 0, 0, 0, 0, 0, 1, 1)
    load = [
        telemetry(
            k,
            start_us + k * 10 * _S - 1,
            outbox_id=f"{int(k > 4):016x}",  # the outbox was lost, and the node restarted, after the fourth
            outbox_dropped=(0, 0, 1, 3, 0, 2)[k - 1],
            dropped_blocks=(0, 4, 4, 6, 0, 1)[k - 1],
            reconnects=(0, 1, 1, 3, 0, 0)[k - 1],
            latency_us={
                Stage.FEATURES: Quantiles(count=8, p50=k * 1_000, p95=k * 2_000, p99=k * 3_000),
                Stage.TOTAL: Quantiles(count=2, p50=9_000, p95=18_000, p99=19_000, histogram=bins if k < 6 else ()),
            },
            gated_windows=k,
            clipped_windows=k % 2 * 2,
            level_dbfs=-32.5 - k + 1,
            drift=Drift(mean_confidence=0.625, mean_entropy=0.5, divergence=None if k == 1 else 0.25),
            capture=CaptureReport(
                state=CaptureState.RECOVERING if k < 5 else CaptureState.LISTENING,
                problem=CaptureProblem.BUSY if k < 3 else CaptureProblem.LOST if k < 5 else None,
                restarts=min(k, 4),
                reopens=2 * min(k, 4),
            ),
            throttled=k == 6,
            outbox_depth=k,
            outbox_age_us=k * _S,
            rss_bytes=k * _S,
            cpu_share=k / 8,
            temperature_c=50.0 + k,
        )
        for k in range(1, 7)
    ]
    now_us = time.time_ns() // 1_000
    inference = {
        Stage.INFERENCE: Quantiles(count=1, p50=500, p95=700, p99=900),
        Stage.TOTAL: Quantiles(count=2, p50=6_000_000, p95=7_000_000, p99=7_000_000, histogram=(*[0] * 15, 2)),
    }
    return [
        *speech,
        *van,
        *load,
        telemetry(
            1,
            start_us + _MINUTE_US,
            node="car/van",
            windows={Label.UNCERTAIN: 7},
            latency_us=inference,
            capture=CaptureReport(state=CaptureState.MUTED),
            temperature_c=None,
        ),
        telemetry(7, now_us - 5 * _S),
        telemetry(1, now_us - 5 * _S, node="lab/pi-2"),
        status(
            start_us,
            start_us - 30 * 24 * 60 * _MINUTE_US,
            context=Context.WORKPLACE,
            exemption=Exemption(reason="safety", reference="file 7"),
            notice_acknowledged=True,
            muted=True,
            muted_by=(MuteSource.COMMAND, MuteSource.QUIET_HOURS),
            capture=CaptureState.MUTED,
            problem=CaptureProblem.LOST,
        ),
        status(start_us, start_us, node="car/van"),
        status(start_us, start_us + 1, node="car/van", online=False, reason=StatusReason.LOST),
        *reports,
        dead_letter("a/b", b"x", "no JSON", start_us),
        dead_letter("a/b", b"y", "no JSON", start_us),
    ]


@pytest.fixture
def ask(
    influx: "InfluxServer",
    open_store: Callable[..., InfluxStore],
    records: list[Record | DeadLetter],
    start_us: int,
) -> Ask:
    """Return a function that asks as Grafana does, of the two minutes, in intervals of one."""
    store = open_store()
    store.write(records)
    store.close()
    from_ms, to_ms = start_us // 1_000, (start_us + 2 * _MINUTE_US) // 1_000 - 1

    def asked(query: str, *, site: str = ".*", node: str = ".*") -> list[tuple[Any, ...]]:
        for name, value in (
            ("$timeFilter", f"time >= {from_ms}ms and time <= {to_ms}ms"),
            ("$__interval_ms", "60000"),
            ("$__interval", "1m"),
            ("$site", site),
            ("$node", node),
        ):
            query = query.replace(name, value)
        assert "$" not in query.replace("$/", ""), query
        is_by_minute = "time(1m)" in query
        named = {}
        for series in influx.ask(query, auth="reader"):
            tags = series.get("tags", {})
            named["/".join(tags[tag] for tag in ("site", "node", "stage") if tag in tags)] = series["values"]
        return [
            ((values[0] // 1_000 - start_us) // _MINUTE_US if is_by_minute else None, *values[1:], name)
            for name, rows in sorted(named.items())
            for values in rows
        ]

    return asked


def test_every_panel_shows_the_right_numbers(ask: Ask) -> None:
    assert {title: ask(panel["targets"][0]["query"]) for title, panel in _PANELS.items()} == _EXPECTED


def test_variables_offer_the_sites_and_the_nodes_of_a_site(ask: Ask) -> None:
    assert [row[1] for row in ask(_VARIABLES["site"]["query"])] == ["car", "lab"]
    assert [row[1] for row in ask(_VARIABLES["node"]["query"], site="lab")] == ["pi-1", "pi-2"]
    assert [row[1] for row in ask(_VARIABLES["node"]["query"], site="(car|lab)")] == ["pi-1", "pi-2", "van"]


def test_a_chosen_node_is_the_only_one_shown(ask: Ask) -> None:
    query = _PANELS["Events per minute"]["targets"][0]["query"]
    assert ask(query, site="lab", node="(pi-1|pi-2)") == [(0, 11, "lab/pi-1"), (1, 0, "lab/pi-1")]
    assert ask(query, site="la", node="pi-1") == []


def test_lost_events_are_what_the_queries_in_the_guide_say(
    influx: "InfluxServer", open_store: Callable[..., InfluxStore], event: Make, telemetry: Make, start_us: int
) -> None:
    guide = (_FOLDER.parents[1] / "docs" / "storage.md").read_text(encoding="utf-8")
    sent, stored = re.findall(r"```sql\n(SELECT .*?)\n```", guide, re.DOTALL)
    store = open_store()
    store.write(
        [  # ten events, of which the outbox dropped two and one is lost; then four of a new outbox
            *(event(seq, start_us + seq * _S) for seq in (1, 2, 5, 6, 7, 8, 10)),
            *(event(seq, start_us + (20 + seq) * _S, boot_id="b" * 16) for seq in (1, 2, 3, 4)),
            telemetry(1, start_us + 4 * _S, emitted=4, outbox_dropped=2, outbox_id="a" * 16),
            telemetry(2, start_us + 14 * _S, emitted=10, outbox_dropped=2, outbox_id="a" * 16),
            telemetry(1, start_us + 24 * _S, emitted=4, outbox_id="b" * 16, boot_id="b" * 16),
        ]
    )
    store.close()
    node = {"site": "lab", "node": "pi-1"}
    assert influx.rows(sent) == [{"time": 0, "sent": 12} | node]
    assert influx.rows(stored) == [{"time": 0, "stored": 11} | node]


def test_file_is_current_and_a_stale_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"]) == 0
    monkeypatch.setattr("dashboard.grafana.__main__.FILE", tmp_path / "sottovoce.json")
    assert main(["--check"]) == 1
    assert "is stale; run `python -m dashboard.grafana`" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert (tmp_path / "sottovoce.json").read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8")


def test_labels_have_one_colour_each_everywhere() -> None:
    by_name = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in _PANELS["Share of labels"]["fieldConfig"]["overrides"]
    }
    (timeline,) = _PANELS["Emotion"]["fieldConfig"]["defaults"]["mappings"]
    _, mappings = _PANELS["Emotion now"]["fieldConfig"]["overrides"][0]["properties"]
    assert by_name == COLOURS
    for mapping in (timeline, *mappings["value"]):
        assert {name: result["color"] for name, result in mapping["options"].items()} == COLOURS


def test_every_state_of_an_update_has_a_colour_and_failures_the_same_one() -> None:
    (cells, mappings), _ = (each["properties"] for each in _PANELS["Model updates"]["fieldConfig"]["overrides"])
    assert cells["value"]["type"] == "color-background"
    colours = {name: result["color"] for name, result in mappings["value"][0]["options"].items()}
    assert colours.keys() == set(UpdateState)
    assert {state for state in UpdateState if colours[state] == COLOURS[Label.UNPLEASANT]} == {
        UpdateState.REJECTED,
        UpdateState.ROLLING_BACK,
    }


def test_nodes_are_counted_by_model() -> None:
    (counting,) = _PANELS["Nodes by model"]["transformations"]
    assert counting == {
        "id": "groupBy",
        "options": {
            "fields": {
                "model": {"operation": "groupby"},
                "node": {"operation": "aggregate", "aggregations": ["count"]},
            }
        },
    }


def test_panels_have_their_own_numbers_and_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in _DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    numbers = [panel["id"] for panel in _DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_panel_reads_from_the_data_source_that_provisioning_makes() -> None:
    (source,) = _provisioned("datasources")["datasources"]
    reference = {"type": source["type"], "uid": source["uid"]}
    for panel in _PANELS.values():
        assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [reference] * 2
        assert panel["description"]
    assert [variable["datasource"] for variable in _VARIABLES.values()] == [reference] * 2


def test_data_source_speaks_influxql_and_holds_no_secret() -> None:
    (source,) = _provisioned("datasources")["datasources"]
    assert source["jsonData"]["version"] == "InfluxQL"
    secrets = (source["url"], source["user"], source["jsonData"]["dbName"], *source["secureJsonData"].values())
    for value in secrets:
        assert re.fullmatch(r"\$__env\{SOTTOVOCE_INFLUXDB_[A-Z_]+\}", value)


def test_provider_reads_a_folder_of_dashboards() -> None:
    (provider,) = _provisioned("dashboards")["providers"]
    assert provider["type"] == "file"
    assert Path(provider["options"]["path"]).name == FILE.parent.name
    assert [each.name for each in FILE.parent.iterdir()] == ["sottovoce.json"]


def _provisioned(kind: str) -> dict[str, Any]:
    (path,) = (_FOLDER / "provisioning" / kind).iterdir()
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert found["apiVersion"] == 1
    return found

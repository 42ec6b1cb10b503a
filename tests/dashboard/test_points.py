"""Records become points; what a point is made of decides what overwrites what."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.condition import (
    CaptureProblem,
    CaptureReport,
    CaptureState,
    Drift,
    Exemption,
    Quantiles,
    Thresholds,
)
from broker.contract.errors import MessageError
from broker.contract.messages import Stage
from broker.contract.updates import TrialFigures, UpdateState
from dashboard.collector.fields import BINS
from dashboard.collector.points import Point, dead_letter_point, line, points
from dashboard.collector.records import DeadLetter, Record

_GUIDE = Path(__file__).parents[2] / "docs" / "storage.md"
_TIME_US = 1_700_000_000_000_000
_LETTER = DeadLetter(topic="a/b", reason="no JSON", size_bytes=3, head=b"abc", received_us=_TIME_US)

Make = Callable[..., Record]


def test_line_of_an_event_holds_every_field_with_its_type(event: Make) -> None:
    (point,) = points(event(2_005, _TIME_US))
    assert line(point) == (
        "emotion,site=lab,node=pi-1 "
        'boot_id="0123456789abcdef",seq=2005i,mono_us=7000000i,clock_synced=true,label="neutral",confidence=0.75,'
        'model="factory/1",capture_us=1000i,resample_us=200i,gate_us=0i,features_us=3000i,inference_us=500i,decision_us=20i,'
        "total_us=5000i 1700000000000000005"
    )


def test_telemetry_becomes_one_point_and_one_for_each_stage_at_the_same_time(telemetry: Make) -> None:
    whole, *stages = points(telemetry(3, _TIME_US))
    assert [point.measurement for point in (whole, *stages)] == ["telemetry", "stage_latency", "stage_latency"]
    assert [point.tags["stage"] for point in stages] == [Stage.FEATURES, Stage.INFERENCE]
    assert {point.time_ns for point in (whole, *stages)} == {_TIME_US * 1_000 + 3}
    assert (whole.fields["pleasant"], whole.fields["neutral"], whole.fields["unpleasant"]) == (3, 5, 0)


def test_telemetry_without_temperature_leaves_the_field_out(telemetry: Make) -> None:
    assert "temperature_c" not in points(telemetry(3, _TIME_US, temperature_c=None))[0].fields


def test_what_a_node_does_not_say_is_no_field(telemetry: Make, status: Make) -> None:
    whole, *_ = points(telemetry(3, _TIME_US))
    assert not {"level_dbfs", "mean_confidence", "divergence", "capture", "problem", "throttled"} & whole.fields.keys()
    (state,) = points(status(_TIME_US, _TIME_US))
    assert not {"exemption", "employees_present", "problem", "speech_above"} & state.fields.keys()
    assert (state.fields["capture"], state.fields["muted_by"]) == ("listening", "")


def test_the_histogram_of_the_total_alone_becomes_fields_all_bins_of_it(telemetry: Make) -> None:
    quantiles = Quantiles(count=3, p50=1, p95=2, p99=3, histogram=(0, 2, 1))
    stages = points(telemetry(3, _TIME_US, latency_us={Stage.GATE: quantiles, Stage.TOTAL: quantiles}))[1:]
    gate, total = (point.fields for point in stages)
    assert not gate.keys() & set(BINS)
    assert [total[name] for name in BINS] == [0, 2, 1, *[0] * 13]
    assert (BINS[0], BINS[-1]) == ("to_100_us", "over_5000000_us")


def test_a_total_of_an_older_node_has_no_bins(telemetry: Make) -> None:
    bare = {Stage.TOTAL: Quantiles(count=3, p50=1, p95=2, p99=3)}
    (total,) = points(telemetry(3, _TIME_US, latency_us=bare))[1:]
    assert not total.fields.keys() & set(BINS)


def test_a_message_that_comes_later_again_is_the_same_point(event: Make, telemetry: Make, update: Make) -> None:
    for record in (event(1, _TIME_US), telemetry(1, _TIME_US), update(_TIME_US)):
        again = msgspec.structs.replace(record, received_us=record.received_us + 60_000_000)
        assert [line(point) for point in points(again)] == [line(point) for point in points(record)]


def test_a_point_has_no_tag_that_grows_with_restarts_or_follows_the_label(event: Make, telemetry: Make) -> None:
    assert [sorted(point.tags) for point in (*points(event(1, _TIME_US)), *points(telemetry(1, _TIME_US)))] == [
        ["node", "site"],
        ["node", "outbox_id", "site"],
        ["node", "site", "stage"],
        ["node", "site", "stage"],
    ]


def test_a_will_that_was_written_before_the_birth_is_the_later_status(status: Make) -> None:
    birth = points(status(_TIME_US + 5, _TIME_US + 10))[0]
    will = points(status(_TIME_US, _TIME_US + 60_000_000, online=False))[0]
    assert will.time_ns > birth.time_ns


def test_an_update_report_holds_what_is_known_of_release_and_trial(update: Make, trial: TrialFigures) -> None:
    (bare,) = points(update(_TIME_US, release=None, state=UpdateState.IDLE))
    assert line(bare) == (
        f'update,site=lab,node=pi-1 boot_id="0123456789abcdef",time_us={_TIME_US}i,state="idle",reason="",progress=0.0 '
        f"{_TIME_US}000"
    )
    (full,) = points(update(_TIME_US, state=UpdateState.REJECTED, trial=trial))
    assert (full.fields["release"], full.fields["classified"], full.fields["p95_us"]) == ("factory/4", 80, 6_900)
    assert not {"scores", "labels"} & full.fields.keys()


def test_two_states_of_one_microsecond_are_two_points_in_their_order(update: Make) -> None:
    times = [points(update(_TIME_US, state=state))[0].time_ns for state in UpdateState]
    assert times == sorted(set(times))


def test_a_dead_letter_says_where_and_why_and_nothing_of_the_payload() -> None:
    point = dead_letter_point(_LETTER, 1_007)
    assert point.fields == {"topic": "a/b", "reason": "no JSON", "size_bytes": 3}
    assert (point.tags, point.time_ns) == ({}, _TIME_US * 1_000 + 7)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(number: float) -> None:
    with pytest.raises(MessageError, match="confidence is"):
        line(Point(measurement="emotion", tags={}, fields={"confidence": number}, time_ns=1))


def test_a_text_that_looks_like_line_protocol_stays_inside_its_quotes() -> None:
    point = Point(measurement="status", tags={}, fields={"source": 'a "b" \\ c,d=1 2'}, time_ns=1)
    assert line(point) == 'status source="a \\"b\\" \\\\ c,d=1 2" 1'


def test_the_guide_lists_exactly_the_measurements_tags_and_fields(
    event: Make, telemetry: Make, status: Make, update: Make, trial: TrialFigures
) -> None:
    quantiles = Quantiles(count=3, p50=1, p95=2, p99=3, histogram=(1,))
    load = telemetry(
        1,
        _TIME_US,
        latency_us={Stage.TOTAL: quantiles},
        level_dbfs=-30.0,
        drift=Drift(mean_confidence=0.5, mean_entropy=0.5, divergence=0.5),
        capture=CaptureReport(state=CaptureState.RECOVERING, problem=CaptureProblem.BUSY),
        throttled=False,
    )
    at_work = status(
        1,
        _TIME_US,
        employees_present=True,
        exemption=Exemption(reason="medical", reference="file 7"),
        problem=CaptureProblem.BUSY,
        thresholds=Thresholds(uncertain_below=0.45, speech_above=0.5),
    )
    words: dict[type, str] = {bool: "boolean", int: "integer", float: "float", str: "string"}
    samples = [
        *points(event(1, _TIME_US)),
        *points(load),
        *points(at_work),
        *points(update(_TIME_US, trial=trial)),
        dead_letter_point(_LETTER, 1),
    ]
    made = {
        (point.measurement, kind, name, words[type(value)] if kind == "field" else "string")
        for point in samples
        for kind, values in (("tag", point.tags), ("field", point.fields))
        for name, value in values.items()
        if name not in BINS
    }
    guide = _GUIDE.read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (tag|field) \| `(\w+)` \| (\w+) \|", guide, re.MULTILINE)
    assert sorted(listed) == sorted(made)
    assert guide.count(f"| `stage_latency` | field | `{BINS[0]}` ... `{BINS[-2]}`, `{BINS[-1]}` | integer |") == 1

"""What the doctor makes of what a running node says."""

from collections.abc import Callable

import msgspec

from broker.contract.condition import CaptureProblem, CaptureReport, CaptureState, MuteSource, Thresholds
from broker.contract.messages import Telemetry
from edge_node.doctor import running
from edge_node.doctor.finding import Verdict
from edge_node.local.messages import BrokerReport, Report

Make = Callable[..., Report]
MakeTelemetry = Callable[..., Telemetry]


def test_running_node_in_order(make_report: Make, make_telemetry: MakeTelemetry) -> None:
    status = msgspec.structs.replace(
        make_report().status, thresholds=Thresholds(uncertain_below=0.4, speech_above=0.35)
    )
    report = make_report(telemetry=make_telemetry(), status=status)
    told = (
        running.sound_told,
        running.model_told,
        running.gate_told,
        running.clock_told,
        running.mqtt_told,
        running.publish_told,
    )
    findings = [each(report) for each in told]
    assert {each.verdict for each in findings} == {Verdict.OK}, findings
    words = " | ".join(each.words for each in findings)
    assert "listens to microphone: USB, level -40 dBFS" in words
    assert "a window takes 4.0 of the 500 ms" in words
    assert "of the last 20 windows 10 were silent, and 2 held no speech" in words
    assert "20 were acknowledged of late, half of them within 1.5 ms" in words


def test_running_node_that_is_muted_is_well(make_report: Make) -> None:
    status = msgspec.structs.replace(make_report().status, muted=True, muted_by=(MuteSource.BUTTON,))
    report = make_report(status=status, capture=CaptureReport(state=CaptureState.MUTED))
    finding = running.sound_told(report)
    assert (finding.verdict, finding.words) == (Verdict.OK, "muted by button: the microphone is closed")


def test_running_node_without_sound_fails_with_the_reason(make_report: Make) -> None:
    for problem in CaptureProblem:
        capture = CaptureReport(state=CaptureState.RECOVERING, problem=problem, rescans=3)
        finding = running.sound_told(make_report(capture=capture))
        assert finding.verdict is (Verdict.WARN if problem is CaptureProblem.OVERLOADED else Verdict.FAIL)
        assert problem.value in finding.words
        assert finding.advice


def test_running_node_too_loud_or_too_quiet_warns(make_report: Make, make_telemetry: MakeTelemetry) -> None:
    for changes in ({"clipped_windows": 3}, {"level_dbfs": -85.0}):
        assert running.sound_told(make_report(telemetry=make_telemetry(**changes))).verdict is Verdict.WARN


def test_running_node_without_a_broker_fails_with_the_problem(make_report: Make, make_telemetry: MakeTelemetry) -> None:
    broker = BrokerReport(where="broker.lan:8883", connected_s=None, connects=2, attempts=7, problem="timed out")
    finding = running.mqtt_told(make_report(broker=broker))
    assert finding.verdict is Verdict.FAIL
    assert finding.words == "not connected to broker.lan:8883, 7 attempts: timed out"
    waiting = make_report(broker=broker, telemetry=make_telemetry(outbox_depth=3))
    assert running.publish_told(waiting).words == "no connection; 3 messages wait"


def test_running_node_whose_messages_wait_fails(make_report: Make, make_telemetry: MakeTelemetry) -> None:
    late = running.publish_told(make_report(telemetry=make_telemetry(outbox_depth=900, outbox_age_us=600_000_000)))
    assert late.verdict is Verdict.FAIL
    assert "900 messages wait; 20 were acknowledged of late" in late.words
    assert running.publish_told(make_report()).verdict is Verdict.SKIPPED


def test_running_node_whose_clock_is_wrong_fails(make_report: Make) -> None:
    status = msgspec.structs.replace(make_report().status, clock_synced=False)
    assert running.clock_told(make_report(status=status)).verdict is Verdict.FAIL

"""What the running node says of itself, stage by stage."""

from datetime import UTC, datetime
from typing import Final

from broker.contract.condition import CaptureProblem, CaptureState
from broker.contract.messages import Stage as Timed
from broker.contract.messages import Telemetry
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, skip, warn
from edge_node.doctor.model import weigh
from edge_node.local.messages import Report

__all__ = ["clock_told", "gate_told", "model_told", "mqtt_told", "publish_told", "sound_told"]

_QUIET_DBFS: Final = -80.0
_OLD_S: Final = 300.0
"""Messages that wait this long do not go out."""
_SOUND_ADVICE: Final = {
    CaptureProblem.BUSY: "end the program that holds the microphone, or let both go through a sound server",
    CaptureProblem.STUCK: "look for a mute switch at the microphone, and for a loose plug",
    CaptureProblem.OVERLOADED: "choose a model with a longer hop or a smaller one, or end other programs",
}
_REPLUG: Final = "plug the microphone in again; `sottovoce-node devices` lists what there is"


def sound_told(report: Report) -> Finding:
    """Return how the node hears."""
    capture, telemetry = report.capture, report.telemetry
    facts: dict[str, Fact] = {
        "state": capture.state.value,
        "problem": None if capture.problem is None else capture.problem.value,
        "restarts": capture.restarts,
        "reopens": capture.reopens,
        "rescans": capture.rescans,
    }
    if report.status.muted:
        return ok(Stage.SOUND, f"muted by {' and '.join(report.status.muted_by)}: the microphone is closed", **facts)
    words = report.status.source
    if capture.problem is not None or capture.state is CaptureState.RECOVERING:
        what = capture.problem or "no sound"
        found = warn if capture.problem is CaptureProblem.OVERLOADED else fail
        advice = _SOUND_ADVICE.get(capture.problem or CaptureProblem.LOST, _REPLUG)
        return found(Stage.SOUND, f"{words}: {what}; the node tries again by itself", advice, **facts)
    if telemetry is None:
        return ok(Stage.SOUND, f"listens to {words}", **facts)
    facts |= {"level_dbfs": telemetry.level_dbfs, "clipped_windows": telemetry.clipped_windows}
    facts |= {"dropped_blocks": telemetry.dropped_blocks, "windows": _windows(telemetry)}
    level = telemetry.level_dbfs
    words = f"listens to {words}" + ("" if level is None else f", level {level:.0f} dBFS")
    if telemetry.clipped_windows:
        advice = "turn the microphone down (`alsamixer`), or lower [source] gain_db"
        return warn(Stage.SOUND, f"{words}; {telemetry.clipped_windows} windows clipped", advice, **facts)
    if level is not None and level < _QUIET_DBFS:
        advice = "speak, and watch `sottovoce-node monitor`; turn it up (`alsamixer`), or raise [source] gain_db"
        return warn(Stage.SOUND, f"{words}: very quiet", advice, **facts)
    return ok(Stage.SOUND, words, **facts)


def model_told(report: Report) -> Finding:
    """Return how the model does against the time that it has."""
    words = f"{report.status.model} runs"
    timed = {} if report.telemetry is None else report.telemetry.latency_us
    parts = [timed[each] for each in (Timed.GATE, Timed.FEATURES, Timed.INFERENCE) if each in timed]
    if not parts:
        return ok(Stage.MODEL, f"{words}; nothing to classify of late", hop_ms=report.hop_us / 1_000)
    return weigh(words, sum(each.p95 for each in parts) / 1_000, report.hop_us / 1_000)


def gate_told(report: Report) -> Finding:
    """Return what the speech gate let through."""
    telemetry = report.telemetry
    if telemetry is None:
        return skip(Stage.GATE, "the node has not counted anything yet")
    heard = _windows(telemetry)
    if report.status.thresholds is None:
        return skip(Stage.GATE, "the node does not say")
    words = (
        f"speech above {report.status.thresholds.speech_above:g}; of the last {heard} windows "
        f"{telemetry.silent_windows} were silent, and {telemetry.gated_windows} held no speech"
    )
    return ok(Stage.GATE, words, gated_windows=telemetry.gated_windows, silent_windows=telemetry.silent_windows)


def clock_told(report: Report) -> Finding:
    """Return whether the node believes the clock."""
    shown = f"{datetime.fromtimestamp(report.status.time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not report.status.clock_synced:
        advice = (
            "`timedatectl set-ntp true`; where the clock is right without a time server (a battery, a container), "
            "set [clock] trust = true"
        )
        return fail(
            Stage.CLOCK, f"{shown}, but no time server sets it: events wait until one has", advice, synchronised=False
        )
    return ok(Stage.CLOCK, f"{shown}, synchronised or trusted", synchronised=True)


def mqtt_told(report: Report) -> Finding:
    """Return how the node's own connection stands."""
    broker = report.broker
    facts: dict[str, Fact] = {
        "connected_s": None if broker.connected_s is None else round(broker.connected_s, 1),
        "connects": broker.connects,
        "attempts": broker.attempts,
    }
    if broker.connected_s is None:
        why = broker.problem or "no attempt has ended yet"
        advice = "mend the stage above that fails; if none does, look at the broker's log"
        words = f"not connected to {broker.where}, {broker.attempts} attempts: {why}"
        return fail(Stage.MQTT, words, advice, **facts)
    times = f"{broker.connects} connection{'s' * (broker.connects != 1)} since the start"
    return ok(Stage.MQTT, f"connected to {broker.where} for {broker.connected_s:,.0f} s; {times}", **facts)


def publish_told(report: Report) -> Finding:
    """Return whether messages go out."""
    telemetry = report.telemetry
    if telemetry is None:
        return skip(Stage.PUBLISH, "the node has said nothing yet")
    age_s = telemetry.outbox_age_us / 1e6
    facts: dict[str, Fact] = {"waiting": telemetry.outbox_depth, "age_s": round(age_s, 1)}
    words = f"{telemetry.outbox_depth:,} messages wait"
    if report.broker.connected_s is None:
        return skip(Stage.PUBLISH, f"no connection; {words}")
    if (took := telemetry.latency_us.get(Timed.PUBLISH)) is not None:
        words += f"; {took.count} were acknowledged of late, half of them within {took.p50 / 1_000:.1f} ms"
    if age_s > _OLD_S:
        advice = "see the stages above; a broker that nobody subscribes to, or whose ACL refuses, keeps them waiting"
        return fail(Stage.PUBLISH, f"{words}, the oldest for {age_s:,.0f} s", advice, **facts)
    return ok(Stage.PUBLISH, words, **facts)


def _windows(telemetry: Telemetry) -> int:
    return sum(telemetry.windows.values()) + telemetry.silent_windows + telemetry.gated_windows

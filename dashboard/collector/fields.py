"""What a store keeps of each message, by name: the same in SQLite's columns and in InfluxDB's fields."""

from broker.contract.condition import Quantiles
from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry
from broker.contract.updates import UpdateReport

__all__ = ["Field", "emotion_fields", "stage_fields", "status_fields", "telemetry_fields", "update_fields"]

Field = bool | int | float | str


def emotion_fields(event: EmotionEvent) -> dict[str, Field]:
    """Return an event's fields; times in µs."""
    return {
        "boot_id": event.boot_id,
        "seq": event.seq,
        "mono_us": event.mono_us,
        "clock_synced": event.clock_synced,
        "label": event.label.value,
        "confidence": float(event.confidence),
        "model": event.model,
        "capture_us": event.latency_us.capture,
        "resample_us": event.latency_us.resample,
        "features_us": event.latency_us.features,
        "inference_us": event.latency_us.inference,
        "decision_us": event.latency_us.decision,
        "total_us": event.latency_us.total,
    }


def telemetry_fields(telemetry: Telemetry) -> dict[str, Field]:
    """Return the fields of a telemetry message; `temperature_c` only where it is known."""
    fields: dict[str, Field] = {
        "boot_id": telemetry.boot_id,
        "seq": telemetry.seq,
        "clock_synced": telemetry.clock_synced,
        "interval_us": telemetry.interval_us,
        **{label.value: telemetry.windows.get(label, 0) for label in Label},
        "silent": telemetry.silent_windows,
        "emitted": telemetry.emitted,
        "outbox_dropped": telemetry.outbox_dropped,
        "outbox_depth": telemetry.outbox_depth,
        "outbox_age_us": telemetry.outbox_age_us,
        "refused_events": telemetry.refused_events,
        "dropped_blocks": telemetry.dropped_blocks,
        "reconnects": telemetry.reconnects,
        "rss_bytes": telemetry.rss_bytes,
        "cpu_share": float(telemetry.cpu_share),
    }
    if telemetry.temperature_c is not None:
        fields["temperature_c"] = float(telemetry.temperature_c)
    return fields


def stage_fields(telemetry: Telemetry, quantiles: Quantiles) -> dict[str, Field]:
    """Return the fields of one stage's latency in a telemetry message."""
    return {
        "boot_id": telemetry.boot_id,
        "seq": telemetry.seq,
        "count": quantiles.count,
        "p50_us": quantiles.p50,
        "p95_us": quantiles.p95,
        "p99_us": quantiles.p99,
    }


def status_fields(status: NodeStatus) -> dict[str, Field]:
    """Return a status's fields."""
    return {
        "boot_id": status.boot_id,
        "time_us": status.time_us,
        "online": status.online,
        "reason": status.reason.value,
        "sottovoce": status.versions.sottovoce,
        "python": status.versions.python,
        "litert": status.versions.litert,
        "model": status.model,
        "context": status.context.value,
        "source": status.source,
        "muted": status.muted,
        "clock_synced": status.clock_synced,
    }


def update_fields(report: UpdateReport) -> dict[str, Field]:
    """Return an update report's fields; `release` and those of the trial only where there is one.

    A trial's histogram of scores and its windows by label are no numbers by name: SQLite keeps them as JSON beside
    these, InfluxDB does not keep them.
    """
    fields: dict[str, Field] = {
        "boot_id": report.boot_id,
        "time_us": report.time_us,
        "state": report.state.value,
        "reason": report.reason,
        "progress": float(report.progress),
    }
    if report.release is not None:
        fields["release"] = report.release
    if report.trial is not None:
        fields |= {
            "windows": report.trial.windows,
            "classified": report.trial.classified,
            "agreed": report.trial.agreed,
            "p50_us": report.trial.p50_us,
            "p95_us": report.trial.p95_us,
        }
    return fields

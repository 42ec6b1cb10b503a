"""What a store keeps of each message, by name: the same in SQLite's columns and in InfluxDB's fields.

None is what a node does not say: NULL in a column, and no field of a point.
"""

from typing import Final

import msgspec

from broker.contract.condition import LATENCY_BOUNDS_US, Quantiles
from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry
from broker.contract.updates import UpdateReport

__all__ = [
    "BINS",
    "Field",
    "Fields",
    "bin_fields",
    "emotion_fields",
    "histogram_json",
    "stage_fields",
    "status_fields",
    "telemetry_fields",
    "update_fields",
]

Field = bool | int | float | str
Fields = dict[str, Field | None]

BINS: Final = (*(f"to_{bound}_us" for bound in LATENCY_BOUNDS_US), f"over_{LATENCY_BOUNDS_US[-1]}_us")
"""Name of each bin of a latency histogram, by its upper bound."""


def emotion_fields(event: EmotionEvent) -> Fields:
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
        "gate_us": event.latency_us.gate,
        "features_us": event.latency_us.features,
        "inference_us": event.latency_us.inference,
        "decision_us": event.latency_us.decision,
        "total_us": event.latency_us.total,
    }


def telemetry_fields(telemetry: Telemetry) -> Fields:
    """Return the fields of a telemetry message."""
    return {
        "boot_id": telemetry.boot_id,
        "seq": telemetry.seq,
        "clock_synced": telemetry.clock_synced,
        "interval_us": telemetry.interval_us,
        **{label.value: telemetry.windows.get(label, 0) for label in Label},
        "silent": telemetry.silent_windows,
        "gated": telemetry.gated_windows,
        "clipped": telemetry.clipped_windows,
        "level_dbfs": _float(telemetry.level_dbfs),
        **_drift_fields(telemetry),
        "emitted": telemetry.emitted,
        "outbox_dropped": telemetry.outbox_dropped,
        "outbox_depth": telemetry.outbox_depth,
        "outbox_age_us": telemetry.outbox_age_us,
        "refused_events": telemetry.refused_events,
        **_capture_fields(telemetry),
        "dropped_blocks": telemetry.dropped_blocks,
        "reconnects": telemetry.reconnects,
        "rss_bytes": telemetry.rss_bytes,
        "cpu_share": float(telemetry.cpu_share),
        "temperature_c": _float(telemetry.temperature_c),
        "throttled": telemetry.throttled,
    }


def stage_fields(telemetry: Telemetry, quantiles: Quantiles) -> Fields:
    """Return the fields of one stage's latency in a telemetry message, the histogram apart."""
    return {
        "boot_id": telemetry.boot_id,
        "seq": telemetry.seq,
        "count": quantiles.count,
        "p50_us": quantiles.p50,
        "p95_us": quantiles.p95,
        "p99_us": quantiles.p99,
    }


def bin_fields(quantiles: Quantiles) -> Fields:
    """Return a histogram as one field for each bin; none, where the node gives no histogram."""
    if not quantiles.histogram:
        return {}
    counts = [*quantiles.histogram, *[0] * len(BINS)]
    return dict(zip(BINS, counts, strict=False))


def histogram_json(quantiles: Quantiles) -> str | None:
    """Return a histogram as a JSON array of counts; None, where the node gives none."""
    return msgspec.json.encode(quantiles.histogram).decode() if quantiles.histogram else None


def status_fields(status: NodeStatus) -> Fields:
    """Return a status's fields."""
    exemption, thresholds = status.exemption, status.thresholds
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
        "employees_present": status.employees_present,
        "exemption": None if exemption is None else exemption.reason,
        "exemption_reference": None if exemption is None else exemption.reference,
        "notice_acknowledged": status.notice_acknowledged,
        "source": status.source,
        "muted": status.muted,
        "muted_by": ", ".join(source.value for source in status.muted_by),
        "clock_synced": status.clock_synced,
        "capture": status.capture.value,
        "problem": None if status.problem is None else status.problem.value,
        "uncertain_below": None if thresholds is None else float(thresholds.uncertain_below),
        "speech_above": None if thresholds is None else float(thresholds.speech_above),
    }


def update_fields(report: UpdateReport) -> Fields:
    """Return an update report's fields; those of the trial are None where there was none.

    A trial's histogram of scores and its windows by label are no numbers by name: SQLite keeps them as JSON beside
    these, InfluxDB does not keep them.
    """
    trial = report.trial
    return {
        "boot_id": report.boot_id,
        "time_us": report.time_us,
        "state": report.state.value,
        "reason": report.reason,
        "progress": float(report.progress),
        "release": report.release,
        "windows": None if trial is None else trial.windows,
        "classified": None if trial is None else trial.classified,
        "agreed": None if trial is None else trial.agreed,
        "p50_us": None if trial is None else trial.p50_us,
        "p95_us": None if trial is None else trial.p95_us,
    }


def _drift_fields(telemetry: Telemetry) -> Fields:
    drift = telemetry.drift
    return {
        "mean_confidence": None if drift is None else float(drift.mean_confidence),
        "mean_entropy": None if drift is None else float(drift.mean_entropy),
        "divergence": None if drift is None else _float(drift.divergence),
    }


def _capture_fields(telemetry: Telemetry) -> Fields:
    capture = telemetry.capture
    return {
        "capture": None if capture is None else capture.state.value,
        "problem": None if capture is None or capture.problem is None else capture.problem.value,
        "restarts": None if capture is None else capture.restarts,
        "reopens": None if capture is None else capture.reopens,
        "rescans": None if capture is None else capture.rescans,
    }


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)

"""What the charts are drawn from, asked of the SQLite store. Every question is bounded by a range of time."""

# ruff: noqa: S608 -- the statements are made of names of ours; nothing from outside enters them but as a parameter

from collections.abc import Iterator
from typing import Final

from broker.contract.decision import Label
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from broker.database import Database
from dashboard.console.condition import Figures
from dashboard.console.readings import CLOCKS_APART_US, LATENCY_SPAN_US, Emotion, Span, StageLatency, WindowCount
from dashboard.console.sqlite_rows import EVENT_COLUMNS, columns, read_event
from dashboard.console.stored import known

__all__ = ["events", "figures", "stages", "windows"]

_MOST_EVENTS: Final = 20_000
_OVER_TIME: Final = {
    "sum": (*(label.value for label in Label), "silent", "gated", "clipped"),
    "avg": ("level_dbfs", "mean_confidence", "mean_entropy", "divergence"),
    "max": (
        *("outbox_depth", "outbox_age_us", "dropped_blocks", "reconnects"),
        *("temperature_c", "throttled"),
    ),
}
"""What a bucket of time says of each column of telemetry."""


def events(db: Database, span: Span, now_us: int) -> list[Emotion]:
    """Return the events of a span that ends now, oldest first."""
    statement = f"SELECT {EVENT_COLUMNS} FROM emotion WHERE time_us BETWEEN ? AND ? ORDER BY time_us DESC LIMIT ?"
    rows = db.execute(statement, (now_us - span.length_us, now_us + CLOCKS_APART_US, _MOST_EVENTS))
    return [read_event(row) for row in rows][::-1]


def windows(db: Database, node: NodeId, span: Span, now_us: int) -> Iterator[WindowCount]:
    """Yield one node's windows with speech, bucket by bucket."""
    sums = ", ".join(f"sum({label.value})" for label in Label)
    rows = db.execute(
        f"SELECT time_us / ? AS bucket, {sums} FROM telemetry "
        "WHERE site = ? AND node = ? AND time_us BETWEEN ? AND ? GROUP BY bucket ORDER BY bucket",
        (span.bucket_us, node.site, node.node, now_us - span.length_us, now_us + CLOCKS_APART_US),
    )
    for bucket, *counts in rows:
        yield WindowCount(
            node=node, from_us=bucket * span.bucket_us, counts=dict(zip(Label, map(int, counts), strict=True))
        )


def figures(db: Database, node: NodeId, span: Span, now_us: int) -> Iterator[Figures]:
    """Yield what one node's telemetry came to, bucket by bucket."""
    names = ", ".join(name for parts in _OVER_TIME.values() for name in parts)
    here = dict(zip(names.split(", "), columns(db, "telemetry", names).split(", "), strict=True))
    asked = {name: f"{how}({here[name]})" for how, parts in _OVER_TIME.items() for name in parts}
    rows = db.execute(
        f"SELECT time_us / ? AS bucket, {', '.join(asked.values())} FROM telemetry "
        "WHERE site = ? AND node = ? AND time_us BETWEEN ? AND ? GROUP BY bucket ORDER BY bucket",
        (span.bucket_us, node.site, node.node, now_us - span.length_us, now_us + CLOCKS_APART_US),
    )
    for bucket, *values in rows:
        said = dict(zip(asked, values, strict=True))
        classified = sum(said.pop(label.value) for label in Label)
        throttled = bool(said.pop("throttled"))
        yield Figures(from_us=bucket * span.bucket_us, classified=classified, throttled=throttled, **said)


def stages(db: Database, node: NodeId, now_us: int) -> Iterator[StageLatency]:
    """Yield what each stage took on one node of late.

    Raises:
        StoreError: a stage is none that this version knows.
    """
    rows = db.execute(
        "SELECT stage, avg(p50_us), avg(p95_us) FROM stage_latency "
        "WHERE site = ? AND node = ? AND time_us BETWEEN ? AND ? GROUP BY stage",
        (node.site, node.node, now_us - LATENCY_SPAN_US, now_us + CLOCKS_APART_US),
    )
    for stage, p50_us, p95_us in rows:
        yield StageLatency(node=node, stage=known(Stage, stage), p50_us=p50_us, p95_us=p95_us)

"""From a record to points in line protocol: pure functions, the one place that knows InfluxDB's measurements.

InfluxDB keeps one point for each measurement, set of tags and timestamp; a second one overwrites it silently. So a
point of an event or of telemetry is made from the message alone: the same message, delivered again, is the same point.
Its timestamp is the node's `time_us` with `seq % 1000` as the missing nanoseconds, so that two messages of one
microsecond are two points. An update report is made from the message alone, too, with the place of its state among the
states as the missing nanoseconds: it comes again with every subscription, and to every replica. A status has no `seq`,
and a will was written before the birth that it ends: statuses are stamped with the moment when the collector heard
them.

What is a tag: the words a dashboard groups by that have few values: `site`, `node`, `stage`, and `outbox_id` on
telemetry (one per outbox file of a node), without which cumulative counters of two outboxes could not be told apart.
What is not: `boot_id` (a new series at every restart), and `label`. As a tag, a label would be part of a point's
identity and would make four series of each node's one state, whose last value is the question asked most. As a field it
answers `last("label")`, and `WHERE "label" = ...` counts it; the share of each label comes from telemetry, which has a
column of windows for each.

Of the latency histograms only that of the stage `total` is kept here, a field for each bin: InfluxQL adds up numbers
and nothing inside a string, so that a histogram as text could be read and never summed over nodes and time; and
sixteen fields more for each of nine stages would make most of the store of what no dashboard asks. SQLite has all.
"""

import math
from typing import Final, assert_never

import msgspec

from broker.contract.errors import MessageError
from broker.contract.messages import EmotionEvent, NodeStatus, Stage, Telemetry
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState
from dashboard.collector.fields import (
    Field,
    Fields,
    bin_fields,
    emotion_fields,
    stage_fields,
    status_fields,
    telemetry_fields,
    update_fields,
)
from dashboard.collector.records import DeadLetter, Record

__all__ = ["Point", "dead_letter_point", "line", "points"]

_NS_PER_US: Final = 1_000
_STATES: Final = tuple(UpdateState)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point; the field names are those of the SQLite store's columns."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Field]
    time_ns: int
    """ns since 1970, UTC."""


def points(record: Record) -> list[Point]:
    """Return what a record is in the store: one point, or for telemetry one more for each stage."""
    match record.message:
        case EmotionEvent() as event:
            return [_emotion(record.node, event)]
        case Telemetry() as telemetry:
            return [_telemetry(record.node, telemetry), *_stages(record.node, telemetry)]
        case NodeStatus() as status:
            return [_status(record.node, status, record.received_us)]
        case UpdateReport() as report:
            return [_update(record.node, report)]
        case _ as never:
            assert_never(never)


def dead_letter_point(letter: DeadLetter, number: int) -> Point:
    """Return a dead letter without any of its payload.

    Args:
        letter: what could not be understood, or what the store refused.
        number: counts the dead letters; tells two of one microsecond apart.
    """
    return Point(
        measurement="dead_letter",
        tags={},  # a topic can be anything: as a tag it would let a stranger make series without end
        fields={"topic": letter.topic, "reason": letter.reason, "size_bytes": letter.size_bytes},
        time_ns=_time_ns(letter.received_us, number),
    )


def line(point: Point) -> str:
    """Return a point in line protocol, timestamp in ns.

    Raises:
        MessageError: a number is NaN or infinite, which the store cannot hold.
    """
    tags = "".join(f",{key}={value}" for key, value in point.tags.items())  # values are names: nothing to escape
    fields = ",".join(f"{key}={_written(key, value)}" for key, value in point.fields.items())
    return f"{point.measurement}{tags} {fields} {point.time_ns}"


def _written(key: str, value: Field) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value}i"
        case float():
            if not math.isfinite(value):
                msg = f"{key} is {value}, which no store can hold"
                raise MessageError(msg)
            return repr(value)
        case str():
            text = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'


def _time_ns(time_us: int, seq: int) -> int:
    return time_us * _NS_PER_US + seq % _NS_PER_US


def _emotion(node: NodeId, event: EmotionEvent) -> Point:
    return Point(
        measurement="emotion",
        tags={"site": node.site, "node": node.node},
        fields=_known(emotion_fields(event)),
        time_ns=_time_ns(event.time_us, event.seq),
    )


def _telemetry(node: NodeId, telemetry: Telemetry) -> Point:
    return Point(
        measurement="telemetry",
        tags={"site": node.site, "node": node.node, "outbox_id": telemetry.outbox_id},
        fields=_known(telemetry_fields(telemetry) | {"mono_us": telemetry.mono_us}),
        time_ns=_time_ns(telemetry.time_us, telemetry.seq),
    )


def _stages(node: NodeId, telemetry: Telemetry) -> list[Point]:
    return [
        Point(
            measurement="stage_latency",
            tags={"site": node.site, "node": node.node, "stage": stage.value},
            fields=_known(stage_fields(telemetry, quantiles) | (bin_fields(quantiles) if stage is Stage.TOTAL else {})),
            time_ns=_time_ns(telemetry.time_us, telemetry.seq),
        )
        for stage, quantiles in telemetry.latency_us.items()
    ]


def _status(node: NodeId, status: NodeStatus, received_us: int) -> Point:
    return Point(
        measurement="status",
        tags={"site": node.site, "node": node.node},
        fields=_known(status_fields(status)),
        time_ns=_time_ns(received_us, 0),
    )


def _update(node: NodeId, report: UpdateReport) -> Point:
    return Point(
        measurement="update",
        tags={"site": node.site, "node": node.node},
        fields=_known(update_fields(report)),
        time_ns=_time_ns(report.time_us, _STATES.index(report.state)),
    )


def _known(fields: Fields) -> dict[str, Field]:
    return {name: value for name, value in fields.items() if value is not None}

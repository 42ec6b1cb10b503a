"""From events and counted windows to what the charts draw. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from broker.contract.decision import REPEAT_INTERVAL_US, Label
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.readings import History, Span, StageLatency

__all__ = ["Segment", "mean_stages", "segments", "shares"]

_HOLDS_US: Final = REPEAT_INTERVAL_US + 1_000_000
"""A label holds until the next event; while speech lasts that comes within 5 s, and may be a little late."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time of one node under one label."""

    node: NodeId
    label: Label
    from_us: int
    until_us: int


def segments(history: History) -> list[Segment]:
    """Return the timeline: from events over minutes; over longer spans, the most frequent label of each bucket."""
    if history.span is Span.MINUTES:
        marks = [(each.node, each.time_us, each.label, _HOLDS_US) for each in history.events]
    else:
        marks = [
            (each.node, each.from_us, max(each.counts, key=lambda label: each.counts[label]), history.span.bucket_us)
            for each in history.windows
            if any(each.counts.values())
        ]
    lanes: dict[NodeId, list[Segment]] = defaultdict(list)
    for node, from_us, label, holds_us in marks:
        lanes[node].append(Segment(node=node, label=label, from_us=from_us, until_us=from_us + holds_us))
    return [segment for lane in lanes.values() for segment in _joined(lane)]


def _joined(lane: Iterable[Segment]) -> Iterator[Segment]:
    """Yield one node's segments without overlaps, neighbours of one label as one."""
    last: Segment | None = None
    for each in sorted(lane, key=lambda segment: segment.from_us):
        if last is None or each.from_us > last.until_us:
            if last is not None:
                yield last
            last = each
        elif each.label is last.label:
            last = msgspec.structs.replace(last, until_us=each.until_us)
        else:
            yield msgspec.structs.replace(last, until_us=each.from_us)
            last = each
    if last is not None:
        yield last


def shares(history: History) -> dict[NodeId, dict[Label, int]]:
    """Return each node's windows with speech, by label."""
    counts: dict[NodeId, dict[Label, int]] = {}
    for window in history.windows:
        mine = counts.setdefault(window.node, dict.fromkeys(Label, 0))
        for label, count in window.counts.items():
            mine[label] += count
    return {node: mine for node, mine in counts.items() if any(mine.values())}


def mean_stages(stages: Iterable[StageLatency], node: NodeId | None) -> dict[Stage, tuple[float, float]]:
    """Return p50 and p95 by stage in µs: of one node, or the mean over all."""
    values: dict[Stage, list[StageLatency]] = defaultdict(list)
    for each in stages:
        if node is None or each.node == node:
            values[each.stage].append(each)
    return {
        stage: (sum(each.p50_us for each in found) / len(found), sum(each.p95_us for each in found) / len(found))
        for stage in Stage
        if (found := values.get(stage))
    }

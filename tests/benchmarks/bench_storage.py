"""What it costs to keep an event: the node's outbox, the SQLite store, and the spool before InfluxDB.

Baseline: the SQLite store with one event to a commit. Run by `make bench`; takes some seconds.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, EventLatency
from broker.contract.topics import EMOTION, NodeId
from dashboard.collector.records import Record
from dashboard.collector.spool import Spool
from dashboard.collector.sqlite_store import SqliteStore
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings

EVENTS = 20_000
SINGLE = 500
BATCH = 500
NODE = NodeId("home", "kitchen")


def event(seq: int) -> EmotionEvent:
    return EmotionEvent(
        boot_id="0123456789abcdef",
        seq=seq,
        time_us=1_790_000_000_000_000 + 1_000_000 * seq,
        mono_us=1_000_000 * seq,
        clock_synced=True,
        label=(Label.PLEASANT, Label.NEUTRAL, Label.UNPLEASANT)[seq % 3],
        confidence=0.5 + (seq % 40) / 100,
        model="factory/1",
        latency_us=EventLatency(
            capture=40_000, resample=400, features=800, inference=500, decision=30, total=42_000 + seq % 999
        ),
    )


def records(first: int, count: int) -> list[Record]:
    return [Record(node=NODE, message=event(seq), received_us=0) for seq in range(first, first + count)]


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many events a second `work` handles."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = SqliteStore(folder / "single.sqlite")
        ones = [records(seq, 1) for seq in range(1, SINGLE + 1)]
        baseline = rate(SINGLE, lambda: [single.write(each) for each in ones])
        single.close()

        store = SqliteStore(folder / "store.sqlite")
        batches = [records(first, BATCH) for first in range(1, EVENTS, BATCH)]
        stored = rate(EVENTS, lambda: [store.write(each) for each in batches])
        store.close()
        size = (folder / "store.sqlite").stat().st_size

        spool = Spool(folder / "spool.sqlite", 10 * EVENTS)
        spooled = rate(EVENTS, lambda: [spool.put(each) for each in batches])
        spool.close()

        outbox = Outbox(
            OutboxSettings(path=str(folder / "outbox.sqlite"), most_rows=10 * EVENTS), WallClock(trusted=True)
        )
        put = rate(EVENTS // 4, lambda: [outbox.put(EMOTION, NODE, event) for _ in range(EVENTS // 4)])
        outbox.close()

    say = sys.stdout.write
    say(f"{'':34}{'events/s':>10}{'x baseline':>12}\n")
    for what, value in (
        ("SQLite store, one event a commit", baseline),
        (f"SQLite store, {BATCH} events a commit", stored),
        (f"spool before InfluxDB, {BATCH} a commit", spooled),
        ("outbox, one event a commit", put),
    ):
        say(f"{what:<34}{value:>10,.0f}{value / baseline:>12.1f}\n")
    json_bytes = len(msgspec.json.encode(event(EVENTS)))
    say(f"an event: {json_bytes} bytes of JSON, {size / EVENTS:.0f} bytes in the SQLite store\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

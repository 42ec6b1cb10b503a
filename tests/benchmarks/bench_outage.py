"""What an outage of the broker costs a node: the outbox when it is full, a day of it on the disk, an hour without.

    python tests/benchmarks/bench_outage.py

The hour is one of audio, heard as fast as this machine can: the waits between attempts to connect last as long as they
would, in audio. Baseline: the same with an empty outbox, and with a broker that is there; both take turns.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy, as on a node

import logging
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from broker.connection import Arrived, Event, Subscribed
from broker.contract.bundle import read_bundle
from broker.contract.condition import LATENCY_BOUNDS_US, CaptureReport, CaptureState, Context, Drift, Quantiles
from broker.contract.decision import Label
from broker.contract.messages import (
    EmotionEvent,
    EventLatency,
    NodeStatus,
    Stage,
    StatusReason,
    Telemetry,
    Versions,
)
from broker.contract.topics import EMOTION, TELEMETRY, NodeId
from broker.link import Link
from broker.local import LocalBroker, free_port
from broker.settings import BrokerSettings
from deploy.fleet.machine import machine
from edge_node.classifier import verify
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.delivery.publisher import Publisher
from edge_node.models import factory_bundle
from edge_node.pipeline import Pipeline
from edge_node.sound.sources import Block
from edge_node.telemetry import Meter

NODE = NodeId("home", "living-room")
CLOCK = WallClock(trusted=True)
PUTS = 2_000
DAY_S = 86_400
TELEMETRY_S = 10
HOUR_S = 3_600
RATE_HZ = 16_000
BLOCK_S = 0.1
SAY = sys.stdout.write


def event(seq: int) -> EmotionEvent:
    return EmotionEvent(
        boot_id="0123456789abcdef",
        seq=seq,
        time_us=1_790_000_000_000_000 + 1_000_000 * seq,
        mono_us=86_400_000_000 + 1_000_000 * seq,
        clock_synced=True,
        label=Label.UNPLEASANT,
        confidence=0.6123456789,
        model="factory/3",
        latency_us=EventLatency(
            capture=140_000,
            resample=400,
            gate=900,
            features=800,
            inference=500,
            decision=130,
            total=142_000 + seq % 999,
        ),
    )


def telemetry(seq: int) -> Telemetry:
    figures = Quantiles(count=20, p50=12_345, p95=23_456, p99=34_567, histogram=(1,) * (len(LATENCY_BOUNDS_US) + 1))
    return Telemetry(
        boot_id="0123456789abcdef",
        seq=seq,
        time_us=1_790_000_000_000_000 + 10_000_000 * seq,
        outbox_id="0123456789abcdef",
        mono_us=86_400_000_000 + 10_000_000 * seq,
        clock_synced=True,
        interval_us=10_000_000,
        windows=dict.fromkeys(Label, 5),
        silent_windows=12,
        gated_windows=12,
        clipped_windows=1,
        level_dbfs=-34.123456789,
        drift=Drift(mean_confidence=0.6123456789, mean_entropy=0.7123456789, divergence=0.1123456789),
        latency_us=dict.fromkeys(Stage, figures),
        emitted=seq,
        outbox_dropped=0,
        outbox_depth=95_040,
        outbox_age_us=86_400_000_000,
        refused_events=0,
        capture=CaptureReport(state=CaptureState.LISTENING),
        dropped_blocks=0,
        reconnects=12,
        rss_bytes=70_000_000,
        cpu_share=0.0123,
        temperature_c=51.2,
        throttled=False,
    )


def status(reason: StatusReason) -> NodeStatus:
    return NodeStatus(
        boot_id="0123456789abcdef",
        time_us=CLOCK.now_us(),
        online=reason is StatusReason.BIRTH,
        reason=reason,
        versions=Versions(sottovoce="0", python="3", litert="2"),
        model="factory/3",
        context=Context.HOME,
        source="bench",
        muted=False,
        clock_synced=True,
    )


def times_us(count: int, work: Callable[[], object]) -> list[float]:
    """Return what each of `count` runs took, in µs."""
    taken = []
    for _ in range(count):
        begun_ns = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - begun_ns) / 1000)
    return taken


def spread(taken: list[float]) -> str:
    return f"{statistics.median(taken):8.0f} {np.percentile(taken, 99):8.0f}"


@contextmanager
def synced(outbox: Outbox) -> Iterator[None]:
    """Bring the outbox to the disk every second from another thread, as the publisher does."""
    over = threading.Event()

    def sync() -> None:
        other = Outbox(outbox.settings, CLOCK)
        while not over.wait(1):
            other.sync()
        other.close()

    thread = threading.Thread(target=sync)
    thread.start()
    yield
    over.set()
    thread.join()


def show_day(settings: OutboxSettings) -> int:
    """Fill an outbox with a day, print what that is on the disk, and return how many rows."""
    outbox = Outbox(settings, CLOCK, alone=True)
    with synced(outbox):
        for second in range(DAY_S):
            outbox.put(EMOTION, NODE, event)
            if second % TELEMETRY_S == 0:
                outbox.put(TELEMETRY, NODE, telemetry)
    outbox.sync()
    ((rows, size),) = outbox._run("SELECT row_count, byte_count FROM counter")
    dropped = outbox.counters().dropped
    outbox.close()
    on_disk = Path(settings.path).stat().st_size
    sizes = [len(msgspec.json.encode(each)) for each in (event(DAY_S), telemetry(DAY_S))]
    SAY(
        f"a day at 1 event a second ({sizes[0]} bytes) and telemetry every {TELEMETRY_S} s ({sizes[1]} bytes):\n"
        f"    {rows:,} rows of at most {settings.most_rows:,}; {size:,} bytes of at most {settings.most_bytes:,};"
        f" {dropped} dropped\n"
        f"    the file: {on_disk:,} bytes, {on_disk / size:.2f} of the payloads\n"
        f"    it drains in {rows / settings.drain_per_s:.0f} s at {settings.drain_per_s:.0f} messages a second\n\n"
    )
    return int(rows)


def show_costs(what: str, settings: OutboxSettings) -> None:
    """Print what an outbox's calls take."""
    outbox = Outbox(settings, CLOCK, alone=True)
    paused = [EMOTION.at(NODE)]
    with synced(outbox):
        columns = (
            times_us(PUTS, lambda: outbox.put(EMOTION, NODE, event)),
            times_us(PUTS // 4, outbox.counters),
            times_us(PUTS // 4, lambda: outbox.waiting(20)),
            times_us(PUTS // 4, lambda: outbox.waiting(20, paused)),
        )
    outbox.close()
    SAY(f"{what:<34}{' '.join(map(spread, columns))}\n")


class AudioTime:
    """A clock that goes as fast as audio is heard; other threads wait by it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._changed = threading.Condition()
        self.is_over = False

    def go_on(self, seconds: float) -> None:
        with self._changed:
            self.now_s += seconds
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self._changed:
            until_s = self.now_s + seconds
            self._changed.wait_for(lambda: self.is_over or self.now_s >= until_s)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Taker:
    """Subscribes to everything, as a collector, and acknowledges it."""

    def __init__(self, broker: BrokerSettings) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._link = Link(broker, "collector", events=self._events, subscribe_to=("sottovoce/v1/node/+/+/+",))
        self._link.start()
        while not isinstance(self._events.get(timeout=10), Subscribed):
            pass
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while (each := self._events.get()) is not None:
            if isinstance(each, Arrived):
                each.connection.acknowledge(each.packet_id)

    def end(self) -> None:
        self._link.stop()
        self._events.put(None)
        self._thread.join()


class Side:
    """One node's pipeline, outbox and publisher."""

    def __init__(self, folder: Path, broker: BrokerSettings) -> None:
        settings = OutboxSettings(path=str(folder / f"{broker.port}.sqlite"))
        bundle = read_bundle(factory_bundle(), "the factory model")
        self.audio = AudioTime()
        self.outbox = Outbox(settings, CLOCK, alone=True)
        self.publisher = Publisher(NODE, broker, Outbox(settings, CLOCK), status=status, meter=Meter())
        self.attempts = 0
        self.publisher._link.wait = self._wait
        self._pipeline = Pipeline(bundle.manifest, verify(bundle, "the factory model"))
        self.inference: list[float] = []
        self.windows: list[float] = []
        self.puts: list[float] = []

    def _wait(self, seconds: float) -> None:
        if not self.audio.is_over:
            self.attempts += 1  # one has just failed
        self.audio.wait(seconds)

    def hear(self, samples: np.ndarray) -> None:
        begun_ns = time.perf_counter_ns()
        block = Block(samples=samples, rate_hz=RATE_HZ, captured_ns=time.monotonic_ns())
        for heard in self._pipeline.hear(block):
            self.windows.append((time.perf_counter_ns() - begun_ns) / 1000)
            if heard.latency_us is not None:
                self.inference.append(heard.latency_us.inference)
        self.audio.go_on(BLOCK_S)

    def put(self) -> None:
        begun_ns = time.perf_counter_ns()
        row = self.outbox.put(EMOTION, NODE, event)
        self.puts.append((time.perf_counter_ns() - begun_ns) / 1000)
        self.publisher.stored(row)

    def end(self) -> None:
        self.audio.end()
        self.publisher.stop(0)
        self.outbox.close()


def settings_of(broker: LocalBroker, user: str) -> BrokerSettings:
    """Return how a user reaches the broker."""
    word = f"SOTTOVOCE_BENCH_{user.upper()}"
    os.environ[word] = broker.passwords[user]
    return BrokerSettings(host="127.0.0.1", port=broker.port, tls=False, username=user, password_env=word)


def speech(rng: np.random.Generator) -> np.ndarray:
    """Return 10 s of something that rises and falls like speech, shape (n,), float32."""
    moments = np.arange(10 * RATE_HZ) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 60 * np.sin(2 * np.pi * 0.4 * moments)) / RATE_HZ
    voiced = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.7 * moments) + 0.4, 0, None)
    return (0.15 * syllables * voiced + 0.005 * rng.standard_normal(len(moments))).astype(np.float32)


def show_hour(folder: Path) -> None:
    """Print what an hour without a broker does to attempts, log and latency."""
    (folder / "broker").mkdir()
    broker = LocalBroker(folder / "broker", [str(NODE), "collector"])
    broker.start()
    lines = Lines()
    logging.getLogger().addHandler(lines)
    logging.getLogger().setLevel(logging.INFO)
    taker = Taker(settings_of(broker, "collector"))
    there = settings_of(broker, str(NODE))
    sides = {
        "with a broker": Side(folder, there),
        "without one": Side(folder, msgspec.structs.replace(there, port=free_port())),
    }
    samples = speech(np.random.default_rng(0))
    length = round(BLOCK_S * RATE_HZ)
    try:
        for side in sides.values():
            side.publisher.start()
        for number in range(round(HOUR_S / BLOCK_S)):
            start = number * length % len(samples)
            for side in sides.values():
                side.hear(samples[start : start + length])
                if number % round(1 / BLOCK_S) == 0:
                    side.put()
    finally:
        for side in sides.values():
            side.end()
        taker.end()
        broker.stop()
    SAY(f"{'an hour, µs, median and 99 %':<34}{'inference':>17} {'block to label':>17} {'put':>17}   attempts\n")
    for what, side in sides.items():
        SAY(f"{what:<34}{spread(side.inference)} {spread(side.windows)} {spread(side.puts)}   {side.attempts}\n")
    with_one, without = (statistics.median(each.inference) for each in sides.values())
    SAY(f"inference without a broker: {without / with_one:.3f} of that with one; lines logged by both, in all:\n")
    for line in lines.lines:
        SAY(f"    {line}\n")


def main() -> int:
    SAY(f"machine: {machine()}\n\n")
    logging.getLogger("edge_node.delivery.outbox").setLevel(logging.ERROR)  # it is full on purpose
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        day = OutboxSettings(path=str(folder / "day.sqlite"))
        rows = show_day(day)
        SAY(f"{'µs, median and 99 %':<34}{'put':>17} {'counters':>17} {'waiting(20)':>17} {'..., one paused':>17}\n")
        show_costs("empty outbox", OutboxSettings(path=str(folder / "empty.sqlite")))
        show_costs(f"{rows:,} rows wait", msgspec.structs.replace(day, most_rows=10 * rows))
        show_costs("full: each put lets the oldest go", msgspec.structs.replace(day, most_rows=rows))
        SAY("\n")
        show_hour(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fixtures of the storage tests: a real InfluxDB, and messages as nodes send them."""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from broker.contract.condition import Context, Quantiles
from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, Stage, StatusReason, Telemetry, Versions
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState
from dashboard.collector.influx_store import InfluxStore, Pace
from dashboard.collector.records import Record
from dashboard.collector.settings import InfluxSettings

if TYPE_CHECKING:
    from tests.dashboard.influx_server import InfluxServer

_BOOT = "0123456789abcdef"
_OUTBOX = "fedcba9876543210"
_PACE = Pace(retry_first_s=0.05, retry_most_s=0.2, request_s=5.0, flush_s=5.0)


def _module(name: str) -> Any:  # tests are no package: the module beside this one has no type
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def influx(tmp_path: Path) -> "Iterator[InfluxServer]":
    """A real InfluxDB with an empty bucket; without one, a failure in CI and a skip elsewhere."""
    servers = _module("influx_server")
    if binary := servers.find_influxd():
        folder = tmp_path / "influxdb"
        folder.mkdir()
        server = servers.InfluxServer(binary, folder)
    elif servers.docker_answers():
        server = servers.InfluxContainer()
    else:
        why = (
            "no InfluxDB: run deploy/ci/build_influxd.sh, or name a server of 1.8 in SOTTOVOCE_INFLUXD, or start Docker"
        )
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def open_store(influx: "InfluxServer", tmp_path: Path) -> Iterator[Callable[..., InfluxStore]]:
    """Return a function that opens a store with short waits and its spool in `tmp_path`; all are closed at the end.

    It takes a token and settings that differ from the right ones.
    """
    right = InfluxSettings(
        url=influx.url, bucket=influx.bucket, org=influx.org, spool_path=str(tmp_path / "spool.sqlite")
    )
    stores: list[InfluxStore] = []

    def opened(token: str = influx.token, **others: object) -> InfluxStore:
        stores.append(InfluxStore(msgspec.structs.replace(right, **others), token, pace=_PACE))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits for another thread or process, at most 20 s."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 20 s"
            time.sleep(0.01)  # the condition is in another process: nothing here could be notified

    return wait


@pytest.fixture
def event() -> Callable[..., Record]:
    """Return a function that makes an event: sequence number, wall clock in µs, and any other field."""

    def make(seq: int, time_us: int, *, node: str = "lab/pi-1", **fields: object) -> Record:
        latency = EventLatency(capture=1_000, resample=200, features=3_000, inference=500, decision=20, total=5_000)
        values: dict[str, Any] = {
            "boot_id": _BOOT,
            "mono_us": 7_000_000,
            "clock_synced": True,
            "label": Label.NEUTRAL,
            "confidence": 0.75,
            "model": "factory/1",
            "latency_us": latency,
        }
        message = EmotionEvent(seq=seq, time_us=time_us, **(values | fields))
        return Record(node=NodeId(*node.split("/")), message=message, received_us=time_us + 1_000)

    return make


@pytest.fixture
def telemetry() -> Callable[..., Record]:
    """Return a function that makes telemetry: sequence number, wall clock in µs, and any other field."""

    def make(seq: int, time_us: int, *, node: str = "lab/pi-1", **fields: object) -> Record:
        values: dict[str, Any] = {
            "boot_id": _BOOT,
            "outbox_id": _OUTBOX,
            "mono_us": 7_000_000,
            "clock_synced": True,
            "interval_us": 10_000_000,
            "windows": {Label.PLEASANT: 3, Label.NEUTRAL: 5},
            "silent_windows": 12,
            "latency_us": {
                Stage.FEATURES: Quantiles(count=8, p50=3_000, p95=4_000, p99=4_500),
                Stage.INFERENCE: Quantiles(count=8, p50=500, p95=700, p99=900),
            },
            "emitted": 4,
            "outbox_dropped": 0,
            "outbox_depth": 12,
            "outbox_age_us": 1_500_000,
            "refused_events": 0,
            "dropped_blocks": 0,
            "reconnects": 0,
            "rss_bytes": 50_000_000,
            "cpu_share": 0.125,
            "temperature_c": 51.5,
        }
        message = Telemetry(seq=seq, time_us=time_us, **(values | fields))
        return Record(node=NodeId(*node.split("/")), message=message, received_us=time_us + 1_000)

    return make


@pytest.fixture
def status() -> Callable[..., Record]:
    """Return a function that makes a status: wall clocks of node and collector in µs, and any other field."""

    def make(time_us: int, received_us: int, *, node: str = "lab/pi-1", **fields: object) -> Record:
        values: dict[str, Any] = {
            "boot_id": _BOOT,
            "online": True,
            "reason": StatusReason.BIRTH,
            "versions": Versions(sottovoce="0.1.0", python="3.11.2", litert="2.1.0"),
            "model": "factory/1",
            "context": Context.RESEARCH,
            "source": "replay: synthetic",
            "muted": False,
            "clock_synced": True,
        }
        message = NodeStatus(time_us=time_us, **(values | fields))
        return Record(node=NodeId(*node.split("/")), message=message, received_us=received_us)

    return make


@pytest.fixture
def trial() -> TrialFigures:
    """What a new model showed in 80 windows with speech, 75 of which the old one saw alike."""
    return TrialFigures(
        windows=210,
        classified=80,
        agreed=75,
        p50_us=4_100,
        p95_us=6_900,
        scores=(0, 0, 0, 0, 2, 8, 20, 30, 15, 5),
        labels={Label.NEUTRAL: 60, Label.PLEASANT: 20},
    )


@pytest.fixture
def update() -> Callable[..., Record]:
    """Return a function that makes an update report: wall clock of the node in µs, and any other field."""

    def make(time_us: int, *, node: str = "lab/pi-1", **fields: object) -> Record:
        values: dict[str, Any] = {
            "boot_id": _BOOT,
            "release": "factory/4",
            "state": UpdateState.DOWNLOADING,
            "reason": "",
            "progress": 0.0,
        }
        message = UpdateReport(time_us=time_us, **(values | fields))
        return Record(node=NodeId(*node.split("/")), message=message, received_us=time_us + 1_000)

    return make

"""What the node's tests share: the real program, a real outbox, audio in files."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import settings

from broker.contract.bundle import Bundle, read_bundle
from broker.contract.condition import CaptureReport, CaptureState, Context
from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, StatusReason, Telemetry, Versions
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.local.messages import BrokerReport, Report
from edge_node.models import factory_bundle

settings.register_profile("no deadline", deadline=None)  # a shared machine may sleep in any example
settings.load_profile("no deadline")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def program() -> Run:
    """The real program: `program("classify", file)`; ends with its output and exit code."""

    def run(
        *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_node", *map(str, arguments)],
            env=os.environ | (env or {}),
            cwd=cwd or Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def one_line() -> Callable[..., None]:
    """Assert that a program ended with one line for its user, and nothing on stdout."""

    def check(done: subprocess.CompletedProcess[str], exit_code: int, *words: object) -> None:
        noise = ("INFO: ", "ALSA lib ", "jack server", "Cannot connect to server", "JackShmReadWritePtr")
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith(noise)]
        errors = [line for line in lines if line.startswith("sottovoce-node: error: ")]
        assert (done.returncode, done.stdout, len(errors)) == (exit_code, "", 1), done.stderr
        assert lines[-1] == errors[0], done.stderr
        assert "Traceback" not in done.stderr
        for word in words:
            assert str(word) in errors[0]

    return check


@pytest.fixture(scope="session")
def factory() -> Bundle:
    return read_bundle(factory_bundle(), "the factory model")


@pytest.fixture
def write_audio(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, samples: np.ndarray, rate_hz: int = 16_000, subtype: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate_hz, subtype=subtype)
        return path

    return write


@pytest.fixture
def box(tmp_path: Path) -> OutboxSettings:
    return OutboxSettings(path=str(tmp_path / "outbox.sqlite"))


@pytest.fixture
def open_outbox(request: pytest.FixtureRequest) -> Callable[[OutboxSettings], Outbox]:
    """Open an outbox that is closed when the test is over."""

    def opened(settings: OutboxSettings) -> Outbox:
        outbox = Outbox(settings, WallClock(trusted=True))
        request.addfinalizer(outbox.close)
        return outbox

    return opened


@pytest.fixture(scope="session")
def draft() -> Callable[[int], EmotionEvent]:
    """Make the event with a sequence number."""

    def make(seq: int) -> EmotionEvent:
        return EmotionEvent(
            boot_id="0123456789abcdef",
            time_us=1,
            seq=seq,
            mono_us=1,
            clock_synced=False,
            label=Label.NEUTRAL,
            confidence=0.5,
            model="factory/1",
            latency_us=EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=1),
        )

    return make


@pytest.fixture(scope="session")
def draft_telemetry() -> Callable[[int], Telemetry]:
    """Make the telemetry with a sequence number."""

    def make(seq: int) -> Telemetry:
        return Telemetry(
            boot_id="0123456789abcdef",
            seq=seq,
            time_us=1,
            outbox_id="0123456789abcdef",
            mono_us=1,
            clock_synced=False,
            interval_us=10_000_000,
            windows={},
            silent_windows=0,
            latency_us={},
            emitted=0,
            outbox_dropped=0,
            outbox_depth=0,
            outbox_age_us=0,
            refused_events=0,
            dropped_blocks=0,
            reconnects=0,
            rss_bytes=1,
            cpu_share=0.0,
            temperature_c=None,
        )

    return make


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """Make what a running node says at its local socket; what is named is changed."""

    def make(**changes: Any) -> Report:
        status = NodeStatus(
            boot_id="0123456789abcdef",
            time_us=1_790_000_000_000_000,
            online=True,
            reason=StatusReason.BIRTH,
            versions=Versions(sottovoce="0.1.0", python="3.11.2", litert="2.3.0"),
            model="factory/1",
            context=Context.HOME,
            employees_present=False,
            source="microphone: USB",
            muted=False,
            clock_synced=True,
        )
        report = Report(
            node="home/kitchen",
            pid=1,
            folder="/var/lib/sottovoce",
            uptime_s=3_600.0,
            status=status,
            capture=CaptureReport(state=CaptureState.LISTENING),
            broker=BrokerReport(where="broker.lan:8883", connected_s=3_590.0, connects=1, attempts=0, problem=None),
            hop_us=500_000,
            telemetry=None,
            update=None,
            remarks=(),
        )
        return msgspec.structs.replace(report, **changes)

    return make

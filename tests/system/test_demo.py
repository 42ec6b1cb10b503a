"""The demo, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

Until = Callable[..., None]


def demo(*arguments: str, wait_s: float = 60) -> dict[str, Any]:
    """Run the demo to its end and return its last line."""
    run = subprocess.run(
        [sys.executable, "-m", "deploy.demo", "--json", "--no-browser", *arguments],
        capture_output=True,
        text=True,
        timeout=wait_s,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1
    figures: dict[str, Any] = json.loads(run.stdout)
    return figures


def assert_sound(figures: dict[str, Any]) -> None:
    assert figures["stored"] > 0
    assert figures["published"] == figures["stored"] == sum(figures["labels"].values())
    assert (figures["lost"], figures["duplicates"], figures["dead_letters"]) == (0, 0, 0)
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"]


@pytest.mark.usefixtures("stack")  # it knows what to do where Mosquitto is missing
@pytest.mark.parametrize("broker", ["mosquitto", "iotcore"])
def test_demo_stores_all_that_its_nodes_publish(broker: str) -> None:
    figures = demo("--seconds", "12", "--broker", broker)
    assert_sound(figures)
    assert figures["broker"] == broker


def test_demo_clips_replays_a_folder_of_recordings(recording: Path, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(recording)
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.flac", samples[: 8 * rate_hz], rate_hz)
    assert_sound(demo("--seconds", "10", "--nodes", "2", "--clips", str(tmp_path)))


def test_demo_clips_without_recordings_says_so(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "deploy.demo", "--clips", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 3
    assert run.stderr.startswith(f"sottovoce-demo: error: --clips {tmp_path}: 0 recordings")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGHUP,)])
def test_demo_interrupted_ends_every_process(tmp_path: Path, until: Until, signals: tuple[signal.Signals, ...]) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # every program's command line names a file in it
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", "--no-browser"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(_naming(tmp_path)) == 6, "broker, collector, console and three nodes run")
    assert process.poll() is None
    for each in signals:
        process.send_signal(each)
        time.sleep(0.02)  # an impatient finger
    out, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "lost 0" in out
    assert _naming(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def _naming(folder: Path) -> list[str]:
    """Return the command lines of the running programs that name a folder."""
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended while we looked
            continue
        if str(folder) in line:
            lines.append(line)
    return lines

"""The doctor and systemd's watchdog, with the real node and a real broker."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Until = Callable[..., None]
SOURCE = 'kind = "replay"\npaths = ["{}"]\n'


@pytest.fixture
def place() -> Iterator[dict[str, str]]:
    """An environment with a folder for sockets, whose path is short enough for them."""
    with tempfile.TemporaryDirectory() as folder:
        yield os.environ | {"XDG_RUNTIME_DIR": folder}


def _doctor(stack: Any, config: Path, environment: dict[str, str], *more: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "edge_node", "doctor", "--config", config, "--json", *more],
        env=environment | {"SOTTOVOCE_BROKER_PASSWORD": stack.broker.passwords["home/kitchen"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    return done.returncode, {each["stage"]: each for each in found["findings"]}


def _config(stack: Any, recording: Path) -> Path:
    path: Path = stack._node("home/kitchen", SOURCE.format(recording), 60)
    return path


def test_doctor_alone_tries_everything_and_says_nothing(
    stack: Any, recording: Path, place: dict[str, str], tmp_path: Path
) -> None:
    collector = stack.start_collector()
    config = _config(stack, recording)
    before = set(tmp_path.iterdir())
    code, found = _doctor(stack, config, place)
    assert code == 0, found
    assert found["service"]["facts"] == {"running": False}
    for stage in ("sound", "broker: TCP", "broker: MQTT", "broker: publish"):
        assert found[stage]["verdict"] == "ok", found[stage]
    assert stack.stop(collector) == 0, "what it has taken is stored"
    for table in ("status", "emotion", "telemetry"):
        assert stack.query(f"SELECT count(*) FROM {table}") == [(0,)], "the doctor is heard by nobody"
    assert {each.suffix for each in set(tmp_path.iterdir()) - before} <= {".sqlite", ".sqlite-wal", ".sqlite-shm"}
    assert not stack.outbox().exists()


def test_doctor_asks_the_running_node_and_leaves_its_connection(
    stack: Any, recording: Path, place: dict[str, str], until: Until
) -> None:
    stack.start_collector()
    config = _config(stack, recording)
    node = stack._start("edge_node", config, "home/kitchen", place)
    until(lambda: stack.query("SELECT count(*) FROM telemetry WHERE emitted > 0") > [(0,)], "telemetry is stored")
    code, found = _doctor(stack, config, place)
    assert code == 0, found
    assert found["service"]["facts"]["pid"] == node.pid
    assert found["broker: MQTT"]["facts"]["connects"] == 1
    assert found["sound"]["words"].startswith("listens to replay: ")
    assert found["disk"]["facts"]["emitted_events"] > 0
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT max(reconnects) FROM telemetry") == [(0,)]


def test_doctor_tells_why_a_running_node_has_no_broker(
    stack: Any, recording: Path, place: dict[str, str], until: Until
) -> None:
    stack.broker.kill()
    config = _config(stack, recording)
    stack._start("edge_node", config, "home/kitchen", place)
    until(lambda: stack.waiting() > 0, "the node listens")
    code, found = _doctor(stack, config, place)
    assert code == 5
    assert "nothing listens" in found["broker: TCP"]["words"]
    assert found["broker: MQTT"]["verdict"] == "fail"
    assert found["broker: MQTT"]["facts"]["attempts"] >= 1
    assert "Connection refused" in found["broker: MQTT"]["words"]


def test_doctor_leaves_a_node_alone_that_does_not_answer(
    stack: Any, recording: Path, place: dict[str, str], until: Until
) -> None:
    stack.start_collector()
    config = _config(stack, recording)
    node = stack._start("edge_node", config, "home/kitchen", place)
    until(lambda: stack.query("SELECT count(*) FROM telemetry") > [(0,)], "telemetry is stored")
    with tempfile.TemporaryDirectory() as elsewhere:
        code, found = _doctor(stack, config, place | {"XDG_RUNTIME_DIR": elsewhere})
    assert code == 2
    assert f"process {node.pid} has the outbox" in found["service"]["words"]
    for stage in ("sound", "broker: MQTT", "broker: publish"):
        assert found[stage]["verdict"] == "skipped"
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT max(reconnects) FROM telemetry") == [(0,)]


def test_doctor_finds_another_with_the_same_name(
    stack: Any, recording: Path, place: dict[str, str], until: Until, tmp_path: Path
) -> None:
    stack.start_collector()
    config = _config(stack, recording)
    copy = tmp_path / "copy.toml"
    copy.write_text(config.read_text().replace(str(stack.outbox()), str(tmp_path / "other.sqlite")))
    node = stack._start("edge_node", copy, "home/kitchen")
    until(lambda: stack.query("SELECT count(*) FROM telemetry") > [(0,)], "telemetry is stored")
    code, found = _doctor(stack, config, place)
    assert code == 5
    assert "have the same name" in found["broker: MQTT"]["words"]
    assert stack.stop(node) == 0


def test_node_tells_systemd_how_it_fares(stack: Any, recording: Path, place: dict[str, str], until: Until) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{place['XDG_RUNTIME_DIR']}/notify")
        systemd.settimeout(0)
        stack.start_collector()
        environment = place | {"NOTIFY_SOCKET": f"{place['XDG_RUNTIME_DIR']}/notify", "WATCHDOG_USEC": "400000"}
        began_s = time.monotonic()
        node = stack._start("edge_node", _config(stack, recording), "home/kitchen", environment)

        def heard(what: str, times: int = 1) -> bool:
            while True:
                try:
                    told.append(systemd.recv(4_096).decode())
                except BlockingIOError:
                    return sum(each.startswith(what) for each in told) >= times

        until(lambda: heard("READY=1"), "the node is ready")
        until(lambda: heard("WATCHDOG=1", 5), "the watchdog is fed")
        fed_s = time.monotonic() - began_s
        until(lambda: heard("STATUS=listening to replay: "), "systemd knows what it does")
        assert stack.stop(node) == 0
        assert heard("STOPPING=1")
    assert told.index("READY=1") < told.index("WATCHDOG=1") < told.index("STOPPING=1")
    assert told.count("WATCHDOG=1") <= 10 * (fed_s + 30), "four times in the time after which it bites"
    assert told.count("READY=1") == told.count("STOPPING=1") == 1

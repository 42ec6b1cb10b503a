"""A whole system of real programs on loopback: Mosquitto, a collector, nodes; each can be killed."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from broker.local import LocalBroker

COLLECTOR = "collector"
WAIT_S = 30.0
LAST_STATUS = "SELECT reason FROM status ORDER BY id DESC LIMIT 1"


class Stack:
    """Programs, settings and files of one test."""

    def __init__(self, folder: Path, recording: Path, nodes: tuple[str, ...] = ("home/kitchen",)) -> None:
        self.folder = folder
        self._recording = recording
        (folder / "broker").mkdir()
        self.broker = LocalBroker(folder / "broker", [*nodes, COLLECTOR], kind="mosquitto")
        self.store = folder / "store.sqlite"
        self.outbox_rows = 100_000
        self.reconnect_s = (0.1, 0.5)  # first and longest wait
        self._processes: list[subprocess.Popen[str]] = []

    def outbox(self, node: str = "home/kitchen") -> Path:
        return self.folder / f"{node.replace('/', '-')}.sqlite"

    def start_collector(self, *, until_ready: bool = True) -> subprocess.Popen[str]:
        config = self._write("collector.toml", self._broker(COLLECTOR) + f'[sqlite]\npath = "{self.store}"\n')
        process = self._start("dashboard.collector", config, COLLECTOR)
        if until_ready:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return process

    def start_node(
        self, node: str = "home/kitchen", *, real_time: bool = False, repeat: bool = True, replay_s: float = 60
    ) -> subprocess.Popen[str]:
        source = (
            f'kind = "replay"\npaths = ["{self._recording}"]\n'
            f"real_time = {str(real_time).lower()}\nrepeat = {str(repeat).lower()}\n"
        )
        return self._start("edge_node", self._node(node, source, replay_s), node)

    def start_microphone_node(self, device: str, environment: dict[str, str]) -> subprocess.Popen[str]:
        source = f'kind = "microphone"\ndevice = "{device}"\n'
        return self._start("edge_node", self._node("home/kitchen", source, 60), "home/kitchen", environment)

    def stop(self, process: subprocess.Popen[str], *, wait_s: float = WAIT_S) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(wait_s)

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self.broker.kill()

    def query(self, statement: str, file: Path | None = None) -> list[tuple[object, ...]]:
        """Ask the store, or another of the stack's files; nothing while it is being made."""
        file = file or self.store
        if not file.exists():
            return []
        db = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            db.close()

    def waiting(self, node: str = "home/kitchen") -> int:
        """Return how many messages of a node's outbox wait."""
        return len(self.query("SELECT id FROM message WHERE state <> 1", self.outbox(node)))

    def stored(self) -> int:
        return len(self.query("SELECT seq FROM emotion"))

    def assert_nothing_lost(self) -> int:
        """Every event that the stopped node says it emitted is in the store once; return how many."""
        until(lambda: self.query(LAST_STATUS) == [("stopped",)], "the node's goodbye is stored")
        until(lambda: self.query("SELECT emitted = stored FROM delivery") == [(1,)], "all events are stored", 10)
        ((emitted, dropped, stored),) = self.query("SELECT emitted, dropped, stored FROM delivery")
        numbers = [row[0] for row in self.query("SELECT seq FROM emotion ORDER BY seq")]
        assert dropped == 0
        assert emitted == stored
        assert numbers == list(range(1, len(numbers) + 1))
        return len(numbers)

    def _node(self, node: str, source: str, replay_s: float) -> Path:
        site, name = node.split("/")
        return self._write(
            f"{site}-{name}.toml",
            f'site = "{site}"\nnode = "{name}"\n'
            f'deployment = {{context = "home", employees_present = false}}\ndrain_s = 20\n[source]\n{source}'
            "[gate]\nenabled = false\n[clock]\ntrust = true\n"  # the recording is a signal, not a voice
            f'[outbox]\npath = "{self.outbox(node)}"\nreplay_s = {replay_s}\n'
            f"most_rows = {self.outbox_rows}\n[telemetry]\ninterval_s = 1\n" + self._broker(node),
        )

    def _broker(self, user: str) -> str:
        return (
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\ntls = false\nusername = "{user}"\n'
            f"reconnect_first_s = {self.reconnect_s[0]}\nreconnect_most_s = {self.reconnect_s[1]}\n"
        )

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _start(
        self, module: str, config: Path, user: str, environment: Mapping[str, str] = os.environ
    ) -> subprocess.Popen[str]:
        with (self.folder / f"{config.stem}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", config],
                env={**environment, "SOTTOVOCE_BROKER_PASSWORD": self.broker.passwords[user]},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._processes.append(process)
        return process


@pytest.fixture
def stack(tmp_path: Path, recording: Path) -> Iterator[Stack]:
    """A system whose broker is running and whose other programs are not."""
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    system = Stack(tmp_path, recording)
    system.broker.start()
    yield system
    system.end()


def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for a condition; fail with what it was."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}"
        time.sleep(0.05)  # between two looks at another process's file


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until

"""An operator's commands to a real node, over mutual TLS and the production broker's rules.

Programs as users start them: `sottovoce-node run`, `sottovoce-console mute` and `threshold`.
"""

import os
import pwd
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.connection import Arrived, Subscribed
from broker.contract.commands import Command, MuteCommand, ThresholdCommand
from broker.contract.condition import MuteSource
from broker.contract.errors import LinkError
from broker.contract.generate import access_rules
from broker.contract.messages import NodeStatus, StatusReason, decode
from broker.contract.topics import (
    MUTE,
    OPERATOR_USER,
    RELEASE_USER,
    ROLLBACK,
    STATUS,
    THRESHOLD,
    WATCHER_USER,
    CommandTopic,
    NodeId,
)
from broker.link import Link
from broker.local import free_port
from broker.order import fresh, give
from broker.settings import BrokerSettings
from deploy.certificates import file_stem, issue_client, issue_server, make_authority

ROOT = Path(__file__).parents[2]
KITCHEN, BEDROOM = NodeId("home", "kitchen"), NodeId("home", "bedroom")
COLLECTOR = "collector"
WAIT_S = 30.0


class Broker:
    """Mosquitto with the production configuration, and certificates for everybody."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._identity = folder / "identity"
        self._log = folder / "broker.log"
        make_authority(self._identity)
        issue_server(self._identity, ["localhost"])
        for name in (str(KITCHEN), str(BEDROOM), COLLECTOR, RELEASE_USER, WATCHER_USER, OPERATOR_USER):
            issue_client(self._identity, name)
        (self._identity / "acl").write_text(access_rules((COLLECTOR,)), encoding="utf-8")
        (self._identity / "acl").chmod(0o600)
        (folder / "data").mkdir()
        text = (ROOT / "broker" / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8")
        for old, new in (
            ("/mosquitto/identity", str(self._identity)),
            ("/mosquitto/data", str(folder / "data")),
            ("listener 8883", f"listener {self.port}"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "mosquitto.conf").write_text(text, encoding="utf-8")
        if os.geteuid() == 0:  # started by root, Mosquitto becomes the user of that name
            user = pwd.getpwnam("mosquitto")
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([program, "-c", folder / "mosquitto.conf"], stdout=log, stderr=log)

    def listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def settings(self, user: str) -> BrokerSettings:
        files: dict[str, Any] = {name: str(self._identity / path) for name, path in self._files(user).items()}
        return BrokerSettings(host="localhost", port=self.port, reconnect_first_s=0.1, reconnect_most_s=0.5, **files)

    def section(self, user: str) -> str:
        files = "".join(f'{name} = "{self._identity / path}"\n' for name, path in self._files(user).items())
        return (
            f'[broker]\nhost = "localhost"\nport = {self.port}\n{files}'
            "reconnect_first_s = 0.1\nreconnect_most_s = 0.5\n"
        )

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)

    @staticmethod
    def _files(user: str) -> dict[str, str]:
        stem = file_stem(user)
        return {"ca_file": "ca.crt", "cert_file": f"{stem}.crt", "key_file": f"{stem}.key"}


class Watch:
    """What the broker says of the node, as a collector reads it."""

    def __init__(self, broker: Broker) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        filters = [STATUS.at(KITCHEN)]
        self._link = Link(
            broker.settings(COLLECTOR), COLLECTOR, events=self._events, subscribe_to=filters, session_expiry_s=0
        )
        self._link.start()
        while not isinstance(self._events.get(timeout=WAIT_S), Subscribed):
            pass

    def status(self, holds: Callable[[NodeStatus], bool]) -> NodeStatus:
        """Return the next status that the node publishes of which something holds."""
        deadline = time.monotonic() + WAIT_S
        while True:
            event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(event, Arrived):
                event.connection.acknowledge(event.packet_id)
                status = decode(event.payload, NodeStatus, STATUS.largest_bytes)
                if holds(status) and not event.retained:  # that one is of an earlier test
                    return status

    def birth(self) -> NodeStatus:
        return self.status(lambda status: status.reason is StatusReason.BIRTH)

    def end(self) -> None:
        self._link.stop()


class Programs:
    """A node and an operator's console."""

    def __init__(self, folder: Path, broker: Broker, recording: Path) -> None:
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        (folder / "node.toml").write_text(
            f'site = "{KITCHEN.site}"\nnode = "{KITCHEN.node}"\ndrain_s = 0\n'
            f'[deployment]\ncontext = "research"\n[clock]\ntrust = true\n'
            f'[source]\nkind = "replay"\npaths = ["{recording}"]\n'
            f'[outbox]\npath = "{folder / "outbox.sqlite"}"\n{broker.section(str(KITCHEN))}'
        )
        (folder / "console.toml").write_text(broker.section(OPERATOR_USER))

    def start_node(self) -> subprocess.Popen[bytes]:
        with (self._folder / "node.log").open("ab") as log:
            command = [sys.executable, "-m", "edge_node", "run", "--config", str(self._folder / "node.toml")]
            self._nodes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return self._nodes[-1]

    @property
    def state(self) -> Path:
        return self._folder / "outbox.sqlite.state.json"

    @property
    def said(self) -> str:
        return (self._folder / "node.log").read_text()

    def type(self, *line: str) -> str:
        """Type a command of the console; return what it prints."""
        command = [sys.executable, "-m", "dashboard.console", *line, "--config", str(self._folder / "console.toml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        for each in self._nodes:
            each.kill()
            each.wait()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    with tempfile.TemporaryDirectory(prefix="sottovoce-orders-") as name:  # pytest's own folders are for root alone
        running = Broker(Path(name))
        try:
            deadline = time.monotonic() + WAIT_S
            while not running.listens():
                assert time.monotonic() < deadline
                time.sleep(0.02)  # a program's start has no event to wait for
            yield running
        finally:
            running.end()


@pytest.fixture
def programs(tmp_path: Path, broker: Broker, recording: Path) -> Iterator[Programs]:
    running = Programs(tmp_path, broker, recording)
    yield running
    running.end()


@pytest.fixture
def watch(broker: Broker) -> Iterator[Watch]:
    watching = Watch(broker)
    yield watching
    watching.end()


def _kill(node: subprocess.Popen[bytes]) -> None:
    node.send_signal(signal.SIGKILL)
    node.wait(WAIT_S)


def test_operator_mutes_a_node_and_it_stays_muted_when_it_is_killed(programs: Programs, watch: Watch) -> None:
    node = programs.start_node()
    assert not watch.birth().muted
    assert programs.type("mute", "home/kitchen") == "home/kitchen: muted\n"
    status = watch.status(lambda status: status.muted)
    assert (status.reason, status.muted_by) == (StatusReason.CHANGE, (MuteSource.COMMAND,))
    _kill(node)
    programs.start_node()
    assert watch.birth().muted_by == (MuteSource.COMMAND,)
    assert programs.state.exists()
    assert programs.type("mute", "home/kitchen", "--off") == "home/kitchen: no longer muted\n"
    assert watch.status(lambda status: not status.muted).muted_by == ()
    assert "Traceback" not in programs.said


def test_operator_sets_thresholds_and_they_stay_when_the_node_is_killed(programs: Programs, watch: Watch) -> None:
    node = programs.start_node()
    before = watch.birth().thresholds
    assert before is not None
    said = programs.type("threshold", "home/kitchen", "--uncertain-below", "0.9")
    assert said == f"home/kitchen: uncertain below 0.9, speech above {before.speech_above:g}\n"
    status = watch.status(lambda status: status.thresholds != before)
    assert status.thresholds is not None
    assert (status.thresholds.uncertain_below, status.thresholds.speech_above) == (0.9, before.speech_above)
    _kill(node)
    programs.start_node()
    assert watch.birth().thresholds == status.thresholds
    programs.type("threshold", "home/kitchen", "--reset")
    assert watch.status(lambda status: status.thresholds == before)
    assert "Traceback" not in programs.said


def test_late_command_is_ignored_and_reported(programs: Programs, watch: Watch, broker: Broker) -> None:
    programs.start_node()
    watch.birth()
    then_us = time.time_ns() // 1_000 - 61_000_000
    for row, command in (
        (MUTE, MuteCommand(id=fresh().id, issued_us=then_us, muted=True)),
        (THRESHOLD, ThresholdCommand(id=fresh().id, issued_us=then_us, reset=True)),
    ):
        reply = give(broker.settings(OPERATOR_USER), row, KITCHEN, command)
        assert not isinstance(reply, str)
        assert not reply.done
        assert reply.words.endswith(" s old, at most 60 s are allowed")
    now = fresh()
    back = give(broker.settings(RELEASE_USER), ROLLBACK, KITCHEN, Command(id=now.id, issued_us=now.issued_us))
    assert not isinstance(back, str)
    assert back.words == "this node takes no updates, so there is nothing to go back to"
    assert "command mute: the command is 6" in programs.said
    assert not programs.state.exists(), "nothing was carried out"


@pytest.mark.parametrize(
    ("user", "row"),
    [
        *((user, MUTE) for user in (str(KITCHEN), str(BEDROOM), COLLECTOR, RELEASE_USER, WATCHER_USER)),
        *((user, THRESHOLD) for user in (str(BEDROOM), COLLECTOR, RELEASE_USER)),
        (OPERATOR_USER, ROLLBACK),
    ],
)
def test_command_of_anybody_else_is_refused_by_the_broker(broker: Broker, user: str, row: CommandTopic) -> None:
    now = fresh()
    command: Command = MuteCommand(id=now.id, issued_us=now.issued_us, muted=False)
    if row is THRESHOLD:
        command = ThresholdCommand(id=now.id, issued_us=now.issued_us, reset=True)
    elif row is ROLLBACK:
        command = Command(id=now.id, issued_us=now.issued_us)
    with pytest.raises(LinkError, match=r"refuses the command \(0x87\)"):
        give(broker.settings(user), row, KITCHEN, command)

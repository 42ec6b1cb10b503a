"""A world for real nodes that take releases up: a real broker, a repository of releases, programs that can be killed.

(Over 300 lines, because test modules share only what fixtures hand out.)
"""

import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from broker.connection import Acknowledged, Arrived, Connection, Opened
from broker.contract.bundle import read_bundle, write_bundle
from broker.contract.commands import Command, Reply
from broker.contract.messages import NodeStatus, Telemetry, decode
from broker.contract.topics import (
    RELEASE_USER,
    REPLY,
    ROLLBACK,
    STATUS,
    TELEMETRY,
    UPDATE,
    NodeId,
)
from broker.contract.updates import UpdateReport, UpdateState
from broker.link import Link
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from edge_node.models import factory_bundle
from edge_node.ota.record import Record
from training.release import keys
from training.release.bundles import add
from training.release.channels import abort, publish, roll_out
from training.release.keys import KeyRing
from training.release.mirror import mirror, retained
from training.release.opening import init
from training.release.repository import Repository
from training.release.roles import Keep

COLLECTOR = "collector"
WAIT_S = 60.0
PASSPHRASES = {Keep.OFFLINE: "correct horse battery", Keep.ONLINE: "staple of every day"}
HOP_SAMPLES = 1_600
"""A window each 0.1 s of audio, so that a trial of some windows takes a second."""

KILLER = """
import os, signal, sys
from pathlib import Path
from edge_node.__main__ import main
from edge_node.ota.folder import Folder
state, count, marker = os.environ["DIE_IN"], int(os.environ["DIE_AT"]), Path(os.environ["DIED"])
save, seen = Folder.save, 0
def save_and_die(self, record):
    global seen
    save(self, record)
    seen += record.state.value == state and not marker.exists()
    if seen == count:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
Folder.save = save_and_die
sys.exit(main())
"""
"""The real program, which is killed right after it has written a certain record for the n-th time."""


def made(version: int, *, is_wrong: bool = False) -> bytes:
    """Return the factory model under another name; wrong: its golden vectors are those of another model."""
    bundle = read_bundle(factory_bundle(), "the factory model")
    window = replace(bundle.manifest.window, hop_samples=HOP_SAMPLES)
    manifest = replace(bundle.manifest, name="made", version=version, window=window)
    golden = bundle.golden
    if is_wrong:
        golden = replace(golden, probabilities=golden.probabilities[:, ::-1].copy())
    return write_bundle(replace(bundle, manifest=manifest, golden=golden))


class Listener:
    """A client that reads everything that it may, and keeps the last of each topic."""

    def __init__(self, settings: BrokerSettings, user: str, topics: list[str]) -> None:
        self.last: dict[str, bytes] = {}
        self.all: list[tuple[str, bytes]] = []
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._link = Link(settings, user, events=self._events, subscribe_to=topics, session_expiry_s=0)  # type: ignore[arg-type]  # takes any event
        self.connection: Connection | None = None
        self.acknowledged: list[int] = []
        self._link.start()

    def is_connected(self) -> bool:
        self.hear()
        return self.connection is not None

    def hear(self) -> dict[str, bytes]:
        """Take what has come, and return the last of each topic."""
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Opened):
                self.connection = event.connection
            elif isinstance(event, Acknowledged):
                self.acknowledged.append(event.reason)
            elif isinstance(event, Arrived):
                self.last[event.topic] = event.payload
                self.all.append((event.topic, event.payload))
                if event.packet_id:
                    event.connection.acknowledge(event.packet_id)
        return self.last

    def end(self) -> None:
        self._link.stop()


class World:
    """A broker, a repository of releases, and nodes that can be killed."""

    def __init__(self, folder: Path, recording: Path, empty: tuple[Path, KeyRing], nodes: list[str]) -> None:
        self.folder, self.recording = folder, recording
        self.releases, self.ring = folder / "releases", empty[1]
        shutil.copytree(empty[0], self.releases)
        (folder / "broker").mkdir()
        users = [*(f"home/{name}" for name in nodes), COLLECTOR, RELEASE_USER]
        self.broker = LocalBroker(folder / "broker", users, kind="mosquitto")
        self.broker.start()
        self.reader = Listener(
            self.settings(COLLECTOR), COLLECTOR, [each.every_node for each in (STATUS, TELEMETRY, UPDATE)]
        )
        self.members = [Member(self, name) for name in nodes]
        self.doomed: dict[str, Doomed] = {}

    def settings(self, user: str) -> BrokerSettings:
        variable = f"SOTTOVOCE_TEST_{user}"
        os.environ[variable] = self.broker.passwords[user]
        return BrokerSettings(
            host="127.0.0.1",
            port=self.broker.port,
            tls=False,
            username=user,
            password_env=variable,
            reconnect_first_s=0.1,
            reconnect_most_s=0.5,
        )

    def open(self) -> Repository:
        repository = Repository(self.releases, self.ring, datetime.now(UTC))
        repository.accept()
        return repository

    def release(self, data: bytes, channel: str = "stable") -> None:
        """Sign a bundle, and roll it out to every node of a channel."""
        repository, bundle = self.open(), read_bundle(data, "a bundle")
        name = add(repository, bundle, data, (), None).model
        repository.sign()
        repository.settle()
        publish(self.open(), channel, name)
        roll_out(self.open(), channel, name, phases=[100], spread_s=0, abort_above=10, min_nodes=1)
        self.mirror()

    def abort(self) -> None:
        abort(self.open(), "stable", "enough")
        self.mirror()

    def mirror(self) -> None:
        mirror(self.settings(RELEASE_USER), retained(self.open().files))

    def doom(self, member: "Member", state: str, nth: int, channel: str) -> None:
        """Start a node that is killed when it has written a record with this state for the n-th time."""
        process = member.start(die_in=(state, nth), channel=channel)
        self.doomed[member.id.node] = Doomed(member, channel, process)

    def tend(self) -> None:
        """Start the nodes again that have been killed since the last look, so that all come back at the same time."""
        for each in self.doomed.values():
            if each.exit_code is None and each.process.poll() is not None:
                each.exit_code = each.process.returncode
                each.found = each.member.record().state
                each.member.start(channel=each.channel)

    def end(self) -> None:
        for member in self.members:
            member.end()
        self.reader.end()
        self.broker.kill()


class Member:
    """One node of it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.id = world, NodeId("home", name)
        self.folder = world.folder / name
        self.folder.mkdir()
        (self.folder / "floor.bundle").write_bytes(made(1))
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self, *, die_in: tuple[str, int] = ("", 0), channel: str = "stable", **update: object
    ) -> subprocess.Popen[bytes]:
        config = self.folder / "node.toml"
        asked = {"trial_windows": 10, "lasting_windows": 5} | update
        config.write_text(
            f'site = "{self.id.site}"\nnode = "{self.id.node}"\n'
            f'deployment = {{context = "home", employees_present = false}}\n'
            f'bundle = "{self.folder / "floor.bundle"}"\n'
            f'[source]\nkind = "replay"\npaths = ["{self.world.recording}"]\n'
            "[gate]\nenabled = false\n"
            f'[clock]\ntrust = true\n[outbox]\npath = "{self.folder / "outbox.sqlite"}"\n[telemetry]\ninterval_s = 1\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.world.broker.port}\ntls = false\nusername = "{self.id}"\n'
            "reconnect_first_s = 0.1\nreconnect_most_s = 0.5\n"
            f'[update]\nanchor = "{self.world.releases / "metadata/1.root.json"}"\nchannel = "{channel}"\n'
            f'folder = "{self.folder / "update"}"\n' + "".join(f"{key} = {value}\n" for key, value in asked.items())
        )
        command = [
            sys.executable,
            *(("-c", KILLER) if die_in[0] else ("-m", "edge_node")),
            "run",
            "--config",
            str(config),
        ]
        environment = {
            "DIE_IN": die_in[0],
            "DIE_AT": str(die_in[1]),
            "DIED": str(self.folder / "died"),
            "SOTTOVOCE_BROKER_PASSWORD": self.world.broker.passwords[str(self.id)],
        }
        with (self.folder / "node.log").open("ab") as log:
            process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def record(self) -> Record:
        return msgspec.json.decode((self.folder / "update" / "state.json").read_bytes(), type=Record)

    def reports(self) -> list[UpdateReport]:
        self.world.reader.hear()
        payloads = [payload for topic, payload in self.world.reader.all if topic == UPDATE.at(self.id)]
        return [decode(payload, UpdateReport, UPDATE.largest_bytes) for payload in payloads]

    def states(self) -> list[str]:
        """Return the states that were reported, in their order, each once while it lasted."""
        told = [report.state.value for report in self.reports()]
        return [state for k, state in enumerate(told) if k == 0 or told[k - 1] != state]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        self.world.tend()
        while not condition():
            self.world.tend()
            assert time.monotonic() < deadline, (
                f"{self.id}: {what}: not within {WAIT_S} s\n{self.reports()[-1:]}\n{self.log()}"
            )
            time.sleep(0.05)  # between two looks at another process

    def until_reported(self, state: UpdateState, release: str) -> UpdateReport:
        self.until(
            lambda: any((last.state, last.release) == (state, release) for last in self.reports()[-1:]),
            f"{release} is {state}",
        )
        return self.reports()[-1]

    def assert_works_with(self, model: str) -> None:
        """The program that runs now names the model in its status, and goes on judging windows."""
        begun = len(self.world.reader.all)

        def judges() -> bool:
            self.world.reader.hear()
            status = decode(self.world.reader.last[STATUS.at(self.id)], NodeStatus, STATUS.largest_bytes)
            heard = [payload for topic, payload in self.world.reader.all[begun:] if topic == TELEMETRY.at(self.id)]
            told = [decode(each, Telemetry, TELEMETRY.largest_bytes) for each in heard]
            mine = [each for each in told if each.boot_id == status.boot_id]  # what was lost on a kill is sent again
            return (status.model, status.online) == (model, True) and any(
                sum(each.windows.values()) for each in mine[1:]
            )

        self.until(judges, f"windows judged by {model}")

    def command(self) -> Reply:
        """Send this node back, as an operator does, and return its answer."""
        client = Listener(self.world.settings(RELEASE_USER), RELEASE_USER, [REPLY.at(self.id)])
        try:
            self.until(client.is_connected, "connected")
            assert client.connection is not None
            order = Command(id=os.urandom(8).hex(), issued_us=time.time_ns() // 1000)
            topic = ROLLBACK.at(self.id)
            client.connection.publish(topic, msgspec.json.encode(order), expiry_s=ROLLBACK.expiry_s)
            self.until(lambda: REPLY.at(self.id) in client.hear(), "a reply")
            return decode(client.last[REPLY.at(self.id)], Reply, REPLY.largest_bytes)
        finally:
            client.end()

    def log(self) -> str:
        path = self.folder / "node.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


class Doomed:
    """A node that kills itself at a certain record, and what was found then."""

    def __init__(self, member: Member, channel: str, process: "subprocess.Popen[bytes]") -> None:
        self.member, self.channel, self.process = member, channel, process
        self.exit_code: int | None = None
        self.found: UpdateState | None = None


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, KeyRing]]:
    """A repository to begin with. What makes guessing passphrases slow makes tests slow, and is tested elsewhere."""
    folder = tmp_path_factory.mktemp("release") / "releases"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keys._SCRYPT, "n", 2**4)
        init(folder, PASSPHRASES.__getitem__, datetime.now(UTC))
        yield folder, KeyRing([folder / "keys" / keep for keep in Keep], PASSPHRASES.__getitem__)


@pytest.fixture(scope="session")
def _mosquitto() -> None:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")


@pytest.fixture
def node(tmp_path: Path, recording: Path, empty: tuple[Path, KeyRing], _mosquitto: None) -> Iterator[Member]:
    """A node in a world in which nothing is released yet."""
    world = World(tmp_path, recording, empty, ["kitchen"])
    yield world.members[0]
    world.end()


@pytest.fixture
def listener() -> Callable[..., Listener]:
    """Another client of the world's broker."""
    return Listener


@pytest.fixture(scope="session", name="made")
def _made() -> Callable[..., bytes]:
    return made


@pytest.fixture(scope="module")
def make_world(
    tmp_path_factory: pytest.TempPathFactory, recording: Path, empty: tuple[Path, KeyRing], _mosquitto: None
) -> Iterator[Callable[[list[str]], World]]:
    """A world with nodes of these names, for a whole module."""
    worlds: list[World] = []

    def make(nodes: list[str]) -> World:
        worlds.append(World(tmp_path_factory.mktemp("world"), recording, empty, nodes))
        return worlds[-1]

    yield make
    for world in worlds:
        world.end()


@pytest.fixture
def stranger(tmp_path: Path) -> tuple[Path, KeyRing]:
    """A repository with keys of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keys._SCRYPT, "n", 2**4)
        init(tmp_path / "rogue", PASSPHRASES.__getitem__, datetime.now(UTC))
    return tmp_path / "rogue", KeyRing([tmp_path / "rogue" / "keys" / keep for keep in Keep], PASSPHRASES.__getitem__)

"""The production broker as it is configured: who gets in, who may write what, who hears what.

`broker/mosquitto/mosquitto.conf` itself, with certificates by `deploy.certificates` and the generated ACL; only its
port and its paths are those of the test. (Over 300 lines because the broker, the strangers' client and our programs,
which these tests alone need, stand here too.)
"""

import json
import os
import pwd
import queue
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.contract.generate import access_rules
from broker.contract.topics import (
    CHUNK,
    EMOTION,
    METADATA,
    RELEASE_USER,
    REPLY,
    ROLLBACK,
    STATUS,
    TELEMETRY,
    UPDATE,
    WATCHER_USER,
    WILL_DELAY_S,
    NodeId,
    every_command,
)
from broker.local import LocalBroker, free_port
from deploy.certificates import file_stem, issue_client, issue_server, make_authority

CONFIGURATION = Path(__file__).parents[2] / "broker" / "mosquitto" / "mosquitto.conf"
KITCHEN, BEDROOM = NodeId("home", "kitchen"), NodeId("home", "bedroom")
COLLECTOR, OBSERVER = "collector", "collector-b"
DELIVERED, NOBODY_SUBSCRIBES, NOT_AUTHORISED = 0x00, 0x10, 0x87
WAIT_S = 10.0
Until = Callable[..., None]


class Broker:
    """Mosquitto with the production configuration."""

    def __init__(self, folder: Path) -> None:
        """Make certificates for everybody, and a second authority that nobody trusts."""
        self.port = free_port()
        self.identity, self.stranger = folder / "identity", folder / "stranger"
        self.log = folder / "broker.log"
        for authority in (self.identity, self.stranger):
            make_authority(authority)
            issue_client(authority, str(KITCHEN))
        issue_server(self.identity, ["localhost", "127.0.0.1"])
        for name in (str(BEDROOM), COLLECTOR, OBSERVER, RELEASE_USER, WATCHER_USER):
            issue_client(self.identity, name)
        (self.identity / "acl").write_text(access_rules((COLLECTOR, OBSERVER)), encoding="utf-8")
        (self.identity / "acl").chmod(0o600)
        (folder / "data").mkdir()
        text = CONFIGURATION.read_text(encoding="utf-8")
        for old, new in (
            ("/mosquitto/identity", str(self.identity)),
            ("/mosquitto/data", str(folder / "data")),
            ("listener 8883", f"listener {self.port}"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "mosquitto.conf").write_text(text, encoding="utf-8")
        _give_to_mosquitto(folder)
        with self.log.open("wb") as log:
            program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
            assert program is not None
            self._process = subprocess.Popen([program, "-c", folder / "mosquitto.conf"], stdout=log, stderr=log)

    def wait(self) -> None:
        """Return when it accepts connections."""
        deadline = time.monotonic() + WAIT_S
        while not self._listens():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)  # a program's start has no event to wait for

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def settings(self, stem: str, authority: Path | None = None) -> str:
        """Return `[broker]` for one of our programs."""
        own = authority or self.identity
        return (
            f'[broker]\nhost = "localhost"\nport = {self.port}\nca_file = "{self.identity / "ca.crt"}"\n'
            f'cert_file = "{own / stem}.crt"\nkey_file = "{own / stem}.key"\n'
            "reconnect_first_s = 0.1\nreconnect_most_s = 0.5\n"
        )

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)


class Client:
    """An MQTT 5 client that is none of our programs."""

    def __init__(
        self,
        broker: Broker,
        stem: str | None,
        *,
        authority: Path | None = None,
        client_id: str = "",
        keep: bool = False,
    ) -> None:
        """Try to connect.

        Args:
            broker: where to.
            stem: which certificate; None: come without any.
            authority: the folder of the certificate.
            client_id: what it says its client id is.
            keep: ask the broker to keep the session, and take up one that is there.
        """
        self.received: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.session_present: bool | None = None
        """None: not let in."""
        self._answered = threading.Event()
        self._acknowledged: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=broker.identity / "ca.crt")
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        if stem is not None:
            own = authority or broker.identity
            context.load_cert_chain(own / f"{stem}.crt", own / f"{stem}.key")
        client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self.received.put((message.topic, bytes(message.payload)))
        client.on_publish = lambda _client, _data, mid, reason, _properties: self._acknowledged.put((mid, reason.value))
        client.on_subscribe = lambda _client, _data, mid, reasons, _properties: self._acknowledged.put(
            (mid, reasons[0].value)
        )
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 60 if keep else 0
        try:
            client.connect("localhost", broker.port, clean_start=not keep, properties=session)
        except OSError:  # TLS 1.2 tells within the handshake, TLS 1.3 after it
            return
        client.loop_start()
        assert self._answered.wait(WAIT_S)

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> int:
        """Publish at QoS 1 and return the PUBACK's reason."""
        return self._reason_of(self._client.publish(topic, payload, qos=1, retain=retain).mid)

    def subscribe(self, topic: str) -> int:
        """Subscribe at QoS 1 and return the SUBACK's reason."""
        _, mid = self._client.subscribe([(topic, SubscribeOptions(qos=1))])
        assert mid is not None
        return self._reason_of(mid)

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _reason_of(self, mid: int) -> int:
        found, reason = self._acknowledged.get(timeout=WAIT_S)
        assert found == mid
        return reason

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if not reason.is_failure:
            self.session_present = flags.session_present
        self._answered.set()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.ended.put(reason.value)
        self._answered.set()


class Programs:
    """Our own programs, as a user starts them."""

    def __init__(self, folder: Path, recording: Path) -> None:
        self.folder = folder
        self.store = folder / "store.sqlite"
        self._recording = recording
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_collector(self, broker_settings: str) -> None:
        config = self.folder / "collector.toml"
        config.write_text(f'name = "{COLLECTOR}"\n{broker_settings}[sqlite]\npath = "{self.store}"\n')
        process = self._start("dashboard.collector", config, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def start_node(
        self, broker_settings: str, node: NodeId = KITCHEN, *, password: str = ""
    ) -> subprocess.Popen[bytes]:
        config = self.folder / "node.toml"
        config.write_text(
            f'site = "{node.site}"\nnode = "{node.node}"\n'
            f'deployment = {{context = "research", employees_present = false}}\ndrain_s = 0\n'
            f'[source]\nkind = "replay"\npaths = ["{self._recording}"]\n'
            f'[clock]\ntrust = true\n[outbox]\npath = "{self.folder / "outbox.sqlite"}"\n{broker_settings}'
        )
        return self._start("edge_node", config, password=password)

    def said(self, program: str = "node") -> list[str]:
        """Return what a program has logged at WARNING and above."""
        lines = (self.folder / f"{program}.log").read_text().splitlines()
        return [line for line in lines if " WARNING " in line or " ERROR " in line or "Traceback" in line]

    def stored(self) -> list[tuple[object, ...]]:
        db = sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute("SELECT DISTINCT site, node FROM emotion").fetchall()
        finally:
            db.close()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _start(
        self, module: str, config: Path, *, password: str = "", stdout: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{config.stem}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "--config", config],
                env=os.environ | {"SOTTOVOCE_BROKER_PASSWORD": password},
                stdout=stdout,
                stderr=log,
            )
        self._processes.append(process)
        return process


def _give_to_mosquitto(folder: Path) -> None:
    """Let Mosquitto read its files: started by root, it becomes the user of that name."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("mosquitto")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def _require_mosquitto() -> None:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    _require_mosquitto()
    with tempfile.TemporaryDirectory(prefix="sottovoce-security-") as name:  # pytest's own folders are for root alone
        running = Broker(Path(name))
        try:
            running.wait()
            yield running
        finally:
            running.end()


@pytest.fixture
def client(broker: Broker) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def connect(stem: str | None, **how: Any) -> Client:
        clients.append(Client(broker, stem, **how))
        return clients[-1]

    yield connect
    for each in clients:
        each.end()


@pytest.fixture
def programs(tmp_path: Path, recording: Path) -> Iterator[Programs]:
    running = Programs(tmp_path, recording)
    yield running
    running.end()


def test_security_our_programs_over_mutual_tls_store_events(broker: Broker, programs: Programs, until: Until) -> None:
    programs.start_collector(broker.settings(COLLECTOR))
    programs.start_node(broker.settings(file_stem(str(KITCHEN))))
    until(lambda: programs.stored() == [("home", "kitchen")], "an event is stored")
    assert programs.said("node") == []
    assert programs.said("collector") == []


def test_security_configuration_starts_without_a_complaint(broker: Broker) -> None:
    said = broker.log.read_text().partition("New connection")[0].splitlines()
    # what all may read needs a pattern that names nobody: Mosquitto knows no other rule for every user
    for_all = ("ACL pattern 'sottovoce/v1/release/", "ACL pattern 'homeassistant/status'")
    assert [line for line in said if not any(each in line for each in for_all)] == []


@pytest.mark.parametrize(("stem", "folder"), [(None, "identity"), ("home.kitchen", "stranger"), ("server", "identity")])
def test_security_client_without_a_client_certificate_of_ours_is_refused(
    broker: Broker, client: Callable[..., Client], stem: str | None, folder: str
) -> None:
    assert client(stem, authority=getattr(broker, folder)).session_present is None
    assert client("home.kitchen").session_present is False, "the control: a certificate of ours"


def test_security_node_writes_below_its_own_name_alone(client: Callable[..., Client]) -> None:
    observer = client(OBSERVER)
    observer.subscribe("sottovoce/v1/node/+/+/emotion")
    for topic in (EMOTION.at(BEDROOM), "sottovoce/v1/node/home/kitchen/audio", "sottovoce/v1/node/home/kitchen"):
        node = client("home.kitchen")  # anew each time: Mosquitto 2.0.11 answers 0x87 and then closes the connection
        assert node.publish(topic, b"forbidden") == NOT_AUTHORISED
    assert client("home.kitchen").publish(EMOTION.at(KITCHEN), b"own") == DELIVERED
    assert observer.received.get(timeout=WAIT_S) == (EMOTION.at(KITCHEN), b"own"), "in order, so nothing came before"


def test_security_node_hears_nothing_of_others(client: Callable[..., Client]) -> None:
    observer, curious, node = client(OBSERVER), client("home.bedroom"), client("home.kitchen")
    for topic in (EMOTION.every_node, TELEMETRY.every_node):
        observer.subscribe(topic)
    for topic in ("#", "sottovoce/v1/node/+/+/#", EMOTION.at(KITCHEN), f"$share/g/{TELEMETRY.at(KITCHEN)}", "$SYS/#"):
        curious.subscribe(topic)  # Mosquitto grants it, and delivers nothing
    for topic in (EMOTION.at(KITCHEN), TELEMETRY.at(KITCHEN)):
        assert node.publish(topic, b"private") == DELIVERED
        assert observer.received.get(timeout=WAIT_S) == (topic, b"private")
    assert curious.publish(EMOTION.at(BEDROOM), b"own") == DELIVERED, "its PUBACK follows whatever was due before"
    assert curious.received.empty()


def test_security_collector_cannot_publish(client: Callable[..., Client]) -> None:
    for topic in (EMOTION.at(KITCHEN), "sottovoce/v1/command/home/kitchen/mute", f"sottovoce/v1/node/{COLLECTOR}/x"):
        assert client(COLLECTOR).publish(topic) == NOT_AUTHORISED


def test_security_releases_are_written_by_the_release_program_alone(client: Callable[..., Client]) -> None:
    chunk = CHUNK.at("0f" * 32)
    for name in ("home.kitchen", COLLECTOR):
        for topic in (chunk, METADATA.at("timestamp.json")):
            assert client(name).publish(topic, b"forged", retain=True) == NOT_AUTHORISED
    for topic in (STATUS.at(KITCHEN), UPDATE.at(KITCHEN), "sottovoce/v1/release/other/x"):
        assert client(RELEASE_USER).publish(topic) == NOT_AUTHORISED
    publisher, node = client(RELEASE_USER), client("home.kitchen")
    assert publisher.publish(chunk, bytes(65_536), retain=True) in {DELIVERED, NOBODY_SUBSCRIBES}
    node.subscribe(chunk)
    assert node.received.get(timeout=WAIT_S) == (chunk, bytes(65_536)), "the largest payload of the table passes"
    watcher = client(WATCHER_USER)
    for row in (UPDATE, EMOTION):
        watcher.subscribe(row.every_node)
        publisher.subscribe(row.every_node)
    assert node.publish(EMOTION.at(KITCHEN), b"private") in {DELIVERED, NOBODY_SUBSCRIBES}
    assert node.publish(UPDATE.at(KITCHEN), b"trial") == DELIVERED
    assert watcher.received.get(timeout=WAIT_S) == (UPDATE.at(KITCHEN), b"trial"), "and nothing of the emotions"
    assert publisher.received.empty()
    publisher.publish(chunk, b"", retain=True)
    assert watcher.publish(ROLLBACK.at(KITCHEN)) == NOT_AUTHORISED


def test_security_command_comes_from_the_release_program_and_reaches_one_node(client: Callable[..., Client]) -> None:
    order = ROLLBACK.at(KITCHEN)
    for name in ("home.kitchen", COLLECTOR):
        assert client(name).publish(order) == NOT_AUTHORISED
    operator, node, other = client(RELEASE_USER), client("home.kitchen"), client("home.bedroom")
    node.subscribe(every_command(KITCHEN))
    other.subscribe(every_command(KITCHEN))
    operator.subscribe(REPLY.every_node)
    assert operator.publish(order, b"go back") == DELIVERED
    assert node.received.get(timeout=WAIT_S) == (order, b"go back")
    assert node.publish(REPLY.at(KITCHEN), b"it does") == DELIVERED
    assert operator.received.get(timeout=WAIT_S) == (REPLY.at(KITCHEN), b"it does")
    assert other.received.empty(), "nobody reads another node's commands"


def test_security_same_certificate_with_another_client_id_is_the_same_session(client: Callable[..., Client]) -> None:
    first = client(COLLECTOR, client_id="one", keep=True)
    first.subscribe(EMOTION.every_node)
    second = client(COLLECTOR, client_id="two", keep=True)
    first.ended.get(timeout=WAIT_S)
    assert second.session_present is True
    node = client("home.kitchen")
    assert node.publish(EMOTION.at(KITCHEN), b"to the one session") == DELIVERED
    assert second.received.get(timeout=WAIT_S)[1] == b"to the one session", "the first one's subscription"


def test_security_client_cannot_throw_out_another_by_its_client_id(client: Callable[..., Client]) -> None:
    victim = client("home.kitchen", client_id="home/kitchen")
    thief = client("home.bedroom", client_id="home/kitchen")
    assert thief.session_present is False
    assert thief.publish(EMOTION.at(KITCHEN)) == NOT_AUTHORISED
    assert victim.publish(EMOTION.at(KITCHEN)) in {DELIVERED, NOBODY_SUBSCRIBES}
    assert victim.ended.empty()


def test_security_node_with_a_strangers_certificate_says_so_once_and_is_no_storm(
    broker: Broker, programs: Programs, until: Until
) -> None:
    before = broker.log.read_text().count("New connection")
    begun = time.monotonic()
    node = programs.start_node(broker.settings("home.kitchen", broker.stranger))
    until(lambda: broker.log.read_text().count("New connection") >= before + 6, "it keeps trying")
    assert time.monotonic() - begun > 0.8, "five waits of 0.05, 0.1, 0.2 and twice 0.25 s, each at least"
    assert node.poll() is None
    (line,) = programs.said()
    assert f"broker localhost:{broker.port}:" in line
    assert "; trying again, at most " in line


def test_security_node_with_a_wrong_password_says_so_once(tmp_path: Path, programs: Programs, until: Until) -> None:
    _require_mosquitto()
    (tmp_path / "broker").mkdir()
    broker = LocalBroker(tmp_path / "broker", [str(KITCHEN)], kind="mosquitto")
    broker.start()
    try:
        settings = f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntls = false\nusername = "{KITCHEN}"\n'
        settings += "reconnect_first_s = 0.1\nreconnect_most_s = 0.5\n"
        node = programs.start_node(settings, password=broker.passwords[str(KITCHEN)][::-1])
        until(lambda: broker.log.read_text().count("not authorised") >= 4, "it keeps trying")
        assert node.poll() is None
        (line,) = programs.said()
        assert "refused: Not authorized" in line
    finally:
        broker.kill()


def test_security_will_of_a_killed_node_comes_after_its_delay_and_stays(
    broker: Broker, client: Callable[..., Client], programs: Programs
) -> None:
    observer = client(OBSERVER)
    observer.subscribe(STATUS.at(BEDROOM))  # no other test has left a status of this node
    node = programs.start_node(broker.settings("home.bedroom"), BEDROOM)
    assert _status(observer)["reason"] == "birth"
    node.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    will = _status(observer, WILL_DELAY_S + WAIT_S)
    assert (will["online"], will["reason"]) == (False, "lost")
    assert time.monotonic() - killed > WILL_DELAY_S - 2  # Mosquitto looks at its clock once a second
    late = client(COLLECTOR)
    late.subscribe(STATUS.at(BEDROOM))
    assert _status(late) == will, "retained"


def _status(client: Client, wait_s: float = WAIT_S) -> dict[str, Any]:
    _, payload = client.received.get(timeout=wait_s)
    found: dict[str, Any] = json.loads(payload)
    return found

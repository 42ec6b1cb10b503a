"""A repository of releases, clients that look at copies of its files, a real broker and a fleet that a test speaks for.

Nothing here is mocked but the clock. (Over 300 lines, because test modules cannot import each other.)
"""

import queue
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from broker.connection import Acknowledged, Arrived, Connection, Opened, Subscribed
from broker.contract.bundle import Bundle, Golden, Manifest, Training, read_bundle, write_bundle
from broker.contract.condition import Context
from broker.contract.decision import CLASSES, DecisionSpec
from broker.contract.errors import Refusal, TrustError
from broker.contract.features import FeatureSpec
from broker.contract.messages import NodeStatus, StatusReason, Versions, encode
from broker.contract.release import Rollout, is_in
from broker.contract.topics import RELEASE_USER, STATUS, UPDATE, WATCHER_USER, NodeId
from broker.contract.updates import UpdateReport, UpdateState
from broker.contract.windows import WindowSpec
from broker.link import Link
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from broker.verify import Offer, check_archive, verify
from training.release import keys
from training.release.bundles import add, gates_of
from training.release.channels import publish, roll_out
from training.release.keys import KeyRing
from training.release.opening import Owners, init
from training.release.repository import Repository
from training.release.roles import Keep

WAIT_S = 15.0
RELEASE = "made/1"
PASSPHRASES = {Keep.OFFLINE: "correct horse battery", Keep.ONLINE: "staple of every day"}


def make_bundle(version: int = 1, *, uar: float = 0.7, model: bytes = b"no model", **summary: Any) -> bytes:
    """Return a bundle whose model is none: a repository signs files, it runs nothing."""
    manifest = Manifest(
        name="made",
        version=version,
        created="2026-01-31",
        labels=CLASSES,
        features=FeatureSpec(coefficients=13, fft_samples=512, hop_samples=256),
        normalisation=None,
        window=WindowSpec(length_samples=4_000, hop_samples=2_000),
        decision=DecisionSpec(),
        litert_at_least="2.1.0",
        training=Training(
            experiment="none", split="none", trained_speakers=(), validation_speakers=(), held_out_speakers=()
        ),
        members={},
    )
    figures = {name: {"mean": uar, "deviation": 0.01} for name in ("corpus-macro UAR", "pooled UAR")}
    card = {
        "experiment": "none",
        "cross_validation": {"none": {"by": "speaker", "corpora": {"one": {}}, "figures": figures} | summary},
    }
    golden = Golden(
        features=np.zeros((1, *manifest.input_shape), np.float32), probabilities=np.full((1, 3), 1 / 3, np.float32)
    )
    return write_bundle(
        Bundle(manifest=manifest, model=model, reference=None, golden=golden, card=card, licence="None.\n")
    )


class Client:
    """A node's view: a mirror of the files, and what it has verified so far."""

    def __init__(self, folder: Path, anchor: bytes) -> None:
        self.mirror, self.trusted, self.chunks = folder / "mirror", folder / "trusted", folder / "chunks"
        self.mirror.mkdir(parents=True)
        self._anchor = anchor

    def fetch(self, repository: Path, *, chunks: bool = True) -> None:
        """Copy what the repository holds now; what the broker keeps goes away only by being replaced."""
        shutil.copytree(repository / "metadata", self.mirror, dirs_exist_ok=True)
        if chunks:
            shutil.copytree(repository / "chunks", self.chunks, dirs_exist_ok=True)

    def look(self, channel: str = "stable") -> Offer:
        return verify(self.mirror, self.trusted, self._anchor, channel)

    def refusal(self, channel: str = "stable") -> Refusal:
        with pytest.raises(TrustError) as caught:
            self.look(channel)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{caught.value.refusal}: ")
        return caught.value.refusal

    def archive(self, offer: Offer) -> bytes:
        data = b"".join((self.chunks / chunk.sha256).read_bytes() for chunk in offer.release.chunks)
        check_archive(offer, data)
        return data


class Site:
    """A repository's folder with its keys, and whoever works on it."""

    def __init__(self, folder: Path, keys: Path, ring: KeyRing) -> None:
        self.folder, self.keys, self.ring = folder, keys, ring
        self.now = datetime.now(UTC)
        self._clients = 0

    def open(self, *, later: timedelta = timedelta(0), ring: KeyRing | None = None) -> Repository:
        """Open it as a command does: anew, and with what an interrupted one has left accepted."""
        repository = Repository(self.folder, ring or self.ring, self.now + later)
        repository.accept()
        return repository

    def add(self, data: bytes, force: str | None = None) -> str:
        repository = self.open()
        bundle = read_bundle(data, "a bundle")
        release = add(repository, bundle, data, gates_of(repository, bundle, "nobody"), force)
        assert repository.sign() == []
        repository.settle()
        return release.model

    def release(self, data: bytes, percent: int = 100) -> str:
        """Add a bundle, publish it and roll it out."""
        name = self.add(data)
        publish(self.open(), "stable", name)
        roll_out(self.open(), "stable", name, phases=[percent], spread_s=0, abort_above=10, min_nodes=1)
        return name

    def client(self, anchor: bytes | None = None) -> Client:
        self._clients += 1
        first = anchor or (self.folder / "metadata" / "1.root.json").read_bytes()
        return Client(self.folder.parent / f"client-{self.folder.name}-{self._clients}", first)

    def copy(self, name: str) -> "Site":
        """Return a fork: the same keys, another history from here on."""
        return Site(Path(shutil.copytree(self.folder, self.folder.with_name(name))), self.keys, self.ring)

    def keys_of(self, names: str) -> list[Path]:
        return sorted(self.keys.glob(f"*/{names}.*.pem"))


class Place:
    """A broker, and how each of its users reaches it."""

    def __init__(self, folder: Path, nodes: list[NodeId], patch: pytest.MonkeyPatch) -> None:
        others = [RELEASE_USER, WATCHER_USER, "collector", "home/kitchen", "home/fork"]
        self.broker = LocalBroker(folder, [*map(str, nodes), *others], kind="mosquitto")
        self._patch = patch

    def settings(self, user: str = RELEASE_USER, port: int | None = None) -> BrokerSettings:
        word = f"SOTTOVOCE_TEST_{user.replace('/', '_').upper()}"
        self._patch.setenv(word, self.broker.passwords[user])
        return BrokerSettings(
            host="127.0.0.1",
            port=port or self.broker.port,
            tls=False,
            username=user,
            password_env=word,
            reconnect_first_s=0.1,
            reconnect_most_s=0.3,
        )

    def section(self, name: str, user: str, port: int | None = None) -> str:
        """Return it as a section of settings.toml."""
        each = self.settings(user, port)
        return (
            f'[{name}]\nhost = "{each.host}"\nport = {each.port}\ntls = false\nusername = "{user}"\n'
            f'password_env = "{each.password_env}"\nreconnect_first_s = 0.1\nreconnect_most_s = 0.3\n'
        )


class Subscriber:
    """A node's connection: what it receives, in order."""

    def __init__(self, settings: BrokerSettings, name: str, *filters: str) -> None:
        self.arrived: list[Arrived] = []
        self.connection: Connection | None = None
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._link = Link(settings, name, events=self.events, subscribe_to=filters, session_expiry_s=0)
        self._link.start()
        self.until(lambda event: isinstance(event, Subscribed if filters else Opened))

    def until(self, seen: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(event, Opened):
                self.connection = event.connection
            if isinstance(event, Arrived):
                event.connection.acknowledge(event.packet_id)
                self.arrived.append(event)
            if seen(event):
                return

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        assert self.connection is not None
        mid = self.connection.publish(topic, payload, retain=retain)
        self.until(lambda event: isinstance(event, Acknowledged) and event.packet_id == mid)

    def stop(self) -> None:
        self._link.stop()


class Fleet:
    """Nodes that say what a test has them say; two are in at 10 %, two more at 50 %, the last two at 100 %."""

    def __init__(self, place: Place, nodes: list[NodeId]) -> None:
        self.nodes = nodes
        self._place = place
        self._open: dict[NodeId, Subscriber] = {}

    def report(self, node: NodeId, state: UpdateState, reason: str = "", release: str = RELEASE, **rest: Any) -> None:
        report = UpdateReport(
            boot_id="0123456789abcdef", time_us=1, release=release, state=state, reason=reason, progress=1.0, **rest
        )
        self.say(node, UPDATE.at(node), encode(report, UPDATE.largest_bytes))

    def waiting(self, *nodes: NodeId) -> None:
        """They have reported, and run something else."""
        for node in nodes or self.nodes:
            self.report(node, UpdateState.IDLE, "waits", "made/0")

    def status(self, node: NodeId, *, online: bool) -> None:
        status = NodeStatus(
            boot_id="0123456789abcdef",
            time_us=1,
            online=online,
            reason=StatusReason.BIRTH if online else StatusReason.LOST,
            versions=Versions(sottovoce="0", python="3", litert="2"),
            model="made/0",
            context=Context.RESEARCH,
            source="a test",
            muted=False,
            clock_synced=True,
        )
        self.say(node, STATUS.at(node), encode(status, STATUS.largest_bytes))

    def say(self, node: NodeId, topic: str, payload: bytes) -> None:
        if node not in self._open:
            self._open[node] = Subscriber(self._place.settings(str(node)), str(node))
        self._open[node].publish(topic, payload)

    def leave(self) -> None:
        """Close every connection; whoever speaks opens one anew."""
        for each in self._open.values():
            each.stop()
        self._open.clear()


Make = Callable[..., Site]


@pytest.fixture(scope="session", autouse=True)
def _cheap_guesses() -> Iterator[None]:
    """Stretch passphrases less: what makes guessing slow makes tests slow; one test does it in full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keys._SCRYPT, "n", 2**4)
        yield


@pytest.fixture(scope="session")
def passphrase() -> Callable[[Keep], str]:
    return PASSPHRASES.__getitem__


@pytest.fixture(scope="session")
def make_template(tmp_path_factory: pytest.TempPathFactory, passphrase: Callable[[Keep], str]) -> Make:
    """Repositories are made once for each kind of owners: to stretch a passphrase takes its time."""
    made: dict[tuple[Owners, float], Site] = {}

    def make(owners: Owners, ago: timedelta) -> Site:
        if (owners, ago.total_seconds()) not in made:
            base = tmp_path_factory.mktemp("release")
            places = {keep: base / "keys" / keep for keep in Keep}
            init(base / "repository", passphrase, datetime.now(UTC) - ago, owners, places)
            made[owners, ago.total_seconds()] = Site(
                base / "repository", base / "keys", KeyRing(list(places.values()), passphrase)
            )
        return made[owners, ago.total_seconds()]

    return make


@pytest.fixture
def make_site(make_template: Make, tmp_path: Path) -> Make:
    """A repository of the test's own."""

    def make(name: str = "repository", *, ago: timedelta = timedelta(0), **owners: int) -> Site:
        template = make_template(Owners(**owners), ago)
        site = Site(Path(shutil.copytree(template.folder, tmp_path / name)), template.keys, template.ring)
        site.now -= ago
        return site

    return make


@pytest.fixture
def site(make_site: Make) -> Site:
    return make_site()


@pytest.fixture(scope="session")
def bundle_of() -> Callable[..., bytes]:
    return make_bundle


@pytest.fixture
def steal() -> Callable[[Site], Repository]:
    """The repository in the hands of somebody who has the online keys alone."""

    def stolen(site: Site) -> Repository:
        return site.open(ring=KeyRing([site.keys / Keep.ONLINE], site.ring.passphrase))

    return stolen


@pytest.fixture(scope="session")
def nodes() -> list[NodeId]:
    """Six, in the order in which a rollout of `made/1` reaches them: at 10, 50 and 100 %, two each."""
    found: list[NodeId] = []
    for percent in (10, 50, 100):
        rollout = Rollout(channel="stable", release=RELEASE, percent=percent)
        names = (NodeId("home", f"n{number}") for number in range(1_000))
        below = {10: 0, 50: 10, 100: 50}[percent]
        before = msgspec.structs.replace(rollout, percent=below)
        found += [node for node in names if is_in(node, rollout) and not is_in(node, before)][:2]
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[NodeId]) -> Iterator[Place]:
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin") is None:
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    (tmp_path / "broker").mkdir()
    made = Place(tmp_path / "broker", nodes, monkeypatch)
    made.broker.start()
    yield made
    made.broker.kill()


@pytest.fixture
def subscribe(place: Place) -> Iterator[Callable[..., Subscriber]]:
    made: list[Subscriber] = []

    def subscribe(user: str, *filters: str) -> Subscriber:
        made.append(Subscriber(place.settings(user), user, *filters))
        return made[-1]

    yield subscribe
    for each in made:
        each.stop()


@pytest.fixture
def fleet(place: Place, nodes: list[NodeId]) -> Iterator[Fleet]:
    made = Fleet(place, nodes)
    yield made
    made.leave()

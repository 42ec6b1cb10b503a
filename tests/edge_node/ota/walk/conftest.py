"""A node's updates in a world that the test rules: real files, a broker in memory, a clock, and work that is answered.

Two kinds of metadata: those of the tests about states are one file that says what is offered, as nobody there asks who
signed it; those of the tests about attacks are python-tuf's, of a real repository, and really verified.
"""

import hashlib
import resource
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from msgspec.structs import replace

from broker.contract.bundle import Bundle, Golden, Manifest, Training, read_bundle, write_bundle
from broker.contract.commands import Command, Reply
from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.errors import BundleError, Refusal, SottovoceError, StoreError, TrustError
from broker.contract.features import FeatureSpec
from broker.contract.messages import encode
from broker.contract.offer import Offer
from broker.contract.release import CONTRACT, Chunk, Release, Rollout, cut
from broker.contract.topics import CHUNK, METADATA, REPLY, UPDATE, NodeId, NodeTopic
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState
from broker.contract.windows import WindowSpec
from broker.verify import verify
from edge_node.ota.folder import Folder
from edge_node.ota.record import Held, Record, flaw
from edge_node.ota.table import TABLE
from edge_node.ota.updater import Me, Updater
from training.release import keys
from training.release.bundles import add, gates_of
from training.release.channels import publish, roll_out
from training.release.keys import KeyRing
from training.release.opening import Owners, init
from training.release.repository import Repository
from training.release.roles import Keep

FLOOR = "factory/1"
ME = Me(node=NodeId("home", "kitchen"), boot_id="0" * 16, floor=FLOOR, litert="2.3.0", channel="stable")
TIMESTAMP = METADATA.at("timestamp.json")
FIGURES = TrialFigures(
    windows=12, classified=10, agreed=9, p50_us=900, p95_us=1200, scores=(0,) * 9 + (10,), labels={Label.NEUTRAL: 10}
)


class PowerCutError(BaseException):
    """The power goes in the middle of a call of a port."""


class Shelf:
    """A broker in memory, as far as a node can tell: what is retained, and who asked for it. The port `Wire`."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.filters: list[str] = []
        self.waiting: deque[tuple[str, bytes]] = deque()
        self.said: list[msgspec.Struct] = []
        self.is_up = False

    def publish(self, topic: str, payload: bytes) -> None:
        """Retain a message; an empty one is retained no longer."""
        self.retained[topic] = payload
        if not payload:
            del self.retained[topic]
        self.deliver(topic, payload)

    def deliver(self, topic: str, payload: bytes) -> None:
        if self.is_up and any(paho.topic_matches_sub(each, topic) for each in self.filters):
            self.waiting.append((topic, payload))

    def hold_exactly(self, messages: dict[str, bytes]) -> None:
        """Retain these and nothing else, as `sottovoce-release` makes a broker do."""
        for topic, payload in messages.items():
            if self.retained.get(topic) != payload:
                self.publish(topic, payload)
        for topic in self.retained.keys() - messages.keys():
            self.publish(topic, b"")

    def lose(self) -> None:
        """Lose the connection, and with it what was asked for."""
        self.is_up = False
        self.filters.clear()
        self.waiting.clear()

    @property
    def reports(self) -> list[UpdateReport]:
        return [each for each in self.said if isinstance(each, UpdateReport)]

    @property
    def replies(self) -> list[Reply]:
        return [each for each in self.said if isinstance(each, Reply)]

    # --- the port

    def subscribe(self, topics: Sequence[str]) -> None:
        if self.is_up:
            self.filters += [each for each in topics if each not in self.filters]
            for topic, payload in self.retained.items():
                if any(paho.topic_matches_sub(each, topic) for each in topics):
                    self.waiting.append((topic, payload))

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.filters = [each for each in self.filters if each not in topics]

    def say(self, row: NodeTopic, message: msgspec.Struct) -> None:
        assert row is (UPDATE if isinstance(message, UpdateReport) else REPLY)
        encode(message, row.largest_bytes)  # or the collector would refuse it
        self.said.append(message)


class Watch:
    """A clock that goes when the test says so. The port `Clock`."""

    def __init__(self) -> None:
        self.wall_us = int(datetime.now(UTC).timestamp() * 1e6)
        self.mono_s = 1000.0
        self.synced = True

    def go(self, seconds: float) -> None:
        self.wall_us += round(seconds * 1e6)
        self.mono_s += seconds

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_s(self) -> float:
        return self.mono_s

    def is_synced(self) -> bool:
        return self.synced


class Bench:
    """Work as it was asked for, answered by the world later. The port `Work`."""

    def __init__(self, look: Callable[[], Offer | SottovoceError]) -> None:
        self._look = look
        self.asked: deque[tuple[str, Any]] = deque()
        self.cancelled: list[tuple[str, Any]] = []
        self.counts: Counter[str] = Counter()

    def _ask(self, kind: str, about: object = None) -> None:
        self.counts[kind] += 1
        self.asked.append((kind, about))

    def verify(self) -> None:
        assert all(kind != "verify" for kind, _ in self.asked), "one look at a time"
        self._ask("verify", self._look())  # what comes later is not seen

    def prove(self, offer: Offer) -> None:
        self._ask("prove", offer)

    def begin_trial(self, offer: Offer) -> None:
        assert all(kind != "trial" for kind, _ in self.asked), "one trial at a time"
        self._ask("trial", offer)

    def activate(self, held: Held | None) -> None:
        self._ask("activate", held)

    def cancel(self) -> None:
        gates = [each for each in self.asked if each[0] in {"prove", "trial"}]
        self.cancelled += gates
        self.asked = deque(each for each in self.asked if each not in gates)


class Fuse:
    """A port whose n-th call ends in a power cut, before or after what it does."""

    def __init__(self, world: "World", port: object) -> None:
        self._world, self._port = world, port

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._port, name)
        if not callable(inner) or name.startswith("_"):
            return inner

        def call(*args: Any) -> Any:
            self._world.burn(is_before=True)
            result = inner(*args)
            self._world.burn(is_before=False)
            return result

        return call


class World:
    """One node and all around it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shelf, self.watch, self.bench = Shelf(), Watch(), Bench(self._outcome)
        self.look: Callable[[], Offer] = self._unsigned
        self.proof: dict[str, SottovoceError] = {}
        """What comes of proofs that do not succeed, by release."""
        self.trial: dict[str, str] = {}
        """Why trials fail, by release."""
        self.cannot_run: set[str] = set()
        """Releases that cannot be loaded."""
        self.hold: set[str] = set()
        """Kinds of work that are not answered: verify, prove, trial, activate, last."""
        self.node: Updater | None = None
        self.runs: Held | None = None
        self.ticks = 0
        self.states: list[UpdateState] = []
        """That the record was in, one after the other."""
        self._state: UpdateState | None = None
        self.missing: dict[str, bytes] = {}
        """Messages that the broker does not retain for now."""
        self.fuse: tuple[int, bool] | None = None
        """Which call of a port ends in a power cut, and whether before it does anything."""
        self.calls = 0

    # --- what is offered

    def release(self, name: str, size: int = 70_000, **rollout: Any) -> Offer:
        """Publish a release that nobody has signed, and let the channel name it."""
        return self.release_of(np.random.default_rng(list(name.encode())).bytes(size), name, **rollout)

    def release_of(self, data: bytes, name: str, **rollout: Any) -> Offer:
        chunks = tuple(Chunk(sha256=_sha256(part), bytes=len(part)) for part in cut(data))
        offer = Offer(
            rollout=msgspec.convert({"channel": "stable", "release": name, "percent": 100} | rollout, Rollout),
            release=Release(
                model=name, contract=CONTRACT, family="mfcc", labels=CLASSES, litert_at_least="2.1.0", chunks=chunks
            ),
            bytes=len(data),
            sha256=_sha256(data),
        )
        for part in cut(data):
            self.shelf.publish(CHUNK.at(_sha256(part)), part)
        self.name(offer)
        return offer

    def name(self, offer: Offer, **rollout: Any) -> Offer:
        """Let the channel name a release, with these changes to its rollout."""
        offer = replace(offer, rollout=replace(offer.rollout, **rollout))
        self.shelf.publish(TIMESTAMP, msgspec.json.encode(offer))
        return offer

    def chunk_topic(self, offer: Offer, number: int) -> str:
        return CHUNK.at(offer.release.chunks[number].sha256)

    def _unsigned(self) -> Offer:
        try:
            return msgspec.json.decode((self.path / "metadata" / "timestamp.json").read_bytes(), type=Offer)
        except FileNotFoundError as error:
            raise TrustError(Refusal.INCOMPLETE, "timestamp.json is not in the mirror") from error
        except msgspec.DecodeError as error:
            raise TrustError(Refusal.MALFORMED, "timestamp.json") from error

    # --- the node's program

    @property
    def updater(self) -> Updater:
        assert self.node is not None, "the program has ended"
        return self.node

    @property
    def record(self) -> Record:
        return self.updater.record

    @property
    def state(self) -> UpdateState:
        return self.record.state

    @property
    def report(self) -> UpdateReport:
        """What was said last."""
        return self.shelf.reports[-1]

    def states_of_reports(self) -> list[UpdateState]:
        """Return what was said, without repetitions."""
        states = [each.state for each in self.shelf.reports]
        return [state for number, state in enumerate(states) if number == 0 or state is not states[number - 1]]

    @property
    def model(self) -> str:
        """What runs."""
        return FLOOR if self.runs is None else self.runs.release

    def saved(self) -> Record:
        """What the disk says."""
        return msgspec.json.decode((self.path / "state.json").read_bytes(), type=Record)

    def start(self) -> None:
        """Start the program as `service` does: with the model that the record names, or one before it."""
        assert self.node is None
        ports: list[Any] = [Folder(self.path), self.shelf, self.bench]
        if self.fuse is not None:
            ports = [Fuse(self, each) for each in ports]
        files, wire, work = ports
        self.node = node = Updater(ME, files, wire, work, self.watch)
        while (held := node.record.active) is not None and (why := self._why_not(held)) is not None:
            node.unusable(held, why)
        self._run_model(held)
        node.begin()
        self.connect()

    def start_and_die(self) -> str:
        """Start the program, whose model ends it as it is loaded; return which that was."""
        node = Updater(ME, Folder(self.path), self.shelf, self.bench, self.watch)
        return FLOOR if node.record.active is None else node.record.active.release

    def crash(self) -> None:
        """End the program as a power cut does."""
        self.node = None
        self.shelf.lose()
        self.bench.asked.clear()

    def stop(self) -> None:
        """End the program as a service manager does."""
        self.updater.stop()
        self.crash()

    def connect(self) -> None:
        self.shelf.lose()
        self.shelf.is_up = True
        self.updater.opened()
        self.shelf.subscribe([METADATA.every])

    def burn(self, *, is_before: bool) -> None:
        if is_before:
            self.calls += 1
        if self.fuse == (self.calls, is_before):
            raise PowerCutError

    def copy(self, path: Path) -> "World":
        """Return a world with the same files and the same broker, in which the node's program does not run."""
        other = World(Path(shutil.copytree(self.path, path)))
        other.shelf.retained = dict(self.shelf.retained)
        other.watch.wall_us = self.watch.wall_us
        return other

    # --- how time passes

    def run(self) -> None:
        """Deliver what waits and answer what was asked, until there is nothing of either."""
        while self.node is not None and (self._deliver() or self._answer()):
            self.check()
        self.check()

    def until_quiet_once(self) -> None:
        """Deliver one message."""
        assert self._deliver()
        self.check()

    def stay_in(self, state: UpdateState, offer: Offer) -> None:
        """Let a node take up what was just published, as far as a state, and not beyond."""
        kept = {UpdateState.VERIFYING: "prove", UpdateState.TRIAL: "trial", UpdateState.COMMITTING: "last"}
        self.hold |= {kept[state]} if state in kept else set()
        if state is UpdateState.DOWNLOADING:
            last = CHUNK.at(offer.release.chunks[-1].sha256)
            self.missing = {last: self.shelf.retained[last]}
            self.shelf.publish(last, b"")
        self.wait(20)
        assert self.state is state, self.record

    def go_on(self) -> None:
        """Hold nothing back any more."""
        self.hold.clear()
        for topic, payload in self.missing.items():
            self.shelf.publish(topic, payload)

    def until_quiet(self) -> None:
        """Deliver what waits, and answer nothing."""
        while self._deliver():
            self.check()

    def wait(self, seconds: float) -> None:
        """Let time pass, and everything happen that is to happen in it."""
        end_s = self.watch.mono_s + seconds
        self.run()
        while self.node is not None and (due_s := self.node.due_s) is not None and due_s <= end_s:
            self.watch.go(max(0.0, due_s - self.watch.mono_s))
            self.node.tick()
            self.ticks += 1
            self.run()
        self.watch.go(max(0.0, end_s - self.watch.mono_s))

    def step(self) -> None:
        """Let the next thing happen, whatever it is."""
        if not (self._deliver() or self._answer()):
            due_s = self.updater.due_s
            assert due_s is not None, f"{self.state}: nothing will ever happen"
            self.watch.go(max(0.0, due_s - self.watch.mono_s))
            self.updater.tick()
        self.check()

    def until(self, state: UpdateState) -> None:
        """Go on to the moment at which a state begins."""
        for _ in range(2_000):
            if self.state is state:
                return
            self.step()
        pytest.fail(f"{state} never comes: {self.record}")

    def command(self, number: int = 1, *, age_s: float = 0.0) -> Reply:
        """Order the node back, and return its answer."""
        issued_us = self.watch.wall_us - round(age_s * 1e6)
        self.updater.command(Command(id=f"{number:016x}", issued_us=issued_us))
        return self.shelf.replies[-1]

    def answer(self, kind: str) -> None:
        """Answer one thing that is held back."""
        held, self.hold = self.hold, {"verify", "prove", "trial", "activate", "last"} - {kind}
        assert self._answer(), f"no {kind} was asked for"
        self.hold = held

    def check(self) -> None:
        """What must be so at any moment."""
        if self.node is None:
            return
        record = self.node.record
        if record.state is not self._state:
            self._state = record.state
            self.states.append(record.state)
        assert record.state in TABLE
        assert flaw(record) is None
        assert record.offer is None or record.badness(record.offer.rollout.release, record.offer.sha256) is None
        is_changing = record.state in {UpdateState.ROLLING_BACK, UpdateState.COMMITTING}
        if not is_changing and all(kind != "activate" for kind, _ in self.bench.asked):
            assert self.runs == record.active, "it runs what the record says"

    def _deliver(self) -> bool:
        if not self.shelf.waiting:
            return False
        topic, payload = self.shelf.waiting.popleft()
        if (name := METADATA.name_in(topic)) is not None:
            self.updater.metadata(name, payload)
        elif (digest := CHUNK.name_in(topic)) is not None:
            self.updater.chunk(digest, payload)
        return True

    def _answer(self) -> bool:
        for kind, about in self.bench.asked:
            if kind not in self.hold:
                self.bench.asked.remove((kind, about))
                getattr(self, f"_answer_{kind}")(about)
                return True
        return False

    def _outcome(self) -> Offer | SottovoceError:
        try:
            return self.look()
        except SottovoceError as error:
            return error
        except OSError as error:
            return StoreError(str(error))

    def _answer_verify(self, outcome: Offer | SottovoceError) -> None:
        self.updater.verified(outcome)

    def _answer_prove(self, offer: Offer) -> None:
        self.updater.proved(offer.sha256, self.proof.get(offer.rollout.release))

    def _answer_trial(self, offer: Offer) -> None:
        self.updater.trying(offer.sha256, FIGURES, 0.5)
        self.updater.tried(offer.sha256, FIGURES, self.trial.get(offer.rollout.release))

    def _answer_activate(self, held: Held | None) -> None:
        if held is not None and (why := self._why_not(held)) is not None:
            self.updater.unusable(held, why)
        else:
            self._run_model(held)

    def _answer_last(self, sha256: str | None) -> None:
        if sha256 == (None if self.runs is None else self.runs.sha256):
            self.updater.lasted(sha256)

    def _why_not(self, held: Held) -> str | None:
        try:
            Folder(self.path).read(held)
        except BundleError as error:
            return str(error)
        return "LiteRT does not take it" if held.release in self.cannot_run else None

    def _run_model(self, held: Held | None) -> None:
        self.runs = held
        sha256 = None if held is None else held.sha256
        self.bench.asked.append(("last", sha256))
        self.updater.running(sha256)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def no_room(size: int = 0) -> Iterator[None]:
    """A disk on which no file can be longer than this: the kernel refuses the write midway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A node that has never run, and a broker that retains nothing."""
    return World(tmp_path / "update")


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[[str], World]:
    return lambda name: World(tmp_path / name)


@pytest.fixture(scope="session")
def figures() -> TrialFigures:
    return FIGURES


@pytest.fixture(scope="session")
def disk_full() -> Callable[..., Any]:
    return no_room


@pytest.fixture(scope="session")
def power_cut() -> type[BaseException]:
    return PowerCutError


@pytest.fixture(scope="session")
def once_updated(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("updated") / "update")
    world.start()
    for name in ("made/1", "made/2"):
        world.release(name)
        world.wait(60)
        assert (world.state, world.model) == (UpdateState.IDLE, name)
    world.stop()
    return world


@pytest.fixture
def updated(once_updated: World, tmp_path: Path) -> World:
    """A node that has taken up made/1 and made/2, one after the other, and rests."""
    world = once_updated.copy(tmp_path / "update")
    world.start()
    world.wait(5)
    world.states.clear()
    world.shelf.said.clear()
    return world


# --- what is really signed

PASSPHRASES = {Keep.OFFLINE: "correct horse battery", Keep.ONLINE: "staple of every day"}


class Signers:
    """A repository of releases with all its keys."""

    def __init__(self, folder: Path, places: Path, ring: KeyRing, now: datetime) -> None:
        self.folder, self.keys, self.ring, self.now = folder, places, ring, now

    def open(self, *, later: timedelta = timedelta(0), ring: KeyRing | None = None) -> Repository:
        repository = Repository(self.folder, ring or self.ring, self.now + later)
        repository.accept()
        return repository

    def steal(self) -> Repository:
        """Return the repository in the hands of somebody who has the online keys alone."""
        return self.open(ring=KeyRing([self.keys / Keep.ONLINE], self.ring.passphrase))

    def release(self, version: int) -> str:
        """Sign a bundle, and let every node take it up."""
        repository, data = self.open(), _bundle(version)
        bundle = read_bundle(data, "a bundle")
        name = add(repository, bundle, data, gates_of(repository, bundle, "nobody"), None).model
        assert repository.sign() == []
        repository.settle()
        publish(self.open(), "stable", name)
        roll_out(self.open(), "stable", name, phases=[100], spread_s=0, abort_above=10, min_nodes=1)
        return name

    def files(self) -> dict[str, bytes]:
        """Return what a broker should retain, by topic."""
        metadata = {METADATA.at(path.name): path.read_bytes() for path in (self.folder / "metadata").iterdir()}
        return metadata | {CHUNK.at(path.name): path.read_bytes() for path in (self.folder / "chunks").iterdir()}

    def fork(self, name: str) -> "Signers":
        """Return the same keys with another history from here on."""
        folder = Path(shutil.copytree(self.folder, self.folder.with_name(name)))
        return Signers(folder, self.keys, self.ring, self.now)


def _bundle(version: int) -> bytes:
    """Return a bundle whose model is none: nothing runs it here."""
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
    figures = {name: {"mean": 0.7, "deviation": 0.01} for name in ("corpus-macro UAR", "pooled UAR")}
    validation = {"none": {"by": "speaker", "corpora": {"one": {}}, "figures": figures}}
    golden = Golden(
        features=np.zeros((1, *manifest.input_shape), np.float32), probabilities=np.full((1, 3), 1 / 3, np.float32)
    )
    card = {"experiment": "none", "cross_validation": validation}
    return write_bundle(
        Bundle(manifest=manifest, model=b"no model", reference=None, golden=golden, card=card, licence="None.\n")
    )


@pytest.fixture(scope="session")
def _cheap_guesses() -> Iterator[None]:
    """Stretch passphrases less: what makes guessing slow makes tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keys._SCRYPT, "n", 2**4)
        yield


@pytest.fixture(scope="session")
def made_signers(_cheap_guesses: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[timedelta, int], Signers]:
    """Repositories are made once for each kind: to make keys and to open them takes its time."""
    made: dict[tuple[timedelta, int], Signers] = {}

    def make(ago: timedelta, targets_keys: int) -> Signers:
        if (ago, targets_keys) not in made:
            base = tmp_path_factory.mktemp("signed")
            places = {keep: base / "keys" / keep for keep in Keep}
            owners = Owners(targets_keys=targets_keys, targets_threshold=targets_keys)
            now = datetime.now(UTC) - ago
            init(base / "repository", PASSPHRASES.__getitem__, now, owners, places)
            ring = KeyRing(list(places.values()), PASSPHRASES.__getitem__)
            made[ago, targets_keys] = Signers(base / "repository", base / "keys", ring, now)
        return made[ago, targets_keys]

    return make


@pytest.fixture
def make_signers(made_signers: Callable[[timedelta, int], Signers], tmp_path: Path) -> Callable[..., Signers]:
    """A repository of the test's own."""

    def make(name: str = "repository", *, ago: timedelta = timedelta(0), targets_keys: int = 1) -> Signers:
        first = made_signers(ago, targets_keys)
        folder = Path(shutil.copytree(first.folder, tmp_path / name))
        return Signers(folder, first.keys, first.ring, first.now)

    return make


@pytest.fixture
def signers(make_signers: Callable[..., Signers]) -> Signers:
    return make_signers()


@pytest.fixture
def trusting(world: World) -> Callable[[Signers], World]:
    """The world's node, set up with the first root of some signers: what it believes, python-tuf has verified."""

    def trust(signers: Signers) -> World:
        anchor = (signers.folder / "metadata" / "1.root.json").read_bytes()
        folder = Folder(world.path)
        world.look = lambda: verify(folder.metadata, folder.trusted, anchor, "stable")
        return world

    return trust

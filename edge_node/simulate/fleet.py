"""The fleet: so many virtual nodes, when they are there, and how they stand."""

import importlib.metadata
import platform
import random
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from broker.contract.bundle import read_bundle
from broker.contract.errors import BundleError
from broker.contract.messages import Versions
from broker.contract.release import Rollout
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateState
from broker.settings import BrokerSettings
from edge_node.classifier import litert_version
from edge_node.simulate.call import Identity, Terms
from edge_node.simulate.churn import Churn, Presence, draw_presence
from edge_node.simulate.cost import Costs, draw_device
from edge_node.simulate.memory import Shared
from edge_node.simulate.node import NodeTerms, VirtualNode
from edge_node.simulate.sockets import Sockets
from edge_node.simulate.timetable import Appointment, Timetable
from edge_node.simulate.verdicts import Verdicts
from edge_node.simulate.work import Rehearsal, WorkTerms

__all__ = ["Counts", "Fleet", "FleetSpec", "Seen", "names"]

_SITE: Final = "simulated"
_LONGEST_WAIT_S: Final = 0.2
_RESTING: Final = frozenset({UpdateState.IDLE, UpdateState.REJECTED})


class FleetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet is like."""

    nodes: Annotated[int, Meta(ge=1, le=10_000)]
    seed: int
    rehearsal: Rehearsal
    costs: Costs = Costs()
    churn: Churn = Churn()
    ramp_per_s: Annotated[float, Meta(gt=0, le=1_000)] = 50.0
    """Nodes that are switched on in a second, at the beginning."""
    speech_share: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """Of the time that somebody speaks where a node listens."""
    telemetry_s: Annotated[float, Meta(ge=1, le=600)] = 10.0
    restart_s: Annotated[float, Meta(ge=0, le=600)] = 5.0
    """Until a program that crashed is started again: an assumption."""
    channel: str = "stable"

    @property
    def ramp_s(self) -> float:
        """Within which time the nodes are switched on, s."""
        return self.nodes / self.ramp_per_s


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the channel is told, since when the first node has known it."""

    at_s: float
    """Since the fleet's start."""
    rollout: Rollout


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes stand where, towards one release."""

    nodes: int
    reachable: int
    """Connected now; `stuck`, `active_new`, `active_old` and `rejected` count among these."""
    tried: int
    """Of all nodes, those whose record has reached the trial or more."""
    rolled_back: int
    """Of all nodes, those that have been on their way back from it."""
    stuck: int
    """Neither idle nor rejected."""
    active_new: int
    active_old: int
    rejected: int
    reasons: dict[str, int]
    """Why it was rejected, in the nodes' words."""


class Fleet:
    """Virtual nodes on one loop. Belongs to one thread."""

    def __init__(
        self,
        spec: FleetSpec,
        broker: BrokerSettings,
        identity: Callable[[NodeId], Identity],
        *,
        tls: ssl.SSLContext | None,
        anchor: bytes | None,
        floor: bytes,
    ) -> None:
        """Build the nodes; none has power yet.

        Args:
            spec: what they are like.
            broker: where they connect.
            identity: as whom each does.
            tls: for a broker that is elsewhere.
            anchor: the root that they are set up with; None: the first that the broker retains.
            floor: archive of the model that they are set up with.

        Raises:
            BundleError: `floor` is no bundle.
        """
        self.spec = spec
        self.times, self.sockets = Timetable(), Sockets()
        self.verdicts = Verdicts(anchor, spec.channel)
        self.seen: list[Seen] = []
        """What the channel was told, in the order in which nodes came to know it."""
        self.pubacks: Counter[int] = Counter()
        self.longest_busy_s = 0.0
        """For how long the loop had something to do without a pause, at most, s: so late may a message have been."""
        self.line = Terms(broker, tls, self.sockets, self.times)
        self._floor = floor
        self._known: set[Rollout] = set()
        self._plans: list[Appointment] = []
        self.began_s = self.times.now_s()
        terms = NodeTerms(
            line=self.line,
            work=WorkTerms(rehearsal=spec.rehearsal, times=self.times, verdicts=self.verdicts, seen=self._see),
            shared=Shared(),
            versions=_versions(),
            floor=read_bundle(floor, "the model that virtual nodes are set up with").manifest.identity,
            channel=spec.channel,
            speech_share=spec.speech_share,
            telemetry_s=spec.telemetry_s,
            restart_s=spec.restart_s,
            pubacks=self.pubacks,
        )
        self.nodes: list[tuple[VirtualNode, Presence]] = []
        for name in names(spec.nodes):
            rng = random.Random(f"{spec.seed} {name}")  # noqa: S311 -- repeatable is what is wanted
            presence = draw_presence(spec.churn, spec.ramp_s, rng)
            device = draw_device(spec.costs, rng, is_slow=presence.is_slow)
            self.nodes.append((VirtualNode(terms, name, identity(name), device, rng), presence))

    @property
    def elapsed_s(self) -> float:
        """Seconds since `start`."""
        return self.times.now_s() - self.began_s

    @property
    def reachable(self) -> int:
        """How many nodes are connected."""
        return sum(node.is_connected for node, _ in self.nodes)

    def start(self) -> None:
        """Let nodes come and go as it was drawn for each."""
        self.began_s = self.times.now_s()
        for node, presence in self.nodes:
            if presence.comes_s is not None:
                self._plan(presence.comes_s, node.switch_on)
            for from_s, to_s in presence.absences:
                self._plan(from_s, node.cut_power)
                self._plan(to_s, node.switch_on)

    def calm(self) -> None:
        """Let nobody leave or come late any more, and those who have left come back."""
        self._cancel_plans()
        for node, presence in self.nodes:
            if node.has_connected or (presence.comes_s is not None and presence.comes_s <= self.elapsed_s):
                node.switch_on()

    def run(self, look: Callable[[], bool], every_s: float) -> None:
        """Run until `look`, called every so many seconds, returns False."""
        due_s = idle_s = self.times.now_s()
        while True:
            self.times.turn()
            now_s = self.times.now_s()
            if now_s >= due_s:
                if not look():
                    return
                due_s = now_s + every_s
            next_s = self.times.wait_s
            wait_s = min(due_s - now_s, _LONGEST_WAIT_S if next_s is None else next_s)
            if self.sockets.turn(max(0.0, wait_s)):
                idle_s = self.times.now_s()
            else:
                self.longest_busy_s = max(self.longest_busy_s, self.times.now_s() - idle_s)

    def stop(self) -> None:
        """Let every node's program end in order."""
        self._cancel_plans()
        for node, _ in self.nodes:
            node.stop()

    def leave(self, most_s: float) -> int:
        """Take away what a broker that is not ours retains of the nodes; return how many could not in the time."""
        self._cancel_plans()
        for node, _ in self.nodes:
            node.leave()
        left = [node for node, _ in self.nodes if node.has_connected]
        deadline = self.times.now_s() + most_s
        self.run(lambda: self.times.now_s() < deadline and any(not node.has_left for node in left), 0.1)
        return sum(not node.has_left for node in left)

    def close(self) -> None:
        """End every connection without a word, and the threads."""
        self._cancel_plans()
        for call in tuple(self.line.calls):
            call.drop()
        self.sockets.close()
        self.verdicts.close()

    def is_settled(self, rollout: Rollout) -> bool:
        """Return whether no connected node has anything left to do about what the channel is told."""
        return all(node.is_settled(rollout) for node, _ in self.nodes if node.is_connected)

    def counts(self, release: str | None) -> Counts:
        """Return how the nodes stand towards a release; None: there is none yet."""
        there = [node for node, _ in self.nodes if node.is_connected]
        records = [node.record for node in there]
        rejected = [each for each in records if each.state is UpdateState.REJECTED and each.release == release]
        new = sum(node.model == release for node in there)
        return Counts(
            nodes=len(self.nodes),
            reachable=len(there),
            tried=sum(release in node.memory.tried for node, _ in self.nodes),
            rolled_back=sum(release in node.memory.gone_back for node, _ in self.nodes),
            stuck=sum(record.state not in _RESTING for record in records),
            active_new=new,
            active_old=len(there) - new,
            rejected=len(rejected),
            reasons=dict(Counter(record.reason for record in rejected).most_common(5)),
        )

    def without_model(self) -> int:
        """Return how many of all nodes could load neither what their files say they run, nor their floor."""
        has_floor = self._floor_loads()
        return sum(not (self._has_model(node) or has_floor) for node, _ in self.nodes)

    def _has_model(self, node: VirtualNode) -> bool:
        """Return whether a node could load what its files say it runs; what it was set up with is no part of them."""
        active = node.memory.load().active
        try:
            return active is not None and bool(node.memory.read(active))
        except BundleError:
            return False

    def _floor_loads(self) -> bool:
        try:
            read_bundle(self._floor, "the floor")
        except BundleError:
            return False
        return True

    def _see(self, rollout: Rollout) -> None:
        if rollout not in self._known:
            self._known.add(rollout)
            self.seen.append(Seen(at_s=self.elapsed_s, rollout=rollout))

    def _plan(self, at_s: float, action: Callable[[], None]) -> None:
        self._plans.append(self.times.at(self.began_s + at_s, action))

    def _cancel_plans(self) -> None:
        for each in self._plans:
            each.cancel()
        self._plans.clear()


def names(count: int) -> list[NodeId]:
    """Return the names of so many virtual nodes."""
    return [NodeId(_SITE, f"node-{number:05}") for number in range(1, count + 1)]


def _versions() -> Versions:
    return Versions(
        sottovoce=importlib.metadata.version("sottovoce"), python=platform.python_version(), litert=litert_version()
    )

"""What a simulation came to: one line of JSON, and whether the release did what its kind promises."""

from typing import Any

import msgspec

from broker.contract.release import is_in
from edge_node.simulate.fleet import Fleet
from edge_node.simulate.work import Behaviour

__all__ = ["Collected", "Outcome", "PerNode", "Phase", "broken_promise", "phases_of"]


class PerNode(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes over the connections of a node, on average of those that ever connected: MQTT and TLS, not TCP."""

    down: int
    up: int


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What the channel was told at one time."""

    percent: int
    at_s: float
    """When the first node had verified it, since the rollout was ordered; negative: before."""
    asked: int
    """Nodes that ever connected and are in at this percentage."""
    paused: bool
    aborted: bool
    reason: str


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector says; `lost` counts what nodes without power still hold, too."""

    stored: int
    lost: int
    duplicates: int
    dead_letters: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints; docs/fleet.md says how each figure comes about."""

    nodes: int
    reachable: int
    tried: int
    rolled_back: int
    stuck: int
    without_model: int
    active_new: int
    active_old: int
    rejected: int
    reasons: dict[str, int]
    aborted: bool
    seconds_to_last_node: float | None
    seconds: float
    release: str
    identity: str | None
    """Name and version of the release; None: no rollout was seen."""
    seed: int
    phases: tuple[Phase, ...]
    options: dict[str, Any]
    """What the rehearsal was told, and what it chose: rates, times, thresholds."""
    bytes_per_node: PerNode
    messages_per_s: float
    """Published by nodes and to nodes, on average."""
    pubacks: dict[str, int]
    """The broker's answers to events and telemetry, by reason."""
    connection_problems: dict[str, int]
    verified: int
    """How often metadata were really verified; all other looks found them known."""
    collector: Collected | None
    broker: str
    broker_cpu_s: float | None
    broker_rss_mb: float | None
    simulator_cpu_s: float
    late_p95_ms: float
    """95 % of the simulator's own timers were not later than this; beyond some 100 ms it falsifies what it shows."""
    late_p99_ms: float
    longest_busy_s: float
    """For how long the simulator had something to do without a pause: so late may it have read a message."""
    machine: str


def phases_of(fleet: Fleet, ordered_s: float | None) -> tuple[Phase, ...]:
    """Return what the channel was told, in order.

    Args:
        fleet: that was told.
        ordered_s: when the rollout was ordered, since the fleet's start; None: it was not.
    """
    known = [node.me for node, _ in fleet.nodes if node.has_connected]
    return tuple(
        Phase(
            percent=seen.rollout.percent,
            at_s=round(seen.at_s - (ordered_s or 0.0), 1),
            asked=sum(is_in(node, seen.rollout) for node in known),
            paused=seen.rollout.paused,
            aborted=seen.rollout.aborted,
            reason=seen.rollout.reason,
        )
        for seen in fleet.seen
    )


def broken_promise(kind: Behaviour, outcome: Outcome) -> str | None:
    """Return what did not come true, in words; None: all did.

    A good release runs on every node that can be reached. A bad one is tried by no more nodes than the first phase that
    asked any, and all are back; of a slow or a corrupt one, none has run anywhere.
    """
    if outcome.without_model or outcome.stuck:
        return f"{outcome.without_model} nodes have no model, {outcome.stuck} are stuck in the middle of an update"
    if outcome.reachable == 0:
        return "no node is connected"
    if outcome.identity is None:  # nobody was told to take anything up: this was load alone
        return None
    return _shortfall(outcome) if kind is Behaviour.GOOD else _excess(kind, outcome)


def _shortfall(outcome: Outcome) -> str | None:
    if outcome.active_new == outcome.reachable:
        return None
    return f"{outcome.active_new} of {outcome.reachable} reachable nodes run the release"


def _excess(kind: Behaviour, outcome: Outcome) -> str | None:
    asked = next((phase.asked for phase in outcome.phases if phase.asked and phase.percent), 0)
    allowed = asked if kind is Behaviour.BAD else 0
    if not outcome.aborted:
        return "the rollout was not aborted"
    if outcome.tried > allowed:
        return f"{outcome.tried} nodes have tried the release, at most {allowed} were to"
    return f"{outcome.active_new} nodes still run the release" if outcome.active_new else None

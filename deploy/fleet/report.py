"""The figures of a simulation, taken when it is over; nodes are stopped in order after they were counted."""

import argparse
import time
from typing import Any, Final

import msgspec

from broker.contract.errors import SottovoceError
from deploy.demo.report import figures
from deploy.fleet.machine import Usage, machine, usage
from deploy.fleet.outcome import Collected, Outcome, PerNode, phases_of
from deploy.fleet.place import Place
from edge_node.simulate.fleet import Fleet, FleetSpec

__all__ = ["identity_of", "report"]

_LOOK_S: Final = 0.5
_COLLECT_S: Final = 5.0


def identity_of(fleet: Fleet) -> str | None:
    """Return the release that it is about; None: the channel never told anybody to take one up."""
    told = [seen.rollout.release for seen in fleet.seen if seen.rollout.percent]
    return told[-1] if told else None


def report(args: argparse.Namespace, place: Place, fleet: Fleet, ordered_s: float | None) -> Outcome:
    """Return all figures.

    Args:
        args: of the command.
        place: where it ran.
        fleet: as it stands; its nodes are stopped here.
        ordered_s: when the rollout was ordered, since the fleet's start; None: it was not.
    """
    seconds, busy_s = fleet.elapsed_s, fleet.longest_busy_s
    late_ms = [fleet.times.late_ms(share) for share in (0.95, 0.99)]  # before what follows delays the loop
    identity = identity_of(fleet)
    counts, without_model = fleet.counts(identity), fleet.without_model()
    phases = phases_of(fleet, ordered_s)
    last_s = _last_change(fleet, identity)
    per_node, messages = _per_node(fleet), fleet.sockets.traffic.received + fleet.sockets.traffic.sent
    collected = None if place.programs is None else _collected(place, fleet)
    pid = None if place.broker is None else place.broker.pid
    used: Usage | None = None if pid is None else usage(pid)
    return Outcome(
        **msgspec.structs.asdict(counts),
        without_model=without_model,
        aborted=any(phase.aborted for phase in phases),
        seconds_to_last_node=last_s,
        seconds=round(seconds, 1),
        release=args.release,
        identity=identity,
        seed=args.seed,
        phases=phases,
        options=_options(args, fleet.spec),
        bytes_per_node=per_node,
        messages_per_s=round(messages / max(1.0, seconds), 1),
        pubacks={f"0x{reason:02x}": count for reason, count in sorted(fleet.pubacks.items())},
        connection_problems=dict(fleet.line.problems.most_common(5)),
        verified=fleet.verdicts.looked,
        collector=collected,
        broker="127.0.0.1, started for this" if place.broker is not None else args.broker,
        broker_cpu_s=None if used is None else used.cpu_s,
        broker_rss_mb=None if used is None else used.rss_mb,
        simulator_cpu_s=round(time.process_time(), 1),
        late_p95_ms=late_ms[0],
        late_p99_ms=late_ms[1],
        longest_busy_s=round(busy_s, 2),
        machine=machine(),
    )


def _per_node(fleet: Fleet) -> PerNode:
    known = max(1, sum(node.has_connected for node, _ in fleet.nodes))
    traffic, (up, down) = fleet.sockets.traffic, fleet.sockets.open_bytes()
    return PerNode(down=round((traffic.down_bytes + down) / known), up=round((traffic.up_bytes + up) / known))


def _last_change(fleet: Fleet, identity: str | None) -> float | None:
    """Return how long after the first node knew of the rollout the last one's state changed, in seconds."""
    began = next((seen.at_s for seen in fleet.seen if seen.rollout.release == identity and seen.rollout.percent), None)
    changes = [node.memory.changed_s for node, _ in fleet.nodes if node.memory.changed_s is not None]
    return None if began is None or not changes else round(max(changes) - fleet.began_s - began, 1)


def _collected(place: Place, fleet: Fleet) -> Collected | None:
    """Stop the nodes, let the collector store what they had said, and return its account."""
    assert place.programs is not None  # noqa: S101 -- for the type checker: it was asked for
    store = place.programs.store
    fleet.stop()
    deadline = time.monotonic() + _COLLECT_S
    collected = None

    def look() -> bool:
        nonlocal collected
        try:
            told = figures(store, "mosquitto")
        except SottovoceError:  # being made, or locked for a moment
            return time.monotonic() < deadline
        collected = Collected(
            stored=told.stored, lost=told.lost, duplicates=told.duplicates, dead_letters=told.dead_letters
        )
        return bool(told.lost) and time.monotonic() < deadline

    fleet.run(look, _LOOK_S)
    return collected


def _options(args: argparse.Namespace, spec: FleetSpec) -> dict[str, Any]:
    rehearsal = spec.rehearsal
    return {
        "percent": list(args.percent),
        "spread_s": args.spread,
        "abort_above": args.abort_above,
        "min_nodes": args.min_nodes,
        "trial_windows": rehearsal.trial.windows,
        "lasting_windows": rehearsal.lasting_windows,
        "hop_s": rehearsal.hop_s,
        "budget_ms": rehearsal.trial.budget_us / 1000,
        "ramp_per_s": spec.ramp_per_s,
        "churn_percent": args.churn,
        "churn_horizon_s": spec.churn.horizon_s,
        "speech_percent": args.speech,
        "telemetry_s": spec.telemetry_s,
        "costs": msgspec.to_builtins(spec.costs),
    }

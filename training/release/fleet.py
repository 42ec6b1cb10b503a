"""How a fleet takes up a release, from what its nodes have said, and what follows from that for the rollout.

Pure functions over reports: whoever watches passes in what it has heard. A node that has never reported is not counted:
nobody knows whether it takes up updates at all.
"""

import enum
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from broker.contract.release import Rollout, is_in
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState

__all__ = ["LOST_AFTER_S", "Move", "Tally", "failures", "in_nodes", "judge", "next_percent", "tally", "waits_for"]

LOST_AFTER_S: Final = 600
"""A node that went offline while it was taking the release up counts as failed after this: it may be the model."""

_FAILED: Final = {UpdateState.REJECTED, UpdateState.ROLLING_BACK}
_ENOUGH: Final = 0.5
"""Share of those asked that must have executed before nodes that are offline are not waited for ..."""
_NAMED: Final = 3
_NOBODY: Final[Mapping[NodeId, str]] = MappingProxyType({})


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes stand where, towards one release.

    `asked` = `due` + `absent` + `silent` + those under way + `succeeded` + `failed`.
    """

    nodes: int
    """That have reported anything."""
    online: int
    """Of those, the ones that have not said, or been said, to be offline."""
    asked: int
    """Those that are in at the present percentage, and any others that the release has reached."""
    due: int = 0
    """Those that are there and have not begun."""
    absent: int = 0
    """Those that are offline and have not begun."""
    silent: int = 0
    """Those that were heard of, but not since the connection to the broker was lost."""
    under_way: dict[UpdateState, int]
    """Those that are working on it, by state."""
    succeeded: int
    """Those that run it."""
    failed: int
    """Those that refused it, went back, or were lost on the way."""
    going_back: int = 0
    """Of those, the ones that are on their way back."""
    reasons: dict[str, int]
    """Why, in the nodes' words."""
    waited_for: tuple[str, ...] = ()
    """A few of those that hold the phase up."""

    @property
    def executed(self) -> int:
        """Those that have come to an end, good or bad."""
        return self.succeeded + self.failed


class Move(enum.StrEnum):
    """What the figures ask for."""

    WAIT = "wait"
    """Somebody has not come to an end, or not enough is known."""
    STEP = "step"
    """Every node that was asked and is there has come to its end: the next phase may begin."""
    ABORT = "abort"
    """Too many have failed."""
    DONE = "done"
    """The same in the last phase, which need not be of 100 %: nobody else will be asked."""


def tally(
    reports: Mapping[NodeId, UpdateReport],
    rollout: Rollout,
    away: Mapping[NodeId, float],
    silent: Mapping[NodeId, str] = _NOBODY,
) -> Tally:
    """Return how the nodes stand towards the release that a rollout names.

    Args:
        reports: each node's last one; those of other channels do not count.
        rollout: what the channel is told.
        away: for how long each node that is offline has been so, s.
        silent: the channel of each node that has reported, but not since the connection to the broker was lost.
    """
    due: list[NodeId] = []
    working: list[NodeId] = []
    states: Counter[UpdateState] = Counter()
    reasons: Counter[str] = Counter()
    absent = 0
    reports = {node: report for node, report in reports.items() if report.channel == rollout.channel}
    for node, report in reports.items():
        if report.release == rollout.release:
            if report.state not in _FAILED | {UpdateState.IDLE} and away.get(node, 0.0) >= LOST_AFTER_S:
                reasons[f"offline since its state was {report.state}"] += 1
                continue
            states[report.state] += 1
            if report.state in _FAILED:
                reasons[report.reason] += 1
            elif report.state != UpdateState.IDLE:
                working.append(node)
        elif is_in(node, rollout):
            absent += node in away
            if node not in away:
                due.append(node)
    known = [node for node, channel in silent.items() if channel == rollout.channel]
    unheard = [node for node in known if is_in(node, rollout)]
    failed, succeeded = reasons.total(), states[UpdateState.IDLE]
    return Tally(
        nodes=len(reports) + len(known),
        online=sum(node not in away for node in reports),
        asked=len(due) + absent + len(unheard) + len(working) + succeeded + failed,
        due=len(due),
        absent=absent,
        silent=len(unheard),
        under_way={state: count for state, count in states.items() if state not in _FAILED | {UpdateState.IDLE}},
        succeeded=succeeded,
        failed=failed,
        going_back=states[UpdateState.ROLLING_BACK],
        reasons=dict(reasons),
        waited_for=tuple(map(str, [*unheard[:_NAMED], *due[:_NAMED], *working[:_NAMED]][:_NAMED])),
    )


def judge(counted: Tally, rollout: Rollout, elapsed_s: float) -> Move:
    """Return what the figures ask for.

    A node that goes back counts as failed at once, so that a rollout does not go on while its nodes do. Fewer nodes
    than `min_nodes` abort only when they are all that a phase asked: then nothing better will be known, and to go on
    would be to ask more nodes because of failures.

    Args:
        counted: how the nodes stand.
        rollout: what the channel is told.
        elapsed_s: for how long it has been told so, s.
    """
    if rollout.aborted or rollout.paused or rollout.percent == 0:
        return Move.WAIT
    is_over = waits_for(counted, rollout, elapsed_s) is None
    # silent ones may all have succeeded: what is not known speaks for the release here, and against a step below
    too_many = counted.failed * 100 > rollout.abort_above * (counted.executed + counted.silent)
    if too_many and (is_over or counted.executed >= rollout.min_nodes):
        return Move.ABORT
    if not is_over:
        return Move.WAIT
    return Move.STEP if next_percent(rollout) is not None else Move.DONE


def waits_for(counted: Tally, rollout: Rollout, elapsed_s: float) -> str | None:
    """Return what a phase waits for, in words; None: it is over.

    Nodes that are offline and have not begun are not waited for, once half of those asked, or `min_nodes` of them, have
    executed, and the spread time is over: a phase whose nodes are all away shows nothing. Nor is a phase waited for
    that asks nobody, as the first one of a small fleet may; it lasts the spread time.
    """
    if counted.nodes == 0:
        return "a first report of any node"
    if counted.silent:
        return f"{counted.silent:,} not heard of since the connection came back{_named(counted, counted.silent)}"
    working = sum(counted.under_way.values())
    if counted.due or working:
        parts = [f"{count:,} {what}" for count, what in ((counted.due, "not begun"), (working, "under way")) if count]
        return f"{' and '.join(parts)}{_named(counted, counted.due + working)}"
    enough = min(rollout.min_nodes, -int(-counted.asked * _ENOUGH // 1))
    if counted.executed < enough:
        return f"nodes to come back: {counted.absent:,} of {counted.asked:,} are offline, {enough:,} must have executed"
    if counted.executed < max(1, counted.asked) and elapsed_s < rollout.spread_s:
        because = f"of those asked {counted.absent:,} are offline" if counted.absent else "no node that is known is in"
        return f"the spread time of {rollout.spread_s} s to end, as {because}"
    return None


def failures(counted: Tally) -> str:
    """Return how many have failed, and the reason that most of them give."""
    most = max(counted.reasons, key=lambda reason: counted.reasons[reason], default="")
    return f"{counted.failed} of {counted.executed} failed: {most or 'no reason given'}"


def in_nodes(count: int) -> str:
    """Return a number of nodes in words."""
    return f"{count:,} {'node' if count == 1 else 'nodes'}"


def next_percent(rollout: Rollout) -> int | None:
    """Return the phase after the present one; None: there is none."""
    return next((phase for phase in rollout.phases if phase > rollout.percent), None)


def _named(counted: Tally, count: int) -> str:
    names = ", ".join(counted.waited_for)
    return f": {names}" if count <= _NAMED else f", such as {names}"

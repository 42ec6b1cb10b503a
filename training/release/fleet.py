"""How a fleet takes up a release, from its retained update reports alone, and what follows from that for the rollout.

Pure functions over reports: whoever watches passes in what it has heard. A node that has never reported is not counted;
one that is away stands as it last said.
"""

import enum
from collections import Counter
from collections.abc import Mapping

import msgspec

from broker.contract.release import Rollout, is_in
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState

__all__ = ["Move", "Tally", "judge", "next_percent", "tally"]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes stand where, towards one release."""

    nodes: int
    """That have reported anything."""
    asked: int
    """Of those, the ones that are in at the present percentage."""
    under_way: dict[UpdateState, int]
    """Those that are working on it, by state."""
    succeeded: int
    """Those that run it."""
    failed: int
    """Those that refused it or went back."""
    reasons: dict[str, int]
    """Why, in the nodes' words."""

    @property
    def executed(self) -> int:
        """Those that have come to an end, good or bad."""
        return self.succeeded + self.failed


class Move(enum.StrEnum):
    """What the figures ask for."""

    WAIT = "wait"
    """Not enough is known."""
    STEP = "step"
    """Every node that was asked has come to its end: the next phase may begin."""
    ABORT = "abort"
    """Too many have failed."""
    DONE = "done"
    """Every node was asked, and has come to its end."""


def tally(reports: Mapping[NodeId, UpdateReport], rollout: Rollout) -> Tally:
    """Return how the nodes stand towards the release that a rollout names."""
    about = [report for report in reports.values() if report.release == rollout.release]
    failed = [report for report in about if report.state in {UpdateState.REJECTED, UpdateState.ROLLING_BACK}]
    succeeded = sum(report.state == UpdateState.IDLE for report in about)
    working: Counter[UpdateState] = Counter(
        report.state for report in about if report not in failed and report.state != UpdateState.IDLE
    )
    return Tally(
        nodes=len(reports),
        asked=sum(is_in(node, rollout) for node in reports),
        under_way=dict(working),
        succeeded=succeeded,
        failed=len(failed),
        reasons=dict(Counter(report.reason for report in failed)),
    )


def judge(counted: Tally, rollout: Rollout) -> Move:
    """Return what the figures ask for.

    A node that goes back counts as failed at once, so that a rollout does not go on while its nodes do. Fewer nodes
    than `min_nodes` never abort by themselves: one of two is no share to judge by.
    """
    if rollout.aborted or rollout.paused or rollout.percent == 0:
        return Move.WAIT
    if counted.executed >= rollout.min_nodes and counted.failed * 100 > rollout.abort_above * counted.executed:
        return Move.ABORT
    if counted.under_way or counted.executed < counted.asked or counted.asked == 0:
        return Move.WAIT
    return Move.STEP if next_percent(rollout) is not None else Move.DONE


def next_percent(rollout: Rollout) -> int | None:
    """Return the phase after the present one; None: there is none."""
    return next((phase for phase in rollout.phases if phase > rollout.percent), None)

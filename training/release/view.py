"""What is shown of a rollout at one moment, as a value."""

import msgspec

from broker.contract.release import Rollout
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState
from training.release.fleet import Tally, in_nodes

__all__ = ["Latest", "View", "in_one_line"]


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """One node that changed lately."""

    node: str
    release: str | None
    state: UpdateState
    reason: str
    agreement: float | None
    """Of the trial: share of the classified windows to which both models gave the same label."""
    p95_us: int | None
    """Of the trial: 95th percentile of the new model's time for a window, µs."""

    @classmethod
    def of(cls, node: NodeId, report: UpdateReport) -> "Latest":
        """Return what is shown of a report."""
        trial = report.trial
        return cls(
            node=str(node),
            release=report.release,
            state=report.state,
            reason=report.reason,
            agreement=trial.agreed / trial.classified if trial is not None and trial.classified else None,
            p95_us=trial.p95_us if trial is not None else None,
        )


class View(msgspec.Struct, frozen=True, kw_only=True):
    """How a rollout stands."""

    rollout: Rollout
    is_current: bool
    """Whether the figures are the broker's present ones."""
    fleet: Tally
    waits: str
    """What the phase waits for, in words; empty: nothing."""
    reasons: tuple[tuple[str, int], ...]
    """Why nodes failed, the most common first, and how many say so."""
    latest: tuple[Latest, ...]
    """The nodes that changed last, the newest first."""
    outcome: str | None
    """How it ended; None: it goes on."""


def in_one_line(view: View) -> str:
    """Return the figures, as a log wants them."""
    fleet, rollout = view.fleet, view.rollout
    state = "aborted, " if rollout.aborted else "paused, " if rollout.paused else ""
    parts = [
        (fleet.due, "not begun"),
        *((fleet.under_way.get(state, 0), state.value) for state in UpdateState),
        (fleet.succeeded, "succeeded"),
        (fleet.failed, "failed"),
        (fleet.absent, "offline"),
        (fleet.silent, "not heard of"),
    ]
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "nobody is in yet"
    nodes = f"{in_nodes(fleet.nodes)}, {fleet.online:,} online, {fleet.asked:,} asked"
    return f"{rollout.channel}: {rollout.release}: {state}{rollout.percent} %: {nodes}: {told}"

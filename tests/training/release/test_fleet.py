"""What a fleet's reports ask for: go on, wait, or end it."""

from typing import Any

import msgspec
import pytest

from broker.contract.release import Rollout, is_in
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState
from training.release.fleet import Move, Tally, judge, next_percent, tally

FLEET = [NodeId("site", f"node-{k}") for k in range(200)]


def _rollout(**changes: Any) -> Rollout:
    rollout = Rollout(channel="stable", release="made/2", percent=10, phases=(10, 50, 100), abort_above=10, min_nodes=5)
    return msgspec.structs.replace(rollout, **changes)


def _report(release: str | None, state: UpdateState, reason: str = "") -> UpdateReport:
    return UpdateReport(
        boot_id="0123456789abcdef", time_us=1, release=release, state=state, reason=reason, progress=1.0
    )


def test_tally_counts_the_release_in_question_alone() -> None:
    states = [
        *[("made/2", UpdateState.IDLE)] * 3,
        *[("made/2", UpdateState.REJECTED)] * 2,
        ("made/2", UpdateState.ROLLING_BACK),
        *[("made/2", UpdateState.TRIAL)] * 4,
        ("made/1", UpdateState.IDLE),
        ("made/1", UpdateState.REJECTED),
        (None, UpdateState.IDLE),
    ]
    reports = {
        node: _report(release, state, "wrong labels" if state == UpdateState.REJECTED else "")
        for node, (release, state) in zip(FLEET, states, strict=False)
    }
    counted = tally(reports, _rollout(percent=100))
    assert (counted.nodes, counted.asked, counted.succeeded, counted.failed) == (13, 13, 3, 3)
    assert counted.under_way == {UpdateState.TRIAL: 4}
    assert counted.reasons == {"wrong labels": 2, "": 1}
    assert counted.executed == 6


def test_tally_asks_those_who_are_in() -> None:
    reports = {node: _report(None, UpdateState.IDLE) for node in FLEET}
    assert tally(reports, _rollout()).asked == sum(is_in(node, _rollout()) for node in FLEET)
    assert tally({}, _rollout()) == Tally(nodes=0, asked=0, under_way={}, succeeded=0, failed=0, reasons={})


@pytest.mark.parametrize(
    ("succeeded", "failed", "working", "asked", "change", "move"),
    [
        (0, 0, 0, 0, {}, Move.WAIT),
        (0, 4, 0, 20, {}, Move.WAIT),  # fewer than min_nodes
        (0, 5, 0, 20, {}, Move.ABORT),
        (18, 2, 0, 20, {}, Move.STEP),  # ten per cent are not above ten
        (17, 3, 0, 20, {}, Move.ABORT),
        (17, 3, 0, 20, {"abort_above": 100}, Move.STEP),
        (5, 0, 1, 6, {}, Move.WAIT),
        (5, 0, 0, 6, {}, Move.WAIT),  # one has not begun
        (6, 0, 0, 6, {}, Move.STEP),
        (6, 0, 0, 6, {"percent": 100}, Move.DONE),
        (6, 0, 0, 6, {"phases": ()}, Move.DONE),
        (0, 9, 0, 20, {"paused": True}, Move.WAIT),
        (0, 9, 0, 20, {"aborted": True}, Move.WAIT),
        (0, 9, 0, 20, {"percent": 0}, Move.WAIT),
    ],
)
def test_judge(succeeded: int, failed: int, working: int, asked: int, change: dict[str, Any], move: Move) -> None:
    counted = Tally(
        nodes=200,
        asked=asked,
        under_way={UpdateState.TRIAL: working} if working else {},
        succeeded=succeeded,
        failed=failed,
        reasons={},
    )
    assert judge(counted, _rollout(**change)) == move


def test_next_percent_is_the_phase_above() -> None:
    found = [next_percent(_rollout(percent=percent)) for percent in (0, 2, 10, 49, 50, 100)]
    assert found == [10, 10, 50, 50, 100, None]

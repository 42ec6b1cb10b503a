"""What a fleet's reports ask for: go on, wait, or end it."""

from typing import Any

import msgspec
import pytest

from broker.contract.release import Rollout, is_in
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateReport, UpdateState
from training.release.fleet import LOST_AFTER_S, Move, Tally, failures, judge, next_percent, tally, waits_for

FLEET = [NodeId("site", f"node-{k}") for k in range(200)]


def _rollout(**changes: Any) -> Rollout:
    rollout = Rollout(channel="stable", release="made/2", percent=10, phases=(10, 50, 100), abort_above=10, min_nodes=5)
    return msgspec.structs.replace(rollout, **changes)


def _report(release: str | None, state: UpdateState, reason: str = "") -> UpdateReport:
    return UpdateReport(
        boot_id="0123456789abcdef", time_us=1, release=release, state=state, reason=reason, progress=1.0
    )


def _is_whole(counted: Tally) -> bool:
    working = sum(counted.under_way.values())
    return counted.asked == counted.due + counted.absent + counted.silent + working + counted.executed


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
    counted = tally(reports, _rollout(percent=100), {})
    assert (counted.nodes, counted.asked, counted.succeeded, counted.failed) == (13, 13, 3, 3)
    assert (counted.due, counted.going_back, counted.online) == (3, 1, 13)
    assert counted.under_way == {UpdateState.TRIAL: 4}
    assert counted.reasons == {"wrong labels": 2, "": 1}
    assert counted.executed == 6
    assert counted.waited_for == ("site/node-10", "site/node-11", "site/node-12")
    assert failures(counted) == "3 of 6 failed: wrong labels"
    assert _is_whole(counted)


def test_tally_asks_those_who_are_in_and_counts_whoever_the_release_has_reached() -> None:
    reports = {node: _report(None, UpdateState.IDLE) for node in FLEET}
    inside = [node for node in FLEET if is_in(node, _rollout())]
    outside = next(node for node in FLEET if node not in inside)
    assert tally(reports, _rollout(), {}).asked == len(inside)
    reached = tally(reports | {outside: _report("made/2", UpdateState.TRIAL)}, _rollout(), {})
    assert (reached.asked, reached.due) == (len(inside) + 1, len(inside))
    assert _is_whole(reached)
    assert tally({}, _rollout(), {}) == Tally(
        nodes=0, online=0, asked=0, under_way={}, succeeded=0, failed=0, reasons={}
    )


def test_tally_leaves_nodes_of_other_channels_out() -> None:
    mine, other = (
        _report("made/1", UpdateState.IDLE),
        msgspec.structs.replace(_report("made/2", UpdateState.REJECTED), channel="beta"),
    )
    counted = tally({FLEET[0]: mine, FLEET[1]: other}, _rollout(percent=100), {})
    assert (counted.nodes, counted.online, counted.asked, counted.failed) == (1, 1, 1, 0)


def test_tally_of_nodes_that_are_offline_tells_who_had_begun() -> None:
    idle, trial = _report("made/1", UpdateState.IDLE), _report("made/2", UpdateState.TRIAL)
    done = _report("made/2", UpdateState.IDLE)
    reports = dict(zip(FLEET, (idle, idle, trial, trial, done), strict=False))
    away = {FLEET[1]: 1.0, FLEET[2]: LOST_AFTER_S - 1.0, FLEET[3]: float(LOST_AFTER_S), FLEET[4]: 1e9, FLEET[5]: 1e9}
    counted = tally(reports, _rollout(percent=100), away)
    assert (counted.nodes, counted.online, counted.due, counted.absent) == (5, 1, 1, 1)
    assert counted.under_way == {UpdateState.TRIAL: 1}, "away for a moment"
    assert (counted.succeeded, counted.failed) == (1, 1)
    assert counted.reasons == {"offline since its state was trial": 1}
    assert _is_whole(counted)


def test_tally_of_nodes_not_heard_again_waits_for_those_who_are_in() -> None:
    reports = dict.fromkeys(FLEET[:3], _report("made/2", UpdateState.IDLE))
    silent = dict.fromkeys(FLEET[3:5], "stable")
    counted = tally(reports, _rollout(percent=100), {}, silent)
    assert (counted.nodes, counted.asked, counted.silent) == (5, 5, 2)
    assert counted.waited_for == ("site/node-3", "site/node-4")
    assert tally({}, _rollout(percent=0), {}, silent).silent == 0


def test_tally_of_nodes_not_heard_again_leaves_those_of_other_channels_out() -> None:
    silent = {FLEET[0]: "stable", FLEET[1]: "beta"}
    counted = tally({}, _rollout(percent=100), {}, silent)
    assert (counted.nodes, counted.asked, counted.silent) == (1, 1, 1)
    assert counted.waited_for == ("site/node-0",)
    assert waits_for(tally({}, _rollout(percent=100), {}, {FLEET[1]: "beta"}), _rollout(percent=100), 0) == (
        "a first report of any node"
    )


def _counted(succeeded: int, failed: int, asked: int, **more: int) -> Tally:
    working = more.pop("working", 0)
    due = asked - succeeded - failed - working - more.get("absent", 0) - more.get("silent", 0)
    under_way = {UpdateState.TRIAL: working} if working else {}
    figures: dict[str, Any] = {"nodes": 200, "online": 200, "due": due, "reasons": {}, "under_way": under_way}
    return Tally(succeeded=succeeded, failed=failed, asked=asked, **(figures | more))


@pytest.mark.parametrize(
    ("succeeded", "failed", "asked", "more", "change", "move"),
    [
        (0, 4, 20, {}, {}, Move.WAIT),  # fewer than min_nodes
        (0, 5, 20, {}, {}, Move.ABORT),
        (18, 2, 20, {}, {}, Move.STEP),  # ten per cent are not above ten
        (17, 3, 20, {}, {}, Move.ABORT),
        (17, 3, 20, {}, {"abort_above": 100}, Move.STEP),
        (5, 0, 6, {"working": 1}, {}, Move.WAIT),
        (5, 0, 6, {}, {}, Move.WAIT),  # one has not begun
        (6, 0, 6, {}, {}, Move.STEP),
        (6, 0, 6, {}, {"percent": 100}, Move.DONE),
        (6, 0, 6, {}, {"phases": ()}, Move.DONE),
        (0, 9, 20, {}, {"paused": True}, Move.WAIT),
        (0, 9, 20, {}, {"aborted": True}, Move.WAIT),
        (0, 9, 20, {}, {"percent": 0}, Move.WAIT),
        # the first phase asks fewer than min_nodes
        (1, 1, 2, {}, {}, Move.ABORT),
        (2, 0, 2, {}, {}, Move.STEP),
        (1, 1, 3, {}, {}, Move.WAIT),
        (1, 1, 3, {"working": 1}, {}, Move.WAIT),
        (1, 1, 2, {}, {"percent": 100}, Move.ABORT),
        (1, 1, 2, {}, {"abort_above": 50}, Move.STEP),
        # nodes that are offline and have not begun
        (3, 0, 6, {"absent": 3}, {}, Move.STEP),  # half of them
        (2, 0, 6, {"absent": 4}, {}, Move.WAIT),
        (2, 0, 5, {"absent": 3}, {}, Move.WAIT),  # half of five are three
        (5, 0, 20, {"absent": 15}, {}, Move.STEP),  # min_nodes of them
        (1, 0, 9, {"absent": 8}, {"min_nodes": 1}, Move.STEP),
        (0, 0, 2, {"absent": 2}, {"min_nodes": 1}, Move.WAIT),  # nothing is shown by nobody
        (3, 0, 6, {"absent": 2}, {}, Move.WAIT),  # one is there
        (3, 0, 6, {"absent": 3}, {"percent": 100}, Move.DONE),
        (2, 1, 6, {"absent": 3}, {}, Move.ABORT),
        # nodes not heard of since the connection came back
        (19, 0, 20, {"silent": 1}, {}, Move.WAIT),
        (19, 0, 20, {"silent": 1}, {"percent": 100}, Move.WAIT),
        (4, 1, 20, {"silent": 15}, {}, Move.WAIT),  # they may have succeeded
        (2, 3, 20, {"silent": 15}, {}, Move.ABORT),  # even then
        # nobody is in
        (0, 0, 0, {}, {}, Move.STEP),
        (0, 0, 0, {"nodes": 0}, {}, Move.WAIT),
    ],
)
def test_judge(
    succeeded: int, failed: int, asked: int, more: dict[str, int], change: dict[str, Any], move: Move
) -> None:
    assert judge(_counted(succeeded, failed, asked, **more), _rollout(**change), elapsed_s=0) == move


@pytest.mark.parametrize(
    ("counted", "elapsed_s", "move"),
    [
        (_counted(6, 0, 6), 0, Move.STEP),  # all have executed: no later one will
        (_counted(4, 0, 6, absent=2), 59, Move.WAIT),
        (_counted(4, 0, 6, absent=2), 60, Move.STEP),
        (_counted(0, 0, 0), 59, Move.WAIT),
        (_counted(0, 0, 0), 60, Move.STEP),
        (_counted(1, 1, 3, absent=1), 59, Move.WAIT),  # the third may come yet
        (_counted(1, 1, 3, absent=1), 60, Move.ABORT),
        (_counted(10, 10, 30), 0, Move.ABORT),  # and an abort waits for nothing
    ],
)
def test_judge_gives_nodes_the_spread_time_to_come_back(counted: Tally, elapsed_s: float, move: Move) -> None:
    assert judge(counted, _rollout(spread_s=60), elapsed_s) == move


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (_counted(0, 0, 0, nodes=0), "a first report of any node"),
        (_counted(1, 0, 6, working=2), "3 not begun and 2 under way, such as a/b"),
        (_counted(1, 0, 2), "1 not begun: a/b"),
        (_counted(1, 0, 2, silent=1), "1 not heard of since the connection came back: a/b"),
        (_counted(1, 0, 9, absent=8), "nodes to come back: 8 of 9 are offline, 5 must have executed"),
        (_counted(5, 0, 9, absent=4), "the spread time of 60 s to end, as of those asked 4 are offline"),
        (_counted(0, 0, 0), "the spread time of 60 s to end, as no node that is known is in"),
        (_counted(9, 0, 9), None),
    ],
)
def test_waits_for_says_whom(counted: Tally, words: str | None) -> None:
    counted = msgspec.structs.replace(counted, waited_for=("a/b",))
    assert waits_for(counted, _rollout(spread_s=60), 0) == words


def test_failures_of_nodes_that_gave_no_reason() -> None:
    counted = tally({FLEET[0]: _report("made/2", UpdateState.REJECTED)}, _rollout(), {})
    assert failures(counted) == "1 of 1 failed: no reason given"


def test_next_percent_is_the_phase_above() -> None:
    found = [next_percent(_rollout(percent=percent)) for percent in (0, 2, 10, 49, 50, 100)]
    assert found == [10, 10, 50, 50, 100, None]

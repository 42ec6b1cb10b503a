"""The power goes, or the program ends, at any moment: what follows is a legal state and a model that works."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.contract.updates import UpdateState
from edge_node.ota.record import MOST_STARTS

S = UpdateState
NEVER = (-1, True)


def _take_up(world: Any) -> None:
    world.wait(60)


def _go_back(world: Any) -> None:
    world.cannot_run.add("made/3")
    world.wait(60)


def _abort(world: Any) -> None:
    world.hold = {"last"}
    world.wait(30)
    world.name(world.offer, aborted=True)
    world.wait(60)


def _recall(world: Any) -> None:
    world.release("made/2")
    world.wait(5)
    world.command()
    world.wait(60)


@pytest.mark.parametrize(
    ("journey", "ends"),
    [
        (_take_up, {(S.IDLE, "made/3")}),
        (_go_back, {(S.REJECTED, "made/2")}),
        (_abort, {(S.IDLE, "made/2")}),
        (_recall, {(S.REJECTED, "made/1")}),
    ],
)
def test_crash_in_any_call_of_any_port_is_survived(
    updated: Any,
    tmp_path: Path,
    power_cut: type[BaseException],
    journey: Callable[[Any], None],
    ends: set[tuple[S, str]],
) -> None:
    """The calls are where a state is written, and where what follows from it is begun: all moments that differ."""
    updated.offer = updated.release("made/3")
    updated.crash()

    def begin(world: Any) -> None:
        world.start()
        journey(world)

    def go(name: str, fuse: tuple[int, bool]) -> Any:
        world = updated.copy(tmp_path / name)
        world.offer, world.fuse = updated.offer, fuse
        if fuse != NEVER:
            with pytest.raises(power_cut):
                begin(world)
            world.crash()
            world.fuse = None
            world.watch.go(5)
        begin(world)
        return world

    calls = go("whole", NEVER).calls
    assert calls > 10
    ended = [
        go(f"{number}-{is_before}", (number, is_before))
        for number in range(1, calls + 1)
        for is_before in (True, False)
    ]
    seen = {(world.state, world.model) for world in ended}
    assert seen == ends


@pytest.mark.parametrize("state", [S.TRIAL, S.COMMITTING, S.VERIFYING])
def test_program_that_always_ends_with_a_new_model_gives_it_up(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    for _ in range(MOST_STARTS - (state is S.VERIFYING)):  # there, each proof counts
        updated.crash()
        updated.start()
        updated.wait(5)
        assert updated.state is state
    updated.crash()
    updated.start()
    updated.wait(5)
    assert (updated.state, updated.model) == (S.REJECTED, "made/2")
    assert updated.report.reason.startswith("the program ended 3 times in ")
    updated.go_on()
    updated.crash()
    updated.start()
    updated.wait(60)
    assert (updated.state, updated.model) == (S.REJECTED, "made/2"), "it is known, and not tried again"


def test_program_that_always_ends_with_the_model_in_use_ends_at_the_floor(updated: Any) -> None:
    updated.hold = {"last"}
    models = []
    for _ in range(3 * MOST_STARTS):
        updated.crash()
        updated.start()
        updated.wait(5)
        models.append(updated.model)
    assert [name for name, _ in itertools.groupby(models)] == ["made/2", "made/1", "factory/1"]
    assert [each.release for each in updated.record.bad] == ["made/2", "made/1"]
    updated.hold.clear()
    updated.release("made/3")
    updated.wait(60)
    assert updated.model == "made/3", "a good one is still welcome"


def test_program_that_always_ends_while_it_downloads_blames_the_model_in_use(updated: Any) -> None:
    offer = updated.release("made/3")
    updated.hold = {"last"}
    updated.stay_in(S.DOWNLOADING, offer)
    for _ in range(MOST_STARTS + 1):
        updated.crash()
        updated.start()
        updated.wait(5)
    assert updated.model == "made/1"
    assert updated.record.bad == (), "nothing is known against the new one"
    updated.go_on()
    updated.wait(60)
    assert updated.model == "made/3"


@pytest.mark.parametrize("state", [S.IDLE, S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING])
def test_program_that_is_told_to_stop_is_not_counted(updated: Any, state: S) -> None:
    if state is not S.IDLE:
        updated.stay_in(state, updated.release("made/3"))
    updated.hold.add("last")
    for _ in range(3 * MOST_STARTS):
        updated.stop()
        updated.start()
        updated.wait(5)
        assert updated.state is state
    assert (updated.saved().starts, updated.saved().proofs) == (1, int(state is S.VERIFYING)), "this one"
    updated.go_on()
    updated.wait(60)
    assert updated.model == ("made/2" if state is S.IDLE else "made/3")


def test_program_that_ends_after_its_model_has_lasted_is_not_counted(updated: Any) -> None:
    for _ in range(3 * MOST_STARTS):
        updated.crash()
        updated.start()
        updated.wait(5)
    assert (updated.model, updated.record.starts) == ("made/2", 0)


def test_program_that_ends_while_nothing_can_be_verified_blames_nobody(updated: Any) -> None:
    """A vehicle without a network: the clock is wrong after each start, and the power goes without a word."""
    updated.stay_in(S.VERIFYING, updated.release("made/3"))
    updated.watch.synced = False
    for _ in range(3 * MOST_STARTS):
        updated.crash()
        updated.start()
        updated.wait(30)
        assert (updated.state, updated.model) == (S.VERIFYING, "made/2")
    updated.watch.synced = True
    updated.go_on()
    updated.wait(60)
    assert updated.model == "made/3"


@pytest.mark.parametrize("state", [S.IDLE, S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING])
@pytest.mark.parametrize("slots", ["a", "b", "ab"])
def test_slot_that_is_damaged_gives_way_to_the_one_before_and_is_fetched_again(
    updated: Any, state: S, slots: str
) -> None:
    offer = updated.release("made/3" if state is not S.IDLE else "made/2")
    if state is not S.IDLE:
        updated.stay_in(state, offer)
    active, previous = updated.record.active, updated.record.previous
    updated.crash()
    for slot in slots:
        path = updated.path / f"slot-{slot}.bundle"
        if path.exists():
            path.write_bytes(b"x" + path.read_bytes()[1:])
    updated.start()
    left = [held.release for held in (active, previous) if held is not None and held.slot not in slots]
    assert updated.model == [*left, "factory/1"][0]
    updated.go_on()
    updated.wait(120)
    if state is S.COMMITTING and active.slot in slots:  # on probation nobody asks why it does not run
        assert (updated.state, updated.model) == (S.REJECTED, [*left, "factory/1"][0])
    else:
        assert (updated.state, updated.model) == (S.IDLE, offer.rollout.release)


def test_model_that_goes_bad_while_the_way_back_is_gone_leads_to_the_floor(updated: Any) -> None:
    updated.hold = {"activate"}
    updated.wait(5)
    assert updated.command().words == "goes back from made/2 to made/1"
    assert updated.state is S.ROLLING_BACK
    (updated.path / "slot-a.bundle").unlink()
    updated.hold.clear()
    updated.wait(5)
    assert (updated.state, updated.model) == (S.REJECTED, "factory/1")
    assert updated.report.reason == "an operator ordered this node back"


def test_program_that_always_ends_on_the_way_back_ends_at_the_floor(updated: Any) -> None:
    updated.wait(5)
    updated.hold = {"activate"}
    updated.command()
    updated.crash()
    models = [updated.start_and_die() for _ in range(2 * MOST_STARTS)]
    assert models == ["made/1"] * MOST_STARTS + ["factory/1"] * MOST_STARTS
    updated.start()
    assert (updated.state, updated.model) == (S.REJECTED, "factory/1")
    assert updated.report.reason == "an operator ordered this node back"


def test_program_that_ends_as_it_loads_a_new_model_goes_all_the_way_back(updated: Any) -> None:
    updated.stay_in(S.COMMITTING, updated.release("made/3"))
    updated.crash()
    models = [updated.start_and_die() for _ in range(3 * MOST_STARTS)]
    assert [name for name, _ in itertools.groupby(models)] == ["made/3", "made/2", "factory/1"]
    assert [models.count(name) for name in ("made/3", "made/2")] == [MOST_STARTS, MOST_STARTS + 1], "the way back, too"

"""A clock that is not right, and what depends on the time: no signature is judged by it, and no command obeyed."""

from typing import Any

import pytest

from broker.contract.updates import UpdateState

S = UpdateState
HOUR_US = 3_600_000_000


def test_clock_that_is_not_synchronised_delays_every_look(updated: Any) -> None:
    updated.watch.synced = False
    before = updated.bench.counts["verify"]
    updated.release("made/3")
    updated.wait(3_600)
    assert updated.bench.counts["verify"] == before
    assert updated.report.reason.startswith("waits: the clock is not synchronised; mend that, or say by clock.trust")
    updated.watch.synced = True
    updated.wait(60)
    assert (updated.model, updated.report.reason) == ("made/3", "")


def test_clock_before_the_last_look_is_not_believed_across_a_restart(updated: Any) -> None:
    assert updated.saved().floor_us > 0
    updated.crash()
    updated.watch.wall_us = updated.saved().floor_us - 1_000_000
    updated.release("made/3")
    updated.start()
    updated.wait(0.5)
    assert updated.report.reason == "waits: the clock is earlier than when metadata were verified last"
    updated.wait(60)
    assert updated.model == "made/3"


def test_clock_floor_rises_with_the_looks_and_is_not_written_each_time(updated: Any) -> None:
    floor_us = updated.record.floor_us
    for number in range(5):
        updated.name(updated.release("made/2"), phases=[number + 1])
        updated.wait(60)
    assert updated.record.floor_us == floor_us
    updated.wait(12 * 3_600)
    assert floor_us + 5 * HOUR_US < updated.saved().floor_us <= updated.watch.wall_us


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.TRIAL, S.COMMITTING])
def test_clock_that_goes_wrong_under_way_does_not_stop_what_needs_no_date(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    updated.watch.synced = False
    updated.go_on()
    updated.wait(600)
    assert updated.state is (S.VERIFYING if state is S.DOWNLOADING else S.IDLE)
    updated.watch.synced = True
    updated.wait(600)
    assert updated.model == "made/3"


def test_node_goes_back_when_an_operator_says_so(updated: Any) -> None:
    updated.wait(5)
    reply = updated.command()
    assert (reply.done, reply.words) == (True, "goes back from made/2 to made/1")
    updated.wait(60)
    assert (updated.state, updated.model) == (S.REJECTED, "made/1")
    assert (updated.report.release, updated.report.reason) == ("made/2", "an operator ordered this node back")
    updated.name(updated.release("made/2"), phases=[100])
    updated.wait(60)
    assert (updated.state, updated.model) == (S.REJECTED, "made/1"), "and does not take it up again"
    updated.release("made/3")
    updated.wait(60)
    assert updated.model == "made/3"


def test_command_that_comes_twice_is_carried_out_once_and_answered_twice(updated: Any) -> None:
    updated.wait(5)
    first = updated.command()
    assert updated.command() == first
    updated.wait(5)
    assert updated.command() == first
    updated.crash()
    updated.start()
    updated.wait(5)
    reply = updated.command()
    assert (reply.done, reply.words) == (True, "was carried out already")
    assert (updated.state, updated.model) == (S.REJECTED, "made/1")


@pytest.mark.parametrize("age_s", [61, -61, 1e6])
def test_command_of_another_time_is_not_carried_out(updated: Any, age_s: float) -> None:
    updated.wait(5)
    reply = updated.command(age_s=age_s)
    assert (reply.done, updated.state) == (False, S.IDLE)
    assert f"the command is {age_s:.0f} s old, at most 60 s are allowed" in reply.words
    assert updated.command(2, age_s=59).done


def test_command_is_not_carried_out_by_a_clock_that_may_be_wrong(updated: Any) -> None:
    updated.wait(5)
    updated.watch.synced = False
    assert "not synchronised" in updated.command().words
    assert updated.state is S.IDLE


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING])
def test_command_waits_for_an_update_that_is_under_way(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    reply = updated.command()
    assert (reply.done, reply.words) == (
        False,
        f"an update is under way ({state}); abort its rollout, or wait",
    )
    assert updated.state is state


def test_command_leads_to_the_model_of_the_settings_at_last_and_no_further(updated: Any) -> None:
    updated.wait(5)
    words = []
    for number in range(3):
        words.append(updated.command(number).words)
        updated.wait(5)
    assert words[:2] == ["goes back from made/2 to made/1", "goes back from made/1 to factory/1"]
    assert words[2] == "factory/1 runs, the model that this node was set up with: there is none before it"
    assert (updated.state, updated.model) == (S.REJECTED, "factory/1")


def test_command_after_an_automatic_way_back_leads_to_the_floor(updated: Any) -> None:
    """The slot before was given up for the release that failed: what is said is what can be done."""
    updated.cannot_run.add("made/3")
    updated.release("made/3")
    updated.wait(60)
    assert updated.command().words == "goes back from made/2 to factory/1"


def test_commands_are_remembered_within_bounds(updated: Any) -> None:
    for number in range(100):
        updated.command(number, age_s=1e6)
    assert len(updated.shelf.replies) == 100
    assert len(updated.updater._answers._replies) == 32

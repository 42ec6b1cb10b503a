"""A node killed right after it has written a record, in every state that there is, has a working model afterwards."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from broker.contract.updates import UpdateState
from edge_node.ota.table import TABLE

GOOD, WRONG, RECALLED = "good", "wrong", "recalled"
STORIES = {
    UpdateState.IDLE: (GOOD, 1),
    UpdateState.DOWNLOADING: (GOOD, 1),
    UpdateState.VERIFYING: (GOOD, 1),
    UpdateState.TRIAL: (GOOD, 1),
    UpdateState.COMMITTING: (GOOD, 2),
    UpdateState.ROLLING_BACK: (RECALLED, 1),
    UpdateState.REJECTED: (WRONG, 1),
}
"""Which story leads through each state, and how often it writes a record with it on the way."""
DEATHS = [(state, nth) for state in TABLE for nth in range(1, STORIES.get(state, ("", 1))[1] + 1)]


def _name(state: UpdateState, nth: int) -> str:
    return f"{state.replace(' ', '-')}-{nth}"


@pytest.fixture(scope="module")
def doomed(make_world: Callable[[list[str]], Any], made: Callable[..., bytes]) -> Any:
    """A node for each record to be killed at, all at once: they mostly wait for audio."""
    world = make_world([_name(*death) for death in DEATHS])
    world.release(made(2))
    world.release(made(3, is_wrong=True), WRONG)
    for member, (state, nth) in zip(world.members, DEATHS, strict=True):
        world.doom(member, state, nth, WRONG if STORIES.get(state, ("",))[0] == WRONG else "stable")
    return world.doomed


@pytest.mark.parametrize(("state", "nth"), DEATHS, ids=[_name(*death) for death in DEATHS])
def test_update_node_killed_in_each_state_comes_back_with_a_working_model(
    doomed: dict[str, Any], state: UpdateState, nth: int
) -> None:
    """Killed right after a record was written, in every state of the table: the next start ends where it should."""
    assert state in STORIES, f"no story leads to {state}"
    story, _ = STORIES[state]
    mine = doomed[_name(state, nth)]
    node = mine.member
    if story == RECALLED:
        node.until_reported(UpdateState.IDLE, "made/2")
        assert node.command().done
    node.until(lambda: mine.exit_code is not None, f"killed in {state}")
    assert (mine.exit_code, mine.found) == (-signal.SIGKILL, state), node.log()
    ending, release, model = {
        GOOD: (UpdateState.IDLE, "made/2", "made/2"),
        WRONG: (UpdateState.REJECTED, "made/3", "made/1"),
        RECALLED: (UpdateState.REJECTED, "made/2", "made/1"),
    }[story]
    node.until_reported(ending, release)
    node.assert_works_with(model)
    assert node.record().state is ending

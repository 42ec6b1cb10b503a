"""The table by itself: no state without an action, an exit and a way to it, and no step to a record that cannot be."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from broker.contract.updates import TrialFigures, UpdateState
from edge_node.ota.folder import Folder
from edge_node.ota.record import Held, Record, flaw, step
from edge_node.ota.table import TABLE, WORKING, Event, next_state

RESTING = {UpdateState.IDLE, UpdateState.REJECTED}


def _reached(from_state: UpdateState) -> set[UpdateState]:
    found, edge = set(), {from_state}
    while edge:
        found |= edge
        edge = {after for state in edge for after in TABLE[state].values()} - found
    return found


def _record(offer: Any, state: UpdateState) -> Record:
    """Return a record in a state, as a node that runs made/1 from slot a would have it."""
    return Record(
        state=state,
        offer=offer if state in WORKING else None,
        release="made/2" if state is not UpdateState.IDLE else None,
        active=Held(slot="a", release="made/1", sha256="1" * 64),
        previous=Held(slot="b", release="made/0", sha256="0" * 64),
    )


def test_table_has_every_state_and_uses_every_event() -> None:
    assert set(TABLE) == set(UpdateState)
    assert {event for exits in TABLE.values() for event in exits} == set(Event)


@pytest.mark.parametrize("state", UpdateState)
def test_table_every_state_is_reached_from_idle_and_leads_back_to_it(state: UpdateState) -> None:
    assert state in _reached(UpdateState.IDLE)
    assert UpdateState.IDLE in _reached(state)
    assert set(TABLE[state].values()) - {state}, "an exit"


@pytest.mark.parametrize("state", UpdateState)
def test_table_every_state_can_lose_the_model_that_runs(state: UpdateState) -> None:
    assert next_state(state, Event.BROKEN) is UpdateState.ROLLING_BACK


@pytest.mark.parametrize("state", UpdateState)
def test_table_event_that_cannot_happen_is_a_defect(state: UpdateState) -> None:
    for event in set(Event) - set(TABLE[state]):
        with pytest.raises(KeyError):
            next_state(state, event)


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in TABLE for event in TABLE[state]])
def test_table_every_step_leads_to_a_record_that_can_be(
    world: Any, state: UpdateState, event: Event, figures: TrialFigures
) -> None:
    before = _record(world.release("made/2"), state)
    assert flaw(before) is None
    after = step(before, event, reason="why", offer=world.release("made/3"), trial=figures, command="1" * 16)
    assert flaw(after) is None
    assert after.state is TABLE[state][event]
    if after.state in RESTING | {UpdateState.ROLLING_BACK}:
        assert after.offer is None


def _clears(world: Any) -> bool:
    return not list((world.path / "chunks").iterdir())


def _asks_for_a_chunk(world: Any) -> bool:
    return any("/chunk/" in each for each in world.shelf.filters)


def _looks_before_it_proves(world: Any) -> bool:
    world.until_quiet()
    world.updater.tick()
    world.answer("verify")
    return world.bench.counts["verify"] == 1 and _is_asked("prove")(world)


def _is_asked(kind: str) -> Callable[[Any], bool]:
    return lambda world: any(asked == kind for asked, _ in world.bench.asked)


ACTIONS = {
    UpdateState.IDLE: _clears,
    UpdateState.DOWNLOADING: _asks_for_a_chunk,
    UpdateState.VERIFYING: _looks_before_it_proves,
    UpdateState.TRIAL: _is_asked("trial"),
    UpdateState.COMMITTING: _is_asked("activate"),
    UpdateState.REJECTED: _clears,
}


@pytest.mark.parametrize("state", UpdateState)
def test_table_every_state_has_an_action_that_a_start_of_the_program_begins(world: Any, state: UpdateState) -> None:
    offer = world.release("made/2", size=1_000)
    files = Folder(world.path)
    if state is not UpdateState.DOWNLOADING:
        files.put_chunk(offer.release.chunks[0], world.shelf.retained[world.chunk_topic(offer, 0)])
        files.assemble(offer)
    files.save(replace(_record(offer, state), active=None, previous=None))
    world.hold = {"verify", "prove", "trial", "activate", "last"}
    world.start()
    if state is UpdateState.ROLLING_BACK:  # the floor runs already
        assert world.states_of_reports() == [UpdateState.ROLLING_BACK, UpdateState.REJECTED]
    else:
        assert world.state is state
        assert ACTIONS[state](world)

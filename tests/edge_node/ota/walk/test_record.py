"""What a node remembers: values in, values out."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from broker.contract.updates import UpdateState
from edge_node.ota.record import MOST_STARTS, Held, Record, Turn, flaw, settled, started, step, stopped
from edge_node.ota.table import RUNNING, WORKING, Event

ONE = Held(slot="a", release="made/1", sha256="1" * 64)
ZERO = Held(slot="b", release="made/0", sha256="0" * 64)


@pytest.fixture
def taking_up(world: Any) -> Any:
    """Return the record of a node that runs made/1 and takes made/2 up, in a given state."""
    offer = world.release("made/2")

    def make(state: UpdateState, **changes: Any) -> Record:
        taken_up = offer if state in WORKING else None
        record = Record(state=state, release="made/2", offer=taken_up, active=ONE, previous=ZERO)
        return replace(record, **changes)

    return make


def test_record_new_model_goes_into_the_slot_of_the_one_before(taking_up: Any) -> None:
    trying = step(taking_up(UpdateState.TRIAL), Event.TRIED)
    assert trying.offer is not None
    assert (trying.active, trying.previous) == (ONE, None), "its slot is about to be written"
    installed = step(trying, Event.INSTALLED)
    assert installed.active == Held(slot="b", release="made/2", sha256=trying.offer.sha256)
    assert installed.previous == ONE
    assert installed.is_installed
    done = step(installed, Event.CONFIRMED)
    assert (done.state, done.offer, done.release, done.spare) == (UpdateState.IDLE, None, None, "a")


def test_record_model_that_fails_on_probation_gives_way_to_the_one_before(taking_up: Any) -> None:
    installed = step(step(taking_up(UpdateState.TRIAL), Event.TRIED), Event.INSTALLED)
    assert installed.offer is not None
    failed = step(installed, Event.FAILED, reason="it is wrong")
    assert (failed.state, failed.active, failed.previous) == (UpdateState.ROLLING_BACK, ONE, None)
    assert failed.badness("made/2", "") == failed.badness("", installed.offer.sha256) == "it is wrong"
    assert step(failed, Event.RESTORED).reason == "it is wrong"


def test_record_model_that_is_given_up_before_it_is_installed_leaves_the_active_one(taking_up: Any) -> None:
    for event in (Event.FAILED, Event.WITHDRAWN):
        after = step(taking_up(UpdateState.COMMITTING), event, reason="no")
        assert (after.state, after.active) == (UpdateState.ROLLING_BACK, ONE)
        assert bool(after.bad) == (event is Event.FAILED), "what was only withdrawn may come again"


def test_record_broken_model_is_not_remembered_as_bad(taking_up: Any) -> None:
    for state in set(UpdateState) - {UpdateState.ROLLING_BACK}:
        after = step(taking_up(state), Event.BROKEN, reason="the disk")
        assert (after.active, after.previous, after.offer, after.release) == (ZERO, None, None, "made/1")
        assert after.bad == ()


def test_record_way_back_to_a_broken_model_leads_to_the_floor_and_keeps_its_reason(taking_up: Any) -> None:
    going = taking_up(UpdateState.ROLLING_BACK, reason="the first reason", previous=None)
    after = step(going, Event.BROKEN, reason="another")
    assert (after.state, after.active, after.reason) == (UpdateState.ROLLING_BACK, None, "the first reason")


def test_record_what_is_bad_is_bounded_and_the_oldest_is_forgotten() -> None:
    record = Record()
    for number in range(40):
        held = Held(slot="a", release=f"made/{number}", sha256=f"{number:064x}")
        record = step(replace(record, state=UpdateState.IDLE, active=held), Event.RECALLED, reason="no")
    assert len(record.bad) == 32
    assert record.badness("made/7", "") is None
    assert record.badness("made/8", "") == "no"


def test_record_reason_is_one_line_that_fits_a_report_whatever_is_in_it(taking_up: Any) -> None:
    words = "first\n second\t" + "é" * 300 + "\udcff"
    after = step(taking_up(UpdateState.TRIAL), Event.FAILED, reason=words)
    assert after.reason.startswith("first second é")
    assert len(after.reason) == 200
    assert msgspec.json.decode(msgspec.json.encode(after), type=Record) == after
    assert step(taking_up(UpdateState.TRIAL), Event.FAILED, reason="\udcff").reason == "?"


@pytest.mark.parametrize(
    ("state", "event", "active"),
    [
        (UpdateState.IDLE, UpdateState.ROLLING_BACK, ZERO),
        (UpdateState.REJECTED, UpdateState.ROLLING_BACK, ZERO),
        (UpdateState.DOWNLOADING, UpdateState.ROLLING_BACK, ZERO),
        (UpdateState.VERIFYING, UpdateState.ROLLING_BACK, ZERO),
        (UpdateState.ROLLING_BACK, UpdateState.ROLLING_BACK, ZERO),
        (UpdateState.TRIAL, UpdateState.REJECTED, ONE),
        (UpdateState.COMMITTING, UpdateState.ROLLING_BACK, ONE),
    ],
)
def test_record_program_that_does_not_last_gives_a_model_up_in_every_state(
    taking_up: Any, state: UpdateState, event: UpdateState, active: Held
) -> None:
    record = taking_up(state)
    for number in range(1, MOST_STARTS + 1):
        record = started(record)
        assert (record.state, record.starts) == (state, number)
    record = started(record)
    assert (record.state, record.active, record.starts) == (event, active, 0)
    assert "the program ended 3 times in" in record.reason or state is UpdateState.ROLLING_BACK
    is_blamed = state in RUNNING | {UpdateState.IDLE, UpdateState.REJECTED}
    assert [each.release for each in record.bad] == (["made/2" if state in RUNNING else "made/1"] if is_blamed else [])


def test_record_program_that_ends_on_and_on_ends_at_the_floor(taking_up: Any) -> None:
    record = step(step(taking_up(UpdateState.TRIAL), Event.TRIED), Event.INSTALLED)
    for _ in range(20):
        record = started(record)
    assert record.active is None
    assert started(record) == record, "nothing of the updates runs that could end it"


def test_record_start_that_ended_well_does_not_count(taking_up: Any) -> None:
    for state in UpdateState:
        record = taking_up(state, starts=2, proofs=1)
        assert stopped(started(record)).starts == 2
        assert stopped(stopped(stopped(record))).starts == stopped(record).proofs == 0


def test_record_order_that_was_carried_out_is_known_whatever_fails_after_it(taking_up: Any) -> None:
    record = step(taking_up(UpdateState.IDLE), Event.RECALLED, command="1" * 16)
    assert step(record, Event.BROKEN).recalled == "1" * 16
    later = replace(taking_up(UpdateState.TRIAL), recalled=record.recalled)
    assert step(later, Event.FAILED, reason="no").recalled == "1" * 16


def test_record_model_that_has_lasted_starts_anew_unless_another_is_tried(taking_up: Any) -> None:
    for state in UpdateState:
        assert settled(taking_up(state, starts=2)).starts == (2 if state in RUNNING else 0)


@pytest.mark.parametrize("state", UpdateState)
def test_record_that_contradicts_itself_is_told(taking_up: Any, state: UpdateState) -> None:
    good = taking_up(state)
    assert flaw(good) is None
    other = taking_up(UpdateState.TRIAL if good.offer is None else UpdateState.IDLE).offer
    assert flaw(replace(good, offer=other)) is not None
    assert flaw(replace(good, previous=replace(ZERO, slot="a"))) is not None
    assert flaw(replace(good, active=None)) is not None


def test_record_outlasts_the_program_and_drops_what_it_does_not_know(taking_up: Any) -> None:
    record = taking_up(UpdateState.COMMITTING, turn=Turn(release="made/3", due_us=7), floor_us=9, recalled="1" * 16)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
    newer = msgspec.to_builtins(record) | {"novelty": {"a": [1]}}
    assert msgspec.json.decode(msgspec.json.encode(newer), type=Record) == record

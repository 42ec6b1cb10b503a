"""How a node takes releases up, waits, refuses and goes back, where nothing fails but the release."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from broker.contract.errors import BundleError, Refusal, TrustError
from broker.contract.release import start_delay_s
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateState

S = UpdateState
WAY = [S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING, S.IDLE]


def test_node_takes_a_release_up_and_says_so(world: Any, figures: TrialFigures) -> None:
    world.start()
    world.run()
    assert (world.report.state, world.report.release) == (S.IDLE, "factory/1")
    world.release("made/1")
    world.wait(60)
    assert world.states_of_reports() == [S.IDLE, *WAY]
    assert (world.model, world.report.release, world.report.reason) == ("made/1", "made/1", "")
    assert (world.report.trial, world.report.progress) == (figures, 1.0)
    assert next(each for each in world.shelf.reports if each.state is S.VERIFYING).progress == 0.0
    assert not list((world.path / "chunks").iterdir()), "what it needs no more is gone"


def test_node_says_how_far_it_is_and_not_more_than_once_a_second(world: Any) -> None:
    world.start()
    offer = world.release("made/1", size=20 * 65_536)
    world.until(S.DOWNLOADING)
    while world.state is S.DOWNLOADING:
        world.watch.go(0.4)
        world.until_quiet_once()
    said = [each for each in world.shelf.reports if each.state is S.DOWNLOADING]
    shares = [each.progress for each in said]
    assert shares == sorted(shares)
    assert 2 < len(set(shares)) < len(offer.release.chunks)
    times = [each.time_us for each in said[1:]]
    assert all(after - before >= 1_000_000 for before, after in itertools.pairwise(times))


def test_node_keeps_the_model_before_in_the_other_slot(updated: Any) -> None:
    assert updated.record.previous.release == "made/1"
    assert {updated.record.active.slot, updated.record.previous.slot} == {"a", "b"}
    updated.release("made/3")
    updated.wait(60)
    assert (updated.model, updated.record.previous.release) == ("made/3", "made/2")


def test_node_that_runs_what_is_named_does_nothing(updated: Any) -> None:
    before = updated.bench.counts.copy()
    updated.release("made/2", percent=50)
    updated.release("made/2", percent=100, phases=[50, 100])
    updated.wait(60)
    assert updated.states == []
    assert updated.bench.counts["prove"] == before["prove"]


def test_node_takes_up_what_its_settings_name_already_only_if_it_runs_another(world: Any) -> None:
    world.start()
    world.release("factory/1")
    world.wait(60)
    assert (world.states, world.model) == ([S.IDLE], "factory/1")


def test_node_waits_for_its_turn(world: Any) -> None:
    world.start()
    offer = world.release("made/1", spread_s=1_000)
    delay_s = start_delay_s(NodeId("home", "kitchen"), offer.rollout)
    assert 10 < delay_s < 990
    world.wait(delay_s - 5)
    assert (world.state, world.report.reason) == (S.IDLE, "begins within 1000 s")
    world.crash()
    world.start()
    world.run()
    assert world.state is S.IDLE
    world.wait(15)
    assert world.model == "made/1", "it counts from when it was read first, across a restart"
    assert {each.reason for each in world.shelf.reports if each.state is not S.IDLE} == {""}


def test_node_whose_turn_comes_after_the_abort_never_begins(world: Any) -> None:
    world.start()
    offer = world.release("made/1", spread_s=1_000)
    world.wait(5)
    world.name(offer, aborted=True, reason="too loud")
    world.wait(2_000)
    assert (world.states, world.report.reason) == ([S.IDLE], "aborted: too loud")


def test_node_whose_clock_was_set_back_waits_no_longer_than_the_spread_time(world: Any) -> None:
    world.start()
    world.release("factory/1")
    world.wait(3_500)
    offer = world.release("made/1", spread_s=1_000)
    delay_s = start_delay_s(NodeId("home", "kitchen"), offer.rollout)
    world.wait(5)
    world.watch.wall_us -= 3_000 * 1_000_000  # less than what the time floor notices
    world.wait(2 * delay_s + 30)
    assert world.model == "made/1"


def test_node_that_is_not_in_waits_and_says_why(world: Any) -> None:
    world.start()
    offer = world.release("made/1", percent=0)
    world.wait(60)
    assert (world.state, world.report.reason) == (S.IDLE, "not among the first 0 %")
    world.name(offer, percent=100, paused=True, reason="lunch")
    world.wait(60)
    assert (world.state, world.report.reason) == (S.IDLE, "paused: lunch")
    world.name(offer, percent=100)
    world.wait(60)
    assert world.model == "made/1"


@pytest.mark.parametrize("state", WAY[:-1])
@pytest.mark.parametrize("change", [{"paused": True}, {"percent": 0}])
def test_node_that_has_begun_goes_on_when_others_may_not_begin(world: Any, state: S, change: dict[str, Any]) -> None:
    world.start()
    offer = world.release("made/1")
    world.stay_in(state, offer)
    world.name(offer, **change)
    world.wait(20)
    assert world.state is state
    world.go_on()
    world.wait(120)
    assert (world.state, world.model) == (S.IDLE, "made/1")


def test_node_does_not_go_back_to_an_older_release_unless_it_is_ordered(updated: Any) -> None:
    old = updated.release("made/1")
    updated.wait(60)
    assert (updated.state, updated.model) == (S.REJECTED, "made/2")
    assert updated.report.release == "made/1"
    assert updated.report.reason == "made/1 is older than made/2, and no downgrade is ordered"
    updated.name(old, downgrade=True)
    updated.wait(60)
    assert (updated.state, updated.model) == (S.IDLE, "made/1")
    assert updated.record.previous is None, "no operator's order leads back to what nodes were ordered away from"


def test_node_that_refused_a_step_back_rests_once_its_own_release_is_named_again(updated: Any) -> None:
    updated.release("made/1")
    updated.wait(60)
    updated.release("made/2")
    updated.wait(60)
    assert (updated.state, updated.report.release, updated.report.reason) == (S.IDLE, "made/2", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"litert_at_least": "9.1"}, "compatibility: needs LiteRT 9.1, here is 2.3.0"),
        ({"contract": 7}, "made for contract 7, this program has 1"),
        ({"family": "mfcc telepathy"}, "telepathy"),
        ({"labels": ("happy", "sad")}, "labels happy, sad"),
    ],
)
def test_node_refuses_what_its_program_cannot_run_before_it_is_fetched(
    world: Any, change: dict[str, Any], words: str
) -> None:
    world.start()
    offer = world.release("made/1")
    world.name(replace(offer, release=replace(offer.release, **change)))
    world.wait(60)
    assert (world.state, world.model) == (S.REJECTED, "factory/1")
    assert words in world.report.reason
    assert S.DOWNLOADING not in world.states
    assert world.record.bad == (), "another program may run it"
    world.name(offer)
    world.wait(60)
    assert world.model == "made/1"


@pytest.mark.parametrize("state", [S.TRIAL, S.VERIFYING])
def test_node_does_not_try_a_bad_release_again(updated: Any, state: S, figures: TrialFigures) -> None:
    if state is S.TRIAL:
        updated.trial["made/3"] = "agrees with the old model on 20 % of the windows"
    else:
        updated.proof["made/3"] = BundleError("golden vectors: the model gives other answers")
    bad = updated.release("made/3")
    updated.wait(60)
    assert (updated.state, updated.model, updated.report.release) == (S.REJECTED, "made/2", "made/3")
    assert updated.report.reason.startswith(("agrees with", "golden vectors"))
    assert updated.report.trial == (figures if state is S.TRIAL else None)
    updated.trial.clear()
    updated.proof.clear()
    updated.states.clear()
    updated.name(bad, phases=[50, 100])
    updated.wait(60)
    updated.crash()
    updated.start()
    updated.wait(60)
    assert updated.states == []
    updated.release("made/4")
    updated.wait(60)
    assert updated.model == "made/4", "another one is welcome"
    updated.name(bad, downgrade=True)
    updated.wait(60)
    assert (updated.state, updated.model) == (S.REJECTED, "made/4"), "and the bad one is still known"


def test_node_takes_the_same_bytes_for_as_bad_under_another_name(updated: Any) -> None:
    updated.trial["made/3"] = "no"
    bad = updated.release("made/3")
    updated.wait(60)
    updated.name(replace(bad, release=replace(bad.release, model="made/4")), release="made/4")
    updated.wait(60)
    assert (updated.state, updated.report.release, updated.model) == (S.REJECTED, "made/4", "made/2")


def test_node_whose_new_model_cannot_be_loaded_goes_back_and_remembers_it(updated: Any) -> None:
    updated.cannot_run.add("made/3")
    updated.release("made/3")
    updated.wait(60)
    assert updated.states_of_reports() == [*WAY[:-1], S.ROLLING_BACK, S.REJECTED]
    assert (updated.model, updated.report.reason) == ("made/2", "LiteRT does not take it")
    assert [each.release for each in updated.record.bad] == ["made/3"]


@pytest.mark.parametrize("state", WAY[:-1])
def test_node_gives_a_release_up_when_it_is_aborted(updated: Any, state: S) -> None:
    offer = updated.release("made/3")
    updated.stay_in(state, offer)
    updated.name(offer, aborted=True, reason="stuck")
    updated.wait(30)
    assert (updated.state, updated.report.release, updated.model) == (S.IDLE, "made/2", "made/2"), (
        "it is not held against it"
    )
    assert updated.report.reason == "aborted: stuck"
    assert not updated.bench.asked or updated.bench.asked[0][0] == "last", "its work was cancelled"
    updated.go_on()
    updated.name(offer)
    updated.wait(120)
    assert (updated.state, updated.model) == (S.IDLE, "made/3"), "published again, it is taken up"


def test_node_that_is_aborted_while_the_new_model_is_on_its_way_runs_the_old_one(updated: Any) -> None:
    """The pipeline takes a model at its next block, and there may be none for a while."""
    offer = updated.release("made/3")
    updated.hold = {"activate"}
    updated.wait(30)
    assert (updated.state, updated.model) == (S.COMMITTING, "made/2")
    updated.name(offer, aborted=True)
    updated.wait(30)
    assert updated.state is S.ROLLING_BACK, "until it is certain what runs"
    updated.hold.clear()
    updated.wait(30)
    assert (updated.state, updated.model) == (S.IDLE, "made/2")


def test_node_that_has_finished_stays_when_the_rollout_is_aborted(updated: Any) -> None:
    offer = updated.release("made/3")
    updated.wait(60)
    updated.states.clear()
    updated.name(offer, aborted=True)
    updated.wait(60)
    assert (updated.states, updated.model) == ([], "made/3")


@pytest.mark.parametrize("state", WAY[:-1])
def test_node_takes_up_the_second_of_two_releases_in_quick_succession(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    updated.release("made/4")
    updated.wait(20)
    updated.go_on()
    updated.wait(120)
    assert (updated.state, updated.model) == (S.IDLE, "made/4")
    assert updated.record.previous.release == ("made/3" if state is S.COMMITTING else "made/2")
    assert not updated.record.bad


@pytest.mark.parametrize("kind", ["prove", "trial"])
def test_node_does_not_hear_late_answers_about_a_release_that_was_withdrawn(updated: Any, kind: str) -> None:
    first = updated.release("made/3")
    updated.hold = {kind}
    updated.wait(30)
    second = updated.release("made/4")
    updated.wait(30)
    assert updated.record.release == "made/4"
    state = updated.state
    updated.updater.proved(first.sha256, BundleError("late"))
    updated.updater.tried(first.sha256, None, "late")
    updated.updater.trying(first.sha256, None, 0.5)
    updated.updater.lasted(first.sha256)
    assert (updated.state, updated.record.offer.sha256) == (state, second.sha256)
    updated.hold.clear()
    updated.wait(60)
    assert updated.model == "made/4"


def test_node_does_not_hear_that_a_model_cannot_be_run_which_is_not_to_run(updated: Any) -> None:
    old = updated.record.active
    updated.release("made/3")
    updated.wait(60)
    updated.updater.unusable(old, "late")
    assert (updated.state, updated.record.active.release) == (S.IDLE, "made/3")


def test_node_does_not_hear_a_late_proof_of_the_same_release(updated: Any) -> None:
    """Withdrawn and published again: the gate before the proof must be passed again, too."""
    offer = updated.release("made/3")
    updated.hold = {"prove"}
    updated.wait(30)
    updated.name(offer, aborted=True)
    updated.wait(30)
    updated.name(offer)
    updated.until(S.VERIFYING)
    updated.updater.proved(offer.sha256, None)
    assert updated.state is S.VERIFYING
    assert S.TRIAL not in updated.states_of_reports()


@pytest.mark.parametrize("refusal", [Refusal.UNSIGNED_RELEASE, Refusal.UNKNOWN_CHANNEL])
@pytest.mark.parametrize("state", WAY[:-1])
def test_node_gives_up_what_the_signers_no_longer_vouch_for(updated: Any, state: S, refusal: Refusal) -> None:
    updated.stay_in(state, updated.release("made/3"))
    right, error = updated.look, TrustError(refusal, "made/3")

    def look() -> Any:
        raise error

    updated.look = look
    updated.shelf.publish("sottovoce/v1/release/metadata/9.targets.json", b"{}")
    updated.wait(60)
    assert (updated.state, updated.model) == (S.IDLE, "made/2")
    assert updated.report.reason == f"{refusal}: made/3"
    updated.wait(3_600)
    assert updated.model == "made/2", "and does not begin with it again"
    updated.look = right
    updated.go_on()
    updated.release("made/4")
    updated.wait(60)
    assert updated.model == "made/4"


def test_node_begins_nothing_on_metadata_that_are_refused_by_now(world: Any) -> None:
    world.start()
    world.release("made/1", spread_s=1_000)
    world.wait(5)
    error = TrustError(Refusal.EXPIRED, "timestamp.json")

    def look() -> Any:
        raise error

    world.look = look
    world.shelf.publish("sottovoce/v1/release/metadata/9.snapshot.json", b"{}")
    world.wait(2_000)
    assert (world.states, world.report.reason) == ([S.IDLE], "expired: timestamp.json")

"""A disk that is full, that fails, or that does not keep what it is given."""

import logging
from pathlib import Path
from typing import Any

import pytest

from broker.contract.updates import UpdateState
from edge_node.ota.folder import Folder

S = UpdateState
LONG_S = 4_000.0


def test_disk_full_from_any_moment_on_delays_an_update_and_no_more(
    updated: Any, tmp_path: Path, disk_full: Any
) -> None:
    number, steps = 0, 1_000
    while number < steps:
        world = updated.copy(tmp_path / f"{number}")
        world.start()
        world.release("made/3")
        for done in range(number):
            if (world.state, world.model) == (S.IDLE, "made/3"):
                steps = done
                break
            world.step()
        with disk_full():
            for _ in range(15):
                world.step()
            assert world.model in {"made/2", "made/3"}
        world.wait(LONG_S)
        assert (world.state, world.model, world.saved()) == (S.IDLE, "made/3", world.record), number
        number += 1
    assert number > 10


def test_disk_full_and_the_power_gone_at_any_moment_is_survived(updated: Any, tmp_path: Path, disk_full: Any) -> None:
    for number in range(0, 25, 2):
        world = updated.copy(tmp_path / f"{number}")
        world.start()
        world.release("made/3")
        for _ in range(number):
            world.step()
        with disk_full():
            for _ in range(3):
                world.crash()
                world.start()
                for _ in range(8):
                    world.step()
        world.wait(LONG_S)
        assert (world.state, world.model, world.saved()) == (S.IDLE, "made/3", world.record), number


def test_disk_full_is_reported_and_logged_once(updated: Any, disk_full: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    updated.wait(3_600)
    with disk_full():
        updated.release("made/3")
        updated.wait(3_600)
        assert "cannot be written (File too large); free some space" in updated.report.reason
        assert updated.state is S.IDLE
        lines = [each.getMessage() for each in caplog.records]
        assert len(lines) == len(set(lines)) <= 2
    updated.wait(LONG_S)
    assert (updated.model, updated.report.reason) == ("made/3", "")


def test_disk_that_has_no_room_for_a_chunk_is_tried_again(updated: Any, disk_full: Any) -> None:
    with disk_full(30_000):  # enough for records and metadata
        updated.release("made/3")
        updated.wait(600)
        assert updated.state is S.DOWNLOADING
        assert "File too large" in updated.report.reason
    updated.wait(LONG_S)
    assert updated.model == "made/3"


def test_disk_that_has_no_room_for_the_bundle_is_tried_again(updated: Any, disk_full: Any) -> None:
    with disk_full(66_000):  # a chunk fits, the bundle does not
        updated.release("made/3")
        updated.wait(600)
        assert updated.state is S.VERIFYING
        assert "File too large" in updated.report.reason
        assert updated.record.proofs == 0
    updated.wait(LONG_S)
    assert updated.model == "made/3"


def test_disk_that_refuses_the_slot_is_tried_again(updated: Any) -> None:
    (updated.path / "slot-a.bundle").unlink()
    (updated.path / "slot-a.bundle").mkdir()
    updated.release("made/3")
    updated.wait(600)
    assert (updated.state, updated.model) == (S.COMMITTING, "made/2")
    assert "Is a directory" in updated.report.reason
    (updated.path / "slot-a.bundle").rmdir()
    updated.wait(LONG_S)
    assert updated.model == "made/3"


def test_disk_that_could_not_take_metadata_has_them_sent_again(updated: Any, disk_full: Any) -> None:
    with disk_full():
        updated.release("made/3", size=100)
        updated.run()
        assert "cannot be written" in updated.report.reason
    updated.wait(120)
    assert updated.model == "made/3", "on the same connection"


@pytest.mark.parametrize("count", [1, 3])
def test_disk_that_spoils_a_chunk_has_it_fetched_again(updated: Any, count: int) -> None:
    offer = updated.release("made/3")
    for _ in range(count):
        updated.until(S.VERIFYING)
        path = updated.path / "chunks" / offer.release.chunks[0].sha256
        path.write_bytes(b"x" + path.read_bytes()[1:])
        updated.until(S.DOWNLOADING)
        assert updated.report.reason == "a chunk on the disk was spoiled"
    updated.wait(60)
    assert updated.model == "made/3"


@pytest.mark.parametrize("count", [1, 4])
def test_disk_that_spoils_the_bundle_is_not_written_for_ever(updated: Any, count: int) -> None:
    updated.release("made/3")
    updated.hold = {"prove"}
    for _ in range(count):
        updated.wait(20)
        (updated.path / "candidate.bundle").write_bytes(b"spoiled")
        trials = updated.bench.counts["trial"]
        updated.answer("prove")
        assert updated.bench.counts["trial"] == trials, "what is spoiled is not run"
    updated.hold.clear()
    updated.wait(60)
    if count == 1:
        assert updated.model == "made/3"
    else:
        assert (updated.state, updated.model) == (S.REJECTED, "made/2")
        assert updated.report.reason == "the bundle on the disk was spoiled, 4 times by now"


def test_disk_that_loses_the_bundle_before_it_is_installed_has_it_fetched_again(updated: Any) -> None:
    updated.stay_in(S.TRIAL, updated.release("made/3"))
    (updated.path / "candidate.bundle").unlink()
    updated.go_on()
    updated.wait(60)
    assert updated.model == "made/3"
    assert updated.states_of_reports().count(S.DOWNLOADING) == 2


def test_disk_that_takes_no_record_does_not_keep_a_node_on_a_model_that_fails(updated: Any, disk_full: Any) -> None:
    updated.stay_in(S.COMMITTING, updated.release("made/3"))
    with disk_full():
        updated.updater.unusable(updated.record.active, "it ended")
        updated.wait(60)
        assert (updated.state, updated.model) == (S.ROLLING_BACK, "made/2"), "at once"
        assert updated.saved().state is S.COMMITTING
    updated.wait(LONG_S)
    assert (updated.state, updated.model) == (S.REJECTED, "made/2")
    assert updated.saved() == updated.record
    assert [each.release for each in updated.record.bad] == ["made/3"]


def test_disk_that_cannot_count_starts_runs_no_new_model(updated: Any, disk_full: Any) -> None:
    updated.stay_in(S.COMMITTING, updated.release("made/3"))
    updated.crash()
    with disk_full():
        updated.start()
        updated.run()
        assert updated.model == "made/2"
        updated.crash()
    updated.hold.clear()
    updated.start()
    updated.wait(60)
    assert updated.model == "made/3", "nothing was held against it"


def test_disk_that_cannot_count_starts_begins_no_trial(updated: Any, disk_full: Any) -> None:
    updated.stay_in(S.TRIAL, updated.release("made/3"))
    updated.crash()
    with disk_full():
        updated.start()
        updated.wait(60)
        assert not updated.bench.asked
    updated.go_on()
    updated.wait(LONG_S)
    assert updated.model == "made/3"


def test_disk_that_lost_the_record_begins_anew_from_the_floor(updated: Any) -> None:
    updated.crash()
    (updated.path / "state.json").write_bytes(b"\0" * 400)
    updated.start()
    assert updated.model == "factory/1"
    updated.wait(60)
    assert (updated.state, updated.model) == (S.IDLE, "made/2")


@pytest.mark.parametrize(("state", "kind"), [(S.VERIFYING, "prove"), (S.TRIAL, "trial")])
def test_disk_full_when_a_gate_is_passed_does_not_try_it_again(
    updated: Any, disk_full: Any, state: S, kind: str
) -> None:
    """What came of it is remembered until it can be written."""
    offer = updated.release("made/3")
    updated.stay_in(state, offer)
    before = updated.bench.counts[kind]
    with disk_full():
        updated.answer(kind)
        updated.wait(600)
        assert updated.state is state
        assert "File too large" in updated.report.reason
    updated.name(offer, phases=[100])
    updated.wait(10)
    updated.go_on()
    updated.wait(LONG_S)
    assert (updated.model, updated.report.reason) == ("made/3", "")
    assert updated.bench.counts[kind] == before


def test_disk_full_when_a_model_has_lasted_is_written_later(updated: Any, disk_full: Any) -> None:
    """It is told once only, by whoever counts the windows."""
    updated.stay_in(S.COMMITTING, updated.release("made/3"))
    with disk_full():
        updated.answer("last")
        updated.wait(600)
        assert updated.state is S.COMMITTING
    updated.wait(LONG_S)
    assert (updated.state, updated.model) == (S.IDLE, "made/3")


def test_disk_full_with_a_step_owed_heeds_an_abort(updated: Any, disk_full: Any) -> None:
    offer = updated.release("made/3")
    updated.stay_in(S.TRIAL, offer)
    with disk_full(30_000):
        big = updated.path / "state.json"
        kept = big.read_bytes()
        big.unlink()
        big.mkdir()  # the record alone cannot be written
        updated.answer("trial")
        updated.name(offer, aborted=True)
        updated.wait(60)
        assert updated.state is S.TRIAL
        big.rmdir()
        big.write_bytes(kept)
    updated.go_on()
    updated.wait(LONG_S)
    assert (updated.state, updated.model) == (S.IDLE, "made/2")


def test_disk_full_at_the_end_of_the_program_is_no_reason_not_to_end(updated: Any, disk_full: Any) -> None:
    with disk_full():
        updated.stop()
    held = Folder(updated.path).load().active
    assert held is not None
    assert held.release == "made/2"

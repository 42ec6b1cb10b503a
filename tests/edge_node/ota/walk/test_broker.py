"""A broker that loses its memory, its connection or its mind: what it sends is checked, and its work is bounded."""

from typing import Any

import pytest
from msgspec.structs import replace

from broker.contract.errors import SettingsError, StoreError
from broker.contract.topics import CHUNK, METADATA
from broker.contract.updates import UpdateState

S = UpdateState
WORKING = [S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING]


@pytest.mark.parametrize("state", WORKING)
def test_broker_connection_that_is_lost_and_comes_back_in_any_state(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    updated.shelf.lose()
    updated.wait(120)
    updated.connect()
    updated.go_on()
    updated.wait(120)
    assert (updated.state, updated.model) == (S.IDLE, "made/3")


@pytest.mark.parametrize("state", [S.VERIFYING, S.TRIAL, S.COMMITTING])
def test_broker_that_is_gone_for_good_does_not_stop_what_needs_it_no_more(updated: Any, state: S) -> None:
    updated.stay_in(state, updated.release("made/3"))
    updated.shelf.lose()
    updated.hold.clear()
    updated.wait(120)
    assert (updated.state, updated.model) == (S.IDLE, "made/3")


def test_broker_that_lost_what_it_retained_stops_a_download_until_it_is_given_back(updated: Any) -> None:
    updated.release("made/3")
    updated.until(S.DOWNLOADING)
    kept = dict(updated.shelf.retained)
    updated.shelf.lose()
    updated.shelf.retained.clear()
    updated.connect()
    updated.wait(4_000)
    assert updated.state is S.DOWNLOADING
    assert "`sottovoce-release reseed` gives it to the broker" in updated.report.reason
    updated.shelf.hold_exactly(kept)
    updated.wait(10)
    assert (updated.state, updated.model) == (S.IDLE, "made/3"), "at once: nobody waits for the next try"


def test_broker_that_lost_what_it_retained_changes_nothing_for_a_node_at_rest(updated: Any) -> None:
    updated.shelf.lose()
    updated.shelf.retained.clear()
    updated.connect()
    updated.wait(100_000)
    assert (updated.states, updated.model) == ([], "made/2")
    assert updated.shelf.reports == []


@pytest.mark.parametrize("state", WORKING)
def test_broker_that_takes_metadata_back_closes_the_gate_and_no_more(updated: Any, state: S) -> None:
    offer = updated.release("made/3")
    updated.until(state)
    updated.hold = {"prove", "trial", "last"}
    updated.shelf.publish(METADATA.at("timestamp.json"), b"")
    updated.wait(60)
    assert updated.state in {state, S.VERIFYING, S.TRIAL, S.COMMITTING}
    updated.name(offer)
    updated.go_on()
    updated.wait(200)
    assert (updated.state, updated.model) == (S.IDLE, "made/3")


@pytest.mark.parametrize(
    "payload", [b"", b"short", bytes(65_536), bytes(65_537), bytes(1_000_000)], ids=lambda each: f"{len(each)} bytes"
)
def test_broker_that_alters_a_chunk_is_not_believed_and_not_asked_without_end(updated: Any, payload: bytes) -> None:
    offer = updated.release("made/3")
    right = updated.shelf.retained[updated.chunk_topic(offer, 0)]
    updated.shelf.retained[updated.chunk_topic(offer, 0)] = payload
    ticks = updated.ticks
    updated.wait(3_600)
    assert updated.state is S.DOWNLOADING
    assert f"is not what was signed ({len(payload):,} bytes)" in updated.report.reason
    assert not list((updated.path / "chunks").iterdir())
    assert len(updated.shelf.reports) < 5
    assert updated.ticks - ticks < 20, "an hour"
    other = updated.shelf.retained.pop(updated.chunk_topic(offer, 1))
    updated.shelf.publish(updated.chunk_topic(offer, 0), right)
    while not list((updated.path / "chunks").iterdir()):
        updated.step()
    assert updated.report.reason == "", "it does go on"
    updated.shelf.publish(updated.chunk_topic(offer, 1), other)
    updated.wait(10)
    assert updated.model == "made/3"


def test_broker_that_sends_chunks_that_nobody_asked_for_is_not_heard(updated: Any) -> None:
    offer = updated.release("made/3", size=200_000)
    chunks = {
        chunk.sha256: updated.shelf.retained[updated.chunk_topic(offer, number)]
        for number, chunk in enumerate(offer.release.chunks)
    }
    for digest, payload in chunks.items():
        updated.updater.chunk(digest, payload)
    updated.until(S.DOWNLOADING)
    for digest, payload in reversed(chunks.items()):  # out of order, twice, and one that no release has
        updated.updater.chunk("f" * 64, payload)
        updated.updater.chunk(digest, payload)
        updated.updater.chunk(digest, payload)
    assert len(list((updated.path / "chunks").iterdir())) <= 1
    updated.wait(10)
    assert updated.model == "made/3"
    updated.updater.chunk(offer.release.chunks[0].sha256, b"late")
    assert not list((updated.path / "chunks").iterdir())


def test_broker_is_asked_for_one_chunk_at_a_time_and_no_longer_than_needed(updated: Any) -> None:
    updated.release("made/3", size=300_000)
    most = 0
    while updated.model != "made/3":
        updated.step()
        most = max(most, sum("/chunk/" in each for each in updated.shelf.filters))
    assert most == 1
    assert updated.shelf.filters == [METADATA.every]


def test_broker_that_has_no_chunk_is_asked_less_and_less_often(updated: Any) -> None:
    offer = updated.release("made/3")
    updated.stay_in(S.DOWNLOADING, offer)
    before = updated.ticks
    updated.wait(86_400)
    assert updated.ticks - before < 250, "a day"
    updated.shelf.retained |= updated.missing  # it has it now, and says nothing
    updated.wait(1_000)
    assert updated.model == "made/3"


def test_release_whose_signed_sizes_are_wrong_is_not_fetched_without_end(updated: Any) -> None:
    offer = updated.release("made/3", size=70_000)
    first, second = offer.release.chunks
    wrong = (replace(first, bytes=first.bytes - 1), replace(second, bytes=second.bytes + 1))
    updated.name(replace(offer, release=replace(offer.release, chunks=wrong)))
    before = updated.ticks
    updated.wait(3_600)
    assert (updated.state, updated.model) == (S.DOWNLOADING, "made/2")
    assert updated.ticks - before < 20


def test_broker_that_changes_metadata_without_end_is_looked_at_every_two_seconds(updated: Any) -> None:
    before = updated.bench.counts["verify"]
    for number in range(1_000):
        updated.updater.metadata("timestamp.json", b"%d" % number)
        updated.wait(0.1)
    looks = updated.bench.counts["verify"] - before
    assert 40 <= looks <= 51, "neither without end nor never"
    assert (updated.state, updated.model) == (S.IDLE, "made/2")


def test_broker_that_changes_metadata_while_they_are_looked_at_has_them_looked_at_again(updated: Any) -> None:
    updated.hold = {"verify"}
    updated.name(updated.release("made/3"), paused=True)
    updated.wait(30)
    before = updated.bench.counts["verify"]
    offer = updated.release("made/3")
    updated.wait(30)
    assert updated.bench.counts["verify"] == before, "one look at a time"
    updated.name(offer)
    updated.hold.clear()
    updated.wait(30)
    assert updated.model == "made/3"


def test_broker_that_holds_back_what_is_newer_is_noticed_without_any_news(updated: Any) -> None:
    before = updated.bench.counts["verify"]
    updated.wait(86_400)
    assert updated.bench.counts["verify"] - before == 4, "a day"


@pytest.mark.parametrize(
    "name", ["../state.json", "state.json", "timestamp.json\n", "0.root.json", "a/1.root.json", ""]
)
def test_broker_cannot_choose_the_names_of_files(updated: Any, name: str) -> None:
    before = {path: path.read_bytes() for path in updated.path.rglob("*") if path.is_file()}
    updated.updater.metadata(name, b"evil")
    updated.wait(10)
    assert {path: path.read_bytes() for path in updated.path.rglob("*") if path.is_file()} == before


def test_broker_that_sends_endless_metadata_fills_no_disk(updated: Any) -> None:
    updated.updater.metadata("9.snapshot.json", bytes(1_000_000))
    assert (updated.path / "metadata" / "9.snapshot.json").stat().st_size == 65_537, "enough to be refused for it"
    for number in range(1, 600):
        updated.updater.metadata(f"{number}.targets.json", b"junk")
    assert len(list((updated.path / "metadata").iterdir())) == 512
    updated.release("made/3")
    updated.connect()
    updated.wait(60)
    assert updated.model == "made/3", "and does not stop what is right once it comes again"


@pytest.mark.parametrize("error", [StoreError("no room"), SettingsError("no anchor")])
@pytest.mark.parametrize("state", [S.IDLE, S.VERIFYING])
def test_look_that_could_not_be_made_is_tried_again(updated: Any, error: Exception, state: S) -> None:
    right = updated.look

    def look() -> Any:
        raise error

    offer = updated.release("made/3")
    if state is S.VERIFYING:
        updated.until(S.VERIFYING)
    updated.look = look
    updated.wait(1_800)
    assert (updated.state, updated.model, updated.report.reason) == (state, "made/2", str(error))
    updated.look = right
    updated.wait(1_800)
    assert updated.model == offer.rollout.release


@pytest.mark.parametrize("error", [StoreError("no process"), SettingsError("no package")])
def test_proof_that_could_not_be_made_says_nothing_about_the_release(updated: Any, error: Any) -> None:
    updated.proof["made/3"] = error
    updated.release("made/3")
    updated.wait(3_600)
    assert (updated.state, updated.model, updated.report.reason) == (S.VERIFYING, "made/2", str(error))
    assert (updated.record.bad, updated.record.proofs) == ((), 0)
    updated.proof.clear()
    updated.wait(1_000)
    assert updated.model == "made/3"


def test_release_of_equal_chunks_is_fetched_once(updated: Any) -> None:
    offer = updated.release_of(bytes(3 * 65_536), "made/3")
    assert len({chunk.sha256 for chunk in offer.release.chunks}) == 1
    updated.wait(60)
    assert updated.model == "made/3"
    assert CHUNK.at(offer.release.chunks[0].sha256) not in updated.shelf.filters

"""Files in memory and files in a folder are held to the same behaviour."""

import hashlib
import random
from pathlib import Path

import pytest

from broker.contract.errors import BundleError
from broker.contract.offer import Offer
from broker.contract.release import Chunk, Release, Rollout, cut
from broker.contract.updates import UpdateState
from edge_node.ota.folder import Folder
from edge_node.ota.record import Held, Record
from edge_node.simulate.memory import Memory, Shared

Files = Folder | Memory

DATA = random.Random(1).randbytes(150_000)
PARTS = cut(DATA)


def _offer() -> Offer:
    chunks = tuple(Chunk(sha256=hashlib.sha256(part).hexdigest(), bytes=len(part)) for part in PARTS)
    release = Release(
        model="made/1", contract=1, family="mfcc", labels=("neutral",), litert_at_least="2.0", chunks=chunks
    )
    rollout = Rollout(channel="stable", release="made/1", percent=100)
    return Offer(rollout=rollout, release=release, bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())


OFFER = _offer()
HELD = Held(slot="a", release="made/1", sha256=OFFER.sha256)


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Folder(tmp_path) if request.param == "folder" else Memory(Shared())


def _fetch(files: Files) -> None:
    for chunk, part in zip(OFFER.release.chunks, PARTS, strict=True):
        files.put_chunk(chunk, part)


def test_files_return_the_record_that_was_saved_last(files: Files) -> None:
    assert files.load() == Record()
    files.save(Record(state=UpdateState.DOWNLOADING, release="made/1", offer=OFFER))
    last = Record(state=UpdateState.REJECTED, release="made/1", reason="bad", active=HELD)
    files.save(last)
    assert files.load() == last


def test_files_tell_metadata_that_are_new_from_those_that_are_known(files: Files) -> None:
    assert files.put_metadata("timestamp.json", b"one")
    assert not files.put_metadata("timestamp.json", b"one")
    assert files.put_metadata("timestamp.json", b"two")
    assert files.put_metadata("timestamp.json", b"")
    assert not files.put_metadata("timestamp.json", b"")
    assert files.put_metadata("timestamp.json", b"two")


def test_files_give_the_oldest_metadata_away_when_they_are_too_many(files: Files) -> None:
    for number in range(512):
        assert files.put_metadata(f"{number}.root.json", b"x")
    assert files.put_metadata("0.root.json", b"y")
    assert files.put_metadata("timestamp.json", b"z")
    names = ("0.root.json", "1.root.json", "2.root.json", "timestamp.json")
    kept = files.metadata if isinstance(files, Memory) else {path.name for path in files.metadata.iterdir()}
    assert [name in kept for name in names] == [True, False, True, True]


def test_files_put_a_release_together_from_its_chunks(files: Files) -> None:
    assert not any(files.has_chunk(chunk) for chunk in OFFER.release.chunks)
    assert not files.assemble(OFFER)
    _fetch(files)
    assert all(files.has_chunk(chunk) for chunk in OFFER.release.chunks)
    assert not files.is_assembled(OFFER)
    assert files.assemble(OFFER)
    assert files.is_assembled(OFFER)


def test_files_fetch_a_spoiled_chunk_again(files: Files) -> None:
    _fetch(files)
    spoiled = OFFER.release.chunks[1]
    files.put_chunk(spoiled, b"?" * spoiled.bytes)
    assert not files.assemble(OFFER)
    assert [files.has_chunk(chunk) for chunk in OFFER.release.chunks] == [True, False, True]


def test_files_install_a_release_once_and_again_without_harm(files: Files) -> None:
    assert not files.install(OFFER, "a")
    _fetch(files)
    assert files.assemble(OFFER)
    assert files.install(OFFER, "a")
    assert files.install(OFFER, "a")
    assert files.read(HELD) == DATA
    assert not files.is_assembled(OFFER)


def test_files_refuse_a_slot_that_holds_something_else(files: Files) -> None:
    _fetch(files)
    assert files.assemble(OFFER)
    assert files.install(OFFER, "a")
    for wrong in (
        Held(slot="b", release="made/1", sha256=OFFER.sha256),
        Held(slot="a", release="x/1", sha256="0" * 64),
    ):
        with pytest.raises(BundleError, match=wrong.release):
            files.read(wrong)


def test_files_clear_keeps_what_the_record_needs(files: Files) -> None:
    _fetch(files)
    assert files.assemble(OFFER)
    files.clear(Record(state=UpdateState.VERIFYING, offer=OFFER))
    assert files.is_assembled(OFFER)
    assert files.install(OFFER, "a")
    files.clear(Record(active=HELD))
    assert files.read(HELD) == DATA
    assert not any(files.has_chunk(chunk) for chunk in OFFER.release.chunks)
    files.clear(Record())
    with pytest.raises(BundleError):
        files.read(HELD)


def test_memory_of_many_nodes_holds_a_content_once() -> None:
    shared = Shared()
    nodes = [Memory(shared) for _ in range(3)]
    for node in nodes:
        for chunk, part in zip(OFFER.release.chunks, PARTS, strict=True):
            node.put_chunk(chunk, bytes(part))
        assert node.assemble(OFFER)
    assert len({id(node.candidate) for node in nodes}) == 1


def test_memory_remembers_which_releases_were_tried_and_left() -> None:
    memory = Memory(Shared())
    memory.save(Record(state=UpdateState.VERIFYING, release="made/1", offer=OFFER))
    assert memory.tried == set()
    memory.save(Record(state=UpdateState.TRIAL, release="made/1", offer=OFFER))
    memory.save(Record(state=UpdateState.ROLLING_BACK, release="made/1"))
    memory.save(Record(state=UpdateState.REJECTED, release="made/1"))
    assert memory.tried == memory.gone_back == {"made/1"}

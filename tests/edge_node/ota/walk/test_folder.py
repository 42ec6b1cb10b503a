"""What a node keeps on its disk, and what it makes of a disk that fails, is full, or was written by somebody else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.contract.errors import BundleError, StoreError
from broker.contract.updates import UpdateState
from edge_node.ota.folder import Folder
from edge_node.ota.record import Held, Record

RECORD = Record(active=Held(slot="a", release="made/1", sha256="1" * 64), floor_us=7, reason="x" * 150)
FIRST = "1.root.json"


@pytest.fixture
def files(world: Any) -> Folder:
    return Folder(world.path)


@pytest.fixture
def fetched(world: Any, files: Folder) -> Any:
    """A release whose chunks are all here."""
    offer = world.release("made/1")
    for number, chunk in enumerate(offer.release.chunks):
        files.put_chunk(chunk, world.shelf.retained[world.chunk_topic(offer, number)])
    return offer


def _inconsistent(data: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(data) | {"state": "trial"})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: bytes(500),
        lambda _: b"\xff\xfe garbage",
        lambda data: data.replace(b'"schema": 1', b'"schema": 2'),
        lambda data: data.replace(b'"idle"', b'"asleep"'),
        lambda data: data.replace(b'"made/1"', b'"' + b"m" * 100 + b'"'),
        lambda data: data.replace(b'"floor_us": 7', b'"floor_us": -7'),
        lambda data: b" " * 2_000_000 + data,
        lambda _: b"[" * 100_000,
        _inconsistent,
    ],
    ids=["cut", "empty", "zeros", "binary", "newer", "state", "long", "negative", "huge", "deep", "inconsistent"],
)
def test_folder_record_that_cannot_be_understood_is_put_aside(
    files: Folder, world: Any, spoil: Callable[[bytes], bytes]
) -> None:
    files.save(RECORD)
    path = world.path / "state.json"
    spoiled = spoil(path.read_bytes())
    assert spoiled != path.read_bytes()
    path.write_bytes(spoiled)
    assert files.load() == Record()
    assert (world.path / "state.corrupt").read_bytes() == spoiled
    files.save(RECORD)
    assert files.load() == RECORD


def test_folder_record_that_cannot_be_read_is_one_line_that_says_what_to_do(files: Folder, world: Any) -> None:
    (world.path / "state.json").mkdir()
    with pytest.raises(StoreError, match=r"state\.json: cannot be read \(Is a directory\); let this user read it"):
        files.load()


def test_folder_in_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Folder(tmp_path / "file" / "update")


def test_folder_save_on_a_full_disk_leaves_the_record_before(files: Folder, world: Any, disk_full: Any) -> None:
    files.save(RECORD)
    for size in (0, 100):
        with disk_full(size), pytest.raises(StoreError, match="free some space"):
            files.save(Record(state=UpdateState.REJECTED, release="made/2"))
    assert files.load() == RECORD
    assert sorted(each.name for each in world.path.iterdir()) == ["chunks", "metadata", "state.json"]


def test_folder_metadata_that_is_the_same_is_no_news(files: Folder) -> None:
    assert files.put_metadata(FIRST, b"one")
    assert not files.put_metadata(FIRST, b"one")
    assert files.put_metadata(FIRST, b"other")
    assert files.put_metadata(FIRST, b"")
    assert not files.put_metadata(FIRST, b""), "it is gone already"
    assert not (files.metadata / FIRST).exists()


def test_folder_too_many_metadata_drive_the_oldest_out_and_never_each_other_for_ever(files: Folder) -> None:
    for number in range(1, 513):
        files.put_metadata(f"{number}.snapshot.json", b"junk")
        os.utime(files.metadata / f"{number}.snapshot.json", ns=(number, number))
    assert files.put_metadata(FIRST, b"good")
    assert (files.metadata / FIRST).read_bytes() == b"good"
    assert len(list(files.metadata.iterdir())) == 512
    assert not (files.metadata / "1.snapshot.json").exists()
    assert files.put_metadata("2.snapshot.json", b"changed"), "what is here already takes no other's place"
    assert len(list(files.metadata.iterdir())) == 512


@pytest.mark.parametrize("spoil", [lambda data: b"x" + data[1:], lambda data: data[:-1], None])
def test_folder_chunk_that_was_spoiled_is_fetched_again(
    files: Folder, fetched: Any, spoil: Callable[[bytes], bytes] | None
) -> None:
    chunk = fetched.release.chunks[1]
    path = files.candidate.parent / "chunks" / chunk.sha256
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    assert not files.assemble(fetched)
    assert not files.has_chunk(chunk)
    assert files.has_chunk(fetched.release.chunks[0])
    assert not files.candidate.exists()


@pytest.mark.parametrize("size", [0, 66_000])
def test_folder_full_disk_leaves_no_half_of_a_chunk_or_bundle(
    files: Folder, fetched: Any, disk_full: Any, size: int
) -> None:
    with disk_full(size), pytest.raises(StoreError, match="File too large"):
        files.assemble(fetched)
    assert not files.candidate.exists()
    assert not list(files.candidate.parent.glob(".*"))
    chunk = fetched.release.chunks[0]
    with disk_full(100), pytest.raises(StoreError):
        files.put_chunk(chunk, bytes(chunk.bytes))
    assert files.assemble(fetched), "what was there still is"


def test_folder_install_may_be_done_twice_and_needs_what_was_signed(files: Folder, fetched: Any) -> None:
    assert not files.install(fetched, "a"), "nothing was put together"
    assert files.assemble(fetched)
    assert files.is_assembled(fetched)
    assert files.install(fetched, "a")
    assert not files.candidate.exists()
    assert files.install(fetched, "a"), "after a crash between this and the record"
    held = Held(slot="a", release="made/1", sha256=fetched.sha256)
    assert len(files.read(held)) == fetched.bytes
    assert files.assemble(fetched)
    files.candidate.write_bytes(b"x" + files.candidate.read_bytes()[1:])
    assert not files.is_assembled(fetched)
    assert not files.install(fetched, "b")


def test_folder_slot_that_is_not_what_was_installed_is_not_read(files: Folder, world: Any) -> None:
    held = Held(slot="b", release="made/1", sha256="1" * 64)
    with pytest.raises(BundleError, match=r"slot-b\.bundle: No such file or directory; made/1 is given up"):
        files.read(held)
    (world.path / "slot-b.bundle").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"slot-b\.bundle: is no longer made/1"):
        files.read(held)


def test_folder_clear_takes_what_no_record_names(files: Folder, fetched: Any, world: Any) -> None:
    assert files.assemble(fetched)
    for name in ("slot-a.bundle", "slot-b.bundle", ".state.json.1-2.part", "chunks/.x.3-4.part", "metadata/.y.5.part"):
        (world.path / name).write_bytes(b"something")
    files.clear(Record(state=UpdateState.TRIAL, offer=fetched))
    assert files.is_assembled(fetched)
    assert files.has_chunk(fetched.release.chunks[0])
    assert not list(world.path.rglob("*.part"))
    files.clear(RECORD)
    assert (world.path / "slot-a.bundle").exists()
    assert not (world.path / "slot-b.bundle").exists()
    assert not files.candidate.exists()
    assert not any(map(files.has_chunk, fetched.release.chunks))

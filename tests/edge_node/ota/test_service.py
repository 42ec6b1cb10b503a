"""What a node's updates make of settings, disks and messages that mean them harm."""

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.connection import Arrived, Lost, Opened
from broker.contract.errors import SettingsError
from broker.contract.topics import LARGEST_RETAINED_BYTES, METADATA, ROLLBACK, NodeId
from edge_node.clock import WallClock
from edge_node.exclusive import hold
from edge_node.ota.service import Updates
from edge_node.ota.updater import Me
from edge_node.settings import UpdateSettings
from edge_node.sparing import Sparing

NODE = NodeId("home", "kitchen")
CLOCK = WallClock(trusted=True)
ME = Me(node=NODE, boot_id="0123456789abcdef", floor="emotion/1", litert="2", channel="stable")


class Line:
    """The node's end of a connection: keeps what is acknowledged on it."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, packet_id: int) -> None:
        self.acknowledged.append(packet_id)


@pytest.fixture
def settings(tmp_path: Path) -> UpdateSettings:
    anchor = tmp_path / "1.root.json"
    anchor.write_bytes(b"{}")
    return UpdateSettings(anchor=str(anchor), folder=str(tmp_path / "update"))


@pytest.fixture
def updates(settings: UpdateSettings) -> Any:
    made = Updates(settings, ME, CLOCK)
    yield made
    made.stop()


def _arrived(line: Any, packet_id: int, topic: str, payload: bytes = b"{}") -> Arrived:
    return Arrived(line, topic, payload, packet_id)


def _work_off(updates: Updates) -> None:
    """Do what the updates' own thread would."""
    while not updates._inbox.empty():
        told = updates._inbox.get()
        assert told is not None
        told(updates._updater)


@pytest.mark.parametrize("key", ["anchor", "folder"])
def test_path_with_a_nul_byte_is_a_mistake_in_the_settings(settings: UpdateSettings, key: str) -> None:
    there = msgspec.structs.replace(settings, **{key: "some\0where"})
    with pytest.raises(SettingsError, match=rf"^update\.{key} 'some\\x00where': .*NUL"):
        Updates(there, ME, CLOCK)


def test_folder_of_another_node_is_refused(settings: UpdateSettings, updates: Updates) -> None:
    assert updates is not None
    with pytest.raises(SettingsError, match="another node uses it"):
        Updates(settings, ME, CLOCK)


@pytest.mark.parametrize("there", [True, False])
def test_folder_on_a_disk_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read_only: Callable[[Path], None], *, there: bool
) -> None:
    folder = tmp_path / "update"
    for name in ("metadata", "chunks"):
        (folder / name).mkdir(parents=True)
    if there:
        (folder / ".lock").touch()
    (tmp_path / "1.root.json").write_bytes(b"{}")
    read_only(folder)
    settings = UpdateSettings(anchor=str(tmp_path / "1.root.json"), folder=str(folder))
    updates = Updates(settings, ME, CLOCK)
    assert ("cannot be held" in caplog.text) is not there
    if there:
        with pytest.raises(SettingsError, match="another node uses it"):
            hold(folder / ".lock", "update.folder")
    assert updates.choose(lambda _data, _release: None) is None
    updates.start(lambda _row, _message: None)
    updates.heard(None, [])  # type: ignore[arg-type]  # no trial looks at the block
    updates.stop()
    assert updates._defect is None


@pytest.fixture
def read_only(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Make a folder one that nothing can be written to."""

    def make(folder: Path) -> None:
        if os.geteuid():
            folder.chmod(0o500)
            request.addfinalizer(lambda: folder.chmod(0o700))
            return
        if subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True, check=False).returncode:
            pytest.skip("root writes everywhere, and may mount nothing here")
        request.addfinalizer(lambda: subprocess.run(["umount", folder], check=True))

    return make


def test_arrival_is_acknowledged_when_it_was_worked_on(updates: Updates) -> None:
    line: Any = Line()
    updates.hear(_arrived(line, 1, METADATA.at("1.root.json")))
    assert line.acknowledged == []
    _work_off(updates)
    assert line.acknowledged == [1]


def test_arrivals_beyond_every_receive_maximum_neither_wait_nor_are_acknowledged(updates: Updates) -> None:
    line: Any = Line()
    for number in range(1, 1_001):
        updates.hear(_arrived(line, number, METADATA.at(f"{number}.root.json")))
    assert updates._inbox.qsize() == 256
    _work_off(updates)
    assert line.acknowledged == list(range(1, 257))
    updates.hear(_arrived(line, 1_001, METADATA.at("timestamp.json")))
    _work_off(updates)
    assert line.acknowledged[-1] == 1_001


def test_arrivals_of_a_lost_connection_make_room_for_those_that_come_again(updates: Updates) -> None:
    """A disk that stands still while the connection comes and goes: each time the broker sends the same again."""
    before: Any = Line()
    for number in range(1, 257):
        updates.hear(_arrived(before, number, METADATA.at("timestamp.json")))
    updates.hear(Lost(before))
    after: Any = Line()
    updates.hear(Opened(after))
    updates.hear(_arrived(after, 1, METADATA.at("timestamp.json")))
    _work_off(updates)
    assert (before.acknowledged, after.acknowledged) == ([], [1])


def test_rubbish_in_any_number_is_one_line(updates: Updates, caplog: pytest.LogCaptureFixture) -> None:
    line: Any = Line()
    for number in range(1, 101):
        updates.hear(_arrived(line, number, ROLLBACK.at(NODE), b"no command"))
    with caplog.at_level(logging.WARNING):
        _work_off(updates)
    assert len(caplog.records) == 1


def test_metadata_that_are_too_large_come_to_where_their_refusal_has_a_name(updates: Updates, tmp_path: Path) -> None:
    """As much of them is kept as it takes to be refused as endless data, and no more."""
    line: Any = Line()
    updates.hear(_arrived(line, 1, METADATA.at("timestamp.json"), bytes(2 * LARGEST_RETAINED_BYTES)))
    _work_off(updates)
    (kept,) = tmp_path.rglob("timestamp.json")
    assert kept.stat().st_size == LARGEST_RETAINED_BYTES + 1


def test_words_kept_back_are_counted_in_the_line_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    sparing = Sparing(lambda: now_s)
    for now_s in (0.0, 1.0, 59.9, 60.0, 61.0):
        sparing.warn("command", f"at {now_s:g} s")
    sparing.warn("too large", "another kind")
    assert [record.message for record in caplog.records] == [
        "at 0 s",
        "at 60 s (2 more of this kind since the last line)",
        "another kind",
    ]

"""What a node remembers, and what it makes of a file that says something else."""

import json
import logging
import os
import threading
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from broker.contract.condition import Thresholds
from broker.contract.errors import SettingsError, StoreError
from edge_node.control.state import State, StateFile

GROUND = Thresholds(uncertain_below=0.5, speech_above=0.6)
Open = Callable[[], StateFile]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk" / "state.json"


@pytest.fixture
def opened(path: Path, request: pytest.FixtureRequest) -> Open:
    """Open the file as a starting node does; it is closed when the test is over."""

    def start() -> StateFile:
        file = StateFile(path)
        request.addfinalizer(file.close)
        return file

    return start


def _mute(state: State) -> State:
    return replace(state, muted=True)


def test_state_of_the_first_start_is_not_muted_and_writes_nothing(path: Path, opened: Open) -> None:
    file = opened()
    assert (file.state, file.is_known) == (State(form=1, muted=False), True)
    assert not path.exists()


def test_state_outlasts_the_program(opened: Open) -> None:
    file = opened()
    file.change(lambda state: replace(state, muted=True, speech_above=0.7).after("0" * 16), decides=True)
    file.close()
    assert opened().state == State(form=1, muted=True, speech_above=0.7, orders=("0" * 16,))


def test_state_is_on_the_disk_when_a_change_returns(path: Path, opened: Open) -> None:
    opened().change(_mute, decides=True)
    assert json.loads(path.read_bytes())["muted"] is True
    assert {each.name for each in path.parent.iterdir()} == {"state.json", ".state.json.lock"}, (
        "and nothing half-written"
    )


def test_state_is_brought_to_the_disk_before_a_change_returns(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test can cut the power: what the kernel is asked for is looked at instead, the file and the folder's names."""
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_dev, found.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    opened().change(_mute, decides=True)
    assert synced == [(each.stat().st_dev, each.stat().st_ino) for each in (path, path.parent)]


def test_state_remembers_the_last_orders_alone(opened: Open) -> None:
    file = opened()
    for number in range(100):
        file.change(methodcaller("after", f"{number:016x}"))
    file.close()
    assert opened().state.orders == tuple(f"{number:016x}" for number in range(68, 100))


def test_state_field_of_a_later_version_is_ignored(path: Path, opened: Open) -> None:
    path.write_text('{"form": 1, "muted": true, "colour": "red"}')
    assert opened().state.muted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"{}",
        b'{"muted": false}',
        b'{"form": 1}',
        b'{"form": 2, "muted": false}',
        b'{"form": 1, "muted": 0}',
        b'{"form": 1, "muted": false, "uncertain_below": 7}',
        b'{"form": 1, "muted": false, "speech_above": NaN}',
        b'{"form": 1, "muted": false, "orders": ["\xff"]}',
        b'{"form": 1, "muted": false}' + b" " * 70_000,
        b"[" * 60_000,
        bytes(4096),
    ],
)
def test_state_that_cannot_be_read_is_one_error_and_leaves_the_file(
    path: Path, opened: Open, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path.write_bytes(content)
    file = opened()
    assert not file.is_known
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"state_file {path}: " in record.message
    assert "sottovoce-console mute SITE/NODE [--off]" in record.message
    file.close()
    assert path.read_bytes() == content


def test_state_that_cannot_be_read_is_written_anew_by_what_decides_alone(path: Path, opened: Open) -> None:
    path.write_bytes(b"damaged")
    file = opened()
    with pytest.raises(StoreError, match="cannot be read; mute the node or let it listen, which writes it anew"):
        file.change(lambda state: replace(state, speech_above=0.7))
    assert (file.is_known, file.state.speech_above, path.read_bytes()) == (False, 0.7, b"damaged")
    file.change(lambda state: replace(state, muted=False), decides=True)
    assert file.is_known
    file.close()
    assert opened().state == State(form=1, muted=False, speech_above=0.7)


def test_state_file_that_is_a_folder_stops_nothing(path: Path, opened: Open) -> None:
    path.mkdir()
    file = opened()
    assert not file.is_known
    with pytest.raises(StoreError, match="free the disk"):
        file.change(_mute, decides=True)
    assert file.state.muted
    assert file.is_known


def test_state_that_the_disk_does_not_take_holds_until_the_end_and_is_tried_again_then(
    path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    file = opened()
    away = path.parent.rename(path.parent.with_name("away"))
    with pytest.raises(StoreError, match=r"No such file or directory; free the disk"):
        file.change(_mute, decides=True)
    assert file.state.muted
    away.rename(path.parent)
    file.close()
    assert caplog.text == ""
    assert opened().state.muted


def test_state_that_is_lost_in_the_end_is_said(path: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    file = opened()
    path.parent.rename(path.parent.with_name("away"))
    with pytest.raises(StoreError):
        file.change(_mute, decides=True)
    file.close()
    assert "what was ordered since the start is lost" in caplog.text


def test_state_file_of_a_running_node_is_refused(path: Path, opened: Open) -> None:
    file = opened()
    with pytest.raises(SettingsError, match=f"^state_file {path}: another node uses it"):
        StateFile(path)
    file.change(_mute, decides=True)  # another file takes the place of the first: the lock is not on either
    with pytest.raises(SettingsError):
        StateFile(path)
    file.close()
    assert opened().state.muted


@pytest.mark.parametrize("name", ["missing/state.json", "a\0b/state.json"])
def test_state_file_in_no_folder_is_a_mistake_in_the_settings(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="there is no such folder"):
        StateFile(tmp_path / name)


def test_thresholds_are_the_commanded_or_the_ground(opened: Open) -> None:
    state = opened().state
    assert state.thresholds(GROUND) == GROUND
    assert replace(state, speech_above=0.9).thresholds(GROUND) == replace(GROUND, speech_above=0.9)
    assert replace(state, uncertain_below=0.4).thresholds(GROUND) == replace(GROUND, uncertain_below=0.4)


def test_state_is_small(opened: Open, path: Path) -> None:
    file = opened()
    for number in range(40):
        file.change(methodcaller("after", f"{number:016x}"))
    assert os.path.getsize(path) < 1_000  # noqa: PTH202 -- as a person would look
    assert len(msgspec.json.encode(file.state)) < 1_000


def test_state_is_written_later_by_the_running_node_once_the_disk_takes_it(path: Path) -> None:
    now_s = 0.0
    file = StateFile(path, lambda: now_s)
    away = path.parent.rename(path.parent.with_name("away"))
    with pytest.raises(StoreError):
        file.change(_mute, decides=True)
    now_s = 60.0
    file.keep()  # which fails, and is no error
    away.rename(path.parent)
    now_s = 119.0
    file.keep()
    assert not path.exists(), "once a minute is enough"
    now_s = 120.0
    file.keep()
    assert json.loads(path.read_bytes())["muted"] is True
    path.unlink()
    now_s = 1_000.0
    file.keep()
    assert not path.exists(), "what is kept is not written again"
    file.close()


def test_state_link_in_place_of_its_part_is_not_followed(path: Path, opened: Open, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("dear")
    path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part").symlink_to(victim)
    opened().change(_mute, decides=True)
    assert victim.read_text() == "dear"
    assert not path.is_symlink()

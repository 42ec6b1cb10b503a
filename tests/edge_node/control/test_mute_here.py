"""`sottovoce-node mute` at the device: by the node that runs, or for its next start."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.contract.errors import SettingsError, StoreError
from broker.contract.topics import NodeId
from edge_node.control.mute_here import mute_here
from edge_node.control.state import StateFile
from edge_node.local.client import Absence, UnansweredError
from edge_node.local.socket import LocalSocket

NODE = NodeId("home", "kitchen")


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Open a node's socket; return where."""

    def start(set_muted: Callable[[bool], str], node: NodeId = NODE, name: str = "node.sock") -> Path:
        def report() -> Any:
            raise AssertionError

        path = tmp_path / name
        request.addfinalizer(LocalSocket(path, node, report=report, set_muted=set_muted).close)
        return path

    return start


def test_node_that_runs_is_told_and_says_what_holds(running: Callable[..., Path], tmp_path: Path) -> None:
    told: list[bool] = []

    def set_muted(muted: bool) -> str:  # noqa: FBT001 -- as the socket calls it
        told.append(muted)
        return "still muted by quiet hours until 06:30"

    place = running(set_muted)
    words = mute_here(NODE, [tmp_path / "nobody.sock", place], tmp_path / "state.json", muted=False)
    assert (words, told) == ("still muted by quiet hours until 06:30", [False])
    assert not (tmp_path / "state.json").exists(), "the node itself remembers it"


def test_node_that_refuses_is_an_error(running: Callable[..., Path], tmp_path: Path) -> None:
    def refuse(_muted: bool) -> str:  # noqa: FBT001 -- likewise
        msg = "not now"
        raise StoreError(msg)

    place = running(refuse)
    with pytest.raises(StoreError, match=r"node\.sock: not now"):
        mute_here(NODE, [place], tmp_path / "state.json", muted=True)


@pytest.mark.parametrize("before", [None, b"damaged"])
def test_node_that_does_not_run_finds_it_at_its_next_start(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "state.json"
    if before is not None:
        path.write_bytes(before)
    for muted, words in ((True, "it will be muted"), (False, "it will not be muted by command")):
        said = mute_here(NODE, [tmp_path / "node.sock"], path, muted=muted)
        assert said == f"no node runs; {words} at its next start"
        file = StateFile(path)
        assert (file.state.muted, file.is_known) == (muted, True)
        file.close()


def test_root_leaves_the_files_to_whoever_has_the_folder(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    folder = tmp_path / "of the service"
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)
    mute_here(NODE, [], folder / "state.json", muted=True)
    assert {each.name: each.stat().st_uid for each in folder.iterdir()} == {
        "state.json": 65_534,
        ".state.json.lock": 65_534,
    }


def test_node_that_runs_without_a_socket_is_left_alone(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    who = rf"^node home/kitchen runs \(process {os.getpid()}\)"
    with pytest.raises(SettingsError, match=f"{who} and answers nowhere: set `socket`"):
        mute_here(NODE, [], tmp_path / "state.json", muted=True)
    assert not file.state.muted
    file.close()


def test_node_of_another_user_is_an_error(running: Callable[..., Path], tmp_path: Path) -> None:
    place = running(str)
    if not os.geteuid():
        pytest.skip("root may ask every node")
    place.chmod(0)
    with pytest.raises(UnansweredError) as caught:
        mute_here(NODE, [place], tmp_path / "state.json", muted=True)
    assert caught.value.absence is Absence.FORBIDDEN
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize("muted", [True, False])
def test_node_that_was_not_meant_is_left_alone(running: Callable[..., Path], tmp_path: Path, *, muted: bool) -> None:
    told: list[str] = []

    def taken_by(name: str) -> Callable[[bool], str]:
        def set_muted(_muted: bool) -> str:  # noqa: FBT001 -- likewise
            told.append(name)
            return "done"

        return set_muted

    other = running(taken_by("bath"), NodeId("home", "bath"), "bath.sock")
    said = mute_here(NODE, [other], tmp_path / "state.json", muted=muted)
    assert (said.partition(";")[0], told) == ("no node runs", [])
    meant = running(taken_by("kitchen"))
    assert mute_here(NODE, [other, meant], tmp_path / "state.json", muted=muted) == "done"
    assert told == ["kitchen"]


def test_node_of_another_folder_is_not_said_to_be_muted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    StateFile(Path("state.json")).close()  # a node ran here once
    assert mute_here(NODE, [], Path("state.json"), muted=True).startswith("no node runs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"its relative paths begin here: {tmp_path}, where it never ran"):
        mute_here(NODE, [], Path("state.json"), muted=True)
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("is_there", [True, False])
def test_link_in_place_of_a_lock_is_not_followed(tmp_path: Path, *, is_there: bool) -> None:
    folder, victim = tmp_path / "of the service", tmp_path / "victim"
    folder.mkdir()
    if is_there:
        victim.write_text("dear")
    if not os.geteuid():
        os.chown(folder, 65_534, 65_534)
    (folder / ".state.json.lock").symlink_to(victim)
    with pytest.raises(SettingsError, match=r"\.state\.json\.lock is a link or no file"):
        mute_here(NODE, [], folder / "state.json", muted=True)
    assert victim.exists() == is_there
    assert not is_there or victim.stat().st_uid == os.geteuid()


def test_file_that_was_there_keeps_its_owner(tmp_path: Path) -> None:
    """Another name of a file of root's, say: only what root makes itself is given away."""
    if os.geteuid():
        pytest.skip("only root can give files away")
    folder, victim = tmp_path / "of the service", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("dear")
    os.chown(folder, 65_534, 65_534)
    for name in (".state.json.lock", "state.json", f".state.json.{os.getpid()}-{threading.get_ident()}.part"):
        (folder / name).hardlink_to(victim)
    mute_here(NODE, [], folder / "state.json", muted=True)
    assert (victim.stat().st_uid, victim.read_text()) == (0, "dear")
    assert (folder / "state.json").stat().st_uid == 65_534

"""`sottovoce-node mute` at the device: by the node that runs, or for its next start."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.contract.errors import SettingsError, StoreError
from edge_node.control.mute_here import mute_here
from edge_node.control.state import StateFile
from edge_node.local.client import Absence, UnansweredError
from edge_node.local.socket import LocalSocket


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Open a node's socket; return where."""

    def start(set_muted: Callable[[bool], str]) -> Path:
        def report() -> Any:
            raise AssertionError

        path = tmp_path / "node.sock"
        request.addfinalizer(LocalSocket(path, report=report, set_muted=set_muted).close)
        return path

    return start


def test_node_that_runs_is_told_and_says_what_holds(running: Callable[..., Path], tmp_path: Path) -> None:
    told: list[bool] = []

    def set_muted(muted: bool) -> str:  # noqa: FBT001 -- as the socket calls it
        told.append(muted)
        return "still muted by quiet hours until 06:30"

    place = running(set_muted)
    words = mute_here([tmp_path / "nobody.sock", place], tmp_path / "state.json", muted=False)
    assert (words, told) == ("still muted by quiet hours until 06:30", [False])
    assert not (tmp_path / "state.json").exists(), "the node itself remembers it"


def test_node_that_refuses_is_an_error(running: Callable[..., Path], tmp_path: Path) -> None:
    def refuse(_muted: bool) -> str:  # noqa: FBT001 -- likewise
        msg = "not now"
        raise StoreError(msg)

    place = running(refuse)
    with pytest.raises(StoreError, match=r"node\.sock: not now"):
        mute_here([place], tmp_path / "state.json", muted=True)


@pytest.mark.parametrize("before", [None, b"damaged"])
def test_node_that_does_not_run_finds_it_at_its_next_start(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "state.json"
    if before is not None:
        path.write_bytes(before)
    for muted, words in ((True, "it will be muted"), (False, "it will not be muted by command")):
        assert mute_here([tmp_path / "node.sock"], path, muted=muted) == f"no node runs; {words} at its next start"
        file = StateFile(path)
        assert (file.state.muted, file.is_known) == (muted, True)
        file.close()


def test_root_leaves_the_files_to_whoever_has_the_folder(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    folder = tmp_path / "of the service"
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)
    mute_here([], folder / "state.json", muted=True)
    assert {each.name: each.stat().st_uid for each in folder.iterdir()} == {
        "state.json": 65_534,
        ".state.json.lock": 65_534,
    }


def test_node_that_runs_without_a_socket_is_left_alone(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    with pytest.raises(SettingsError, match="another node uses it"):
        mute_here([], tmp_path / "state.json", muted=True)
    assert not file.state.muted
    file.close()


def test_node_of_another_user_is_an_error(running: Callable[..., Path], tmp_path: Path) -> None:
    place = running(str)
    if not os.geteuid():
        pytest.skip("root may ask every node")
    place.chmod(0)
    with pytest.raises(UnansweredError) as caught:
        mute_here([place], tmp_path / "state.json", muted=True)
    assert caught.value.absence is Absence.FORBIDDEN
    assert not (tmp_path / "state.json").exists()

"""The node's socket: one line in, one line out, and nobody who misuses it is noticed by anybody else."""

import json
import logging
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.contract.errors import SettingsError
from broker.contract.topics import NodeId
from edge_node.local.client import Absence, UnansweredError, ask, default_place, likely_places
from edge_node.local.messages import Another, Done, Refused, Remark, Report, ReportRequest, SetMuted
from edge_node.local.report import RecentWarnings
from edge_node.local.socket import LocalSocket
from edge_node.local.socket import open_local_socket as open_socket

NODE = NodeId("home", "kitchen")
Opened = Callable[..., LocalSocket]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket: pytest's names are long."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def opened(folder: Path, make_report: Callable[..., Report]) -> Iterator[Opened]:
    """Open sockets that are closed when the test is over."""
    all_opened: list[LocalSocket] = []

    def make(path: Path = folder / "node.sock", **parts: Any) -> LocalSocket:
        made = LocalSocket(path, NODE, **({"report": make_report, "set_muted": None} | parts))
        all_opened.append(made)
        return made

    yield make
    for each in all_opened:
        each.close()


def _raw(path: Path, sent: bytes, wait_s: float = 5) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(wait_s)
        client.connect(str(path))
        client.sendall(sent)
        received = b""
        while part := client.recv(65_536):
            received += part
        return received


def test_socket_report_comes_whole(opened: Opened, folder: Path, make_report: Callable[..., Report]) -> None:
    opened()
    assert ask(folder / "node.sock", ReportRequest()) == make_report()


def test_socket_is_for_this_user_alone(opened: Opened, folder: Path) -> None:
    opened()
    mode = (folder / "node.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert [each.name for each in folder.iterdir()] == ["node.sock"]


def test_socket_mute_says_what_holds_now(opened: Opened, folder: Path) -> None:
    asked: list[bool] = []

    def set_muted(muted: bool) -> str:  # noqa: FBT001 -- as the node has it
        asked.append(muted)
        return "muted"

    opened(set_muted=set_muted)
    assert ask(folder / "node.sock", SetMuted(node="home/kitchen", muted=True)) == Done(words="muted")
    assert ask(folder / "node.sock", SetMuted(node="home/kitchen", muted=False)) == Done(words="muted")
    assert asked == [True, False]


def test_socket_mute_of_another_node_does_nothing(opened: Opened, folder: Path) -> None:
    asked: list[bool] = []
    opened(set_muted=asked.append)
    assert ask(folder / "node.sock", SetMuted(node="home/bath", muted=False)) == Another(node="home/kitchen")
    assert asked == []


def test_socket_mute_without_a_switch_is_refused(opened: Opened, folder: Path) -> None:
    opened()
    assert isinstance(ask(folder / "node.sock", SetMuted(node="home/kitchen", muted=True)), Refused)


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"rubbish\n",
        b'{"type":"audio"}\n',
        b'{"type":"mute"}\n',
        b'{"type":"mute","muted":true}\n',
        b'{"type":"mute","node":"home/kitchen","muted":"yes"}\n',
        b'{"type":"report","more":1}\n',
        b"\xff\xfe\n",
        b"[" * 4_000 + b"\n",
        b"x" * 5_000,
    ],
)
def test_socket_rubbish_is_refused_and_the_next_is_served(opened: Opened, folder: Path, sent: bytes) -> None:
    opened()
    answer = json.loads(_raw(folder / "node.sock", sent))
    assert answer["type"] == "refused"
    assert answer["words"].startswith("not understood")
    assert isinstance(ask(folder / "node.sock", ReportRequest()), Report)


def test_socket_hanging_client_is_left_alone(opened: Opened, folder: Path) -> None:
    opened()
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as gone:
        hanging.connect(str(folder / "node.sock"))
        hanging.sendall(b'{"type":')
        gone.connect(str(folder / "node.sock"))
        gone.close()
        assert isinstance(ask(folder / "node.sock", ReportRequest(), wait_s=20), Report)
        assert hanging.recv(10) == b"", "whoever hangs is hung up on"


def test_socket_defect_is_logged_and_ends_nothing(
    opened: Opened, folder: Path, caplog: pytest.LogCaptureFixture, make_report: Callable[..., Report]
) -> None:
    reports: list[Any] = [make_report(), ZeroDivisionError()]

    def report() -> Report:
        if isinstance(last := reports.pop(), Exception):
            raise last
        found: Report = last
        return found

    opened(report=report)
    answer = ask(folder / "node.sock", ReportRequest())
    assert answer == Refused(words="a defect of the node: ZeroDivisionError")
    assert "could not be answered" in caplog.text
    assert ask(folder / "node.sock", ReportRequest()) == make_report()


def test_socket_of_a_killed_node_is_replaced(opened: Opened, folder: Path) -> None:
    path = folder / "node.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(UnansweredError) as caught:
        ask(path, ReportRequest())
    assert caught.value.absence is Absence.NOBODY
    opened()
    assert isinstance(ask(path, ReportRequest()), Report)


def test_socket_of_a_running_node_is_kept(opened: Opened, folder: Path) -> None:
    opened()
    with pytest.raises(SettingsError, match="another program listens there"):
        opened()
    assert isinstance(ask(folder / "node.sock", ReportRequest()), Report)


def test_socket_file_in_its_place_is_kept(opened: Opened, folder: Path) -> None:
    (folder / "node.sock").write_text("dear")
    with pytest.raises(SettingsError, match="something else"):
        opened()
    assert (folder / "node.sock").read_text() == "dear"


def test_socket_folder_of_everybody_is_refused(opened: Opened, folder: Path) -> None:
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="others must not write"):
        opened()
    folder.chmod(0o1777)  # as /tmp is
    opened()


def test_socket_long_path_is_refused_with_the_limit(opened: Opened, folder: Path) -> None:
    name = "x" * (108 - len(str(folder)) - 1)
    with pytest.raises(SettingsError, match=r"108 bytes long; .* 107 at most"):
        opened(folder / name)
    opened(folder / name[1:])
    assert isinstance(ask(folder / name[1:], ReportRequest()), Report)


def test_socket_no_such_folder_is_said(opened: Opened, folder: Path) -> None:
    with pytest.raises(SettingsError, match="No such file or directory; name a path in a folder that exists"):
        opened(folder / "nowhere" / "node.sock")


def test_socket_close_removes_its_own_and_no_other(opened: Opened, folder: Path) -> None:
    path = folder / "node.sock"
    first = opened()
    path.unlink()
    second = opened()
    first.close()
    assert isinstance(ask(path, ReportRequest()), Report)
    second.close()
    second.close()
    assert not path.exists()
    assert "local socket" not in [each.name for each in threading.enumerate()]


def test_ask_what_is_no_node_is_silent(folder: Path) -> None:
    path = folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(UnansweredError, match="no answer in time") as caught:
            ask(path, ReportRequest(), wait_s=0.2)
    assert caught.value.absence is Absence.SILENT


def test_default_place_follows_systemd() -> None:
    assert default_place(NODE, {"RUNTIME_DIRECTORY": "/run/sottovoce:/run/x"}) == Path("/run/sottovoce/node.sock")
    assert default_place(NODE, {"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/sottovoce-home.kitchen.sock")
    assert default_place(NODE, {}) is None
    assert likely_places(None, NODE, {}) == [Path("/run/sottovoce/node.sock")]
    beside = likely_places(None, NODE, {"XDG_RUNTIME_DIR": "/run/user/7"}, Path("/var/outbox.sqlite"))
    assert [each.name for each in beside] == ["sottovoce-home.kitchen.sock", "outbox.sqlite.sock", "node.sock"]
    assert likely_places("some.sock", NODE, {}) == [Path("some.sock")]
    assert likely_places("", NODE, {}) == []


def test_open_local_socket_only_a_chosen_one_must_work(
    folder: Path, caplog: pytest.LogCaptureFixture, make_report: Callable[..., Report]
) -> None:
    bad = str(folder / "nowhere")
    open_local_socket = partial(open_socket, outbox=folder / "outbox.sqlite")
    assert open_local_socket(None, NODE, {"RUNTIME_DIRECTORY": bad}, report=make_report) is None
    assert "do not reach this node" in caplog.text
    assert open_local_socket("", NODE, {"RUNTIME_DIRECTORY": str(folder)}, report=make_report) is None
    with pytest.raises(SettingsError):
        open_local_socket(f"{bad}/node.sock", NODE, {}, report=make_report)
    for environ, name in (({"RUNTIME_DIRECTORY": str(folder)}, "node.sock"), ({}, "outbox.sqlite.sock")):
        made = open_local_socket(None, NODE, environ, report=make_report)
        assert made is not None
        assert (folder / name).is_socket()
        made.close()
    caplog.clear()
    assert open_socket(None, NODE, {}, outbox=Path(bad) / "outbox.sqlite", report=make_report) is None
    assert "do not reach this node" in caplog.text


def test_recent_warnings_are_few_short_and_without_tracebacks() -> None:
    recent = RecentWarnings()
    logger = logging.getLogger("edge_node.recent_warnings")
    logger.propagate = False
    logger.addHandler(recent)
    logger.info("all is well")
    for number in range(60):
        logger.warning("trouble %d\n%s", number, "x" * 1_000)
    try:
        int("what was being done")
    except ValueError:
        logger.exception("it failed")
    logger.error("%d", "no number")
    logger.removeHandler(recent)
    remarks = recent.remarks
    assert len(remarks) == 50
    assert [each.words for each in remarks[-2:]] == ["it failed (ValueError)", remarks[-1].words]
    assert remarks[-1].words.startswith("%d (")
    assert max(len(each.words) for each in remarks) == 300
    assert msgspec.convert(msgspec.to_builtins(remarks), tuple[Remark, ...]) == remarks

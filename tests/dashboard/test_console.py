"""The console as a program: how it starts, what it answers, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from broker.contract.decision import Label
from broker.contract.updates import TrialFigures, UpdateState
from dashboard.collector.records import Record
from dashboard.collector.sqlite_store import SqliteStore

Make = Callable[..., Record]

_COMMAND = (sys.executable, "-m", "dashboard.console", "run", "--no-browser")
_S = 1_000_000


class Console:
    """A running console on a free port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / "console.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_COMMAND, "--port", "0", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()  # blocks until it serves, or ends
        assert re.fullmatch(r"http://[\d.]+:\d+/", self.url), self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def console(tmp_path: Path, path: Path) -> Iterator[Console]:
    console = Console(tmp_path, "--store", str(path))
    yield console
    if console.process.poll() is None:
        console.stop()


@pytest.fixture
def put(path: Path) -> Iterator[Callable[..., None]]:
    store = SqliteStore(path)

    def write(*records: Record) -> None:
        store.write(list(records))

    yield write
    store.close()


def _now() -> int:
    return time.time_ns() // 1000


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_nodes_are_served_as_json(console: Console, put: Callable[..., None], event: Make, status: Make) -> None:
    now = _now()
    put(status(now, now, node="home/kitchen"), event(1, now, node="home/kitchen", label=Label.PLEASANT))
    answer = httpx.get(f"{console.url}api/v1/nodes")
    assert answer.status_code == httpx.codes.OK
    assert answer.headers["cache-control"] == "no-store"
    (node,) = answer.json()["nodes"]
    assert (node["site"], node["node"], node["presence"]) == ("home", "kitchen", "online")
    assert (node["emotion"]["label"], node["emotion"]["current"]) == ("pleasant", True)
    assert node["status"]["source"] == "replay: synthetic"


def test_a_node_is_served_with_its_update(
    console: Console, put: Callable[..., None], status: Make, update: Make, trial: TrialFigures
) -> None:
    now = _now()
    put(status(now, now), update(now, state=UpdateState.TRIAL, progress=0.25, trial=trial))
    (node,) = httpx.get(f"{console.url}api/v1/nodes").json()["nodes"]
    assert (node["update"]["state"], node["update"]["release"]) == ("trial", "factory/4")
    assert (node["update"]["progress"], node["update"]["trial"]["agreed"]) == (0.25, 75)


def test_health_tells_a_missing_store_from_an_unreadable_one(console: Console, path: Path) -> None:
    missing = httpx.get(f"{console.url}healthz")
    assert (missing.status_code, missing.json()["store"]) == (httpx.codes.OK, "missing")
    assert httpx.get(f"{console.url}api/v1/nodes").json()["nodes"] == []
    path.write_text("no database at all, but long enough to be looked at as one " * 20)
    deadline = time.monotonic() + 10
    while (unreadable := httpx.get(f"{console.url}healthz")).json()["store"] == "missing":
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the console reads at most once a second and tells nobody
    assert (unreadable.status_code, unreadable.json()["store"]) == (httpx.codes.SERVICE_UNAVAILABLE, "unreadable")
    assert httpx.get(f"{console.url}api/v1/nodes").status_code == httpx.codes.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds(console: Console, number: int) -> None:
    with httpx.stream("GET", console.url):  # somebody is connected
        began = time.monotonic()
        assert console.stop(number) in {0, 130}
        assert time.monotonic() - began < 2
    assert "Traceback" not in console.log


def test_it_leaves_nothing_behind_in_its_folder(console: Console, tmp_path: Path) -> None:
    httpx.get(console.url)
    console.stop()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["console.log"]


def test_a_port_in_use_is_one_line(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("--store", str(path), "--port", str(port))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 70000", "port = 70000: allowed: 0 to 65535"),
        ("[influxdb]\nurl = 'influx'\nbucket = 'b'", "influxdb.url"),
        ("colour = 'red'", "colour"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "console.toml"
    config.write_text(text)
    done = _run("--config", str(config))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_of_something_else_is_one_line(path: Path) -> None:
    path.write_text("no database at all, but long enough to be looked at as one " * 20)
    done = _run("--store", str(path), "--port", "0")
    assert done.returncode == 6
    assert len(done.stderr.splitlines()) == 1


def test_settings_name_the_store_and_the_port(tmp_path: Path, path: Path) -> None:
    config = tmp_path / "console.toml"
    config.write_text(f'port = 0\n[sqlite]\npath = "{path}"\n')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    console = Console(tmp_path, "--config", str(config), "--port", str(port))
    assert console.url == f"http://127.0.0.1:{port}/"
    assert str(path) in httpx.get(f"{console.url}healthz").json()["reason"]
    assert console.stop() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that somebody lets resolve to 127.0.0.1
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": ""},
        {"Host": "["},
        {"Origin": "http://["},
    ],
)
def test_what_another_site_asks_is_refused(console: Console, headers: dict[str, str]) -> None:
    for path in ("", "api/v1/nodes", "healthz", "_nicegui_ws/socket.io/?EIO=4&transport=polling"):
        assert httpx.get(f"{console.url}{path}", headers=headers).status_code == httpx.codes.FORBIDDEN


def test_a_console_on_every_address_answers_to_its_names_only(tmp_path: Path) -> None:
    config = tmp_path / "console.toml"
    config.write_text('host = "0.0.0.0"\nport = 0\nnames = ["Console.Example"]\n')
    console = Console(tmp_path, "--config", str(config))
    url = console.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- it is asked on loopback
    codes = {
        name: httpx.get(f"{url}healthz", headers={"Host": name}).status_code
        for name in ("localhost:1", "console.example", "evil.example")
    }
    assert console.stop() == 0
    assert codes == {
        "localhost:1": httpx.codes.OK,
        "console.example": httpx.codes.OK,
        "evil.example": httpx.codes.FORBIDDEN,
    }


def test_a_websocket_of_another_site_is_refused(console: Console) -> None:
    host = console.url.removeprefix("http://").rstrip("/")
    name, port = host.split(":")
    for origin, expected in (("http://evil.example", b"403"), (f"http://{host}", b"101")):
        request = (
            f"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with socket.create_connection((name, int(port)), timeout=10) as connection:
            connection.sendall(request.encode())
            assert connection.recv(64).split()[1] == expected


def test_nothing_from_elsewhere_may_be_loaded(console: Console) -> None:
    policy = httpx.get(console.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_store_that_may_not_be_read_is_one_line(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0)
    done = _run("--store", str(path), "--port", "0")
    assert (done.returncode, len(done.stderr.splitlines())) == (6, 1)

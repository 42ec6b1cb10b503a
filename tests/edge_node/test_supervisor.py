"""What systemd hears of a node, at a socket as its own; and its unit, as far as that can be seen without it."""

import logging
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.condition import CaptureProblem, CaptureReport, CaptureState, MuteSource
from edge_node.local.messages import Report
from edge_node.sound.sources import Block
from edge_node.supervisor import Progress, Supervisor, advance, words_of

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "sottovoce-node.service"
BLOCK = Block(samples=np.zeros(1_600, dtype=np.float32), rate_hz=16_000, captured_ns=1)
LISTENING = CaptureReport(state=CaptureState.LISTENING)
MUTED = CaptureReport(state=CaptureState.MUTED)
MINUTE_US = "60000000"


def _recovering(attempts: int) -> CaptureReport:
    return CaptureReport(state=CaptureState.RECOVERING, problem=CaptureProblem.LOST, rescans=attempts)


class Heard:
    """A socket as systemd has it, and what was said to it."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(0)

    def words(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4_096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Heard, str]]:
    """The socket, and what NOTIFY_SOCKET says; systemd may choose either kind."""
    if request.param == "path":
        path = str(tmp_path_factory.mktemp("n") / "n")
        heard, named = Heard(path), path
    else:
        name = f"sottovoce-{os.getpid()}"
        heard, named = Heard(b"\0" + name.encode()), f"@{name}"
    yield heard, named
    heard.close()


def test_progress_blocks_and_muted_ticks_count() -> None:
    assert advance(Progress(), BLOCK, LISTENING, 0) == (Progress(), True)
    assert advance(Progress(), BLOCK, _recovering(3), 0)[1]
    assert advance(Progress(), None, MUTED, 0) == (Progress(), True)


def test_progress_listening_to_nothing_does_not_count() -> None:
    assert not advance(Progress(), None, LISTENING, 0)[1]
    assert not advance(Progress(attempts=4, attempted_s=0), None, LISTENING, 0)[1]


def test_progress_recovery_counts_while_attempts_go_on() -> None:
    progress, counts = advance(Progress(), None, _recovering(0), 100)
    assert counts
    now_s = 100.0
    for attempt in range(1, 20):  # a minute apart, as far as they ever are
        for _ in range(4):
            now_s += 15
            progress, counts = advance(progress, None, _recovering(attempt - 1), now_s)
            assert counts
        progress, counts = advance(progress, None, _recovering(attempt), now_s)
        assert counts
    assert advance(progress, None, _recovering(19), now_s + 90)[1]
    assert not advance(progress, None, _recovering(19), now_s + 91)[1], "capture waits for what never comes"


def test_progress_second_outage_begins_anew() -> None:
    progress, _ = advance(Progress(), None, _recovering(1), 0)
    progress, _ = advance(progress, BLOCK, LISTENING, 1_000)
    assert advance(progress, None, _recovering(1), 2_000)[1]


def test_supervisor_says_ready_feeds_and_stops(systemd: tuple[Heard, str]) -> None:
    heard, named = systemd
    now_s = 0.0
    environ = {"NOTIFY_SOCKET": named, "WATCHDOG_USEC": MINUTE_US, "WATCHDOG_PID": str(os.getpid())}
    supervisor = Supervisor(environ, lambda: now_s)
    supervisor.fed(None, LISTENING)
    assert heard.words() == [], "nothing was heard yet"
    supervisor.say("listening")
    supervisor.fed(BLOCK, LISTENING)
    assert heard.words() == ["STATUS=listening", "READY=1", "WATCHDOG=1"]
    for tenth in range(600):
        now_s = tenth / 10
        supervisor.fed(BLOCK, LISTENING)
    assert heard.words() == ["WATCHDOG=1"] * 3, "four times in the time after which it bites, the first one included"
    supervisor.say("listening")
    supervisor.say("no sound\nat all")
    supervisor.stopping()
    assert heard.words() == ["STATUS=no sound at all", "STOPPING=1"]


def test_supervisor_starts_without_a_microphone(systemd: tuple[Heard, str]) -> None:
    heard, named = systemd
    Supervisor({"NOTIFY_SOCKET": named}).fed(None, _recovering(0))
    assert heard.words() == ["READY=1"], "systemd would end a start that takes too long"


def test_supervisor_loop_that_hangs_is_not_fed(systemd: tuple[Heard, str]) -> None:
    """The loop calls when it has dealt with something; what hangs within does not come so far."""
    heard, named = systemd
    now_s = 0.0
    supervisor = Supervisor({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": MINUTE_US}, lambda: now_s)
    supervisor.fed(BLOCK, LISTENING)
    heard.words()
    for now_s in range(0, 600, 5):  # noqa: B007 -- the clock
        supervisor.fed(None, LISTENING)
    assert heard.words() == []


def test_supervisor_ended_thread_starves_the_watchdog(
    systemd: tuple[Heard, str], caplog: pytest.LogCaptureFixture
) -> None:
    heard, named = systemd
    now_s = 0.0
    supervisor = Supervisor({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": MINUTE_US}, lambda: now_s)
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, name=name) for name in ("publisher", "updates")]
    for each in threads:
        each.start()
    supervisor.watch(*threads)
    supervisor.fed(BLOCK, LISTENING)
    assert heard.words() == ["READY=1", "WATCHDOG=1"]
    end.set()
    for each in threads:
        each.join()
    for now_s in (20.0, 40.0):  # noqa: B007 -- likewise
        supervisor.fed(BLOCK, LISTENING)
    assert heard.words() == []
    assert caplog.messages == ["ended without being told to: publisher, updates; the watchdog is fed no more"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": MINUTE_US, "WATCHDOG_PID": "1"},
    ],
)
def test_supervisor_without_a_watchdog_feeds_none(systemd: tuple[Heard, str], environ: dict[str, str]) -> None:
    heard, named = systemd
    Supervisor({"NOTIFY_SOCKET": named, **environ}).fed(BLOCK, LISTENING)
    assert heard.words() == ["READY=1"]


@pytest.mark.parametrize("named", ["", "@", "relative", "/nowhere/at/all"])
def test_supervisor_without_systemd_is_silent(named: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    supervisor = Supervisor({"NOTIFY_SOCKET": named})
    supervisor.fed(BLOCK, LISTENING)
    supervisor.say("listening")
    supervisor.stopping()
    assert len(caplog.messages) == named.startswith("/nowhere"), "said once"


def test_words_say_what_a_node_does(make_report: Callable[..., Report]) -> None:
    status = make_report().status
    assert words_of(status, is_connected=True) == "listening to microphone: USB; model factory/1; connected"
    lost = msgspec.structs.replace(status, capture=CaptureState.RECOVERING, problem=CaptureProblem.LOST)
    assert words_of(lost, is_connected=False).startswith("no sound from microphone: USB (device lost); ")
    quiet = msgspec.structs.replace(status, muted=True, muted_by=(MuteSource.COMMAND, MuteSource.QUIET_HOURS))
    assert words_of(quiet, is_connected=False) == "muted by command and quiet hours; model factory/1; no broker"


def _unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Z]\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_unit_watches_and_begins_anew() -> None:
    unit = _unit()
    assert {key: unit[key] for key in ("Type", "NotifyAccess", "WatchdogSec", "Restart", "StartLimitIntervalSec")} == {
        "Type": ["notify"],
        "NotifyAccess": ["main"],
        "WatchdogSec": ["60s"],
        "Restart": ["always"],
        "StartLimitIntervalSec": ["0"],
    }
    assert unit["LimitCORE"] == ["0"], "a core dump would hold sound"
    assert unit["MemorySwapMax"] == ["0"], "so would a page on the disk"
    assert unit["RuntimeDirectory"] == unit["StateDirectory"] == ["sottovoce"]
    assert not {"PrivateDevices", "ProtectClock", "ReadWritePaths", "MemoryDenyWriteExecute"} & set(unit)


def _systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is missing: it is a part of systemd")
    return found


def _calls_of(name: str) -> set[str]:
    """Return the system calls in one of systemd's sets."""
    told = subprocess.run([_systemd_analyze(), "syscall-filter", name], capture_output=True, text=True, check=True)
    names = [line.strip() for line in told.stdout.splitlines()[1:] if not line.strip().startswith("#")]
    return {call for each in names if each for call in (_calls_of(each) if each.startswith("@") else {each})}


def test_unit_allows_what_the_node_asks_the_kernel() -> None:
    allowed: set[str] = set()
    for value in _unit()["SystemCallFilter"]:
        calls = {
            call for each in value.lstrip("~").split() for call in (_calls_of(each) if each.startswith("@") else {each})
        }
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    assert {"adjtimex", "clock_adjtime"} <= allowed, "or no clock is ever right, and events wait for ever"
    assert {"prlimit64", "setpriority"} <= allowed, "or no new model can be examined"
    assert not {"clock_settime", "settimeofday", "mount", "reboot", "ptrace", "chown", "setuid"} & allowed


def test_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    analyze = _systemd_analyze()
    program = tmp_path / "sottovoce-node"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    made = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    assert "ExecStart=/opt/sottovoce/bin/sottovoce-node run --config /etc/sottovoce/node.toml\n" in text
    made.write_text(text.replace("/opt/sottovoce/bin/sottovoce-node", str(program)), encoding="utf-8")
    done = subprocess.run([analyze, "verify", made], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", made], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout

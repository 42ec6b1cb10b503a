"""The monitor: what it shows of a recording, and that it leaves nothing behind."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.contract.condition import CaptureProblem
from broker.contract.decision import Decision, Label
from broker.contract.messages import EventLatency
from broker.contract.topics import NodeId
from edge_node.local.messages import Report
from edge_node.local.socket import LocalSocket
from edge_node.monitor.command import watch
from edge_node.monitor.lines import line_of
from edge_node.monitor.view import HISTORY, View, after_block, after_tick
from edge_node.parts import load_pipeline
from edge_node.pipeline import Heard
from edge_node.sound.replay import Replay
from edge_node.sound.sources import Block, SourceError

KITCHEN = Path(__file__).parents[2] / "deploy" / "demo" / "audio" / "kitchen"
RATE_HZ = 16_000
LATENCY = EventLatency(capture=1, resample=1, gate=9_000, features=2_000, inference=1_000, decision=1, total=12_003)
GATED = Heard(end_s=3, level_dbfs=-30, decided_ns=1, speech=0.1, gated=True)
SILENT = Heard(end_s=3, level_dbfs=float("-inf"), decided_ns=1)
SPOKEN = Heard(
    end_s=3,
    level_dbfs=-20,
    decided_ns=1,
    speech=0.9,
    probabilities=(0.1, 0.2, 0.7),
    decision=Decision(label=Label.UNPLEASANT, confidence=0.66),
    latency_us=LATENCY,
)


def _block(peak: float, *, zeros: bool = False) -> Block:
    samples = np.full(1_600, 0.0 if zeros else 0.01, dtype=np.float32)
    samples[800] = peak
    return Block(samples=samples, rate_hz=RATE_HZ, captured_ns=1, zeros=zeros)


def test_view_peak_is_held_for_a_while_and_then_falls() -> None:
    view = after_block(View(), _block(0.5), [])
    for _ in range(14):
        view = after_block(view, _block(0.1), [])
        assert view.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    for _ in range(3):
        view = after_block(view, _block(0.1), [])
    assert view.peak_dbfs == pytest.approx(-20, abs=0.01)
    assert view.audio_s == pytest.approx(1.8)


def test_view_counts_what_is_clipped_and_windows() -> None:
    view = after_block(View(), _block(1.0), [SILENT, GATED, SPOKEN])
    assert (view.clipped_blocks, view.windows, view.heard) == (1, 3, SPOKEN)
    assert view.history == ("silence", "no speech", "unpleasant")
    for _ in range(HISTORY):
        view = after_block(view, _block(0.1), [SILENT])
    assert view.history == ("silence",) * HISTORY


def test_view_says_when_nothing_comes() -> None:
    view = after_tick(after_block(View(), _block(0.1), []), 10.0)
    view = after_tick(view, 10.5)
    assert not view.is_deaf(10.9)
    assert view.is_deaf(11.0)
    assert not after_block(view, _block(0.1), []).is_deaf(99.0)


def test_line_says_what_a_window_came_to() -> None:
    view = after_block(View(), _block(0.5), [SPOKEN])
    assert " ".join(line_of(view, SPOKEN, 2).split()) == (
        "0.1 s -20.0 dBFS peak -6.0 speech 0.90 pleasant 0.10 neutral 0.20 unpleasant 0.70 "
        "-> unpleasant 0.66 12.0 ms dropped 2"
    )
    assert line_of(view, GATED, 0).endswith("speech 0.10  -> no speech")
    assert line_of(view, SILENT, 0).endswith("peak   -6.0  -> silence")


def _screen(view: View, dropped_blocks: int = 0, now_s: float = 0.0) -> str:
    from rich.console import Console

    from edge_node.monitor.screen import Scene, draw

    console = Console(record=True, width=100, file=io.StringIO())
    scene = Scene(source="replay: kitchen", model="factory/1", window_s=3.0, hop_s=0.5)
    console.print(draw(scene, view, dropped_blocks, now_s))
    return console.export_text()


def test_screen_shows_meters_scores_and_the_decision() -> None:
    pytest.importorskip("rich")
    empty = _screen(View())
    assert "not a whole window yet" in empty
    text = _screen(after_block(View(), _block(1.0), [GATED, SPOKEN]), dropped_blocks=3)
    for words in (
        "replay: kitchen  ·  factory/1",
        "CLIPPED 1",
        "0.90",
        "0.70",
        " unpleasant   0.66",
        "features 2.0",
        "3 blocks dropped",
        "nothing is published or written",
    ):
        assert words in text, text
    assert text.count("█") > 40
    (history,) = [line for line in text.splitlines() if " last " in line]
    assert "·-" in history
    assert max(map(len, text.splitlines())) <= 96


def test_screen_says_what_is_wrong_with_the_sound() -> None:
    pytest.importorskip("rich")
    assert "only zeros" in _screen(after_block(View(), _block(0.0, zeros=True), []))
    deaf = after_tick(View(), 1.0)
    assert "no sound comes" in _screen(deaf, now_s=2.5)


def test_watch_a_recording_sees_each_window_once() -> None:
    manifest, pipeline = load_pipeline(None)
    seen: list[Heard] = []
    source = Replay([KITCHEN], repeat=True, real_time=False)
    view = watch(source, pipeline, threading.Event(), 12.0, lambda _view, heard: seen.extend(heard))
    assert view.audio_s == pytest.approx(12.0)
    window_s = manifest.window.length_samples / manifest.features.sample_rate_hz
    hop_s = manifest.window.hop_samples / manifest.features.sample_rate_hz
    assert view.windows == len(seen) == 1 + int((12.0 - window_s) / hop_s)
    assert view.heard is seen[-1]


class Endless:
    """A source from which nothing comes, or which somebody else has."""

    description = "microphone: USB"
    dropped_blocks = 0

    def __init__(self, *, is_busy: bool = False) -> None:
        self._is_busy = is_busy
        self.is_closed = False

    def blocks(self, stop: threading.Event) -> Generator[Block | None, None, None]:
        if self._is_busy:
            raise SourceError(CaptureProblem.BUSY, self.description, "another program has it")
        try:
            while not stop.is_set():
                yield None
        finally:
            self.is_closed = True


def test_watch_what_never_speaks_ends_in_time_and_closes_it() -> None:
    _, pipeline = load_pipeline(None)
    source = Endless()
    view = watch(source, pipeline, threading.Event(), 0.05, lambda _view, _heard: None)
    assert view.silent_since_s is not None
    assert source.is_closed


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(
        f'site = "home"\nnode = "kitchen"\nsocket = "{tmp_path / "n.sock"}"\n'
        f'[deployment]\ncontext = "home"\nemployees_present = false\n[outbox]\npath = "{tmp_path / "outbox.sqlite"}"\n'
        f'[gate]\nenabled = false\n[source]\nkind = "replay"\npaths = ["{KITCHEN}"]\nreal_time = false\n'
    )
    return path


def test_monitor_without_a_terminal_prints_a_line_for_each_window(program: Program, config: Path) -> None:
    done = program("monitor", "--config", config, "--seconds", "6")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    for line in lines:
        assert " dBFS " in line
        assert " -> " in line
    assert "\x1b" not in done.stdout


def test_monitor_writes_nothing_and_connects_nowhere(config: Path, tmp_path: Path) -> None:
    """Each file that is opened to be written, each name that is made or removed, each connection is an audit event."""
    code = (
        "import os, sys\n"
        "found = []\n"
        "def hook(event, args):\n"
        "    if event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):\n"
        "        found.append(('open', str(args[0])))\n"
        "    elif event in {'os.mkdir', 'os.rename', 'os.remove', 'os.link', 'socket.bind', 'sqlite3.connect'}:\n"
        "        found.append((event, str(args)))\n"
        "    elif event == 'socket.connect':\n"
        "        found.append((event, str(args[1])))\n"
        "sys.addaudithook(hook)\n"
        "sys.dont_write_bytecode = True\n"
        "from edge_node.__main__ import main\n"
        "sys.argv[0] = 'sottovoce-node'\n"
        "code = main()\n"
        "print('FOUND', found)\n"
        "sys.exit(code)\n"
    )
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", code, "monitor", "--config", config, "--seconds", "4"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    allowed = {("socket.connect", str(tmp_path / "n.sock")), ("open", os.devnull)}  # whether a node runs here
    written = {each for each in eval(found.removeprefix("FOUND ")) if each not in allowed}  # noqa: S307 -- our own list
    assert written == set()
    assert sorted(tmp_path.rglob("*")) == before


def test_monitor_ends_at_ctrl_c(config: Path) -> None:
    config.write_text(config.read_text().replace("real_time = false", "real_time = true"))
    with subprocess.Popen(
        [sys.executable, "-m", "edge_node", "monitor", "--config", config],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert " -> " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()


def test_monitor_at_a_terminal_draws_no_more_than_ten_times_a_second(config: Path) -> None:
    """Although nine hundred blocks come as fast as they are taken."""
    pytest.importorskip("rich")
    import pty

    terminal, end = pty.openpty()
    drawn = b""
    began_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "edge_node", "monitor", "--config", config, "--seconds", "90"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        stdout=end,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(end)
        while True:
            try:
                part = os.read(terminal, 65_536)
            except OSError:  # the other end is closed
                break
            drawn += part
        assert process.wait(20) == 0
    os.close(terminal)
    frames = drawn.count(b"replay: kitchen")
    assert 2 <= frames <= 2 + 10 * (time.monotonic() - began_s)
    assert drawn.rstrip().endswith(b"\x1b[?25h"), "the cursor is back"


def test_monitor_of_a_muted_node_opens_no_microphone(program: Program, one_line: Any, config: Path) -> None:
    text = config.read_text()
    config.write_text(text[: text.index("[source]")])
    (config.parent / "outbox.sqlite.state.json").write_text('{"form":1,"muted":true}')
    one_line(program("monitor", "--config", config), 3, "muted by command", "mute --config ... --off` opens it")
    config.write_text('mute = {quiet_hours = ["00:00-24:00"]}\n' + config.read_text())
    (config.parent / "outbox.sqlite.state.json").write_text("no state")
    done = program("monitor", "--config", config)
    one_line(done, 3, "unreadable state and quiet hours", "doctor --config", "it opens when they end")
    assert "--off" not in done.stderr


def test_monitor_says_which_program_listens(
    program: Program, one_line: Any, config: Path, make_report: Callable[..., Report]
) -> None:
    pytest.importorskip("sounddevice")
    text = config.read_text()
    config.write_text(text[: text.index("[source]")] + '[source]\ndevice = "no such microphone"\n')
    node = LocalSocket(
        config.parent / "n.sock", NodeId("home", "kitchen"), report=lambda: make_report(pid=4_321), set_muted=None
    )
    try:
        done = program("monitor", "--config", config)
    finally:
        node.close()
    one_line(done, 3, "The node's service runs (process 4321)", "sudo systemctl stop sottovoce-node")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_monitor_refuses_a_time_that_is_none(program: Program, seconds: str) -> None:
    done = program("monitor", "--seconds", seconds)
    assert done.returncode == 2
    assert "a number of seconds above 0" in done.stderr

"""What a running node takes: memory, processor, time to its first label. Microphone, speech gate, model, MQTT over TLS.

    python tests/benchmarks/bench_budget.py [--seconds N]

One run of `sottovoce-node run` at its defaults, in real time: PulseAudio's virtual microphone, and Mosquitto as
broker/mosquitto/mosquitto.conf has it, with certificates by deploy.certificates. It hears the demo's speech, then
silence, then speech for N seconds while a program that never rests keeps all cores busy but the node's (600 s are what
the budget says). What takes part is on the node's core, and everything is counted from outside, by the kernel. Of the
start, most is the virtual microphone's: it takes 1.9 s to its first block for PulseAudio's own `parec`, too, and
PortAudio's thread never rests meanwhile (measured).

One file of more than 300 lines, because a script cannot import its neighbour as the rest of the project imports.
"""

import argparse
import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import numpy as np
import soundfile

from broker.connection import Arrived, Event
from broker.contract.generate import access_rules
from broker.contract.messages import EmotionEvent, Telemetry
from broker.link import Link
from broker.local import free_port
from broker.settings import BrokerSettings
from deploy.certificates import issue_client, issue_server, make_authority
from deploy.fleet.machine import machine

ROOT: Final = Path(__file__).parents[2]
SPEECH: Final = ROOT / "deploy" / "demo" / "audio"
PROGRAMS: Final = ("pulseaudio", "pactl", "paplay", "mosquitto", "openssl")
RSS_MB, START_S, CPU_PERCENT = 80.0, 3.0, 2.0
"""The budget: MB of 10^6 bytes, seconds beside the window's own, percent of one core."""
WINDOW_S: Final = 3.0
"""Of the factory model; a window every 0.5 s. The first label has to wait for the first window's sound."""
PHASE_S: Final = 15.0
"""Of speech, and of silence, before other cores are kept busy."""
BETWEEN_S: Final = 5.0
"""Between two phases: a window, and the sound server, hold what came before."""
NODE, COLLECTOR = "home/kitchen", "collector"
SAY = sys.stdout.write

STEPS: Final = """
import os, threading, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
marks = [("", time.perf_counter())]
def mark(what):
    marks.append((what, time.perf_counter()))
import edge_node.__main__, edge_node.node, edge_node.settings
mark("imports")
from edge_node.sound.microphone import opener
found = opener("vmic")()
mark("PortAudio")
from edge_node.sound.gate import Gate, GateSettings
gate = Gate(GateSettings())
mark("gate")
from edge_node.parts import load_pipeline
load_pipeline(None, gate)
mark("model")
blocks = found.blocks(threading.Event())
while next(blocks) is None:
    pass
mark("stream, to its first block")
blocks.close()
print(", ".join(f"{what} {now - before:.2f} s" for (what, now), (_, before) in zip(marks[1:], marks)))
os._exit(0)
"""
"""What a node does until it hears, one after the other."""


def skip(why: str) -> NoReturn:
    """End, as something that was not measured; `make bench` goes on."""
    SAY(f"budget of a running node: not measured, {why}\n")
    sys.exit(0)


# --- what the node is surrounded by


class Surroundings:
    """Broker, sound server, and the files of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._running = folder, free_port(), contextlib.ExitStack()
        make_authority(folder)
        issue_server(folder, ["localhost"])
        for client in (NODE, COLLECTOR):
            issue_client(folder, client)
        home = folder / "home"
        home.mkdir()
        (home / ".asoundrc").write_text(
            'pcm.vmic { type pulse device "vmic" hint { show on description "virtual" } }\n'
        )
        pulse = folder / "pulse.socket"
        self.environment = os.environ | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{pulse}",
            "NOTIFY_SOCKET": str(folder / "notify"),
        }
        self._start(["mosquitto", "-c", str(self._broker())], self._answers)
        (folder / "pulse.pa").write_text(
            f"load-module module-native-protocol-unix socket={pulse} auth-anonymous=1\n"
            "load-module module-null-sink sink_name=vspk rate=48000 channels=1\n"
            "load-module module-remap-source master=vspk.monitor source_name=vmic channels=1\n"
        )
        options = ("--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no")
        self._start(
            ["pulseaudio", "-n", "-F", str(folder / "pulse.pa"), *options],
            lambda: "vmic" in self._pactl("list", "short", "sources"),
        )
        self.speech = self._speech()

    def run(self, command: Sequence[str], *, log: str = "other.log") -> subprocess.Popen[bytes]:
        """Start a program that ends with the run."""
        with (self.folder / log).open("ab") as out:
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        self._running.callback(end, process)
        return process

    def settings(self, client: str) -> BrokerSettings:
        """Return how a client reaches the broker."""
        stem = client.replace("/", ".")
        files = (str(self.folder / name) for name in ("ca.crt", f"{stem}.crt", f"{stem}.key"))
        ca_file, cert_file, key_file = files
        return BrokerSettings(port=self.port, ca_file=ca_file, cert_file=cert_file, key_file=key_file)

    def node_settings(self) -> Path:
        """Return the node's settings file: its defaults, but for what has no default, and a clock to be believed."""
        broker = msgspec.structs.asdict(self.settings(NODE))
        lines = "".join(f'{key} = "{broker[key]}"\n' for key in ("host", "ca_file", "cert_file", "key_file"))
        path = self.folder / "node.toml"
        path.write_text(
            'site = "home"\nnode = "kitchen"\ndeployment = {context = "home", employees_present = false}\n'
            f'[source]\ndevice = "vmic"\n[clock]\ntrust = true\n[outbox]\npath = "{self.folder / "outbox.sqlite"}"\n'
            f"[broker]\nport = {self.port}\n{lines}"
        )
        return path

    def end(self) -> None:
        """End what runs."""
        self._running.close()

    def _start(self, command: Sequence[str], is_there: Callable[[], bool]) -> None:
        process, deadline = self.run(command), time.monotonic() + 10
        while not is_there():
            if process.poll() is not None or time.monotonic() > deadline:
                skip(f"{command[0]} does not start here: {(self.folder / 'other.log').read_text()[-300:]}")
            time.sleep(0.05)

    def _broker(self) -> Path:
        (self.folder / "acl").write_text(access_rules((COLLECTOR,)))
        (self.folder / "acl").chmod(0o600)
        (self.folder / "data").mkdir()
        text = (ROOT / "broker" / "mosquitto" / "mosquitto.conf").read_text()
        for old, new in (
            ("/mosquitto/identity", str(self.folder)),
            ("/mosquitto/data", str(self.folder / "data")),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
        ):
            text = text.replace(old, new)
        if os.geteuid() == 0:
            text += "user root\n"  # what is in this folder is no other user's to read
        path = self.folder / "mosquitto.conf"
        path.write_text(text)
        return path

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _pactl(self, *arguments: str) -> str:
        command = ["pactl", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout

    def _speech(self) -> Path:
        clips = [soundfile.read(path)[0] for path in sorted(SPEECH.glob("*/*.flac"))]
        path = self.folder / "speech.wav"
        soundfile.write(path, np.concatenate(clips), soundfile.info(next(SPEECH.glob("*/*.flac"))).samplerate)
        return path


class Collector:
    """What the broker hands on of the node, and when."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        topics = [f"sottovoce/v1/node/+/+/{name}" for name in ("emotion", "telemetry", "status")]
        self._link = Link(settings, COLLECTOR, events=self._events, subscribe_to=topics)
        self.emotions: list[tuple[float, EmotionEvent]] = []
        """With the monotonic time of their arrival, in s."""
        self.telemetry: list[Telemetry] = []

    def start(self) -> None:
        self._link.start()

    def take(self, wait_s: float) -> None:
        """Take what arrives for so long."""
        deadline = time.monotonic() + wait_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left_s)
            except queue.Empty:
                return
            if not isinstance(event, Arrived):
                continue
            event.connection.acknowledge(event.packet_id)
            if event.topic.endswith("/emotion"):
                self.emotions.append((time.monotonic(), msgspec.json.decode(event.payload, type=EmotionEvent)))
            elif event.topic.endswith("/telemetry"):
                self.telemetry.append(msgspec.json.decode(event.payload, type=Telemetry))

    def end(self) -> None:
        self._link.stop()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- what the kernel says of a process


def cpu_s(pid: int) -> float:
    """Return what a process and its children have taken, in s, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    took = sum(int(each) for each in fields[11:15]) / os.sysconf("SC_CLK_TCK")  # its own, and children's that ended
    for child in children(pid):
        with contextlib.suppress(OSError):  # it has just ended
            took += cpu_s(child)
    return took


def children(pid: int) -> list[int]:
    """Return a process's living children."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory_mb(pid: int) -> dict[str, float]:
    """Return a process's resident memory, its share of it where pages are shared, and the most it was, in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    status = Path(f"/proc/{pid}/status").read_text()
    places = {"rss": (rollup, "\nRss:"), "pss": (rollup, "\nPss:"), "peak": (status, "\nVmHWM:")}
    return {name: int(text.partition(key)[2].split()[0]) * 1024 / 1e6 for name, (text, key) in places.items()}


def wakes(pid: int) -> int:
    """Return how often a process's threads have been let run after they waited."""
    lines = (each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in lines)


# --- the run


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What a stretch of the run came to."""

    name: str
    seconds: float
    cpu_percent: float
    wakes_per_s: float
    threads: tuple[int, int]
    """Fewest and most."""
    descriptors: tuple[int, int]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What it took to hear, in s from the start of the process."""

    block_s: float
    """To the first block of sound."""
    label_s: float
    """To the first label's arrival at a collector."""
    cpu_s: float
    """Of the processor, until then."""


class Run:
    """One run of the node, looked at from outside."""

    def __init__(self, around: Surroundings, collector: Collector) -> None:
        self._around, self._collector = around, collector
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(around.environment["NOTIFY_SOCKET"])
        self._player: subprocess.Popen[bytes] | None = None

    def start(self) -> Start:
        """Start the node, and wait for its first label."""
        self.speak()
        self._collector.take(2)  # until it speaks
        began_s = time.monotonic()
        command = [sys.executable, "-m", "edge_node", "run", "--config", str(self._around.node_settings())]
        self.node = self._around.run(command, log="node.log")
        self._ready.settimeout(20)
        with contextlib.suppress(TimeoutError):
            while self._ready.recv(4096) != b"READY=1":
                pass
        ready_s = time.monotonic()
        self._ready.settimeout(0)
        while not self._collector.emotions:
            self._look()
            if time.monotonic() - ready_s > 60:
                self._give_up("has said nothing")
        label_s = self._collector.emotions[0][0]
        return Start(block_s=ready_s - began_s, label_s=label_s - began_s, cpu_s=cpu_s(self.node.pid))

    def phase(self, name: str, seconds: float, *, speaks: bool) -> Phase:
        """Watch the node for a while."""
        if speaks:
            self.speak()
        else:
            self.hush()
        self._look(BETWEEN_S)
        pid = self.node.pid
        began, cpu, woken = time.monotonic(), cpu_s(pid), wakes(pid)
        looks: list[tuple[int, int]] = []
        while time.monotonic() - began < seconds:
            if speaks:
                self.speak()
            self._look()
            looks.append((threads(pid), descriptors(pid)))
        took = time.monotonic() - began
        each_threads, each_descriptors = zip(*looks, strict=True)
        return Phase(
            name=name,
            seconds=took,
            cpu_percent=100 * (cpu_s(pid) - cpu) / took,
            wakes_per_s=(wakes(pid) - woken) / took,
            threads=(min(each_threads), max(each_threads)),
            descriptors=(min(each_descriptors), max(each_descriptors)),
        )

    def speak(self) -> None:
        """Play speech, if none is playing."""
        if self._player is None or self._player.poll() is not None:
            self._player = self._around.run(["paplay", "--device=vspk", str(self._around.speech)])

    def hush(self) -> None:
        """Play nothing more."""
        if self._player is not None:
            end(self._player)

    def _give_up(self, why: str) -> NoReturn:
        SAY(f"the node {why}:\n{(self._around.folder / 'node.log').read_text()}")
        sys.exit(1)

    def _look(self, seconds: float = 0.5) -> None:
        self._collector.take(seconds)
        if self.node.poll() is not None:
            self._give_up("has ended")
        with contextlib.suppress(BlockingIOError):
            while self._ready.recv(4096):
                pass


@contextlib.contextmanager
def busy(cores: set[int]) -> Iterator[None]:
    """Keep these cores busy."""
    loops = []
    for core in cores:
        code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
        loops.append(subprocess.Popen([sys.executable, "-c", code]))
    try:
        yield
    finally:
        for each in loops:
            end(each)


def main() -> int:
    """Measure, print one table, and return 0."""
    parser = argparse.ArgumentParser(description="What a running node takes.")
    parser.add_argument("--seconds", type=float, default=30.0, help="with the other cores busy (default: %(default)g)")
    seconds = parser.parse_known_args()[0].seconds  # `make bench ARGS=...` goes to all benchmarks
    os.environ["PATH"] += ":/usr/sbin"  # Debian puts mosquitto there
    if missing := [each for each in PROGRAMS if shutil.which(each) is None]:
        skip(f"{', '.join(missing)}: not installed (apt-get install pulseaudio libasound2-plugins mosquitto)")
    if not Path("/proc/self/smaps_rollup").exists():
        skip("only Linux says what a process takes")
    cores = os.sched_getaffinity(0)
    own = min(cores)
    os.sched_setaffinity(0, {own})
    with tempfile.TemporaryDirectory() as name:
        around = Surroundings(Path(name))
        try:
            measure(around, seconds, cores, own)
        finally:
            around.end()
    return 0


def measure(around: Surroundings, seconds: float, cores: set[int], own: int) -> None:
    """Run the node, and print what it came to."""
    steps = subprocess.run(
        [sys.executable, "-c", STEPS], env=around.environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    collector = Collector(around.settings(COLLECTOR))
    collector.start()
    run = Run(around, collector)
    start = run.start()
    phases = [
        run.phase("speech", PHASE_S, speaks=True),
        run.phase("silence", PHASE_S, speaks=False),
    ]
    with busy(cores - {own}):
        phases.append(run.phase("speech, other cores busy", seconds, speaks=True))
    took = memory_mb(run.node.pid)
    run.hush()
    run.node.send_signal(signal.SIGTERM)
    while run.node.poll() is None:
        collector.take(0.2)
    collector.take(0.5)
    collector.end()
    show(collector, phases, took, start, own, cores)
    SAY(f"until it hears, step by step, in a process of its own: {steps.stdout.strip() or steps.stderr}\n")
    log = (around.folder / "node.log").read_text()
    told = [line for line in log.splitlines() if " WARNING " in line or " ERROR " in line]
    SAY("".join(f"the node said: {line}\n" for line in told))


def show(
    collector: Collector,
    phases: Sequence[Phase],
    took: dict[str, float],
    start: Start,
    own: int,
    cores: set[int],
) -> None:
    """Print the table."""
    last = collector.telemetry[-1]
    spoken, silent, _ = phases
    others = ", ".join(str(core) for core in sorted(cores - {own})) or "none"
    SAY(f"machine: {machine()}\n")
    SAY(f"by sched_setaffinity: node, sound server, broker on core {own}; busy loops on {others}\n\n")
    SAY(f"{'a running node: microphone, gate, model, MQTT over TLS':<64}{'budget':>8} {'measured':>10}\n")

    def row(what: str, measured: float, unit: str = "", most: float | None = None, digits: int = 0) -> None:
        budget = "" if most is None else f"{most:g} {unit}".rstrip()
        verdict = "" if most is None else ("ok" if measured <= most else "OVER")
        SAY(f"{what:<64}{budget:>8} {f'{measured:.{digits}f} {unit}'.rstrip():>10}  {verdict}\n".replace("  \n", "\n"))

    row("resident memory at the end (RSS, MB of 10^6 bytes)", took["rss"], "MB", RSS_MB, 1)
    row("  the same in MiB", took["rss"] * 1e6 / 2**20, "MiB", None, 1)
    row("  at its peak", took["peak"], "MB", RSS_MB, 1)
    row("  its share where pages are shared (PSS)", took["pss"], "MB", None, 1)
    row(
        f"start to the first label, beside its window's {WINDOW_S:g} s of sound",
        start.label_s - WINDOW_S,
        "s",
        START_S,
        2,
    )
    row("  start to the first block of sound", start.block_s, "s", None, 2)
    row("  processor until the first label", start.cpu_s, "s", None, 2)
    for each in phases:
        row(f"processor, of one core: {each.name}, {each.seconds:.0f} s", each.cpu_percent, "%", CPU_PERCENT, 2)
    row("blocks dropped, in all", last.dropped_blocks, "", 0)
    row("connections to the broker after the first", last.reconnects, "", 0)
    few, many = min(each.descriptors[0] for each in phases), max(each.descriptors[1] for each in phases)
    row("open files, most less fewest", many - few, "", 2)
    row("  open files", many)
    row("threads", max(each.threads[1] for each in phases))
    row("wakes a second, of all threads: speech", spoken.wakes_per_s)
    row("  silence", silent.wakes_per_s)
    told = collector.telemetry
    windows = sum(sum(each.windows.values()) for each in told)
    gated, quiet = sum(each.gated_windows for each in told), sum(each.silent_windows for each in told)
    SAY(
        f"\nwindows: {windows} classified, {gated} without speech, {quiet} silent; "
        f"{len(collector.emotions)} of {last.emitted} events arrived\n"
    )


if __name__ == "__main__":
    sys.exit(main())

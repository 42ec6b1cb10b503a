"""Starts Sottovoce's programs on this machine, with their settings and logs in one folder, and ends them again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import AudioError, LinkError
from broker.contract.topics import NodeId
from broker.local import LocalBroker
from deploy.demo.make_audio import AUDIO
from edge_node.sound.replay import AUDIO_ENDINGS

__all__ = ["COLLECTOR", "Place", "Programs", "places"]

COLLECTOR: Final = "collector"
_READY_WAIT_S: Final = 20.0
_DRAIN_S: Final = 2
_WARNING: Final = re.compile(r"\S+ (WARNING|ERROR) ")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node of the demo listens, and to what."""

    node: NodeId
    deployment: str
    """The TOML of its `[deployment]`, in one line."""
    source: str
    """The TOML of its `[source]`."""


def places(count: int, clips: Path | None, *, microphone: bool) -> list[Place]:
    """Return the demo's nodes: two rooms, a vehicle, more rooms if asked, and this machine's microphone.

    Args:
        count: nodes that replay recordings.
        clips: a folder of recordings, shared out among the nodes; None: the demo's synthetic sentences.
        microphone: whether to add a node that listens for real.

    Raises:
        AudioError: the folder holds no recordings.
    """
    known = [("home", "kitchen", "home"), ("home", "living-room", "home"), ("fleet", "van-1", "vehicle")]
    more = [("home", f"room-{number}", "home") for number in range(4, count + 1)]
    chosen = [
        Place(
            node=NodeId(site, name),
            deployment=_deployment(context),
            source=_synthetic(known[index % len(known)][1], index // len(known))
            if clips is None
            else _recordings(clips, index, count),
        )
        for index, (site, name, context) in enumerate((known + more)[:count])
    ]
    if microphone:
        chosen.append(
            Place(node=NodeId("home", "this-machine"), deployment=_deployment("home"), source='kind = "microphone"\n')
        )
    return chosen


def _deployment(context: str) -> str:
    return f'deployment = {{context = "{context}", employees_present = false, notice_acknowledged = true}}\n'


class Programs:
    """The running programs of one demo."""

    def __init__(self, folder: Path, broker: LocalBroker) -> None:
        """Prepare to start programs; their settings, logs and files go into `folder`."""
        self.folder = folder
        self.store = folder / "store.sqlite"
        self._broker = broker
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self._others: dict[str, subprocess.Popen[str]] = {}

    def start_collector(self) -> None:
        """Start the collector, and return when it has subscribed: from then on no event is without a taker.

        Raises:
            LinkError: it ended, or did not subscribe in time.
        """
        settings = (
            f'name = "{COLLECTOR}"\n'
            f"shared = {str(self._broker.kind == 'mosquitto').lower()}\n"  # iotcore loses messages of shared ones
            f"[sqlite]\npath = {_toml(self.store)}\n" + self._connection(COLLECTOR)
        )
        process = self._start("dashboard.collector", COLLECTOR, settings, user=COLLECTOR)
        self._others[COLLECTOR] = process
        self._first_words(COLLECTOR, process)

    def start_console(self, port: int) -> str:
        """Start the console on a port of this machine (0: a free one), and return its address when it serves.

        Raises:
            LinkError: it ended, or did not serve in time.
        """
        command = [
            sys.executable, "-m", "dashboard.console", "run", "--store", str(self.store),
            "--port", str(port), "--no-browser",
        ]  # fmt: skip
        self._others["console"] = self._spawn(command, "console", os.environ)
        return self._first_words("console", self._others["console"])

    def start_node(self, place: Place) -> None:
        """Start one node."""
        name = str(place.node).replace("/", "-")
        settings = (
            f'site = "{place.node.site}"\nnode = "{place.node.node}"\n{place.deployment}'
            f"drain_s = {_DRAIN_S}\n"
            f"[source]\n{place.source}"
            "[clock]\ntrust = true\n"  # whoever tries the demo is not to set up a time server first
            f"[outbox]\npath = {_toml(self.folder / f'{name}.outbox.sqlite')}\n"
            "[telemetry]\ninterval_s = 5\n" + self._connection(str(place.node))
        )
        self._nodes[name] = self._start("edge_node", name, settings, user=str(place.node))

    def ended(self) -> list[str]:
        """Return what the programs that ended by themselves said last, and forget these programs."""
        words = []
        for group in (self._nodes, self._others):
            for name, process in list(group.items()):
                if process.poll() is not None:
                    del group[name]
                    words.append(f"{name} ended with code {process.returncode}: {self._last_words(name)}")
        return words

    @property
    def running_nodes(self) -> int:
        """How many nodes still run."""
        return len(self._nodes)

    def stop_nodes(self) -> None:
        """Let the nodes deliver what they have, and end them."""
        _end(self._nodes, _DRAIN_S + 1)

    def stop(self) -> None:
        """End whatever is left."""
        _end(self._nodes | self._others, 1.5)

    def _connection(self, user: str) -> str:
        return (
            f'[broker]\nhost = "127.0.0.1"\nport = {self._broker.port}\ntls = false\nusername = "{user}"\n'
            "reconnect_most_s = 2\n"
        )

    def _start(self, module: str, name: str, settings: str, *, user: str) -> subprocess.Popen[str]:
        config = self.folder / f"{name}.toml"
        config.write_text(settings, encoding="utf-8")
        environment = os.environ | {"SOTTOVOCE_BROKER_PASSWORD": self._broker.passwords[user]}
        return self._spawn([sys.executable, "-m", module, "run", "--config", str(config)], name, environment)

    def _spawn(self, command: Sequence[str], name: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a program in a session of its own, so that Ctrl-C reaches the demo alone."""
        with (self.folder / f"{name}.out").open("w") as out, (self.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(  # noqa: S603 -- our own programs
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment, text=True,
                start_new_session=True,
            )  # fmt: skip

    def warnings(self) -> list[str]:
        """Return what the programs warned of, each once."""
        logs = sorted(self.folder.glob("*.log"))
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        return list(dict.fromkeys(line.split(" ", 2)[2] for line in lines if _WARNING.match(line)))

    def _first_words(self, name: str, process: subprocess.Popen[str]) -> str:
        """Return the first line that a program prints: it is ready."""
        out, deadline = self.folder / f"{name}.out", time.monotonic() + _READY_WAIT_S
        while process.poll() is None and time.monotonic() < deadline:
            line, end, _ = out.read_text().partition("\n")
            if end:
                return line
            time.sleep(0.05)
        msg = f"the {name} did not start: {self._last_words(name)}"
        raise LinkError(msg)

    def _last_words(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _end(processes: dict[str, subprocess.Popen[str]], wait_s: float) -> None:
    for process in processes.values():
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    for process in processes.values():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    processes.clear()


def _synthetic(folder: str, first: int) -> str:
    """Return the sentences of a place, beginning with another one for each node that hears them."""
    files = sorted((AUDIO / folder).glob("*.flac"))
    first %= len(files)
    return _replay("synthetic speech", files[first:] + files[:first])


def _recordings(clips: Path, index: int, count: int) -> str:
    """Return every `count`-th recording, mixed: official sets are sorted by emotion."""
    if not clips.is_dir():
        msg = f"--clips {clips}: no such folder"
        raise AudioError(msg)
    files = sorted(each.absolute() for each in clips.rglob("*") if each.suffix.lower() in AUDIO_ENDINGS)
    random.Random(0).shuffle(files)  # noqa: S311 -- the same mixture each time
    mine = files[index::count]
    if not mine:
        msg = f"--clips {clips}: {len(files)} recordings (WAV, FLAC) for {count} nodes; give more, or fewer --nodes"
        raise AudioError(msg)
    return _replay(f"recordings from {clips.name}"[:100], mine)


def _replay(name: str, files: list[Path]) -> str:
    return f'kind = "replay"\nname = {_toml(name)}\npaths = [{", ".join(map(_toml, files))}]\n'


def _toml(value: Path | str) -> str:
    """Return a string as TOML writes it, whatever characters are in it."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

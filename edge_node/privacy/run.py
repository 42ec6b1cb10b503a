"""One run of the real program on a known signal: heard, then muted, then ended, with everything noted."""

import contextlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.connection import Arrived, Event
from broker.contract.errors import SettingsError
from broker.contract.topics import NodeId
from broker.link import Link
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from edge_node.local.client import UnansweredError, ask
from edge_node.local.messages import Done, Report, ReportRequest, SetMuted
from edge_node.privacy.deeds import Deeds, deeds_of
from edge_node.privacy.sound import Samples, known_signal, write_wave
from edge_node.privacy.tap import Tap
from edge_node.privacy.trace import command, read_calls

__all__ = ["PROGRAM", "Heard", "Plan", "Run", "run_node"]

PROGRAM: Final = (sys.executable, "-m", "edge_node")
_WATCHER: Final = "watcher-of-all"
_BEGIN_S: Final = 120.0
_END_S: Final = 60.0
_LOOK_S: Final = 0.25
_LONGEST_SIGNAL_S: Final = 30.0
_UNSET: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and for how long."""

    heard_s: float
    muted_s: float
    settings: dict[str, Any]
    """The node's settings, as TOML has them; what says where it listens, writes and publishes is replaced."""
    program: Sequence[str] = PROGRAM


class Heard(msgspec.Struct, frozen=True):
    """What the broker gave to somebody who subscribes to everything."""

    topic: str
    payload: bytes


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    node: NodeId
    folder: Path
    """The only one in which the node may write."""
    signal: Samples
    heard_s: float
    """For how long it listened, in s."""
    muted_us: int
    """Wall clock when it had been muted, µs."""
    deeds: Deeds
    sent: list[bytes]
    """What came to the broker's port, by connection."""
    broker: str
    """The address that the node was given."""
    subscriber: list[Heard]
    left: dict[str, bytes]
    """Files that were there at the end, by path."""
    glimpses: dict[str, bytes]
    """What was in files that are written by memory, each time that somebody looked, one after the other."""
    exit_code: int
    words: str
    """What the program said to its terminal."""


def run_node(plan: Plan, folder: Path) -> Run:
    """Run it below a new folder.

    Args:
        plan: what to run.
        folder: an empty one, with a short path: a socket is made in it.

    Raises:
        SettingsError: strace is not installed, or the node does not begin with these settings.
        LinkError: there is no broker for it.
    """
    if (strace := shutil.which("strace")) is None:
        msg = "privacy-check needs strace, to see what the program does: sudo apt install strace"
        raise SettingsError(msg)
    for each in ("broker", "node"):
        (folder / each).mkdir()
    samples = known_signal(min(plan.heard_s, _LONGEST_SIGNAL_S))
    write_wave(folder / "signal.wav", samples)
    node = NodeId(str(plan.settings["site"]), str(plan.settings["node"]))
    broker = LocalBroker(folder / "broker", [str(node), _WATCHER])
    broker.start()
    tap = Tap(broker.port)
    watcher = _Watcher(broker)
    try:
        config = _configure(plan, folder, tap.port)
        process = _start([*plan.program, "run", "--config", str(config)], strace, folder, broker.passwords[str(node)])
        try:
            led = _lead(process, watcher, folder / "node", plan)
        except BaseException:
            process.kill()
            process.wait()
            raise
    finally:
        watcher.close()
        tap.close()
        broker.stop()
    with (folder / "notes").open(encoding="ascii", errors="replace") as notes:
        deeds = deeds_of(read_calls(notes))
    return Run(
        node=node,
        folder=folder / "node",
        signal=samples,
        heard_s=led.heard_s,
        muted_us=led.muted_us,
        deeds=deeds,
        sent=[bytes(each) for each in tap.sent],
        broker=f"127.0.0.1:{tap.port}",
        subscriber=watcher.heard,
        left=_left(folder / "node"),
        glimpses=led.glimpses,
        exit_code=process.returncode,
        words=(folder / "node" / "log").read_text(errors="replace"),
    )


class _Watcher:
    """Subscribes to everything."""

    def __init__(self, broker: LocalBroker) -> None:
        self._variable = f"SOTTOVOCE_CHECK_{secrets.token_hex(4)}"
        os.environ[self._variable] = broker.passwords[_WATCHER]
        settings = BrokerSettings(
            host="127.0.0.1", port=broker.port, tls=False, username=_WATCHER, password_env=self._variable
        )
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._link = Link(settings, _WATCHER, events=self._events, subscribe_to=("#",), session_expiry_s=0)
        self._link.start()
        self.heard: list[Heard] = []

    def take(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Arrived):
                    self.heard.append(Heard(event.topic, event.payload))
                    event.connection.acknowledge(event.packet_id)

    def close(self) -> None:
        time.sleep(_LOOK_S)  # for the node's goodbye, which the broker is handing on
        self.take()
        self._link.stop()
        os.environ.pop(self._variable, None)


def _configure(plan: Plan, folder: Path, port: int) -> Path:
    """Write the node's settings: the operator's, but for where it listens, writes and publishes."""
    settings = dict(plan.settings)
    settings["socket"] = str(folder / "node" / "node.sock")
    settings["source"] = {"kind": "replay", "paths": [str(folder / "signal.wav")], "name": "known signal"}
    settings["outbox"] = {**settings.get("outbox", {}), "path": "outbox.sqlite"}
    settings["clock"] = {"trust": True}
    user = f"{settings['site']}/{settings['node']}"
    settings["broker"] = {"host": "127.0.0.1", "port": port, "tls": False, "username": user}
    settings.pop("state_file", None)
    settings.pop("mute", None)  # quiet hours, or a switch, would leave nothing to hear
    if "update" in settings:
        settings["update"] = {**settings["update"], "folder": "update"}
    path = folder / "node.toml"
    path.write_text("".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in settings.items()))
    return path


def _toml(value: Any) -> str:  # noqa: ANN401 -- whatever TOML holds
    """Return a value as TOML has it; but for tables, that is JSON's way, too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _start(program: Sequence[str], strace: str, folder: Path, password: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key not in _UNSET}
    environment |= {"SOTTOVOCE_BROKER_PASSWORD": password, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    with (folder / "node" / "log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 -- our own command
            command(strace, folder / "notes", program),
            cwd=folder / "node",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class _Led(msgspec.Struct):
    """What it took to lead a node through its run."""

    pid: int = 0
    heard_s: float = 0.0
    muted_us: int = 0
    glimpses: dict[str, bytes] = {}


def _lead(process: subprocess.Popen[bytes], watcher: _Watcher, folder: Path, plan: Plan) -> _Led:
    """Wait until the node hears, let it hear, mute it, end it.

    Raises:
        SettingsError: it does not begin, or cannot be muted.
    """
    led = _Led(glimpses={})
    until_s = time.monotonic() + _BEGIN_S
    while not led.pid:
        if process.poll() is not None or time.monotonic() > until_s:
            raise SettingsError(_unbegun(folder))
        time.sleep(_LOOK_S)
        with contextlib.suppress(UnansweredError):
            answer = ask(folder / "node.sock", ReportRequest())
            led.pid = answer.pid if isinstance(answer, Report) else 0
    began_s = time.monotonic()
    _pass(plan.heard_s, process, watcher, folder, led)
    try:
        answer = ask(
            folder / "node.sock", SetMuted(node=f"{plan.settings['site']}/{plan.settings['node']}", muted=True)
        )
    except UnansweredError as error:
        msg = f"privacy-check: the node cannot be muted: {error}"
        raise SettingsError(msg) from error
    led.heard_s, led.muted_us = time.monotonic() - began_s, time.time_ns() // 1000
    if not isinstance(answer, Done):
        msg = f"privacy-check: the node cannot be muted: {answer}"
        raise SettingsError(msg)
    _pass(plan.muted_s, process, watcher, folder, led)
    if process.poll() is None:
        os.kill(led.pid, signal.SIGTERM)
        until_s = time.monotonic() + _END_S
        while process.poll() is None and time.monotonic() < until_s:
            _pass(_LOOK_S, process, watcher, folder, led)
    if process.poll() is None:
        os.kill(led.pid, signal.SIGKILL)  # strace ends with it
    process.wait(_END_S)
    return led


def _pass(seconds: float, process: subprocess.Popen[bytes], watcher: _Watcher, folder: Path, led: _Led) -> None:
    """Let time pass, and look now and then at what no call of the system tells."""
    until_s = time.monotonic() + seconds
    while process.poll() is None and (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left_s))
        watcher.take()
        for file in folder.glob("*-shm"):
            with contextlib.suppress(OSError):
                led.glimpses[str(file)] = led.glimpses.get(str(file), b"") + file.read_bytes()


def _unbegun(folder: Path) -> str:
    said = (folder / "log").read_text(errors="replace").strip().splitlines()
    return f"privacy-check: the node did not begin; it said: {said[-1] if said else 'nothing'}"


def _left(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}

"""`sottovoce-console mute` and `threshold` as an operator types them, on a real broker."""

import argparse
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker.connection import Acknowledged, Arrived, Connection, Opened, Subscribed
from broker.contract.commands import Command, MuteCommand, Reply, ThresholdCommand
from broker.contract.errors import exit_with_one_line
from broker.contract.messages import decode, encode
from broker.contract.topics import MUTE, OPERATOR_USER, REPLY, THRESHOLD, NodeId, every_command
from broker.link import Link
from broker.local import LocalBroker, free_port
from broker.order import give
from broker.settings import BrokerSettings
from dashboard.console import orders

WAIT_S = 15.0
KITCHEN = NodeId("home", "kitchen")
WORD, NODE_WORD = "SOTTOVOCE_TEST_WORD", "SOTTOVOCE_TEST_NODE"


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Said]


class Node:
    """A node's connection, and what it answers to the next command."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.arrived: list[Arrived] = []
        self.done, self.words = True, "muted"
        self.is_silent = False
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._link = Link(
            settings, str(KITCHEN), events=self._events, subscribe_to=[every_command(KITCHEN)], session_expiry_s=0
        )
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._link.start()
        self._thread.start()
        assert self._subscribed.wait(WAIT_S)

    def stop(self) -> None:
        """Disconnect; safe to call twice."""
        self._events.put(None)
        self._thread.join()
        self._link.stop()

    def _serve(self) -> None:
        while (event := self._events.get()) is not None:
            match event:
                case Subscribed():
                    self._subscribed.set()
                case Arrived(connection, _, payload, packet_id, _):
                    self.arrived.append(event)
                    connection.acknowledge(packet_id)
                    if not self.is_silent:
                        self._answer(connection, decode(payload, Command, MUTE.largest_bytes))
                case Opened() | Acknowledged():
                    pass

    def _answer(self, connection: Connection, command: Command) -> None:
        for identity, words in (("f" * 16, "to somebody else"), (command.id, self.words)):
            reply = Reply(boot_id="0" * 16, time_us=1, command=identity, done=self.done, words=words)
            connection.publish(REPLY.at(KITCHEN), b"no answer")
            connection.publish(REPLY.at(KITCHEN), encode(reply, REPLY.largest_bytes))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    running = LocalBroker(tmp_path_factory.mktemp("broker"), [OPERATOR_USER, str(KITCHEN), "collector"], "mosquitto")
    running.start()
    yield running
    running.kill()


def _section(port: int, user: str = OPERATOR_USER) -> str:
    return (
        f'[broker]\nhost = "127.0.0.1"\nport = {port}\ntls = false\nusername = "{user}"\npassword_env = "{WORD}"\n'
        "reconnect_first_s = 0.1\nreconnect_most_s = 0.3\n"
    )


@pytest.fixture
def node(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv(NODE_WORD, broker.passwords[str(KITCHEN)])
    made = Node(
        BrokerSettings(host="127.0.0.1", port=broker.port, tls=False, username=str(KITCHEN), password_env=NODE_WORD)
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Type a command; its settings are the text of a file."""
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*arguments: str, settings: str = "", wait_s: float = WAIT_S) -> Said:
        monkeypatch.setattr(orders, "give", partial(give, wait_s=wait_s))
        path = tmp_path / "console.toml"
        path.write_text(settings)
        parser = argparse.ArgumentParser()
        orders.add_commands(parser.add_subparsers())
        chosen = parser.parse_args([*arguments, "--config", str(path)])
        code = exit_with_one_line("sottovoce-console", lambda: int(chosen.run(chosen)))
        return Said(code, *capsys.readouterr())

    return typed


@pytest.fixture
def operator(broker: LocalBroker, run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same, as the user `operator` of a broker."""
    monkeypatch.setenv(WORD, broker.passwords[OPERATOR_USER])
    return partial(run, settings=_section(broker.port))


@pytest.mark.parametrize(("off", "muted"), [((), True), (("--off",), False)])
def test_mute_tells_the_node_and_prints_what_it_answers(
    operator: Run, node: Node, off: tuple[str, ...], *, muted: bool
) -> None:
    node.words = "as you like\x1b[31m"
    said = operator("mute", "home/kitchen", *off)
    assert (said.code, said.out, said.err) == (0, "home/kitchen: as you like [31m\n", "")
    (order,) = node.arrived
    assert (order.topic, order.retained) == (MUTE.at(KITCHEN), False)
    command = decode(order.payload, MuteCommand, MUTE.largest_bytes)
    assert command.muted is muted
    assert abs(command.issued_us - time.time_ns() // 1_000) < 60_000_000


def test_threshold_tells_what_is_named_alone(operator: Run, node: Node) -> None:
    for line, named in (
        (("--uncertain-below", "0.5"), (0.5, None, False)),
        (("--speech-above", "0.7"), (None, 0.7, False)),
        (("--reset",), (None, None, True)),
        (("--reset", "--speech-above", "0.05", "--uncertain-below", "0.95"), (0.95, 0.05, True)),
    ):
        assert operator("threshold", "home/kitchen", *line).code == 0
        command = decode(node.arrived[-1].payload, ThresholdCommand, THRESHOLD.largest_bytes)
        assert (command.uncertain_below, command.speech_above, command.reset) == named
    assert len({order.payload for order in node.arrived}) == 4, "each with an id of its own"


def test_command_that_the_node_refuses_ends_with_1(operator: Run, node: Node) -> None:
    node.done, node.words = False, "the command is 61 s old"
    said = operator("mute", "home/kitchen")
    assert (said.code, said.out) == (1, "")
    assert said.err == "sottovoce-console: home/kitchen refuses: the command is 61 s old\n"


def test_command_to_a_node_that_is_not_connected(operator: Run) -> None:
    said = operator("mute", "home/kitchen")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "sottovoce-console: home/kitchen is not connected: the broker knows nobody who takes its commands\n"
    )


def test_command_without_an_answer(operator: Run, node: Node) -> None:
    node.is_silent = True
    said = operator("mute", "home/kitchen", wait_s=0.5)
    assert said.code == 1
    assert said.err == (
        "sottovoce-console: home/kitchen gives no answer within 0.5 s; "
        "it may still carry the command out, if it returns within 60 s\n"
    )


def test_command_of_another_user_is_refused_by_the_broker(
    broker: LocalBroker, run: Run, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("collector", str(KITCHEN)):
        monkeypatch.setenv(WORD, broker.passwords[user])
        if user == str(KITCHEN):
            node.stop()  # one connection for each user
        said = run("mute", "home/kitchen", settings=_section(broker.port, user))
        assert (said.code, said.err.count("\n")) == (5, 1)
        assert said.err.endswith("refuses the command (0x87); the user must be 'operator'\n")
    assert node.arrived == []


def test_command_without_a_broker_is_told_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORD, "word")
    port = free_port()
    said = run("mute", "home/kitchen", settings=_section(port), wait_s=0.5)
    assert (said.code, said.err.count("\n")) == (5, 1)
    assert said.err.startswith(f"sottovoce-console: error: broker 127.0.0.1:{port}: no connection within 0.5 s (")
    assert "; start it, or mend [broker] in " in said.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("mute", "home/kitchen"), "console.toml: names no [broker] to send commands by, as the user 'operator'"),
        (("mute", "kitchen"), "'kitchen' is no <site>/<node>"),
        (("mute", "home/Kitchen"), "node 'Kitchen': 1 to 32 of a-z, 0-9 and '-'"),
        (("threshold", "home/kitchen"), "nothing to change; name --uncertain-below, --speech-above or --reset"),
        (("threshold", "home/kitchen", "--uncertain-below", "0.99"), "--uncertain-below: Expected `float` <= 0.95"),
        (("threshold", "home/kitchen", "--speech-above", "0"), "--speech-above: Expected `float` >= 0.05"),
        (("threshold", "home/kitchen", "--speech-above", "nan"), "--speech-above: "),
    ],
)
def test_mistake_is_one_line(run: Run, line: tuple[str, ...], words: str) -> None:
    said = run(*line)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err

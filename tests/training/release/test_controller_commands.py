"""`rollout`, `watch` and `rollback` as a person types them, on a real broker."""

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.connection import Arrived
from broker.contract.commands import Command, Reply
from broker.contract.messages import decode, encode
from broker.contract.topics import REPLY, ROLLBACK, NodeId, every_command
from broker.contract.updates import UpdateState
from training.release import commands, controller, fleet_commands, rollback
from training.release import mirror as mirror_module
from training.release.__main__ import main
from training.release.mirror import mirror_all
from training.release.roles import Keep
from training.release.watch import open_watch

WAIT_S = 15.0
KITCHEN = NodeId("home", "kitchen")
KEPT = "nodes that run it keep it; to send them back: sottovoce-release publish OTHER --downgrade, then rollout"
PHASES = ("--percent", "10,50,100", "--spread", "0s", "--min-nodes", "3")


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Said]


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    passphrase: Any,
    bundle_of: Callable[..., bytes],
) -> Run:
    """A repository with one release that is published, and nowhere to mirror it to."""
    for keep in Keep:
        monkeypatch.setenv(f"{keep}_WORD", passphrase(keep))
    monkeypatch.setenv("SOTTOVOCE_RELEASES", str(tmp_path / "releases"))
    words = tuple(f"--{keep}-passphrase-env={keep}_WORD" for keep in Keep)

    def typed(command: str, *arguments: str, words: tuple[str, ...] = words) -> Said:
        code = main([command, *arguments, *words])
        return Said(code, *capsys.readouterr())

    (tmp_path / "a.bundle").write_bytes(bundle_of(1))
    for line in (("init",), ("add", str(tmp_path / "a.bundle")), ("publish",)):
        assert typed(*line).code == 0
    return typed


@pytest.fixture
def on_broker(run: Run, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same, with a broker to mirror to and to watch at, more often than a person needs."""
    monkeypatch.setattr(fleet_commands, "Controller", partial(controller.Controller, tick_s=0.05))
    monkeypatch.setattr(fleet_commands, "open_watch", partial(open_watch, quiet_s=0.2))
    with (tmp_path / "releases" / "settings.toml").open("a") as file:
        file.write(place.section("broker", "release") + place.section("watch", "watcher"))
    return run


@pytest.fixture
def signals() -> Iterator[None]:
    """What a command that stays does to signals is undone."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def _answer(node: Any, *, done: bool, words: str) -> threading.Thread:
    """Answer the next command to a node; first to another one, and with something that is no answer."""

    def serve() -> None:
        node.until(lambda event: isinstance(event, Arrived))
        command = decode(node.arrived[-1].payload, Command, ROLLBACK.largest_bytes)
        for identity, told in (("f" * 16, "to somebody else"), (command.id, words)):
            reply = Reply(boot_id="0" * 16, time_us=1, command=identity, done=done, words=told)
            node.publish(REPLY.at(KITCHEN), b"no answer", retain=False)
            node.publish(REPLY.at(KITCHEN), encode(reply, REPLY.largest_bytes), retain=False)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.usefixtures("signals")
def test_rollout_controls_until_it_is_done(on_broker: Run, fleet: Any) -> None:
    for node in fleet.nodes:
        fleet.report(node, UpdateState.IDLE)
    said = on_broker("rollout", "made/1", *PHASES)
    assert (said.code, said.err) == (0, "")
    lines = [line.partition("stable: ")[2] for line in said.out.splitlines() if "stable: " in line]
    assert lines[0].startswith("made/1, 10 % of the nodes, in phases of 10, 50, 100 %")
    assert "made/1: 50 % of the nodes" in lines
    assert lines[-1] == "made/1 is done at 100 %: 6 of 6 nodes run it"
    assert json.loads(on_broker("status", "--json").out)["channels"][0]["percent"] == 100


@pytest.mark.usefixtures("signals")
def test_rollout_that_is_aborted_ends_with_1_and_a_line(on_broker: Run, fleet: Any) -> None:
    for node in fleet.nodes:
        fleet.report(node, UpdateState.REJECTED, "too slow")
    said = on_broker("rollout", "made/1", *PHASES)
    assert said.code == 1
    assert said.out.splitlines()[-2].endswith("stable: made/1 was aborted at 10 %: 6 of 6 failed: too slow")
    assert said.out.splitlines()[-1].endswith(KEPT)
    again = on_broker("watch", "--control")
    assert again.code == 1
    assert "was aborted at 10 %" in again.out


def test_rollout_detached_signs_the_first_phase_and_returns(on_broker: Run) -> None:
    said = on_broker("rollout", "made/1", *PHASES, "--detach")
    assert said.code == 0
    assert "read back all" in said.out
    assert said.out.endswith(
        "nobody steps through the phases or aborts, until: sottovoce-release watch --control --channel stable\n"
    )


def test_rollout_without_a_broker_to_watch_at_says_that_nobody_steps(run: Run) -> None:
    said = run("rollout", "made/1", *PHASES)
    assert said.code == 0
    assert "nobody steps through the phases or aborts: " in said.out
    assert said.out.endswith("settings.toml names no [watch]\n")


@pytest.mark.usefixtures("signals")
def test_ctrl_c_leaves_the_rollout_where_it_is(on_broker: Run, place: Any, fleet: Any) -> None:
    fleet.waiting()

    def interrupt() -> None:
        deadline = time.monotonic() + WAIT_S
        while "as watcher" not in place.broker.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)  # the broker's log tells nobody that it has grown
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    said = on_broker("rollout", "made/1", *PHASES)
    thread.join()
    assert said.code == 130
    assert "detached: stable stays at 10 % of the nodes, nobody steps or aborts" in said.out.splitlines()[-1]
    assert json.loads(on_broker("status", "--json").out)["channels"][0]["percent"] == 10


def test_watch_once_needs_no_passphrase_and_tells_programs_the_figures(on_broker: Run, fleet: Any) -> None:
    assert on_broker("rollout", "made/1", *PHASES, "--detach").code == 0
    fleet.waiting()
    fleet.report(fleet.nodes[0], UpdateState.REJECTED, "too slow")
    fleet.status(fleet.nodes[1], online=False)
    said = on_broker("watch", "--once", "--json", words=())
    assert (said.code, said.err) == (0, "")
    view = json.loads(said.out)
    assert view["rollout"] | {"channel": "stable", "release": "made/1", "percent": 10} == view["rollout"]
    figures = {"nodes": 6, "online": 5, "asked": 2, "absent": 1, "failed": 1, "due": 0, "reasons": {"too slow": 1}}
    assert view["fleet"] | figures == view["fleet"]
    assert view["latest"][0]["node"] in {str(node) for node in fleet.nodes[:2]}
    plain = on_broker("watch", "--once", words=())
    assert plain.out.count("\n") == 1
    assert "stable: made/1: 10 %: 6 nodes, 5 online, 2 asked: 1 failed, 1 offline" in plain.out


def test_watch_control_asks_for_the_passphrase_at_once(on_broker: Run) -> None:
    wrong = on_broker("watch", "--control", words=("--online-passphrase-env", "offline_WORD"))
    assert wrong.code == 2
    assert "the passphrase of the online keys is wrong" in wrong.err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("watch",), 2, "settings.toml: names no [watch], the broker to watch at as the user `watcher`"),
        (("rollback", "home/kitchen"), 2, "settings.toml: names no [broker] to send the command by"),
    ],
)
def test_commands_without_a_broker_are_told(run: Run, line: tuple[str, ...], code: int, words: str) -> None:
    said = run(*line)
    assert (said.code, said.err.count("\n")) == (code, 1)
    assert words in said.err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("watch", "--once", "--control"), 2, "--once looks, and --control stays; choose one of them"),
        (("watch", "--once", "--channel", "beta"), 8, "channel beta names no release yet (known: stable)"),
    ],
)
def test_watch_mistake_is_one_line(on_broker: Run, line: tuple[str, ...], code: int, words: str) -> None:
    said = on_broker(*line)
    assert (said.code, said.err.count("\n")) == (code, 1)
    assert words in said.err


def test_broker_that_is_away_is_told_in_one_line(
    on_broker: Run, place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`refresh` is run by a timer, and whoever reads its mail wants to know what to do."""
    place.broker.kill()
    monkeypatch.setattr(controller, "_ONCE_WAIT_S", 0.5)
    looked = on_broker("watch", "--once")
    assert (looked.code, looked.err.count("\n")) == (5, 1)
    where = f"broker 127.0.0.1:{place.broker.port}"
    assert looked.err.startswith(f"sottovoce-release: error: {where}: no answer within 0.5 s (")
    assert "Connection refused" in looked.err
    assert "tries again" not in looked.err
    assert looked.err.count(where) == 1
    monkeypatch.setattr(fleet_commands, "send_back", partial(rollback.send_back, wait_s=0.5))
    sent = on_broker("rollback", "home/kitchen")
    assert (sent.code, sent.err.count("\n")) == (5, 1)
    assert sent.err.endswith("; start it, or mend [broker] in settings.toml\n")
    monkeypatch.setattr(commands, "mirror_all", partial(mirror_all, wait_s=0.5))
    refreshed = on_broker("refresh")
    assert (refreshed.code, refreshed.err.count("\n")) == (5, 1)
    assert "broker.link" not in {record.name for record in caplog.records}
    assert "Connection refused); what is signed is safe, `sottovoce-release reseed` mirrors it" in refreshed.err
    monkeypatch.setattr(mirror_module, "_TELL_AFTER_S", 0.1)
    waited = on_broker("refresh").err.splitlines()
    assert (waited[0], len(waited)) == (f"sottovoce-release: waiting for the {where}", 2)
    assert waited[1] == refreshed.err.strip()


def test_rollback_prints_what_the_node_answers(on_broker: Run, subscribe: Any) -> None:
    node = subscribe(str(KITCHEN), every_command(KITCHEN))
    thread = _answer(node, done=True, words="goes back to made/0\x1b[31m")
    said = on_broker("rollback", "home/kitchen", words=())
    thread.join(WAIT_S)
    assert (said.code, said.out, said.err) == (0, "home/kitchen: goes back to made/0 [31m\n", "")
    assert node.arrived[-1].topic == ROLLBACK.at(KITCHEN)
    command = decode(node.arrived[-1].payload, Command, ROLLBACK.largest_bytes)
    assert abs(command.issued_us - time.time_ns() // 1_000) < 60_000_000


def test_rollback_that_the_node_refuses(on_broker: Run, subscribe: Any) -> None:
    node = subscribe(str(KITCHEN), every_command(KITCHEN))
    thread = _answer(node, done=False, words="there is none before it")
    said = on_broker("rollback", "home/kitchen")
    thread.join(WAIT_S)
    assert (said.code, said.out) == (1, "")
    assert said.err == "sottovoce-release: home/kitchen refuses: there is none before it\n"


def test_rollback_of_a_node_that_is_not_connected(on_broker: Run) -> None:
    said = on_broker("rollback", "home/kitchen")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "sottovoce-release: home/kitchen is not connected: the broker knows nobody who takes its commands\n"
    )


def test_rollback_without_an_answer(on_broker: Run, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_commands, "send_back", partial(rollback.send_back, wait_s=0.3))
    heard: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
    subscribed = threading.Event()
    node = paho.Client(CallbackAPIVersion.VERSION2, client_id=str(KITCHEN), protocol=paho.MQTTv5)
    node.username_pw_set(str(KITCHEN), place.broker.passwords[str(KITCHEN)])
    node.on_message = lambda _client, _data, message: heard.put(message)
    node.on_subscribe = lambda *_: subscribed.set()
    node.on_connect = lambda client, *_: client.subscribe(every_command(KITCHEN), qos=1)
    node.connect("127.0.0.1", place.broker.port)
    node.loop_start()
    assert subscribed.wait(WAIT_S)
    said = on_broker("rollback", "home/kitchen")
    properties = heard.get(timeout=WAIT_S).properties
    node.disconnect()
    node.loop_stop()
    assert properties is not None
    assert properties.json()["MessageExpiryInterval"] <= ROLLBACK.expiry_s, "a broker does not keep it for longer"
    assert said.code == 1
    assert said.err.startswith("sottovoce-release: home/kitchen gives no answer within 0.3 s; it may still carry")


def test_rollback_of_what_is_no_node(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for node, words in (
        ("n1", "'n1' is no <site>/<node>\n"),
        ("home/Kitchen", "'home/Kitchen' is no <site>/<node>: node 'Kitchen': 1 to 32 of a-z, 0-9 and '-', "),
    ):
        with pytest.raises(SystemExit):
            run("rollback", node)
        assert f"error: argument NODE: {words}" in capsys.readouterr().err

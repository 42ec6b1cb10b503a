"""Commands to a node: what it carries out, what it answers, and what it takes no notice of."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.connection import Arrived, Event, Lost, Opened
from broker.contract.commands import Command, MuteCommand, Reply, ThresholdCommand
from broker.contract.condition import MuteSource, Thresholds
from broker.contract.messages import encode
from broker.contract.topics import METADATA, MUTE, REPLY, ROLLBACK, THRESHOLD, NodeId, NodeTopic
from edge_node.clock import WallClock
from edge_node.control.answers import Answers
from edge_node.control.mute import Mute, MuteSettings
from edge_node.control.orders import Door, Orders
from edge_node.control.state import StateFile
from edge_node.control.tuning import Tuning

NODE = NodeId("home", "kitchen")
GROUND = Thresholds(uncertain_below=0.5, speech_above=0.6)
NOW_US = 1_800_000_000_000_000


class Line:
    """The node's end of a connection: keeps what is acknowledged on it."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, packet_id: int) -> None:
        self.acknowledged.append(packet_id)


class Node:
    """What of a node takes commands; `start` begins it anew, as after a power cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.others: Callable[[Event], None] | None = None
        self.synced = True
        self.line: Any = Line()
        self._file: StateFile | None = None
        self.start()

    def start(self) -> None:
        self.end()
        self._file = StateFile(self.folder / "state.json")
        clock = WallClock(
            trusted=False,
            ask_kernel=lambda: self.synced,
            wall_ns=lambda: NOW_US * 1_000,
            uptime_ns=lambda: 1,
            kernel="k",
        )
        self.mute = Mute(MuteSettings(), self._file, clock)
        self.tuned: list[Thresholds] = []
        self.tuning = Tuning(self._file, lambda: GROUND, self.tuned.append)
        self.said: list[Reply] = []
        answers = Answers("0" * 16, clock)
        self.orders = Orders(
            NODE,
            file=self._file,
            mute=self.mute,
            tuning=self.tuning,
            answers=answers,
            clock=clock,
            others=self.others,
        )
        self.orders.start(self._say)

    def end(self) -> None:
        if self._file is not None:
            self._file.close()

    def hear(self, topic: str, payload: bytes, *, retained: bool = False) -> Reply | None:
        """Let a message arrive; return what is answered, if anything is."""
        before = len(self.said)
        self.orders.hear(Arrived(self.line, topic, payload, len(self.line.acknowledged) + 1, retained))
        return self.said[-1] if len(self.said) > before else None

    def tell(self, *, muted: bool, number: int = 1, age_s: float = 0, retained: bool = False) -> Reply:
        command = MuteCommand(id=f"{number:016x}", issued_us=NOW_US - int(age_s * 1e6), muted=muted)
        reply = self.hear(MUTE.at(NODE), encode(command, MUTE.largest_bytes), retained=retained)
        assert reply is not None
        return reply

    def set(self, number: int = 1, age_s: float = 0, **named: Any) -> Reply:
        command = ThresholdCommand(id=f"{number:016x}", issued_us=NOW_US - int(age_s * 1e6), **named)
        reply = self.hear(THRESHOLD.at(NODE), encode(command, THRESHOLD.largest_bytes))
        assert reply is not None
        return reply

    def _say(self, row: NodeTopic, message: msgspec.Struct | None) -> None:
        assert isinstance(message, Reply)
        assert row is REPLY
        encode(message, row.largest_bytes)
        self.said.append(message)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.end()


def test_command_mutes_at_once_and_across_a_power_cut(node: Node) -> None:
    reply = node.tell(muted=True)
    assert (reply.done, reply.words, reply.command) == (True, "muted", f"{1:016x}")
    assert node.mute.is_muted()
    assert node.line.acknowledged == [1]
    node.start()
    assert node.mute.by() == (MuteSource.COMMAND,)
    assert node.tell(muted=False, number=2).words == "no longer muted"
    node.start()
    assert not node.mute.is_muted()


def test_command_that_comes_twice_is_carried_out_once_and_answered_twice(node: Node) -> None:
    first = node.tell(muted=True)
    node.tell(muted=False, number=2)
    assert node.tell(muted=True) == first
    assert not node.mute.is_muted()
    node.start()
    reply = node.tell(muted=True)
    assert (reply.done, reply.words) == (True, "was carried out already")
    assert not node.mute.is_muted()


@pytest.mark.parametrize("age_s", [61, -61, 1e6])
@pytest.mark.parametrize("muted", [True, False])
def test_command_of_another_time_is_ignored_and_reported(
    node: Node, caplog: pytest.LogCaptureFixture, age_s: float, *, muted: bool
) -> None:
    node.tell(muted=not muted, number=9)
    with caplog.at_level(logging.INFO):
        reply = node.tell(muted=muted, age_s=age_s)
    assert (reply.done, reply.words) == (False, f"the command is {age_s:.0f} s old, at most 60 s are allowed")
    assert node.mute.is_muted() is not muted
    assert f"command mute: {reply.words}" in caplog.text
    assert not node.set(2, age_s, speech_above=0.7).done
    assert node.tuned == []
    assert node.tell(muted=muted, number=3, age_s=59).done


def test_command_without_a_date_that_can_be_trusted_may_mute_and_do_nothing_else(node: Node) -> None:
    node.synced = False
    node.start()
    reply = node.tell(muted=True, age_s=1e6)
    assert (reply.done, reply.words) == (True, "muted")
    reply = node.tell(muted=False, number=2)
    assert not reply.done
    assert "not synchronised, so a command's age cannot be told (clock.trust); it may mute" in reply.words
    assert node.mute.is_muted()
    assert "not synchronised" in node.set(3, speech_above=0.7).words
    assert node.tuned == []


@pytest.mark.parametrize("synced", [True, False])
def test_command_that_the_broker_retains_is_not_carried_out(node: Node, *, synced: bool) -> None:
    """It would mute the node at each start, before the clock is right."""
    node.synced = synced
    node.start()
    reply = node.tell(muted=True, retained=True)
    assert not reply.done
    assert "retained" in reply.words
    assert not node.mute.is_muted()


def test_thresholds_change_at_once_and_across_a_power_cut(node: Node) -> None:
    reply = node.set(speech_above=0.8)
    assert (reply.done, reply.words) == (True, "uncertain below 0.5, speech above 0.8")
    assert node.tuned == [Thresholds(uncertain_below=0.5, speech_above=0.8)]
    node.set(2, uncertain_below=0.4)
    assert node.tuned[-1] == Thresholds(uncertain_below=0.4, speech_above=0.8)
    node.start()
    assert node.tuning.thresholds() == Thresholds(uncertain_below=0.4, speech_above=0.8)
    node.set(3, reset=True, uncertain_below=0.35)
    assert node.tuned == [Thresholds(uncertain_below=0.35, speech_above=0.6)]
    node.set(4, reset=True)
    node.start()
    assert node.tuning.thresholds() == GROUND


def test_thresholds_that_the_disk_does_not_take_hold_and_it_is_said(node: Node) -> None:
    node.folder.rename(node.folder.with_name("away"))
    reply = node.set(speech_above=0.8)
    assert reply.done
    assert reply.words.startswith("uncertain below 0.5, speech above 0.8, but only until this program ends: state_file")
    assert node.tuned == [Thresholds(uncertain_below=0.5, speech_above=0.8)]
    node.folder.with_name("away").rename(node.folder)


def test_thresholds_without_a_name_are_refused(node: Node) -> None:
    reply = node.set()
    assert (reply.done, reply.words) == (False, "the command names no threshold")


@pytest.mark.parametrize("named", ['"uncertain_below": 0.99', '"speech_above": 0', '"speech_above": "loud"'])
def test_threshold_out_of_its_bounds_is_refused_and_answered(node: Node, named: str) -> None:
    payload = f'{{"schema": 1, "id": "{7:016x}", "issued_us": {NOW_US}, {named}}}'.encode()
    for _ in range(2):
        node.hear(THRESHOLD.at(NODE), payload)
    (reply,) = node.said
    assert (reply.done, reply.command) == (False, f"{7:016x}")
    assert "Expected" in reply.words
    assert node.tuned == []
    assert node.line.acknowledged == [1, 2]


@pytest.mark.parametrize("row", [MUTE, THRESHOLD, ROLLBACK])
@pytest.mark.parametrize("payload", [b"", b"rubbish", b"{}", b"null", b"[" * 1000, b"\xff", b" " * 2000])
def test_rubbish_is_acknowledged_and_changes_nothing(node: Node, row: Any, payload: bytes) -> None:
    assert node.hear(row.at(NODE), payload) is None
    assert node.line.acknowledged == [1]
    assert not node.mute.is_muted()


def test_field_that_a_node_does_not_know_is_ignored(node: Node) -> None:
    fields = {"schema": 1, "id": f"{1:016x}", "issued_us": NOW_US, "muted": True, "for_s": 3_600}
    reply = node.hear(MUTE.at(NODE), json.dumps(fields).encode())
    assert reply is not None
    assert reply.done


def test_flood_of_commands_costs_the_node_little(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(1, 1_001):
            command = MuteCommand(id=f"{number:016x}", issued_us=NOW_US, muted=number % 2 == 0)
            node.hear(MUTE.at(NODE), encode(command, MUTE.largest_bytes))
    assert node.line.acknowledged == list(range(1, 1_001)), "none stays in the broker's way"
    assert len(node.said) == 30
    (record,) = caplog.records
    assert "more than 30 commands within a minute" in record.message
    assert len(node.orders._answers._replies) == 30


def test_flood_of_junk_keeps_no_operator_out(node: Node) -> None:
    for number in range(1, 201):
        payload = f'{{"schema": 1, "id": "{number:016x}", "issued_us": {NOW_US}, "speech_above": 9}}'.encode()
        node.hear(THRESHOLD.at(NODE), payload)
        node.hear(MUTE.at(NODE), b"rubbish")
    assert len(node.said) == 15, "junk is answered seldom: every second of it says what it answers"
    assert node.tell(muted=True, number=999).done
    assert node.mute.is_muted()


def test_door_lets_some_in_within_any_minute() -> None:
    now_s = 0.0
    door = Door(lambda: now_s)

    def knock(times: int, at_s: float) -> int:
        nonlocal now_s
        now_s = at_s
        return sum(door.lets_in() for _ in range(times))

    assert [knock(20, at_s) for at_s in (0.0, 30.0, 59.9)] == [20, 10, 0]
    assert knock(50, 60.0) == 20, "as many as came in at the beginning"


def test_node_without_updates_says_so_and_acknowledges_what_it_once_asked_for(node: Node) -> None:
    command = Command(id=f"{1:016x}", issued_us=NOW_US)
    reply = node.hear(ROLLBACK.at(NODE), encode(command, ROLLBACK.largest_bytes))
    assert reply is not None
    assert (reply.done, reply.words) == (False, "this node takes no updates, so there is nothing to go back to")
    assert node.hear(METADATA.at("timestamp.json"), b"{}") is None
    assert node.hear("sottovoce/v1/command/home/bedroom/mute", b"{}") is None
    assert node.line.acknowledged == [1, 2, 3]
    node.orders.hear(Opened(node.line))
    node.orders.hear(Lost(node.line))


def test_node_with_updates_leaves_theirs_to_them(node: Node) -> None:
    heard: list[Event] = []
    node.others = heard.append
    node.start()
    command = encode(Command(id=f"{1:016x}", issued_us=NOW_US), ROLLBACK.largest_bytes)
    for topic in (ROLLBACK.at(NODE), METADATA.at("timestamp.json"), "sottovoce/v1/command/home/kitchen/dance"):
        assert node.hear(topic, command) is None
    node.orders.hear(Opened(node.line))
    assert [getattr(event, "topic", None) for event in heard] == [
        ROLLBACK.at(NODE),
        METADATA.at("timestamp.json"),
        "sottovoce/v1/command/home/kitchen/dance",
        None,
    ]
    assert node.line.acknowledged == [], "they acknowledge what they have worked on"
    assert node.tell(muted=True).done
    assert len(heard) == 4


def test_node_reads_its_commands_alone(node: Node) -> None:
    assert node.orders.subscribe_to == ("sottovoce/v1/command/home/kitchen/+",)

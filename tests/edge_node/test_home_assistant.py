"""When Home Assistant is told of a node, and what a node remembers of that."""

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.connection import Arrived, Attempt, Connection, Event, Lost, Opened
from broker.contract.errors import SettingsError
from broker.contract.home_assistant import birth_topic, describe, discovery_topic
from broker.contract.messages import Versions
from broker.contract.topics import DISCOVERY, STATUS, NodeId, NodeTopic
from broker.settings import read_settings
from edge_node.delivery.notices import Notices
from edge_node.delivery.outbox import OutboxSettings
from edge_node.home_assistant import Announcement, announced, forget_announced
from edge_node.settings import HomeAssistantSettings, NodeSettings

NODE = NodeId("home", "kitchen")
DOCUMENT = describe(NODE, Versions(sottovoce="0", python="3", litert="2"), takes_updates=False)
ON, OFF = HomeAssistantSettings(), HomeAssistantSettings(enabled=False)
ELSEWHERE = HomeAssistantSettings(prefix="ha/two")
HERE, THERE = discovery_topic(), discovery_topic("ha/two")
Said = list[tuple[str, msgspec.Struct | None]]
WAIT_S = 10.0


@pytest.fixture
def connection() -> Connection:
    return Connection(paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5))


@pytest.mark.parametrize(
    ("filters", "waiting", "heard"),
    [
        (("homeassistant/status",), 0, 1),
        (("homeassistant/+",), 0, 0),
        (("sottovoce/v1/command/home/kitchen/+", "homeassistant/other"), 0, 0),
        (("homeassistant/status",), 256, 0),
    ],
    ids=["by its name", "by a pattern", "not at all", "while too much waits"],
)
def test_attempt_message_at_qos_0_is_heard_where_it_was_asked_for_by_name(
    filters: tuple[str, ...], waiting: int, heard: int
) -> None:
    """Home Assistant says at QoS 0 that it has started, which no receive maximum bounds."""
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    for _ in range(waiting):
        events.put(None)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    attempt = Attempt(client, events, [(each, SubscribeOptions(qos=1)) for each in filters])
    attempt.connection = Connection(client)
    message = paho.MQTTMessage(topic=b"homeassistant/status")
    message.payload = b"online"
    assert client.on_message is not None
    client.on_message(client, None, message)
    assert (events.qsize() - waiting, attempt.unheard) == (heard, 1 - heard)
    if heard:
        event = events.get()
        assert isinstance(event, Arrived)
        assert (event.payload, event.packet_id) == (b"online", 0)


@pytest.fixture
def run(box: OutboxSettings) -> Callable[..., Said]:
    """One run of the program, on a connection that lasts for some seconds; return what it said."""

    def once(settings: HomeAssistantSettings, lasts_s: float = 60.0) -> Said:
        said: Said = []
        now_s = [0.0]
        announcement = Announcement(settings, box, DOCUMENT, clock_s=lambda: now_s[0])
        announcement.start(lambda row, message: said.append((row.template, message)))
        line = Connection(paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5))
        assert not announcement.hear(Opened(line))
        now_s[0] += lasts_s
        assert not announcement.hear(Lost(line))
        announcement.stop()
        return said

    return once


def test_announcement_is_said_at_the_start_and_remembered(run: Callable[..., Said], box: OutboxSettings) -> None:
    assert run(ON) == [(HERE.template, DOCUMENT)]
    assert announced(box) == {"homeassistant"}
    assert Path(f"{box.path}.home-assistant").read_text() == "homeassistant\n"
    assert run(ON) == [(HERE.template, DOCUMENT)]


def test_announcement_switched_off_is_taken_back_once(run: Callable[..., Said], box: OutboxSettings) -> None:
    run(ON)
    assert run(OFF, lasts_s=0.1) == [(HERE.template, None)]
    assert run(OFF) == [(HERE.template, None)], "nobody knows whether the first reached the broker"
    assert run(OFF) == []
    assert not Path(f"{box.path}.home-assistant").exists()


def test_announcement_moved_is_taken_back_where_it_was(run: Callable[..., Said], box: OutboxSettings) -> None:
    run(ON)
    assert run(ELSEWHERE) == [(HERE.template, None), (THERE.template, DOCUMENT)]
    assert announced(box) == {"ha/two"}


def test_announcement_that_was_never_made_is_not_taken_back(run: Callable[..., Said], box: OutboxSettings) -> None:
    assert run(OFF) == []
    assert Announcement(OFF, box, DOCUMENT).subscribe_to == ()
    assert Announcement(ON, box, DOCUMENT).subscribe_to == ("homeassistant/status",)
    assert Announcement(ELSEWHERE, box, DOCUMENT).subscribe_to == ("ha/two/status",)


def test_announcement_is_said_again_once_when_home_assistant_has_started(
    box: OutboxSettings, connection: Connection
) -> None:
    said: list[NodeTopic] = []
    told, first = threading.Event(), threading.Event()

    def say(row: NodeTopic, _message: msgspec.Struct | None) -> None:
        said.append(row)
        (told if first.is_set() else first).set()

    announcement = Announcement(ON, box, DOCUMENT, wait_s=lambda: 0.2)
    announcement.start(say)
    birth = birth_topic()
    ignored = [
        Arrived(connection, birth, b"offline", 0),
        Arrived(connection, birth, b"online", 0, retained=True),
    ]
    assert [announcement.hear(each) for each in ignored] == [True, True]
    assert not announcement.hear(Arrived(connection, STATUS.at(NODE), b"online", 0))
    assert not told.wait(0.4), "none of these says that Home Assistant starts; 0.4 s is twice the wait"
    assert all(announcement.hear(Arrived(connection, birth, b"online", 0)) for _ in range(3))
    assert told.wait(WAIT_S)
    announcement.stop()
    assert said == [DISCOVERY, DISCOVERY]


def test_announcement_that_has_stopped_says_nothing_more(box: OutboxSettings, connection: Connection) -> None:
    said: list[NodeTopic] = []
    announcement = Announcement(ON, box, DOCUMENT, wait_s=lambda: 0.1)
    announcement.start(lambda row, _message: said.append(row))
    announcement.hear(Arrived(connection, birth_topic(), b"online", 0))
    announcement.stop()
    threading.Event().wait(0.3)  # three times the wait after which it would have spoken
    assert len(said) == 1


@pytest.mark.parametrize("text", ["", "\n\n", "../..\n", "a b\n", "#\n", "+/x\n", "home\x00\n", "/a\n", "é\n"])
def test_announcement_whose_memory_is_damaged_begins_anew(
    run: Callable[..., Said], box: OutboxSettings, text: str
) -> None:
    Path(f"{box.path}.home-assistant").write_text(text)
    assert run(ON) == [(HERE.template, DOCUMENT)]
    assert announced(box) == {"homeassistant"}


def test_announcement_is_made_though_it_cannot_be_remembered(
    run: Callable[..., Said], box: OutboxSettings, caplog: pytest.LogCaptureFixture
) -> None:
    Path(f"{box.path}.home-assistant").mkdir()
    with caplog.at_level(logging.WARNING):
        assert run(ON) == [(HERE.template, DOCUMENT)]
    assert "may outlive these settings" in caplog.text
    assert list(Path(box.path).parent.glob("*.new")) == []


def test_announcement_is_forgotten_by_whoever_retires_the_node(run: Callable[..., Said], box: OutboxSettings) -> None:
    run(ON)
    forget_announced(box)
    forget_announced(box)
    assert announced(box) == frozenset()


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a b", "+", "#", "$SYS", "a" * 65, "a\n"])
def test_settings_prefix_that_is_no_topic_is_refused(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        'site = "home"\nnode = "kitchen"\n[deployment]\ncontext = "research"\n'
        f"[home_assistant]\nprefix = {msgspec.json.encode(prefix).decode()}\n"
    )
    with pytest.raises(SettingsError, match=r"home_assistant\.prefix"):
        read_settings(path, NodeSettings)


def test_notices_optional_one_that_was_refused_is_never_said_again() -> None:
    notices = Notices(NODE)
    notices.put(DISCOVERY, DOCUMENT)
    (notice,) = notices.take(set(), is_connected=True)
    assert notice.topic == DISCOVERY.at(NODE)
    assert notices.give_up(notice.topic)
    notices.connected()
    notices.put(DISCOVERY, DOCUMENT)
    notices.put(THERE, DOCUMENT)
    assert [each.topic for each in notices.take(set(), is_connected=True)] == [THERE.at(NODE)]
    assert not notices.give_up(STATUS.at(NODE)), "what every node must say is tried again"


def test_notices_optional_one_that_ends_each_connection_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Some brokers refuse without a word: they end the connection, and would again, each time."""
    notices = Notices(NODE)
    notices.put(DISCOVERY, DOCUMENT)
    topic, said = DISCOVERY.at(NODE), []
    for answered in (False, False, True, False, False, False, False):
        notices.connected()
        said.append([each.topic for each in notices.take(set(), is_connected=True)])
        if answered:
            notices.answered(topic)
        notices.lost({STATUS.at(NODE)} if answered else {STATUS.at(NODE), topic})
    assert said == [[topic]] * 6 + [[]], "after the third loss in a row without an answer"
    assert caplog.messages == [f"{topic}: 3 connections in a row ended before an answer; not tried again"]

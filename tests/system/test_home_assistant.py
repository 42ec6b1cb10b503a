"""Home Assistant and a node on a real Mosquitto with the production ACL, as far as MQTT goes.

Home Assistant's part is a client of MQTT 3.1.1, its default, that does what home-assistant/core does: it subscribes to
discovery at QoS 0, says `online` at QoS 0, takes states from the templates that it is given, in jinja2's sandbox, and
sends what the switch's template makes. The node's part is what `sottovoce-node run` is made of. (Over 300 lines because
both parts, and the house that they are in, stand here too.)
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from broker.connection import Event
from broker.contract.condition import CaptureState, Context, Thresholds
from broker.contract.decision import Label
from broker.contract.errors import LinkError
from broker.contract.home_assistant import describe
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, StatusReason, Versions
from broker.contract.topics import (
    DISCOVERY,
    EMOTION,
    HOME_ASSISTANT_STATUS,
    HOME_ASSISTANT_USER,
    MUTE,
    REPLY,
    ROLLBACK,
    STATUS,
    THRESHOLD,
    UPDATE,
    NodeId,
)
from broker.contract.updates import UpdateReport, UpdateState
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from edge_node.clock import WallClock
from edge_node.control.answers import Answers
from edge_node.control.mute import Mute, MuteSettings
from edge_node.control.orders import Orders
from edge_node.control.state import StateFile
from edge_node.control.tuning import Tuning
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.delivery.publisher import Publisher
from edge_node.deployment import DeploymentSettings
from edge_node.home_assistant import Announcement
from edge_node.retire import retire
from edge_node.settings import HomeAssistantSettings, NodeSettings
from edge_node.telemetry import Meter

KITCHEN, BEDROOM = NodeId("home", "kitchen"), NodeId("home", "bedroom")
VERSIONS = Versions(sottovoce="0", python="3", litert="2")
BOOT = "0123456789abcdef"
DELIVERED, NOT_AUTHORISED = 0x00, 0x87
WAIT_S = 15.0
Until = Callable[..., None]


class HomeAssistant:
    """What Home Assistant does with MQTT, for one broker."""

    def __init__(self, broker: LocalBroker, user: str = HOME_ASSISTANT_USER) -> None:
        """Connect, and look for devices."""
        self.states: dict[str, str] = {}
        """Of each entity, by its unique id."""
        self.available: dict[str, bool] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        """Discovery messages by their topic."""
        self.announcements = 0
        self.other: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=user, protocol=paho.MQTTv311, reconnect_on_failure=False
        )
        client.username_pw_set(user, broker.passwords[user])
        client.on_message = self._take
        client.on_subscribe = lambda *_: self._ready.set()
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.subscribe("homeassistant/device/+/+/config", qos=0)
        assert self._ready.wait(WAIT_S)

    def start(self) -> None:
        """Say that it has started."""
        self._client.publish(HOME_ASSISTANT_STATUS, "online", qos=0, retain=False)

    def turn(self, unique_id: str, payload: str) -> None:
        """Press a switch."""
        switch = next(each for each in self._components() if each["unique_id"] == unique_id)
        command = self._render(switch["command_template"], value=payload)
        self._client.publish(switch["command_topic"], command, qos=switch["qos"], retain=False)

    def subscribe(self, topic: str) -> None:
        """Read something else."""
        self._client.subscribe(topic, qos=1)

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _components(self) -> list[dict[str, Any]]:
        return [each for device in self.devices.values() for each in device["components"].values()]

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        if topic.startswith("homeassistant/device/"):
            self.announcements += 1
            self.devices.pop(topic, None)
            if payload:
                device = self.devices[topic] = json.loads(payload)
                for component in device["components"].values():
                    topics = {value for key, value in component.items() if key.endswith("_topic")}
                    self._client.subscribe([(each, 0) for each in topics - {component.get("command_topic")}])
            return
        self.other.append((topic, payload))
        for device in self.devices.values():
            for component in device["components"].values():
                identity = component["unique_id"]
                for each in component.get("availability", device["availability"]):
                    if each["topic"] == topic and payload:
                        self.available[identity] = self._render(each["value_template"], payload) == "online"
                if component["state_topic"] == topic and payload:
                    self.states[identity] = self._render(component["value_template"], payload)

    @staticmethod
    def _render(template: str, payload: bytes | None = None, **names: object) -> str:
        environment = ImmutableSandboxedEnvironment()
        environment.globals["now"] = lambda: datetime.now(UTC)
        values = None if payload is None else json.loads(payload)
        return environment.from_string(template).render(value_json=values, **names).strip()


class Node:
    """A node without a microphone: everything between the decided label and the broker."""

    def __init__(self, home: "Home", settings: HomeAssistantSettings) -> None:
        """Put it together, as the program does."""
        state, clock = StateFile(home.folder / "state.json"), WallClock(trusted=True)
        self.mute = Mute(MuteSettings(), state, clock)
        document = describe(KITCHEN, VERSIONS, takes_updates=True)
        self.announcement = Announcement(settings, home.box, document, wait_s=lambda: 0.2)
        orders = Orders(
            KITCHEN,
            file=state,
            mute=self.mute,
            tuning=Tuning(state, lambda: Thresholds(uncertain_below=0.5, speech_above=0.5), lambda _new: None),
            answers=Answers(BOOT, clock),
            clock=clock,
        )

        def hand_on(event: Event) -> None:
            if not self.announcement.hear(event):
                orders.hear(event)

        self._state, self._outbox = state, Outbox(home.box, clock, alone=True)
        self.publisher = Publisher(
            KITCHEN,
            home.settings(str(KITCHEN)),
            Outbox(home.box, clock),
            status=self._status,
            meter=Meter(),
            subscribe_to=(*orders.subscribe_to, *self.announcement.subscribe_to),
            hand_on=hand_on,
        )
        self.publisher.start()
        orders.start(self.publisher.say)
        self.announcement.start(self.publisher.say)
        report = UpdateReport(
            boot_id=BOOT, time_us=1, release="m/2", state=UpdateState.IDLE, reason="none is newer", progress=1
        )
        self.publisher.say(UPDATE, report)
        self._is_stopped = False

    def hear(self, label: Label, *, age_s: float = 0) -> None:
        """Put an event into the outbox, as if it had been decided some time ago."""

        def draft(seq: int) -> EmotionEvent:
            return EmotionEvent(
                boot_id=BOOT,
                seq=seq,
                time_us=int((time.time() - age_s) * 1e6),
                mono_us=1,
                clock_synced=True,
                label=label,
                confidence=0.75,
                model="m/1",
                latency_us=EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=12_345),
            )

        self.publisher.stored(self._outbox.put(EMOTION, KITCHEN, draft))

    def stop(self) -> None:
        """Safe to call twice."""
        if not self._is_stopped:
            self._is_stopped = True
            self.announcement.stop()
            self.publisher.stop(1.0)
            self._outbox.close()
            self._state.close()

    def _status(self, reason: StatusReason) -> NodeStatus:
        muted_by = self.mute.by()
        return NodeStatus(
            boot_id=BOOT,
            time_us=time.time_ns() // 1000,
            online=reason in {StatusReason.BIRTH, StatusReason.CHANGE},
            reason=reason,
            versions=VERSIONS,
            model="m/1",
            context=Context.RESEARCH,
            source="replay: test",
            muted=bool(muted_by),
            muted_by=muted_by,
            capture=CaptureState.MUTED if muted_by else CaptureState.LISTENING,
            clock_synced=True,
        )


class Home:
    """A broker, and what is in its house."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.box = OutboxSettings(path=str(folder / "outbox.sqlite"))
        (folder / "broker").mkdir()
        users = [str(KITCHEN), str(BEDROOM), HOME_ASSISTANT_USER, "collector"]
        self.broker = LocalBroker(folder / "broker", users, kind="mosquitto")
        self.request = request

    def forbid(self) -> None:
        """Let the broker have the rules of a time when nobody thought of Home Assistant."""
        path = self.folder / "broker" / "acl"
        rules = path.read_text().partition(f"user {HOME_ASSISTANT_USER}")[0]
        path.write_text("".join(line for line in rules.splitlines(keepends=True) if "homeassistant" not in line))

    def settings(self, user: str) -> BrokerSettings:
        word = f"SOTTOVOCE_TEST_{user.replace('/', '_').upper()}"
        os.environ[word] = self.broker.passwords[user]
        self.request.addfinalizer(lambda: os.environ.pop(word, None))
        return BrokerSettings(
            host="127.0.0.1",
            port=self.broker.port,
            tls=False,
            username=user,
            password_env=word,
            reconnect_first_s=0.1,
            reconnect_most_s=0.3,
        )

    def node(self, settings: HomeAssistantSettings = HomeAssistantSettings()) -> Node:  # noqa: B008 -- frozen
        node = Node(self, settings)
        self.request.addfinalizer(node.stop)
        return node

    def home_assistant(self) -> HomeAssistant:
        made = HomeAssistant(self.broker)
        self.request.addfinalizer(made.end)
        return made

    def listen(self, user: str = "collector") -> paho.Client:
        """Return a client of MQTT 5 that our programs know nothing of; `user_data_get` has what arrived."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=user, protocol=paho.MQTTv5, reconnect_on_failure=False, userdata=[]
        )
        client.username_pw_set(user, self.broker.passwords[user])
        client.on_message = lambda _client, got, message: got.append((message.topic, bytes(message.payload)))
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        self.request.addfinalizer(client.loop_stop)
        self.request.addfinalizer(client.disconnect)
        return client

    def reason(self, user: str, topic: str, payload: bytes = b"x") -> int:
        """Return the reason in the PUBACK of one message by a user; anew each time, because a refusal ends it."""
        answers: list[int] = []
        answered = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=user, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.username_pw_set(user, self.broker.passwords[user])

        def on_publish(_client: object, _data: object, _mid: int, reason: ReasonCode, _more: object) -> None:
            answers.append(reason.value)
            answered.set()

        client.on_publish = on_publish
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        client.publish(topic, payload, qos=1)
        assert answered.wait(WAIT_S)
        client.disconnect()
        client.loop_stop()
        return answers[0]

    def retire(self, *options: str) -> "subprocess.CompletedProcess[str]":
        config = self.folder / "node.toml"
        config.write_text(
            'site = "home"\nnode = "kitchen"\n[deployment]\ncontext = "research"\nemployees_present = false\n'
            f'[outbox]\npath = "{self.box.path}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\ntls = false\nusername = "{KITCHEN}"\n'
            "reconnect_first_s = 0.1\nreconnect_most_s = 0.3\n"
        )
        return subprocess.run(
            [sys.executable, "-m", "edge_node", "retire", "--config", config, *options],
            env=os.environ | {"SOTTOVOCE_BROKER_PASSWORD": self.broker.passwords[str(KITCHEN)]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    made = Home(tmp_path, request)
    yield made
    made.broker.kill()


def entity(name: str) -> str:
    return f"sottovoce_home_kitchen_{name}"


def test_home_assistant_finds_a_node_and_shows_what_it_says(home: Home, until: Until) -> None:
    home.broker.start()
    node = home.node()
    assistant = home.home_assistant()
    until(lambda: DISCOVERY.at(KITCHEN) in assistant.devices, "the node is found, though it spoke before")
    until(lambda: assistant.available.get(entity("emotion")), "its status is read")
    node.hear(Label.UNPLEASANT, age_s=3_600)
    until(lambda: assistant.states.get(entity("emotion")) == "None", "what is an hour old says nothing of now")
    node.hear(Label.PLEASANT)
    until(lambda: assistant.states.get(entity("emotion")) == "pleasant", "the label of now is shown")
    shown = {name: assistant.states[entity(name)] for name in ("confidence", "latency", "microphone", "problem")}
    assert shown == {"confidence": "75.0", "latency": "12.3", "microphone": "listening", "problem": "OFF"}
    assert json.loads(assistant.states[entity("update")]) == {"installed_version": "m/1"}
    until(lambda: assistant.states.get(entity("update_state")) == "idle", "the update report is read")


def test_home_assistant_that_starts_is_told_again(home: Home, until: Until) -> None:
    home.broker.start()
    home.node()
    assistant = home.home_assistant()
    until(lambda: assistant.announcements == 1, "what is retained")
    assistant.start()
    until(lambda: assistant.announcements == 2, "the node has heard `online`, at QoS 0")


def test_home_assistant_mutes_a_node_and_sees_that_it_is(home: Home, until: Until) -> None:
    home.broker.start()
    node = home.node()
    assistant = home.home_assistant()
    until(lambda: assistant.states.get(entity("mute")) == "OFF", "the switch is off")
    assert not node.mute.is_muted()
    assistant.turn(entity("mute"), "ON")
    until(node.mute.is_muted, "the node is muted")
    until(lambda: assistant.states[entity("mute")] == "ON", "the switch shows it")
    until(lambda: assistant.available[entity("emotion")] is False, "there is no emotion to show")
    microphone = entity("microphone")
    until(lambda: (assistant.available[microphone], assistant.states[microphone]) == (True, "muted"), "what it does")
    assistant.turn(entity("mute"), "OFF")
    until(lambda: not node.mute.is_muted(), "and back")
    until(lambda: assistant.states[entity("mute")] == "OFF", "the switch shows it")


def test_home_assistant_may_mute_and_nothing_else(home: Home, until: Until) -> None:
    home.broker.start()
    for topic in (DISCOVERY.at(KITCHEN), STATUS.at(KITCHEN), ROLLBACK.at(KITCHEN), THRESHOLD.at(KITCHEN)):
        assert home.reason(HOME_ASSISTANT_USER, topic) == NOT_AUTHORISED, topic
    for topic in (MUTE.at(KITCHEN), HOME_ASSISTANT_STATUS):
        assert home.reason(HOME_ASSISTANT_USER, topic) != NOT_AUTHORISED, topic
    for topic in (DISCOVERY.at(BEDROOM), HOME_ASSISTANT_STATUS, MUTE.at(KITCHEN)):
        assert home.reason(str(KITCHEN), topic) == NOT_AUTHORISED, f"a node may not write {topic}"
    assert home.reason("collector", DISCOVERY.at(KITCHEN)) == NOT_AUTHORISED
    assistant = home.home_assistant()
    for filter_ in (REPLY.every_node, MUTE.every_node, STATUS.every_node):
        assistant.subscribe(filter_)
    home.reason(str(KITCHEN), REPLY.at(KITCHEN))
    assert home.reason(str(KITCHEN), STATUS.at(KITCHEN), b"{}") == DELIVERED
    until(lambda: bool(assistant.other), "the control: it reads the status")
    assert [topic for topic, _ in assistant.other] == [STATUS.at(KITCHEN)]


def test_broker_that_knows_no_home_assistant_is_asked_once(
    home: Home, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    home.forbid()
    home.broker.start()
    listener = home.listen()
    listener.subscribe(EMOTION.every_node, qos=1)
    with caplog.at_level(logging.INFO):
        node = home.node()
        until(lambda: DISCOVERY.at(KITCHEN) in caplog.text, "the broker refuses it")
        for _ in range(20):
            node.hear(Label.NEUTRAL)
        until(lambda: len(listener.user_data_get()) == 20, "events go out")
        node.publisher.say(DISCOVERY, describe(KITCHEN, VERSIONS, takes_updates=False))
        node.hear(Label.NEUTRAL)
        until(lambda: len(listener.user_data_get()) == 21, "and more, after it was to be said again")
    assert node.publisher.reconnects <= 1, "a broker may end the connection with a refusal"
    said = [record.message for record in caplog.records if DISCOVERY.at(KITCHEN) in record.message]
    assert said == [f"{DISCOVERY.at(KITCHEN)}: PUBACK 0x87: the broker refuses it; not tried again"]


def test_node_switched_off_for_home_assistant_is_taken_back(home: Home, until: Until) -> None:
    home.broker.start()
    node = home.node()
    before = home.home_assistant()
    until(lambda: bool(before.devices), "the node is found")  # one that is stopped before it connects says nothing
    node.stop()
    before.end()
    assistant = home.home_assistant()
    until(lambda: bool(assistant.devices), "the message outlives the node")
    home.node(HomeAssistantSettings(enabled=False))
    until(lambda: not assistant.devices, "it is taken back")


def test_retire_refuses_while_the_node_runs(home: Home, until: Until) -> None:
    home.broker.start()
    node = home.node()
    assistant = home.home_assistant()
    until(lambda: bool(assistant.devices), "the node is found")
    done = home.retire()
    assert (done.returncode, done.stdout) == (2, "")
    assert "the node home/kitchen is running; stop it first" in done.stderr
    assert node.publisher.reconnects == 0, "it was not thrown out"
    assert assistant.devices


def test_retire_from_another_folder_asks_first(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node may run, and its outbox be where it was started."""
    home.broker.start()
    home.box = replace(home.box, path="outbox.sqlite")
    monkeypatch.chdir(tmp_path)
    done = home.retire()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"relative paths begin here: {tmp_path}, where it never ran" in done.stderr
    assert "add --force" in done.stderr
    assert home.retire("--force").returncode == 0


def test_retire_leaves_nothing_at_the_broker(home: Home, until: Until) -> None:
    home.broker.start()
    node = home.node(HomeAssistantSettings())
    assistant = home.home_assistant()
    until(lambda: entity("update_state") in assistant.states, "the node is found, and all its topics are read")
    node.stop()
    done = home.retire()
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    emptied = [DISCOVERY.at(KITCHEN), STATUS.at(KITCHEN), UPDATE.at(KITCHEN)]
    lines = done.stdout.splitlines()
    assert lines[:-1] == [f"{topic}: nothing is retained there any more" for topic in emptied]
    assert lines[-1].startswith("home/kitchen is retired.")
    until(lambda: not assistant.devices, "Home Assistant has removed it")
    late = home.listen()
    late.subscribe([(row.every_node, 1) for row in (STATUS, UPDATE)])
    assert home.reason(str(KITCHEN), STATUS.at(KITCHEN), b"after") == DELIVERED
    until(lambda: late.user_data_get() == [(STATUS.at(KITCHEN), b"after")], "nothing came before this")
    assert not Path(f"{home.box.path}.home-assistant").exists()


def test_collector_takes_a_retired_node_for_no_dead_letter(stack: Any, until: Until) -> None:
    stack.start_collector()
    node = paho.Client(CallbackAPIVersion.VERSION2, client_id=str(KITCHEN), protocol=paho.MQTTv5)
    node.username_pw_set(str(KITCHEN), stack.broker.passwords[str(KITCHEN)])
    node.connect("127.0.0.1", stack.broker.port)
    node.loop_start()
    for topic, payload in ((STATUS.at(KITCHEN), b""), (UPDATE.at(KITCHEN), b""), (EMOTION.at(KITCHEN), b"")):
        node.publish(topic, payload, qos=1, retain=topic != EMOTION.at(KITCHEN))
    until(lambda: stack.query("SELECT count(*) FROM dead_letter") != [(0,)], "the control: an empty event is one")
    node.disconnect()
    node.loop_stop()
    assert stack.query("SELECT topic FROM dead_letter") == [(EMOTION.at(KITCHEN),)]


def test_retire_at_a_broker_that_knows_no_home_assistant_does_the_rest(home: Home) -> None:
    home.forbid()
    home.broker.start()
    done = home.retire()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        f"{DISCOVERY.at(KITCHEN)}: the broker lets this node write nothing there (0x87), so it had told nobody"
    )
    assert lines[1].startswith(STATUS.at(KITCHEN))


def test_retire_without_a_broker_says_that_it_can_be_tried_again(home: Home) -> None:
    settings = NodeSettings(
        site="home",
        node="kitchen",
        deployment=DeploymentSettings(context=Context.RESEARCH, employees_present=False),
        broker=home.settings(str(KITCHEN)),
        outbox=home.box,
    )
    with pytest.raises(LinkError, match="no answer; nothing more was taken back, and it can be tried again"):
        list(retire(settings, wait_s=0.5))

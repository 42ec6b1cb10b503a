"""The way to the broker, on a real Mosquitto: nothing in the outbox holds up another, and the goodbye is said."""

import json
import logging
import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.connection import Arrived, Opened, Subscribed
from broker.contract.condition import Context
from broker.contract.errors import LinkError, MessageError
from broker.contract.messages import EmotionEvent, NodeStatus, StatusReason, Telemetry, Versions
from broker.contract.topics import EMOTION, LARGEST_RETAINED_BYTES, STATUS, TELEMETRY, UPDATE, NodeId
from broker.contract.updates import UpdateReport, UpdateState
from broker.link import Link
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.delivery.publisher import Publisher
from edge_node.telemetry import Meter

Draft = Callable[[int], EmotionEvent]
Open = Callable[[OutboxSettings], Outbox]
NODE = NodeId("home", "kitchen")
CLOCK = WallClock(trusted=True)
FORMER = NodeId("home", "bathroom")
WAIT_S = 15.0


def _status(reason: StatusReason) -> NodeStatus:
    return NodeStatus(
        boot_id="0123456789abcdef",
        time_us=time.time_ns() // 1000,
        online=reason in {StatusReason.BIRTH, StatusReason.CHANGE},
        reason=reason,
        versions=Versions(sottovoce="0", python="3", litert="2"),
        model="m/1",
        context=Context.HOME,
        source="replay: test",
        muted=False,
        clock_synced=False,
    )


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)  # between two looks at what other threads do


class Listener:
    """A collector's connection that keeps what arrives."""

    def __init__(self, broker: BrokerSettings, filters: tuple[str, ...]) -> None:
        self.arrived: list[Arrived] = []
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._link = Link(broker, "collector", events=self._events, subscribe_to=filters)
        self._link.start()
        while not isinstance(self._events.get(timeout=WAIT_S), Subscribed):
            pass
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def seqs(self, topic: str) -> list[int]:
        return [json.loads(each.payload)["seq"] for each in self.arrived if each.topic == topic]

    def reasons(self) -> list[str]:
        return [json.loads(each.payload)["reason"] for each in self.arrived if each.topic == STATUS.at(NODE)]

    def stop(self) -> None:
        """Safe to call twice."""
        self._link.stop()
        self._events.put(None)
        self._thread.join()

    def _take(self) -> None:
        while (event := self._events.get()) is not None:
            if isinstance(event, Arrived):
                event.connection.acknowledge(event.packet_id)
                self.arrived.append(event)


class Site:
    """A broker, and what talks to it."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.broker = LocalBroker(folder, [str(NODE), "collector"], kind="mosquitto")
        self._request = request

    def settings(self, user: str) -> BrokerSettings:
        word = f"SOTTOVOCE_TEST_{user.replace('/', '_').upper()}"
        os.environ[word] = self.broker.passwords[user]
        self._request.addfinalizer(lambda: os.environ.pop(word, None))
        return BrokerSettings(
            host="127.0.0.1",
            port=self.broker.port,
            tls=False,
            username=user,
            password_env=word,
            reconnect_first_s=0.1,
            reconnect_most_s=0.3,
        )

    def listen(self, *filters: str) -> Listener:
        listener = Listener(self.settings("collector"), filters or ("sottovoce/v1/node/+/+/+",))
        self._request.addfinalizer(listener.stop)
        return listener

    def publish(
        self,
        box: OutboxSettings,
        status: Callable[[StatusReason], NodeStatus] = _status,
        clock: WallClock = CLOCK,
        report: UpdateReport | None = None,
    ) -> Publisher:
        """Start a publisher; a report is said before there can be a connection."""
        outbox = Outbox(box, clock)
        publisher = Publisher(NODE, self.settings(str(NODE)), outbox, status=status, meter=Meter())
        if report is not None:
            publisher.say(UPDATE, report)
        publisher.start()
        return publisher


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    (tmp_path / "broker").mkdir()
    made = Site(tmp_path / "broker", request)
    made.broker.start()
    yield made
    made.broker.kill()


def test_publisher_delivers_in_order_and_says_goodbye(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    for _ in range(200):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    assert site.publish(box).stop(WAIT_S)
    _until(lambda: listener.reasons() == ["birth", "stopped"], "birth and goodbye")
    assert listener.seqs(EMOTION.at(NODE)) == list(range(1, 201))
    assert outbox.counters().depth == 0


def test_publisher_rows_of_a_former_name_hold_up_nothing(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft, caplog: pytest.LogCaptureFixture
) -> None:
    """The ACL refuses them for ever, and Mosquitto 2.0 ends the connection each time; everything else goes out."""
    outbox = open_outbox(box)
    for _ in range(60):
        outbox.put(EMOTION, FORMER, draft)
    for _ in range(60):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    with caplog.at_level(logging.WARNING):
        publisher = site.publish(box)
        _until(lambda: len(listener.seqs(EMOTION.at(NODE))) == 60, "all that may go out has gone out")
        assert not publisher.stop(0.5)
    assert outbox.counters().depth == 60
    refusals = [record.message for record in caplog.records if "PUBACK 0x87" in record.message]
    assert len(refusals) == 1
    assert EMOTION.at(FORMER) in refusals[0]


def test_publisher_topic_without_subscriber_holds_up_no_other(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft, draft_telemetry: Callable[[int], Telemetry]
) -> None:
    outbox = open_outbox(box)
    for _ in range(40):
        outbox.put(TELEMETRY, NODE, draft_telemetry)
    for _ in range(40):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen(EMOTION.every_node)
    publisher = site.publish(box)
    _until(lambda: len(listener.seqs(EMOTION.at(NODE))) == 40, "the events go out")
    publisher.stop(0)
    assert outbox.counters().depth == 40


def test_publisher_stopped_with_messages_left_still_says_goodbye(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    """Or the retained status would say for ever that it is online: an orderly disconnect has no will."""
    open_outbox(box).put(EMOTION, NODE, draft)
    listener = site.listen(STATUS.every_node)
    publisher = site.publish(box)
    _until(lambda: listener.reasons() == ["birth"], "the node is online")
    assert not publisher.stop(0)
    _until(lambda: listener.reasons() == ["birth", "stopped"], "the goodbye")


def test_publisher_broker_gone_at_stop_ends_when_the_time_is_over(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    listener = site.listen()
    publisher = site.publish(box)
    _until(lambda: "birth" in listener.reasons(), "the node is online")
    site.broker.kill()
    outbox.put(EMOTION, NODE, draft)
    began = time.monotonic()
    assert not publisher.stop(0.5)
    assert 0.5 <= time.monotonic() - began < 8
    assert outbox.counters().depth == 1


def test_publisher_reconnected_sends_again_what_was_delivered(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    for _ in range(5):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    publisher = site.publish(box)
    _until(lambda: outbox.counters().depth == 0, "delivered")
    site.broker.kill()  # perhaps with an acknowledged event in it that it has not passed on
    before = len(listener.seqs(EMOTION.at(NODE)))
    site.broker.forget_state()
    site.broker.start()
    _until(lambda: {1, 2, 3, 4, 5} <= set(listener.seqs(EMOTION.at(NODE))[before:]), "sent again, all of them")
    _until(lambda: publisher.reconnects >= 1, "the new connection counted")  # its events come from another thread
    assert publisher.stop(WAIT_S)


def test_publisher_forgets_after_the_replay_time(site: Site, tmp_path: Path, open_outbox: Open, draft: Draft) -> None:
    box = OutboxSettings(path=str(tmp_path / "o.sqlite"), replay_s=0.2)
    outbox = open_outbox(box)
    for _ in range(5):
        outbox.put(EMOTION, NODE, draft)
    site.listen()
    publisher = site.publish(box)
    _until(lambda: outbox._run("SELECT count(*) FROM message") == [(0,)], "the rows are gone")
    assert publisher.stop(WAIT_S)


def test_publisher_disk_that_fails_for_a_while_delivers_afterwards(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = open_outbox(box)
    for _ in range(30):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen(STATUS.every_node)
    publisher = site.publish(box)
    _until(lambda: listener.reasons() == ["birth"], "the node is online, and nobody subscribes to events")
    outbox._run("ALTER TABLE message RENAME TO hidden")
    _until(lambda: "nothing is delivered" in caplog.text, "said once")
    assert caplog.text.count("nothing is delivered") == 1
    outbox._run("ALTER TABLE hidden RENAME TO message")
    listener.stop()
    everything = site.listen()
    _until(lambda: len(everything.seqs(EMOTION.at(NODE))) == 30, "delivered")
    assert publisher.stop(WAIT_S)


def test_publisher_status_that_breaks_the_contract_is_told_at_once(site: Site, box: OutboxSettings) -> None:
    def bad(reason: StatusReason) -> NodeStatus:
        return msgspec.structs.replace(_status(reason), source="")

    with pytest.raises(MessageError, match="source"):
        site.publish(box, bad)


def test_publisher_memory_does_not_grow_while_nothing_goes_out(
    site: Site, box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    site.broker.kill()
    publisher = site.publish(box)
    for _ in range(1_500):
        publisher.stored(outbox.put(EMOTION, NODE, draft))
    _until(publisher._events.empty, "the publisher has taken up what it was told")
    assert len(publisher._stored) == 1_000
    assert not publisher._in_flight
    assert not publisher.stop(0)


def test_link_stopped_while_the_broker_does_not_answer_ends_soon() -> None:
    """TCP connects, and no CONNACK comes: a hung broker."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        link = Link(BrokerSettings(host="127.0.0.1", port=silent.getsockname()[1], tls=False), "node", events=events)
        link.start()
        accepted, _ = silent.accept()
        assert accepted.recv(4)[0] >> 4 == 1  # CONNECT is on its way
        began = time.monotonic()
        link.stop()
        assert time.monotonic() - began < 5
        assert not link._thread.is_alive()
        accepted.close()


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.003, 0.01, 0.03])
def test_link_stopped_at_any_moment_of_connecting_ends_soon(site: Site, delay_s: float) -> None:
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    link = Link(site.settings(str(NODE)), "node", events=events)
    link.start()
    time.sleep(delay_s)  # the moment is what this test varies
    began = time.monotonic()
    link.stop()
    assert time.monotonic() - began < 5
    assert not link._thread.is_alive()


def test_link_wrong_password_is_said_once_and_tried_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    settings = site.settings(str(NODE))
    os.environ[settings.password_env] = "wrong"
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    link = Link(settings, "node", events=events)
    link.start()
    _until(lambda: "refused: Not authorized" in caplog.text, "the refusal is logged")
    time.sleep(1)  # several attempts, at most 0.3 s apart
    link.stop()
    assert caplog.text.count("Not authorized") == 1
    assert link.connects == 0
    assert events.empty()


def test_link_every_opened_connection_is_lost_once(site: Site) -> None:
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    link = Link(site.settings(str(NODE)), "node", events=events)
    link.start()
    seen = [events.get(timeout=WAIT_S)]
    for _ in range(3):
        site.broker.kill()
        seen.append(events.get(timeout=WAIT_S))
        site.broker.start()
        seen.append(events.get(timeout=WAIT_S))
    link.stop()
    seen.append(events.get(timeout=WAIT_S))
    assert events.empty()
    assert [type(event).__name__ for event in seen] == ["Opened", "Lost"] * 4
    connections = [event.connection for event in seen if isinstance(event, Opened)]
    assert [event.connection for event in seen[1::2]] == connections
    assert len(set(map(id, connections))) == 4


def _unbounded(site: Site) -> None:
    """Let this broker take packets of any size, as one that is not ours may."""
    configuration = site.broker.log.with_name("mosquitto.conf")
    bounded = configuration.read_text()
    assert "max_packet_size 66560\n" in bounded
    configuration.write_text(bounded.replace("max_packet_size 66560\n", ""))
    site.broker.kill()
    site.broker.start()


def _sender(site: Site, request: pytest.FixtureRequest) -> paho.Client:
    settings = site.settings(str(NODE))
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=str(NODE), protocol=paho.MQTTv5)
    client.username_pw_set(settings.username, os.environ[settings.password_env])
    client.connect(settings.host, settings.port)
    client.loop_start()
    request.addfinalizer(client.loop_stop)
    request.addfinalizer(client.disconnect)
    return client


def test_link_message_larger_than_any_of_ours_does_not_arrive(site: Site, request: pytest.FixtureRequest) -> None:
    _unbounded(site)
    listener = site.listen()
    sender, topic = _sender(site, request), TELEMETRY.at(NODE)
    for _ in range(10):
        sender.publish(topic, bytes(2 * LARGEST_RETAINED_BYTES), qos=1)
    sender.publish(topic, bytes(LARGEST_RETAINED_BYTES), qos=1)
    _until(lambda: bool(listener.arrived), "the one that may be so large arrives")
    assert [len(each.payload) for each in listener.arrived] == [LARGEST_RETAINED_BYTES]
    assert listener._link.connects == 1


def test_link_messages_at_qos_0_are_not_taken(
    site: Site, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    listener = site.listen()
    sender, topic = _sender(site, request), TELEMETRY.at(NODE)
    for _ in range(100):
        sender.publish(topic, b"0", qos=0)
    sender.publish(topic, b"1", qos=1)
    _until(lambda: bool(listener.arrived), "what comes at QoS 1 arrives")
    assert [each.payload for each in listener.arrived] == [b"1"]
    _until(lambda: "messages come at QoS 0" in caplog.text, "it is said")


def test_local_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("Mosquitto is not installed")
    broker = LocalBroker(tmp_path, ["collector"], kind="mosquitto")
    (tmp_path / "mosquitto.conf").write_text("no such option\n")
    with pytest.raises(LinkError, match="did not start"):
        broker.start()


def test_publisher_whose_link_fails_says_so_at_the_next_event(
    site: Site, box: OutboxSettings, open_outbox: Open
) -> None:
    """A thread that dies of a defect of ours must not leave a node that looks alive."""
    asked: list[StatusReason] = []

    def status(reason: StatusReason) -> NodeStatus:
        asked.append(reason)
        if reason is StatusReason.LOST and asked.count(reason) > 1:
            msg = "a defect"
            raise KeyError(msg)
        return _status(reason)

    open_outbox(box)
    publisher = site.publish(box, status)

    def is_told() -> bool:
        try:
            publisher.stored(1)
        except RuntimeError as error:
            return isinstance(error.__cause__, KeyError)
        return False

    _until(is_told, "the pipeline's thread hears of it")
    publisher.stop(0)


class _Talkative(UpdateReport, frozen=True, kw_only=True):
    """A report that says more than the contract knows."""

    transcript: str


@pytest.mark.parametrize("is_more", [False, True], ids=["another struct", "one field more"])
def test_publisher_notice_that_is_not_of_its_topics_struct_is_not_said(
    site: Site, box: OutboxSettings, *, is_more: bool
) -> None:
    listener = site.listen()
    publisher = site.publish(box)
    report = UpdateReport(
        boot_id="0123456789abcdef", time_us=1, release=None, state=UpdateState.IDLE, reason="", progress=0
    )
    publisher.say(UPDATE, report)
    _until(lambda: any(each.topic == UPDATE.at(NODE) for each in listener.arrived), "what is of it is said")
    more = _Talkative(**msgspec.structs.asdict(report), transcript="what was said")
    publisher.say(UPDATE, more if is_more else _status(StatusReason.CHANGE))

    def is_told() -> bool:
        try:
            publisher.stored(1)
        except RuntimeError as error:
            return isinstance(error.__cause__, MessageError)
        return False

    _until(is_told, "the pipeline's thread hears of it")
    publisher.stop(0)
    assert [json.loads(each.payload) for each in listener.arrived if each.topic == UPDATE.at(NODE)] == [
        msgspec.to_builtins(report)
    ]


# --- after an outage, and before the clock is right


def test_publisher_empties_the_outbox_no_faster_than_it_may(
    site: Site, tmp_path: Path, open_outbox: Open, draft: Draft
) -> None:
    box = OutboxSettings(path=str(tmp_path / "o.sqlite"), drain_per_s=50)
    outbox = open_outbox(box)
    for _ in range(80):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    began = time.monotonic()
    publisher = site.publish(box)
    _until(lambda: len(listener.seqs(EMOTION.at(NODE))) == 80, "delivered")
    assert time.monotonic() - began > (80 - 20) / 50  # a few at once, and then the rate
    assert listener.seqs(EMOTION.at(NODE)) == list(range(1, 81))
    assert publisher.stop(WAIT_S)


def test_publisher_after_an_outage_tells_how_things_stand_before_what_happened(
    site: Site, tmp_path: Path, open_outbox: Open, draft: Draft
) -> None:
    """The status and retained notices are the newest there are, whatever waits in the outbox."""
    box = OutboxSettings(path=str(tmp_path / "o.sqlite"), drain_per_s=20)
    outbox = open_outbox(box)
    for _ in range(100):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    report = UpdateReport(
        boot_id="0123456789abcdef", time_us=1, release=None, state=UpdateState.IDLE, reason="", progress=0
    )
    publisher = site.publish(box, report=report)
    _until(lambda: len(listener.seqs(EMOTION.at(NODE))) >= 30, "the outbox drains")
    assert [each.topic for each in listener.arrived][:3] == [STATUS.at(NODE), UPDATE.at(NODE), EMOTION.at(NODE)]
    publisher.say(UPDATE, msgspec.structs.replace(report, time_us=2))
    _until(lambda: sum(each.topic == UPDATE.at(NODE) for each in listener.arrived) == 2, "what is said meanwhile")
    assert len(listener.seqs(EMOTION.at(NODE))) < 100
    publisher.stop(0)


def test_publisher_while_nobody_knows_the_time_says_so_and_delivers_when_somebody_does(
    site: Site, box: OutboxSettings, request: pytest.FixtureRequest, draft: Draft
) -> None:
    synced = threading.Event()
    clock = WallClock(trusted=False, ask_kernel=synced.is_set)
    outbox = Outbox(box, clock)
    request.addfinalizer(outbox.close)
    for _ in range(120):
        outbox.put(EMOTION, NODE, draft)
    listener = site.listen()
    publisher = site.publish(box, clock=clock)
    _until(lambda: listener.reasons() == ["birth"], "the status waits for nothing")
    assert listener.seqs(EMOTION.at(NODE)) == []
    synced.set()
    _until(lambda: len(listener.seqs(EMOTION.at(NODE))) == 120, "dated and delivered")
    assert listener.seqs(EMOTION.at(NODE)) == list(range(1, 121))
    now_us = time.time_ns() // 1000
    events = [json.loads(each.payload) for each in listener.arrived if each.topic == EMOTION.at(NODE)]
    assert all(event["clock_synced"] and 0 <= now_us - event["time_us"] < 60_000_000 for event in events)
    assert publisher.stop(WAIT_S)


def test_publisher_stopped_before_anybody_knows_the_time_says_goodbye_and_leaves_what_waits(
    site: Site, box: OutboxSettings, request: pytest.FixtureRequest, draft: Draft
) -> None:
    clock = WallClock(trusted=False, ask_kernel=lambda: False)
    outbox = Outbox(box, clock)
    request.addfinalizer(outbox.close)
    outbox.put(EMOTION, NODE, draft)
    listener = site.listen(STATUS.every_node)
    publisher = site.publish(box, clock=clock)
    _until(lambda: listener.reasons() == ["birth"], "the node is online")
    began = time.monotonic()
    assert not publisher.stop(WAIT_S)
    assert time.monotonic() - began < WAIT_S / 2  # it waits for no time server
    _until(lambda: listener.reasons() == ["birth", "stopped"], "the goodbye")
    assert outbox.depth() == 1


def test_publisher_file_that_is_removed_stops_nothing(
    site: Site, box: OutboxSettings, request: pytest.FixtureRequest, draft: Draft, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(box, CLOCK, alone=True)
    request.addfinalizer(outbox.close)
    listener = site.listen()
    publisher = site.publish(box)
    publisher.stored(outbox.put(EMOTION, NODE, draft))
    _until(lambda: listener.seqs(EMOTION.at(NODE)) == [1], "the first is delivered")
    site.broker.kill()
    publisher.stored(outbox.put(EMOTION, NODE, draft))
    Path(box.path).unlink()
    publisher.stored(outbox.put(EMOTION, NODE, draft))
    site.broker.start()
    _until(lambda: {1, 2, 3} <= set(listener.seqs(EMOTION.at(NODE))), "all of them are delivered")
    assert publisher.stop(WAIT_S)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "removed while in use" in errors[0]


class Waits:
    """Seconds that pass at once, and are written down; the last of them never ends."""

    def __init__(self, link: Link, total_s: float) -> None:
        self.waits: list[float] = []
        self.is_over = threading.Event()
        self._link, self._total_s = link, total_s
        link.wait = self._wait

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if sum(self.waits) >= self._total_s:
            self.is_over.set()
            self._link._stopping.wait()


@pytest.mark.parametrize("answer", ["refuses", "hangs up"])
def test_link_hour_without_a_broker_is_no_storm_and_fills_no_log(answer: str, caplog: pytest.LogCaptureFixture) -> None:
    """One attempt to each step of the back-off, drawn at random, at most a minute apart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answer == "refuses":
            server.close()
        else:
            threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        link = Link(BrokerSettings(host="127.0.0.1", port=port, tls=False), "node", events=events)
        hour = Waits(link, 3_600)
        link.start()
        assert hour.is_over.wait(60)
        link.stop()
    steps = [min(60.0, 2.0**step) for step in range(len(hour.waits))]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(hour.waits, steps, strict=True))
    assert 60 <= len(hour.waits) <= 126
    assert len({round(wait, 3) for wait in hour.waits[6:]}) > len(hour.waits) / 2  # a fleet does not come in step
    assert len(caplog.records) <= 2, caplog.text
    assert events.empty()


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return

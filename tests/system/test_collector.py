"""What the collector does with what it should not get, and with what it gets at the wrong moment."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.messages import EmotionEvent, EventLatency
from broker.contract.topics import EMOTION, STATUS, TELEMETRY, NodeId
from broker.settings import BrokerSettings
from dashboard.collector.consumer import Consumer
from dashboard.collector.records import DeadLetter, Record, Written
from dashboard.collector.sqlite_store import SqliteStore

KITCHEN = NodeId("home", "kitchen")
Publish = Callable[[str, bytes], None]
Until = Callable[..., None]


def event(seq: int, **changes: Any) -> EmotionEvent:
    latency = EventLatency(capture=1, resample=2, features=3, inference=4, decision=5, total=15)
    fields: dict[str, Any] = {
        "boot_id": "0123456789abcdef",
        "seq": seq,
        "time_us": 1_700_000_000_000_000,
        "mono_us": seq,
        "clock_synced": True,
        "label": Label.NEUTRAL,
        "confidence": 0.5,
        "model": "factory/1",
        "latency_us": latency,
    }
    return EmotionEvent(**(fields | changes))


def payload(seq: int, **changes: Any) -> bytes:
    return msgspec.json.encode(event(seq, **changes))


@pytest.fixture
def publish(stack: Any) -> Iterator[Publish]:
    """Sends a payload as the node home/kitchen, and waits for the PUBACK."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="home.kitchen", protocol=paho.MQTTv5)
    client.username_pw_set("home/kitchen", stack.broker.passwords["home/kitchen"])
    client.connect("127.0.0.1", stack.broker.port)
    client.loop_start()

    def send(topic: str, content: bytes) -> None:
        client.publish(topic, content, qos=1).wait_for_publish(10)

    yield send
    client.disconnect()
    client.loop_stop()


class HeldStore:
    """A store that writes only with leave: the moment between arrival and acknowledgement, held open."""

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path)
        self._leave = threading.Semaphore(0)
        self._is_broken = False
        self.holds = threading.Semaphore(0)

    def write(self, batch: list[Record | DeadLetter]) -> Written:
        self.holds.release()
        self._leave.acquire(timeout=30)
        if self._is_broken:
            msg = "broken by the test"
            raise StoreError(msg)
        return self._store.write(batch)

    def let_write(self) -> None:
        self._leave.release()

    def break_down(self) -> None:
        self._is_broken = True
        self._leave.release(100)

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def consume(stack: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Callable[[], None]]]:
    """Runs a consumer in this process on a store of the test's; ready when it returns; returns how to stop it."""
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", stack.broker.passwords["collector"])
    running = []

    def start(store: Any) -> Callable[[], None]:
        settings = BrokerSettings(
            host="127.0.0.1",
            port=stack.broker.port,
            tls=False,
            username="collector",
            reconnect_first_s=0.1,
            reconnect_most_s=0.3,
        )
        ready, stop = threading.Event(), threading.Event()
        consumer = Consumer(settings, "collector", "collectors", store, ready=ready.set)
        thread = threading.Thread(target=consumer.run, args=(stop,))

        def end() -> None:
            stop.set()
            thread.join(15)
            store.close()

        thread.start()
        running.append(end)
        assert ready.wait(10)
        return end

    yield start
    for end in running:
        end()


@pytest.mark.parametrize(
    ("row", "content", "reason"),
    [
        (EMOTION, b"not JSON", "EmotionEvent: JSON is malformed"),
        (EMOTION, b"", "EmotionEvent: Input data was truncated"),
        (EMOTION, b"\xff\xfe\x00", "EmotionEvent: JSON is malformed"),
        (EMOTION, b"[" * 900, "EmotionEvent: "),
        (EMOTION, payload(1).replace(b'"schema":1', b'"schema":2'), "schema 2 is not understood, only 1"),
        (EMOTION, payload(1).replace(b'"seq":1', b'"audio":"UklGRg==","seq":1'), "unknown field `audio`"),
        (EMOTION, payload(1).replace(b"0.5", b"null"), "$.confidence"),
        (EMOTION, payload(1).replace(b"0.5", b"1.5"), "$.confidence"),
        (EMOTION, payload(1).replace(b"neutral", b"happy"), "$.label"),
        (EMOTION, payload(1) + b" " * 2000, "at most 1024 are allowed"),
        (TELEMETRY, payload(1), "Telemetry: "),
        (STATUS, b"{}", "NodeStatus: "),
    ],
)
def test_collector_unusable_message_becomes_a_dead_letter(
    stack: Any, publish: Publish, until: Until, row: Any, content: bytes, reason: str
) -> None:
    stack.start_collector()
    publish(row.at(KITCHEN), content)
    publish(EMOTION.at(KITCHEN), payload(2))
    until(lambda: stack.stored() == 1, "the good message after the bad one is stored")
    ((topic, why, size, head),) = stack.query("SELECT topic, reason, size_bytes, head FROM dead_letter")
    assert (topic, size) == (row.at(KITCHEN), len(content))
    assert reason in why
    assert head == content[:256]
    assert stack.query("SELECT value FROM counter WHERE name = 'dead_letters'") == [(1,)]


def test_collector_two_events_of_equal_time_are_both_stored(stack: Any, publish: Publish, until: Until) -> None:
    stack.start_collector()
    publish(EMOTION.at(KITCHEN), payload(1))
    publish(EMOTION.at(KITCHEN), payload(2, label=Label.PLEASANT))
    until(lambda: stack.stored() == 2, "both are stored")
    assert len(stack.query("SELECT DISTINCT time_us FROM emotion")) == 1


def test_collector_same_event_again_is_counted_not_stored(stack: Any, publish: Publish, until: Until) -> None:
    stack.start_collector()
    for _ in range(3):
        publish(EMOTION.at(KITCHEN), payload(7))
    until(lambda: stack.query("SELECT value FROM counter WHERE name = 'redelivered'") == [(2,)], "two are counted")
    assert stack.stored() == 1


def test_collector_stale_acknowledgement_discards_nothing(
    stack: Any, publish: Publish, until: Until, tmp_path: Path, consume: Callable[[Any], Callable[[], None]]
) -> None:
    """A broker that lost its state numbers packets from 1 again; acknowledgements of before must not reach it."""
    store = HeldStore(tmp_path / "store.sqlite")
    end = consume(store)
    publish(EMOTION.at(KITCHEN), payload(1))
    assert store.holds.acquire(timeout=10)  # in hand, neither stored nor acknowledged
    stack.broker.kill()
    stack.broker.forget_state()
    stack.broker.start()
    until(lambda: "as collector (p5" in _since_restart(stack), "the collector is back")
    until(lambda: "as home/kitchen (p5" in _since_restart(stack), "the node is back")
    time.sleep(0.5)  # its SUBACK, which the consumer cannot report while it is inside the store
    publish(EMOTION.at(KITCHEN), payload(2))  # has the packet id that the first one had
    store.let_write()  # the first is stored, and acknowledged to nobody
    assert store.holds.acquire(timeout=10)  # the second is in hand
    store.break_down()
    end()  # and the collector dies with it
    assert stack.stored() == 1
    consume(SqliteStore(tmp_path / "store.sqlite"))
    until(lambda: stack.stored() == 2, "the broker still had the second one", 10)


def _since_restart(stack: Any) -> str:
    return str(stack.broker.log.read_text().rsplit("running", 1)[-1])


def test_collector_full_disk_acknowledges_nothing_and_loses_nothing(
    stack: Any,
    publish: Publish,
    until: Until,
    tmp_path: Path,
    consume: Callable[[Any], Callable[[], None]],
    caplog: Any,
) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    consume(store)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own word for a full disk
    for seq in range(1, 301):
        publish(EMOTION.at(KITCHEN), payload(seq))
    until(lambda: "full" in caplog.text, "the collector says that the disk is full")
    assert stack.stored() < 300
    store._db.execute("PRAGMA max_page_count = 1000000")
    until(lambda: stack.stored() == 300, "everything is stored once there is room")
    assert caplog.text.count("disk is full") == 1


def test_collector_restarted_keeps_one_row_for_a_retained_status(stack: Any, until: Until) -> None:
    node = stack.start_node()
    collector = stack.start_collector()
    until(lambda: len(stack.query("SELECT id FROM status")) == 1, "the birth is stored")
    for _ in range(2):
        stack.stop(collector)
        collector = stack.start_collector()
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT reason FROM status ORDER BY id") == [("birth",), ("stopped",)]

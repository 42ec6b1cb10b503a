"""Every byte on the wire is a packet, every packet a message of the contract, and messages can say so much only."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, EventLatency
from broker.contract.topics import EMOTION, NodeId
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.privacy.accounts import Said, Unexplained, check_answers, check_database, rest_of, said_on
from edge_node.privacy.amount import amount_of

NODE = NodeId("home", "kitchen")


def event(seq: int, confidence: float = 0.5, total: int = 6) -> EmotionEvent:
    latency = EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=total)
    return EmotionEvent(
        boot_id="0" * 16,
        time_us=1,
        seq=seq,
        mono_us=1,
        clock_synced=True,
        label=Label.NEUTRAL,
        confidence=confidence,
        model="m/1",
        latency_us=latency,
    )


def publish(topic: str, payload: bytes, properties: bytes = b"\x00") -> bytes:
    body = len(topic).to_bytes(2, "big") + topic.encode() + b"\x00\x01" + properties + payload
    return bytes([0x32, 0x80 | len(body) % 128, len(body) // 128]) + body


PAYLOAD = msgspec.json.encode(event(1))


def test_a_message_of_the_contract_is_read_to_its_last_byte() -> None:
    said, packets = said_on(publish(EMOTION.at(NODE), PAYLOAD) + b"\xc0\x00\xe0\x00", NODE)

    assert [each.message for each in said] == [event(1)]
    assert [each.kind for each in packets] == ["PUBLISH", "PINGREQ", "DISCONNECT"]


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (publish("sottovoce/v1/debug", b"UklGRg=="), "not among the table's topics"),
        (publish(EMOTION.at(NodeId("home", "attic")), PAYLOAD), "another node's"),
        (publish(EMOTION.at(NODE), PAYLOAD[:-1] + b',"audio":"UklGRg=="}'), "unknown field"),
        (publish(EMOTION.at(NODE), PAYLOAD.replace(b":", b": ", 1)), "not written as"),
        (publish(EMOTION.at(NODE), PAYLOAD.replace(b'"confidence":0.5', b'"confidence":0.50')), "not written as"),
        (publish(EMOTION.at(NODE), PAYLOAD, b"\x09\x26\x00\x01a\x00\x03abc"), "in which anything could stand"),
        (publish(EMOTION.at(NODE), PAYLOAD) + b"\x32\xff\x7f", "shorter than it says"),
        (b"\xc0\x03abc", "shorter than it says"),
        (b"\xf0\x02\x00\x00", "which no node sends"),
    ],
)
def test_what_is_no_message_of_the_contract_is_told_of(stream: bytes, why: str) -> None:
    with pytest.raises(Unexplained, match=why):
        said_on(stream, NODE)


def test_an_answer_at_the_local_socket_is_read_strictly() -> None:
    check_answers(b'{"type":"done","words":"muted by command"}\n')
    with pytest.raises(Unexplained):
        check_answers(b'{"type":"done","words":"muted by command","audio":"UklGRg=="}\n')


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(OutboxSettings(path=str(path)), WallClock(trusted=True))
    box.put(EMOTION, NODE, event)
    box.close()
    return path


@pytest.mark.parametrize(
    "leak",
    ["CREATE TABLE audio (data BLOB)", "UPDATE message SET payload = payload || ' '", "UPDATE message SET topic = 'x'"],
)
def test_a_database_that_holds_anything_else_is_told_of(outbox: Path, leak: str) -> None:
    assert check_database(outbox.read_bytes(), NODE) == 1
    with sqlite3.connect(outbox) as db:
        db.execute(leak)
    db.close()

    with pytest.raises(Unexplained):
        check_database(outbox.read_bytes(), NODE)


def test_what_is_left_of_writes_is_what_nobody_has_said() -> None:
    assert rest_of([b"head" + PAYLOAD + bytes(40) + b"voice", b"head" + PAYLOAD], [PAYLOAD]) == b"headvoice"


def heard(*events: EmotionEvent) -> list[Said]:
    return [Said(topic="", row="emotion", payload=msgspec.json.encode(each), message=each) for each in events]


def test_what_is_the_same_in_all_messages_says_nothing() -> None:
    assert amount_of(heard(event(1), event(2), event(3)), 10, 10).per_second == 0


def test_every_digit_that_varies_is_counted() -> None:
    few = amount_of(heard(event(1, 0.5123), event(2, 0.5987), event(3, 0.5555)), 10, 10).by_row["emotion"]
    many = amount_of(heard(event(1, 0.512345678), event(2, 0.598765432), event(3, 0.555555555)), 10, 10).by_row[
        "emotion"
    ]

    assert few == pytest.approx(1 + 3 * 3.3219, abs=0.01)
    assert many == pytest.approx(1 + 8 * 3.3219, abs=0.01)


def test_a_number_that_skips_says_something() -> None:
    assert amount_of(heard(event(1), event(5), event(9)), 10, 10).per_second > 0


def test_the_bound_reckons_with_as_many_events_as_may_come() -> None:
    amount = amount_of(heard(event(1, total=60), event(2, total=75)), 100, 10)

    assert amount.most_per_second == pytest.approx(amount.by_row["emotion"])

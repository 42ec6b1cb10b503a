"""The outbox in memory keeps the rules of the one on the disk."""

import random

import pytest

from broker.contract.decision import Label
from broker.contract.messages import EmotionEvent, Versions, decode
from broker.contract.topics import EMOTION, TELEMETRY, NodeId
from edge_node.simulate.box import Box
from edge_node.simulate.cost import Costs, Device
from edge_node.simulate.voice import Voice

NODE = NodeId("simulated", "node-00001")


@pytest.fixture
def box() -> Box:
    return Box(NODE, "0123456789abcdef", replay_s=180)


@pytest.fixture
def voice() -> Voice:
    rng = random.Random(1)
    return Voice("0123456789abcdef", Versions(sottovoce="0", python="3", litert="2"), Device(Costs(), 1, rng), rng)


def _put(box: Box, voice: Voice, count: int, now_s: float = 0.0) -> None:
    for _ in range(count):
        box.put(EMOTION, lambda seq: voice.event(seq, Label.NEUTRAL, "made/1"), now_s)


def _nowhere(_topic: str) -> bool:
    """Return that no topic is closed."""
    return False


def _seqs(box: Box, room: int = 20) -> list[int]:
    return [decode(payload, EmotionEvent, EMOTION.largest_bytes).seq for _, _, payload in box.take(room, _nowhere)]


def test_box_sends_each_message_once_and_no_more_than_fit(box: Box, voice: Voice) -> None:
    _put(box, voice, 5)
    assert _seqs(box, 3) == [1, 2, 3]
    assert _seqs(box, 3) == []
    assert (box.emitted, box.depth) == (5, 5)


def test_box_after_a_reconnect_sends_again_what_is_unconfirmed_or_was_delivered_lately(box: Box, voice: Voice) -> None:
    _put(box, voice, 4)
    numbers = [number for number, _, _ in box.take(3, _nowhere)]
    box.finish(numbers[0], now_s=10)
    box.finish(numbers[1], now_s=100)
    box.forget(now_s=200)
    box.reconnected()
    assert _seqs(box) == [2, 3, 4]


def test_box_that_is_full_drops_the_oldest_and_says_so(box: Box, voice: Voice) -> None:
    _put(box, voice, 1_010)
    assert (box.emitted, box.dropped, box.depth) == (1_010, 10, 1_000)
    assert _seqs(box, 1) == [11]


def test_box_tells_the_age_of_its_oldest_message(box: Box, voice: Voice) -> None:
    assert box.oldest_s(50) == 0
    _put(box, voice, 1, now_s=10)
    _put(box, voice, 1, now_s=30)
    list(box.take(1, _nowhere))
    assert box.oldest_s(50) == 40


def test_box_holds_back_one_topic_and_no_other(box: Box, voice: Voice) -> None:
    _put(box, voice, 2)
    box.put(TELEMETRY, lambda seq: voice.telemetry(seq, box, hop_s=0.5, reconnects=0), 0.0)
    topics = [topic for _, topic, _ in box.take(20, EMOTION.at(NODE).__eq__)]
    assert topics == [TELEMETRY.at(NODE)]
    assert _seqs(box) == [1, 2]


def test_box_sends_what_was_put_back_in_its_order(box: Box, voice: Voice) -> None:
    _put(box, voice, 4)
    first, second, third = (number for number, _, _ in box.take(3, _nowhere))
    box.finish(second, now_s=1)
    box.put_back(first)
    box.put_back(third)
    assert _seqs(box) == [1, 3, 4]

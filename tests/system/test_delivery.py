"""Nothing is lost and nothing is stored twice, whatever is killed, whenever."""

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

ROUNDS = range(10)
Until = Callable[..., None]


def _pause(rng: random.Random, least: float, most: float) -> None:
    time.sleep(rng.uniform(least, most))  # the moment of the kill is what these tests vary


def _restart_broker_with_messages_in_it(
    stack: Any, collector: Any, rng: random.Random, *, forget_state: bool = False
) -> None:
    """Let the broker acknowledge what no collector has taken, and kill it: those messages die with it.

    In half of the rounds the collector is only slow, and wakes up with acknowledgements for a broker that is gone.
    """
    is_slow = rng.random() < 0.5
    _pause(rng, 0.05, 0.5)
    collector.send_signal(signal.SIGSTOP if is_slow else signal.SIGKILL)
    _pause(rng, 0.1, 0.4)
    stack.broker.kill()
    if forget_state:
        stack.broker.forget_state()
    _pause(rng, 0.05, 0.5)
    stack.broker.start()
    if is_slow:
        collector.send_signal(signal.SIGCONT)
    else:
        stack.start_collector()


def test_delivery_undisturbed_loses_nothing(stack: Any, until: Until) -> None:
    stack.start_collector()
    node = stack.start_node()
    until(lambda: stack.stored() > 100, "a hundred events stored")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT value FROM counter WHERE name = 'redelivered'") == [(0,)]
    assert stack.query("SELECT online, reason FROM status ORDER BY id") == [(1, "birth"), (0, "stopped")]


@pytest.mark.parametrize("seed", ROUNDS)
def test_delivery_broker_killed_loses_nothing(stack: Any, until: Until, seed: int) -> None:
    rng = random.Random(seed)
    collector = stack.start_collector()
    node = stack.start_node()
    until(lambda: stack.stored() > 20, "the stream has begun")
    if rng.random() < 0.5:  # the broker comes back with a state that is older than what it acknowledged
        stack.broker.save()
    _restart_broker_with_messages_in_it(stack, collector, rng)
    before = stack.stored()
    until(lambda: stack.stored() > before + 50, "the stream goes on")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()


@pytest.mark.parametrize("seed", ROUNDS)
def test_delivery_broker_without_its_state_loses_nothing(stack: Any, until: Until, seed: int) -> None:
    rng = random.Random(100 + seed)
    collector = stack.start_collector()
    node = stack.start_node()
    until(lambda: stack.stored() > 20, "the stream has begun")
    _restart_broker_with_messages_in_it(stack, collector, rng, forget_state=True)
    before = stack.stored()
    until(lambda: stack.stored() > before + 50, "the stream goes on")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()


@pytest.mark.parametrize("seed", ROUNDS)
def test_delivery_collector_killed_loses_nothing(stack: Any, until: Until, seed: int) -> None:
    rng = random.Random(200 + seed)
    collector = stack.start_collector()
    node = stack.start_node()
    until(lambda: stack.stored() > 20, "the stream has begun")
    _pause(rng, 0.05, 0.8)
    collector.kill()
    collector.wait()
    _pause(rng, 0.05, 0.8)
    stack.start_collector()
    before = stack.stored()
    until(lambda: stack.stored() > before + 50, "the stream goes on")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()


def test_delivery_node_killed_before_publish_loses_nothing_that_reached_the_outbox(stack: Any, until: Until) -> None:
    stack.start_collector()
    stack.broker.kill()
    node = stack.start_node()
    until(lambda: stack.waiting() > 50, "the outbox fills without a broker")
    node.send_signal(signal.SIGKILL)
    node.wait()
    kept = stack.waiting()
    stack.broker.start()
    again = stack.start_node()
    until(lambda: stack.stored() > kept, "the first life's events and some of the second's")
    assert stack.stop(again) == 0
    assert stack.assert_nothing_lost() > kept - 2
    boots = stack.query("SELECT boot_id, count(*) FROM emotion GROUP BY boot_id")
    assert len(boots) == 2


def test_delivery_broker_absent_at_start_delivers_all_later(stack: Any, until: Until) -> None:
    stack.broker.kill()
    node = stack.start_node()
    until(lambda: stack.waiting() > 50, "the node infers and fills its outbox")
    stack.broker.start()
    stack.start_collector()
    until(lambda: stack.stored() > 50, "all of it arrives")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()


def test_delivery_without_collector_keeps_events_in_the_outbox(stack: Any, until: Until) -> None:
    node = stack.start_node()
    until(lambda: stack.waiting() > 50, "nobody subscribes, so the events stay")
    until(lambda: "PUBACK 0x10" in (stack.folder / "home-kitchen.log").read_text(), "the node says why")
    stack.start_collector()
    until(lambda: stack.stored() > 50, "they are delivered when somebody does")
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()

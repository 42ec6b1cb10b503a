"""The parts put together: a node goes on whatever its disk does."""

import json
import logging
import threading
from pathlib import Path

import pytest

from broker.contract.condition import Context
from broker.contract.messages import Telemetry, decode
from broker.contract.topics import EMOTION, TELEMETRY, find
from broker.local import free_port
from broker.settings import BrokerSettings
from edge_node.clock import ClockSettings, WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.deployment import DeploymentSettings
from edge_node.node import Node
from edge_node.settings import NodeSettings, SourceSettings
from edge_node.sound.gate import GateSettings


@pytest.fixture
def settings(box: OutboxSettings, recording: Path) -> NodeSettings:
    """A node that hears one recording as fast as it can, and whose broker is not there."""
    return NodeSettings(
        site="home",
        node="kitchen",
        deployment=DeploymentSettings(context=Context.HOME, employees_present=False),
        drain_s=0,
        source=SourceSettings(kind="replay", paths=(str(recording),), repeat=False, real_time=False),
        broker=BrokerSettings(host="127.0.0.1", port=free_port(), tls=False),
        outbox=box,
        clock=ClockSettings(trust=True),
        gate=GateSettings(enabled=False),  # the recording is a signal, not a voice
    )


def _payloads(box: OutboxSettings) -> list[tuple[str, bytes]]:
    outbox = Outbox(box, WallClock(trusted=True))
    rows = [(row.topic, row.payload) for row in outbox.waiting(100_000)]
    outbox.close()
    return rows


def test_node_without_broker_keeps_all_in_the_outbox(settings: NodeSettings) -> None:
    assert not Node(settings).run(threading.Event())
    rows = _payloads(settings.outbox)
    messages = [decode(payload, find(topic)[0].message, 8_192) for topic, payload in rows]
    telemetry = [each for each in messages if isinstance(each, Telemetry)]
    seqs = [json.loads(payload)["seq"] for topic, payload in rows if find(topic)[0] is EMOTION]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > 3
    assert find(rows[0][0])[0] is find(rows[-1][0])[0] is TELEMETRY
    assert (telemetry[0].emitted, telemetry[-1].emitted) == (0, len(seqs))
    assert sum(sum(each.windows.values()) + each.silent_windows for each in telemetry) > len(seqs)


def test_node_disk_full_goes_on_and_counts_what_was_refused(
    settings: NodeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert not Node(settings).run(threading.Event())
    before = _payloads(settings.outbox)
    events = sum(find(topic)[0] is EMOTION for topic, _ in before)
    node = Node(settings)
    node._telling._outbox._run("PRAGMA max_page_count = 1")  # SQLite takes it as: not one page more than there are
    with caplog.at_level(logging.ERROR):
        assert not node.run(threading.Event())
    after = _payloads(settings.outbox)
    assert after[: len(before)] == before
    assert caplog.text.count("free the disk; events are lost until then") >= 1
    stored = sum(find(topic)[0] is EMOTION for topic, _ in after) - events
    assert node._telling._meter.refused_events > 0
    assert stored + node._telling._meter.refused_events == events  # the same recording is worth the same events

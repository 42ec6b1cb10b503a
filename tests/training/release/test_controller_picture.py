"""What is remembered of a fleet: what was heard on this connection, and no more of it than there is room for."""

from typing import Any

import pytest

from broker.contract.condition import Context
from broker.contract.messages import NodeStatus, StatusReason, Versions, encode
from broker.contract.release import Rollout
from broker.contract.topics import STATUS, UPDATE, NodeId
from broker.contract.updates import UpdateReport, UpdateState
from training.release.picture import Picture, printable

A, B, C = (NodeId("home", name) for name in "abc")
ROLLOUT = Rollout(channel="stable", release="made/2", percent=0)


def _report(**changes: Any) -> UpdateReport:
    values: dict[str, Any] = {"release": "made/2", "state": UpdateState.TRIAL, "reason": "", "time_us": 1}
    return UpdateReport(boot_id="0" * 16, progress=0.5, **(values | changes))


def _hear(picture: Picture, node: NodeId, *, retained: bool = False, **changes: Any) -> str | None:
    payload = encode(_report(**changes), UPDATE.largest_bytes)
    return picture.hear(UPDATE.at(node), payload, retained=retained, now_s=0)


def _status(picture: Picture, node: NodeId, now_s: float, *, online: bool) -> None:
    status = NodeStatus(
        boot_id="0" * 16,
        time_us=1,
        online=online,
        reason=StatusReason.LOST,
        versions=Versions(sottovoce="0", python="3", litert="2"),
        model="made/1",
        context=Context.HOME,
        source="a test",
        muted=False,
        clock_synced=True,
    )
    picture.hear(STATUS.at(node), encode(status, STATUS.largest_bytes), retained=True, now_s=now_s)


def test_picture_begins_anew_but_knows_whom_it_had_heard() -> None:
    picture = Picture()
    _hear(picture, A)
    _hear(picture, B, channel="beta")
    _status(picture, B, 1, online=False)
    picture.begin_anew()
    assert (picture.reports, picture.silent, picture.away(9)) == ({}, {A: "stable", B: "beta"}, {})
    _hear(picture, A, retained=True)
    assert (set(picture.reports), picture.silent) == ({A}, {B: "beta"})
    picture.hear(UPDATE.at(B), b"", retained=False, now_s=0)
    assert picture.silent == {}, "somebody took the node off the broker"
    picture.hear(UPDATE.at(A), b"", retained=False, now_s=0)
    assert picture.reports == {}


def test_picture_counts_from_when_a_node_was_first_heard_to_be_offline() -> None:
    picture = Picture()
    _status(picture, A, 10, online=False)
    _status(picture, A, 20, online=False)
    assert picture.away(25) == {A: 15}
    _status(picture, A, 30, online=True)
    assert picture.away(40) == {}
    _status(picture, A, 40, online=False)
    picture.hear(STATUS.at(A), b"", retained=False, now_s=41)
    assert picture.away(50) == {}


def test_picture_is_bounded() -> None:
    picture = Picture(most_nodes=2)
    for node in (A, B):
        assert _hear(picture, node) is None
        _status(picture, node, 0, online=False)
    assert _hear(picture, C) == "more than 2 nodes: home/c and further ones are not counted"
    assert _hear(picture, C) is None, "said once"
    _status(picture, C, 0, online=False)
    assert set(picture.reports) == set(picture.away(0)) == {A, B}
    picture.begin_anew()
    _hear(picture, C)
    _hear(picture, A)
    assert (set(picture.reports), picture.silent) == ({A}, {B: "stable"}), "those that are known keep their places"


@pytest.mark.parametrize("payload", [b"{}", b"\xff", b"[" * 1_000, b"x" * 5_000, b'"\\ud800"'])
def test_picture_malformed_messages_count_as_nothing(payload: bytes) -> None:
    picture = Picture(most_nodes=1)
    said = picture.hear(UPDATE.at(A), payload, retained=True, now_s=0)
    assert said is not None
    assert said.startswith("home/a: counted as nothing, and said once: UpdateReport: ")
    assert said.isprintable()
    assert picture.hear(UPDATE.at(A), payload, retained=True, now_s=0) is None
    assert picture.hear(STATUS.at(A), payload, retained=True, now_s=0) is None
    assert picture.hear(UPDATE.at(B), payload, retained=True, now_s=0) is None, "bounded, too"
    assert picture.hear("sottovoce/v1/node/Home/a/update", payload, retained=True, now_s=0) is None
    assert picture.reports == {}


def test_picture_last_good_report_outlives_a_malformed_one() -> None:
    picture = Picture()
    _hear(picture, A)
    picture.hear(UPDATE.at(A), b"{", retained=False, now_s=0)
    assert picture.reports[A].state is UpdateState.TRIAL


def test_picture_words_of_nodes_do_nothing_to_a_terminal() -> None:
    picture = Picture()
    _hear(picture, A, reason="red \x1b[31m\nalert\u202e", release="made/9\x07")
    assert picture.reports[A].reason == "red  [31m alert"
    assert picture.reports[A].release == "made/9"
    assert printable("zu langsam: 3 µs über 2") == "zu langsam: 3 µs über 2"


def test_picture_latest_are_those_that_changed_and_not_those_that_only_go_on() -> None:
    picture = Picture()
    _hear(picture, A, retained=True, time_us=5)
    _hear(picture, B, retained=True, time_us=9)
    _hear(picture, C, retained=True, release="made/1", time_us=10)
    assert [node for node, _ in picture.latest(ROLLOUT, 9)] == [B, A], "C is not concerned"
    _hear(picture, A, time_us=6)
    assert [node for node, _ in picture.latest(ROLLOUT, 9)] == [B, A], "nothing has changed"
    _hear(picture, A, time_us=6, state=UpdateState.COMMITTING)
    assert [node for node, _ in picture.latest(ROLLOUT, 9)] == [A, B]
    _hear(picture, C, time_us=0)
    assert [node for node, _ in picture.latest(ROLLOUT, 2)] == [C, A]
    _hear(picture, A, channel="beta")
    assert A not in [node for node, _ in picture.latest(ROLLOUT, 9)], "another channel's"

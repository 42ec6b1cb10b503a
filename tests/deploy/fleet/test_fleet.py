"""Small fleets on a real Mosquitto, with the real controller: what each kind of release comes to."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.contract.bundle import read_bundle
from broker.contract.errors import ReleaseError
from broker.contract.release import is_in
from broker.contract.updates import UpdateState
from deploy.demo.report import figures
from deploy.fleet.director import Director
from deploy.fleet.releases import Releases
from edge_node.models import factory_bundle
from edge_node.simulate.churn import Churn
from edge_node.simulate.fleet import Fleet
from edge_node.simulate.work import Behaviour

QUICK = ("--spread", "1s", "--min-nodes", "3")
RESTLESS = Churn(share=0.5, horizon_s=4, away_least_s=0.5, away_most_s=3)


def _asked(stage: Any, percent: int) -> int:
    rollout = next(seen.rollout for seen in stage.fleet.seen if seen.rollout.percent == percent)
    return sum(is_in(node.me, rollout) for node, _ in stage.fleet.nodes)


def test_good_release_reaches_every_node_that_can_be_reached_in_phases(stage: Any) -> None:
    counts = stage.play(Behaviour.GOOD, 1, "--percent", "30,100", *QUICK, churn=RESTLESS)
    plans = [presence for _, presence in stage.fleet.nodes]
    never = sum(each.comes_s is None for each in plans)
    late = sum(each.comes_s is not None and each.comes_s > 1 for each in plans)
    assert never > 0
    assert any(each.absences for each in plans)
    assert 24 - never - late <= counts.reachable <= 24 - never
    assert counts.active_new == counts.tried == counts.reachable
    assert (counts.stuck, counts.rejected, counts.rolled_back, stage.without_model) == (0, 0, 0, 0)
    assert [phase.percent for phase in stage.phases if phase.percent] == [30, 100]
    assert 0 < _asked(stage, 30) < 24


def test_bad_release_is_tried_by_the_first_phase_alone_and_all_go_back(stage: Any) -> None:
    counts = stage.play(Behaviour.BAD, 2, "--percent", "30,100", *QUICK)
    assert 3 <= counts.tried <= _asked(stage, 30) < 24
    assert counts.rolled_back == counts.rejected == counts.tried
    assert (counts.active_old, counts.active_new, counts.stuck, stage.without_model) == (24, 0, 0, 0)
    assert stage.phases[-1].aborted
    # both ways in which a model fails once it runs: it ends the program, or cannot be loaded
    assert any("the program ended" in reason for reason in counts.reasons)
    assert any("cannot be loaded" in reason for reason in counts.reasons)


def test_corrupt_release_is_refused_by_its_golden_vectors_and_runs_nowhere(stage: Any) -> None:
    counts = stage.play(Behaviour.CORRUPT, 4, "--percent", "30,100", *QUICK)
    assert 3 <= counts.rejected <= _asked(stage, 30)
    assert (counts.tried, counts.active_new, counts.stuck) == (0, 0, 0)
    assert all(reason.startswith("golden vectors: the model answers ") for reason in counts.reasons)
    assert stage.phases[-1].aborted


def test_broker_that_loses_all_it_knew_in_the_middle_delays_the_release_only(stage: Any) -> None:
    broker, releases = stage.place.broker, stage.place.releases
    killed: list[int] = []

    def look(fleet: Fleet, _director: Director) -> None:
        under_way = [node for node, _ in fleet.nodes if node.record.state is not UpdateState.IDLE]
        if under_way and not killed:
            killed.append(len(under_way))
            broker.kill()
            broker.forget_state()
            broker.start()
            releases.run("reseed")

    counts = stage.play(Behaviour.GOOD, 5, "--percent", "100", *QUICK, look=look)
    assert killed
    assert sum(stage.fleet.line.problems.values()) >= 24
    assert (counts.reachable, counts.active_new, counts.stuck) == (24, 24, 0)
    assert set(stage.fleet.pubacks) <= {0x00, 0x10}  # for a moment there was no collector


def test_collector_understands_everything_that_virtual_nodes_said(stage: Any) -> None:
    store = stage.place.programs.store
    told = figures(store, "mosquitto")
    assert told.stored > 0
    assert told.duplicates == 0
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as db:
        said = db.execute("SELECT topic, reason FROM dead_letter WHERE size_bytes > 0").fetchall()
    assert said == []  # what is empty takes a retained message away, when a fleet leaves


def test_fleet_that_leaves_takes_everything_off_the_broker(stage: Any) -> None:
    assert stage.left == 0
    assert all(node.has_left for node, _ in stage.fleet.nodes if node.has_connected)


def test_channel_that_real_nodes_may_follow_is_left_alone(tmp_path: Path) -> None:
    releases = Releases.new(tmp_path / "releases", None, channel="stable")
    (tmp_path / "real.bundle").write_bytes(factory_bundle())
    releases.add(tmp_path / "real.bundle")
    factory = read_bundle(factory_bundle(), "it").manifest.identity
    releases.run("publish", factory, "--channel", "stable")
    with pytest.raises(ReleaseError, match=f"channel stable names {factory}, so real nodes may follow it"):
        releases.publish("rehearsal-1/1")

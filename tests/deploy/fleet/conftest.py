"""A place for virtual fleets: a real Mosquitto, a real repository of releases, a real collector."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest

from deploy.fleet.arguments import parse
from deploy.fleet.director import Director
from deploy.fleet.outcome import Phase, phases_of
from deploy.fleet.place import Place, open_place
from deploy.fleet.releases import make_bundle
from edge_node.models import factory_bundle
from edge_node.ota.trial import TrialSpec
from edge_node.simulate.churn import Churn
from edge_node.simulate.cost import Costs
from edge_node.simulate.fleet import Counts, Fleet, FleetSpec
from edge_node.simulate.work import Behaviour, Rehearsal

NODES = 24
COSTS = Costs(trust_s=0.05, proof_s=0.05, load_s=0.02, start_s=0.05, window_ms=2.0)
LEAVE_S = 20.0
Look = Callable[[Fleet, Director], None]


class Stage:
    """Plays rehearsals one after the other at one place; each fleet takes itself off the broker at its end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.fleet: Fleet
        self.release = ""
        self.phases: tuple[Phase, ...] = ()
        self.without_model = -1
        self.left = -1

    def play(
        self,
        kind: Behaviour,
        seed: int,
        *rollout: str,
        churn: Churn = Churn(share=0.0),  # noqa: B008 -- frozen
        look: Look = lambda _fleet, _director: None,
    ) -> Counts:
        """Publish a release, let a fleet take it up, and return how its nodes stand at the end."""
        place = self.place
        assert place.releases is not None
        self.release, data = make_bundle(seed, kind)
        bundle = place.folder / "made.bundle"
        bundle.write_bytes(data)
        place.releases.add(bundle)
        place.releases.publish(self.release)
        self.fleet = fleet = Fleet(
            _spec(kind, seed, churn), place.settings, place.identity,
            tls=place.tls, anchor=place.anchor, floor=factory_bundle(),
        )  # fmt: skip
        director = Director(
            fleet, place.releases, self.release, rollout,
            log=place.folder / "controller.log", seconds=60, stop=threading.Event(),
        )  # fmt: skip
        try:
            fleet.start()

            def goes_on() -> bool:
                look(fleet, director)
                return director.look()

            fleet.run(goes_on, 0.1)
            counts, self.without_model = fleet.counts(self.release), fleet.without_model()
            self.phases = phases_of(fleet, director.ordered_s)
            self.left = fleet.leave(LEAVE_S)
        finally:
            director.end()
            fleet.close()
        return counts


def _spec(kind: Behaviour, seed: int, churn: Churn) -> FleetSpec:
    """Return a fleet that is quick: a window takes 0.1 s, so that a trial takes a second."""
    trial = TrialSpec(windows=10, most_s=60, budget_us=100_000, agreement_at_least=0.4)
    rehearsal = Rehearsal(behaviour=kind, trial=trial, lasting_windows=5, hop_s=0.1)
    return FleetSpec(
        nodes=NODES,
        seed=seed,
        channel="rehearsal",
        rehearsal=rehearsal,
        costs=COSTS,
        churn=churn,
        ramp_per_s=100,
        restart_s=0.1,
    )


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    with open_place(parse(["simulate", "--nodes", str(NODES), "--channel", "rehearsal"]), lambda _words: None) as place:
        yield Stage(place)

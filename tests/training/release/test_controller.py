"""The controller on a real broker, with nodes whose reports a test publishes: it steps, aborts, waits, and says so."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.contract.errors import LinkError, ReleaseError, SottovoceError
from broker.contract.release import Rollout, is_in
from broker.contract.topics import STATUS, UPDATE, WATCHER_USER
from broker.contract.updates import UpdateState
from training.release import channels, document
from training.release.controller import Controller, End, Outcome
from training.release.document import Document
from training.release.mirror import mirror, retained
from training.release.roles import Role
from training.release.view import View
from training.release.watch import open_watch

WAIT_S = 15.0
RELEASE = "made/1"
IDLE, TRIAL, REJECTED = UpdateState.IDLE, UpdateState.TRIAL, UpdateState.REJECTED


class Remembered:
    """A screen that keeps what it was shown."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.elapsed_s = 0.0
        self.is_timed = False
        self.lines: list[str] = []

    def show(self, view: View, elapsed_s: float | None) -> None:
        self.is_timed = elapsed_s is not None
        assert elapsed_s is None or elapsed_s >= 0
        self.elapsed_s = elapsed_s or 0.0
        self.views.append(view)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def said(self, words: str) -> int:
        return sum(words in line for line in self.lines)


class Controlled:
    """A controller in a thread of its own."""

    def __init__(self, site: Any, place: Any, *, acts: bool = True) -> None:
        self.screen = Remembered()
        self.document = Document(site.folder, site.ring, "stable")
        self.end: End | SottovoceError | None = None
        self.stop = threading.Event()
        self._settings = place.settings(WATCHER_USER)
        self._acts = acts
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with open_watch(self._settings, quiet_s=0.1) as watch:
                release = RELEASE if self._acts else None
                controller = Controller(
                    watch, self.document, self.screen, release=release, acts=self._acts, tick_s=0.02
                )
                self.end = controller.run(self.stop)
        except SottovoceError as error:
            self.end = error

    @property
    def percent(self) -> int:
        return self.document.read().percent

    @property
    def last(self) -> View:
        self.until(lambda: bool(self.screen.views))
        return self.screen.views[-1]

    def until(self, seen: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not seen():
            assert time.monotonic() < deadline, (self.end, self.screen.lines, self.screen.views[-1:])
            time.sleep(0.01)  # it works in another thread, and tells nobody when it has

    def until_current(self) -> None:
        self.until(lambda: bool(self.screen.views) and self.last.is_current)

    def more_looks(self, count: int = 10) -> None:
        """Wait until it has looked a few times more, and could have done something."""
        enough = len(self.screen.views) + count
        self.until(lambda: len(self.screen.views) >= enough)

    def ended(self) -> End:
        self._thread.join(WAIT_S)
        assert isinstance(self.end, End), (self.end, self.screen.lines, self.screen.views[-1:])
        return self.end

    def leave(self) -> None:
        self.stop.set()
        self._thread.join(WAIT_S)


Control = Callable[..., Controlled]


@pytest.fixture
def elsewhere(site: Any) -> Callable[..., Rollout]:
    """A command in another terminal."""

    def change(command: Callable[..., Rollout], *arguments: Any, **named: Any) -> Rollout:
        with site.open().files.locked():
            return command(site.open(), *arguments, **named)

    return change


@pytest.fixture
def begun(site: Any, place: Any, elsewhere: Any, bundle_of: Callable[..., bytes]) -> Callable[..., Rollout]:
    """A rollout whose first phase is signed and mirrored."""
    with (site.folder / "settings.toml").open("a") as file:
        file.write(place.section("broker", "release"))
    site.add(bundle_of(1))
    elsewhere(channels.publish, "stable", RELEASE)

    def begin(**changes: Any) -> Rollout:
        settings = {"phases": [10, 50, 100], "spread_s": 0, "abort_above": 10, "min_nodes": 3} | changes
        rollout: Rollout = elsewhere(channels.roll_out, "stable", RELEASE, **settings)
        return rollout

    return begin


@pytest.fixture
def control(site: Any, place: Any) -> Iterator[Control]:
    made: list[Controlled] = []

    def control(**options: Any) -> Controlled:
        made.append(Controlled(site, place, **options))
        return made[-1]

    yield control
    for each in made:
        each.leave()


def test_controller_steps_through_all_phases_and_ends(
    begun: Any, control: Control, fleet: Any, nodes: Any, site: Any, place: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    for percent, asked in ((10, nodes[:2]), (50, nodes[2:4]), (100, nodes[4:])):
        running.until(lambda percent=percent: running.percent == percent)  # type: ignore[misc]
        fleet.report(asked[0], TRIAL)
        fleet.report(asked[1], IDLE)
        running.until(lambda: running.last.fleet.under_way == {TRIAL: 1})
        running.more_looks()
        assert running.percent == percent, "a node in its trial holds the phase up"
        fleet.report(asked[0], IDLE)
    end = running.ended()
    assert end.outcome is Outcome.DONE
    assert end.words == "stable: made/1 is done at 100 %: 6 of 6 nodes run it"
    assert running.screen.lines == ["stable: made/1: 50 % of the nodes", "stable: made/1: 100 % of the nodes"]
    assert running.last.outcome == "done"
    assert mirror(place.settings(), retained(site.open().files)).sent == 0, "what is signed is on the broker"


def test_controller_aborts_when_too_many_fail(
    begun: Any, control: Control, fleet: Any, nodes: Any, place: Any, site: Any
) -> None:
    begun(phases=[50, 100])
    fleet.waiting()
    fleet.report(nodes[0], IDLE)
    running = control()
    running.until_current()
    fleet.report(nodes[1], REJECTED, "golden vectors differ")
    running.more_looks()
    assert not running.document.read().aborted, "two have executed, and three are to"
    fleet.report(nodes[2], REJECTED, "golden vectors differ")
    end = running.ended()
    assert end.outcome is Outcome.ABORTED
    assert end.words == "stable: made/1 was aborted at 50 %: 2 of 3 failed: golden vectors differ"
    told = running.document.read()
    assert (told.aborted, told.reason) == (True, "2 of 3 failed: golden vectors differ")
    assert mirror(place.settings(), retained(site.open().files)).sent == 0, "nodes hear of it before it ends"


def test_controller_first_phase_of_fewer_than_min_nodes_aborts_too(
    begun: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun(min_nodes=20)
    fleet.waiting()
    fleet.report(nodes[0], REJECTED, "too slow")
    fleet.report(nodes[1], REJECTED, "")
    running = control()
    assert running.ended().outcome is Outcome.ABORTED
    assert running.percent == 10


def test_controller_hears_what_other_terminals_say(
    begun: Any, elsewhere: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until(lambda: running.screen.elapsed_s > 0.3)
    elsewhere(channels.pause, "stable", "lunch")
    running.until(lambda: running.last.rollout.paused)
    assert running.screen.elapsed_s < 0.3, "counted from when the channel was told so"
    for node in nodes[:2]:
        fleet.report(node, IDLE)
    running.until(lambda: running.last.fleet.succeeded == 2)
    running.more_looks()
    assert running.percent == 10, "paused"
    elsewhere(channels.resume, "stable")
    running.until(lambda: running.percent == 50)
    elsewhere(channels.abort, "stable", "I do not like it")
    end = running.ended()
    assert (end.outcome, end.words) == (
        Outcome.ABORTED,
        "stable: made/1 was aborted at 50 %: I do not like it",
    )


def test_controller_ends_when_the_channel_names_another_release(
    begun: Any, elsewhere: Any, control: Control, site: Any, bundle_of: Callable[..., bytes]
) -> None:
    begun()
    site.add(bundle_of(2))
    running = control()
    running.until_current()
    elsewhere(channels.publish, "stable", "made/2")
    end = running.ended()
    assert end.outcome is Outcome.REPLACED
    assert end.words == "stable: names made/2 now; the rollout of made/1 is over"


def test_controller_another_publish_of_the_same_release_asks_nobody(
    begun: Any, elsewhere: Any, control: Control, fleet: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    elsewhere(channels.publish, "stable", RELEASE)
    running.until(lambda: running.last.rollout.percent == 0)
    running.more_looks()
    assert running.percent == 0
    assert "sottovoce-release rollout" in running.last.waits
    begun(phases=[50])
    running.until(lambda: running.last.fleet.due == 4)


def test_controller_goes_on_after_a_restart_of_the_broker(
    begun: Any, elsewhere: Any, control: Control, fleet: Any, nodes: Any, place: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    fleet.report(nodes[0], IDLE)
    running.until(lambda: running.last.fleet.succeeded == 1)
    elsewhere(channels.pause, "stable", "a new disk for the broker")
    fleet.report(nodes[1], IDLE)
    running.until(lambda: running.last.fleet.succeeded == 2)
    fleet.leave()
    place.broker.stop()
    running.until(lambda: not running.last.is_current)
    elsewhere(channels.resume, "stable")
    running.until(lambda: not running.last.rollout.paused)
    running.more_looks()
    assert running.percent == 10, "what it knows is old"
    place.broker.start()
    running.until(lambda: running.percent == 50)
    assert running.last.fleet.silent == 0
    assert running.last.fleet.succeeded == 2, "retained, and heard anew"
    assert running.screen.said("the connection was lost; nothing is judged until it is back") == 1
    assert running.screen.said("the connection is there; 6 nodes heard") == 1


def test_controller_broker_that_forgot_the_fleet_is_not_taken_for_the_whole(
    begun: Any, control: Control, fleet: Any, nodes: Any, place: Any
) -> None:
    """The one node that has come back would be all there is: everybody asked has succeeded."""
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    fleet.leave()
    place.broker.kill()
    place.broker.forget_state()
    place.broker.start()
    fleet.report(nodes[0], IDLE)
    running.until_current()
    running.until(lambda: running.last.fleet.succeeded == 1)
    running.more_looks()
    assert running.percent == 10
    assert (running.last.fleet.nodes, running.last.fleet.silent) == (6, 1)
    assert running.last.waits == f"1 not heard of since the connection came back: {nodes[1]}"
    for node in nodes[1:]:
        fleet.report(node, IDLE if node == nodes[1] else REJECTED, release=RELEASE if node == nodes[1] else "made/0")
    running.until(lambda: running.percent == 50)


def test_controller_does_not_wait_for_a_node_that_is_offline(
    begun: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun(phases=[50], spread_s=1)
    fleet.waiting()
    fleet.status(nodes[0], online=False)
    running = control()
    for node in nodes[1:4]:
        fleet.report(node, IDLE)
    running.until(lambda: running.last.waits == "the spread time of 1 s to end, as of those asked 1 are offline")
    end = running.ended()
    assert end.outcome is Outcome.DONE
    assert end.words == (
        "stable: made/1 stays at 50 %, the last phase: 3 of 4 nodes that were asked run it, "
        "1 offline may take it up when they return; "
        "next: sottovoce-release rollout made/1 --channel stable --percent 100"
    )


def test_controller_whose_last_phase_asks_nobody_says_so(begun: Any, control: Control, fleet: Any, nodes: Any) -> None:
    begun(phases=[1])
    fleet.waiting(*nodes[2:])
    end = control().ended()
    assert end.outcome is Outcome.DONE
    assert end.words == (
        "stable: made/1 stays at 1 %, the last phase: nobody was asked, as no node that is known is in; "
        "next: sottovoce-release rollout made/1 --channel stable --percent 2,10,50,100"
    )


def test_watch_without_control_waits_for_no_spread_time(begun: Any, control: Control, fleet: Any, nodes: Any) -> None:
    begun(phases=[1], spread_s=600)
    fleet.waiting(*nodes[2:])
    looking, running = control(acts=False), None
    looking.until_current()
    assert (looking.last.waits, looking.screen.is_timed) == ("", False)
    assert looking.screen.said("nobody steps or aborts here; watch --control does") == 1
    looking.leave()
    running = control()
    running.until_current()
    assert running.last.waits == "the spread time of 600 s to end, as no node that is known is in"
    assert running.screen.is_timed
    assert running.screen.said("nobody steps or aborts here") == 0


def test_controller_phase_whose_nodes_are_all_away_shows_nothing(
    begun: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun()
    fleet.waiting()
    for node in nodes[:2]:
        fleet.status(node, online=False)
    running = control()
    running.until_current()
    running.more_looks()
    assert running.percent == 10
    fleet.status(nodes[0], online=True)
    fleet.report(nodes[0], IDLE)
    running.until(lambda: running.percent == 50)


def test_controller_malformed_report_counts_as_nothing_and_is_said_once(
    begun: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun()
    fleet.waiting()
    for payload in (b"{}", b"\xff", b"x" * 5_000):
        fleet.say(nodes[0], UPDATE.at(nodes[0]), payload)
    running = control()
    running.until_current()
    running.until(lambda: running.screen.said(f"{nodes[0]}: counted as nothing, and said once: UpdateReport: ") == 1)
    fleet.say(nodes[0], UPDATE.at(nodes[0]), b"{")
    fleet.say(nodes[0], STATUS.at(nodes[0]), b"{")
    fleet.report(nodes[0], IDLE)
    fleet.report(nodes[1], IDLE)
    running.until(lambda: running.percent == 50)
    assert running.screen.said("counted as nothing") == 1


def test_controller_waits_for_whoever_works_on_the_repository(
    begun: Any, control: Control, fleet: Any, nodes: Any, site: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until(lambda: running.screen.views != [] and running.last.is_current)
    running.more_looks()  # it has brought the broker up to date, and looks only
    with site.open().files.locked():
        for node in nodes[:2]:
            fleet.report(node, IDLE)
        running.until(
            lambda: running.screen.said("another command works on it; let it end, or end it; tries again") == 1
        )
        running.more_looks()
        assert running.percent == 10
        assert running.screen.said("another command") == 1
    running.until(lambda: running.percent == 50)


def test_controller_step_that_cannot_be_mirrored_is_brought_to_the_broker_later(
    begun: Any, control: Control, fleet: Any, nodes: Any, site: Any, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_MIRROR_WAIT_S", 0.3)
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    running.more_looks()
    settings = site.folder / "settings.toml"
    right = settings.read_text()
    settings.write_text(right.replace(f"port = {place.broker.port}", "port = 1"))
    for node in nodes[:4]:
        fleet.report(node, IDLE)
    running.until(lambda: running.screen.said("`sottovoce-release reseed` mirrors it; tries again") == 1)
    running.more_looks(3)
    assert running.percent == 50, "signed once, and no further before nodes hear of it"
    settings.write_text(right)
    running.until(lambda: running.percent == 100)
    assert running.screen.said("tries again") == 1


def test_controller_does_not_end_before_the_broker_has_it_all(
    begun: Any, control: Control, fleet: Any, site: Any, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_MIRROR_WAIT_S", 0.1)
    begun(phases=[100])
    for node in fleet.nodes:
        fleet.report(node, IDLE)
    settings = site.folder / "settings.toml"
    right = settings.read_text()
    settings.write_text(right.replace(f"port = {place.broker.port}", "port = 1"))
    running = control()
    running.until(lambda: running.screen.said("tries again") == 1)
    running.more_looks(3)
    assert running.end is None
    settings.write_text(right)
    assert running.ended().outcome is Outcome.DONE


def test_controller_repository_that_cannot_be_read_for_a_while_is_said_once(
    begun: Any, control: Control, fleet: Any, nodes: Any, site: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    (site.folder / "settings.toml").rename(site.folder / "away.toml")
    running.until(lambda: running.screen.said("settings.toml: No such file") == 1)
    (site.folder / "away.toml").rename(site.folder / "settings.toml")
    for node in nodes[:2]:
        fleet.report(node, IDLE)
    running.until(lambda: running.percent == 50)
    assert running.screen.said("No such file") == 1


def test_controller_that_is_detached_leaves_the_rollout_as_it_is(begun: Any, control: Control, fleet: Any) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    running.more_looks()
    running.stop.set()
    end = running.ended()
    assert end.outcome is Outcome.DETACHED
    assert end.words == (
        "detached: stable stays at 10 % of the nodes, nobody steps or aborts. "
        "Go on with: sottovoce-release watch --control --channel stable"
    )
    assert running.percent == 10


def test_controller_takes_up_where_another_one_stopped(begun: Any, control: Control, fleet: Any, nodes: Any) -> None:
    begun()
    fleet.waiting()
    first = control()
    first.until_current()
    first.leave()
    for node in nodes[:2]:
        fleet.report(node, IDLE)
    second = control()
    second.until(lambda: second.percent == 50)


def test_controller_keeps_its_connection_and_a_look_gives_way(
    begun: Any, control: Control, fleet: Any, nodes: Any
) -> None:
    begun()
    fleet.waiting()
    running = control()
    running.until_current()
    look = control(acts=False)
    look.until(lambda: look.end is not None)
    assert isinstance(look.end, LinkError)
    assert "another program watches as the same user: one is let in at a time" in str(look.end)
    for node in nodes[:2]:
        fleet.report(node, IDLE)
    running.until(lambda: running.percent == 50)


def test_watch_without_control_only_shows(
    begun: Any, elsewhere: Any, control: Control, fleet: Any, nodes: Any, site: Any
) -> None:
    begun()
    fleet.waiting()
    for node in nodes[:2]:
        fleet.report(node, REJECTED, "too slow")
    looking = control(acts=False)
    looking.until_current()
    assert looking.last.fleet.failed == 2
    looking.more_looks()
    assert looking.document.read() == channels.document(site.open(), "stable")
    assert not looking.document.read().aborted
    elsewhere(channels.abort, "stable", "by hand")
    looking.until(lambda: looking.last.rollout.aborted)
    looking.more_looks()
    assert looking.end is None, "one sees nodes go back"
    looking.stop.set()
    assert looking.ended() == End(outcome=Outcome.DETACHED, words="")


def test_document_that_has_changed_since_it_was_judged_is_left_alone(begun: Any, elsewhere: Any, site: Any) -> None:
    judged = begun()
    stable = Document(site.folder, site.ring, "stable")
    elsewhere(channels.pause, "stable", "wait")
    assert not stable.step(judged, 50)
    assert not stable.abort(judged, "too late")
    assert stable.read() == channels.document(site.open(), "stable")
    assert (stable.read().percent, stable.read().aborted) == (10, False)
    assert stable.step(stable.read(), 50)
    assert stable.abort(stable.read(), "x" * 300)
    assert stable.read().reason == "x" * 200


def test_controller_completes_what_an_interrupted_step_left_half_signed(
    begun: Any, control: Control, site: Any
) -> None:
    begun()
    repository = site.open()
    metadata = repository.rollout()
    version = metadata.signed.version
    repository.sign_online(metadata, Role.ROLLOUT, repository.targets().signed)
    running = control()
    running.until_current()
    running.until(lambda: site.open().snapshot().signed.meta["rollout.json"].version == version + 1)


def test_controller_of_a_channel_that_names_nothing_is_told(control: Control) -> None:
    running = control()
    running.until(lambda: running.end is not None)
    assert isinstance(running.end, ReleaseError)
    assert "channel stable names no release yet" in str(running.end)


def test_fleet_of_the_tests_is_in_as_they_say(nodes: Any) -> None:
    for percent, count in ((10, 2), (50, 4), (100, 6)):
        rollout = Rollout(channel="stable", release=RELEASE, percent=percent)
        assert [is_in(node, rollout) for node in nodes] == [True] * count + [False] * (6 - count)

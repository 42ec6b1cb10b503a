"""Anything at any time: what a node may never do, and that it ends where it should once the world is calm."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.contract.errors import BundleError, Refusal, StoreError, TrustError
from broker.contract.topics import METADATA
from broker.contract.updates import UpdateState
from edge_node.ota.folder import Folder
from edge_node.ota.table import WORKING

NAMES = [f"made/{number}" for number in range(1, 5)] + ["other/1", "factory/1", "factory/2"]
KINDS = ["verify", "prove", "trial", "activate", "last"]
TROUBLES = ["disk", "crash", "stop", "power cut", "recall", "other release", "connection", "clock", "aborted", "paused"]
CALM = "calm/1"

some_name = st.sampled_from(NAMES)


class AnyOrder(RuleBasedStateMachine):
    """What the outside can do to a node."""

    make_world: Any
    no_room: Any
    power_cut: type[BaseException]

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(mkdtemp(prefix="sottovoce-test-"))
        self.world = self.make_world(self.base / "update")
        self.is_full = False
        self.may_be_damaged = self.is_damaged = False
        """Whether somebody has written the node's files, so that the model that is to run need not be whole."""

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Do something on a disk as it is now; the power may go."""
        try:
            if self.is_full:
                with self.no_room():
                    yield
            else:
                yield
        except self.power_cut:
            self._end()

    def _end(self) -> None:
        self.world.fuse = None
        self.world.crash()

    @initialize(releases=st.integers(0, 2), may_be_damaged=st.booleans())
    def begins(self, releases: int, may_be_damaged: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        self.may_be_damaged = may_be_damaged
        self.world.start()
        for name in NAMES[:releases]:
            self.world.release(name)
            self.world.wait(30)

    # --- the program

    @precondition(lambda self: self.world.node is None)
    @rule(fuse=st.one_of(st.none(), st.tuples(st.integers(1, 60), st.booleans())))
    def starts(self, fuse: tuple[int, bool] | None) -> None:
        self.world.fuse = None if fuse is None else (self.world.calls + fuse[0], fuse[1])
        with self._disk():
            self.world.start()

    @precondition(lambda self: self.world.node is not None)
    @rule(is_told=st.booleans())
    def ends(self, is_told: bool) -> None:  # noqa: FBT001 -- likewise
        with self._disk():
            if is_told:
                self.world.stop()
        self._end()

    @precondition(lambda self: self.world.node is None and not self.is_full)
    @rule()
    def dies_as_it_starts(self) -> None:
        self.world.start_and_die()

    @precondition(lambda self: self.world.node is not None)
    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 40.0, 1_000.0, 30_000.0]))
    def time_passes(self, seconds: float) -> None:
        with self._disk():
            self.world.wait(seconds)

    @precondition(lambda self: self.world.node is not None)
    @rule(steps=st.integers(1, 25))
    def a_little_happens(self, steps: int) -> None:
        self._go_on(steps)

    @rule(held=st.sets(st.sampled_from(KINDS), max_size=1))
    def work_takes_long(self, held: set[str]) -> None:
        self.world.hold = held

    # --- releases

    @rule(
        name=some_name,
        percent=st.sampled_from([0, 50, 100, 100, 100]),
        paused=st.booleans(),
        aborted=st.booleans(),
        downgrade=st.booleans(),
        spread_s=st.sampled_from([0, 0, 60]),
    )
    def channel_names(self, name: str, **rollout: Any) -> None:
        self.world.release(name, **rollout)

    @rule(
        name=some_name,
        steps=st.integers(3, 25),
        what=st.sampled_from(TROUBLES),
        held=st.sampled_from([None, None, *KINDS]),
        more=st.integers(0, 25),
        is_mended=st.booleans(),
    )
    def update_is_met_by(
        self,
        *,
        name: str,
        steps: int,
        what: str,
        held: str | None,
        more: int,
        is_mended: bool,
    ) -> None:
        """A release is taken up in peace, so far; something happens, and it goes on, with the trouble or without."""
        self._mend()
        world = self.world
        offer = world.release(name)
        self._go_on(steps)
        world.hold = set() if held is None else {held}
        if what in {"crash", "stop"}:
            if what == "stop":
                world.updater.stop()
            self._end()
            world.start()
        elif what == "power cut":
            world.fuse = (world.calls + more, is_mended)
            self._end_and_start(world.fuse)
        elif what == "recall":
            world.command(steps)
        elif what == "other release":
            world.release("other/1")
        elif what == "connection":
            world.shelf.lose()
        self.is_full = what == "disk"
        world.watch.synced = what != "clock"
        if what in {"aborted", "paused"}:
            world.name(offer, **{what: True})
        self._go_on(more)
        if is_mended:
            self._mend()
            self._go_on(more)

    def _end_and_start(self, fuse: tuple[int, bool]) -> None:
        self._end()
        self.world.fuse = fuse
        with self._disk():
            self.world.start()

    def _go_on(self, steps: int) -> None:
        with self._disk():
            for _ in range(steps):
                if self.world.node is not None and (self.world.updater.due_s is not None or self.world.shelf.waiting):
                    self.world.step()

    def _mend(self) -> None:
        """Let the broker, the disk and the clock be right, and the program run."""
        world = self.world
        self.is_full, world.fuse, world.watch.synced, world.look = False, None, True, world._unsigned
        world.hold.clear()
        if world.node is None:
            world.start()
        world.watch.wall_us = max(world.watch.wall_us, world.record.floor_us)
        world.connect()

    @rule(name=some_name, how=st.sampled_from(["proof", "device", "trial", "load", "good"]))
    def release_turns_out(self, name: str, how: str) -> None:
        world = self.world
        world.proof.pop(name, None)
        world.trial.pop(name, None)
        world.cannot_run.discard(name)
        if how == "proof":
            world.proof[name] = BundleError("golden vectors: other answers")
        elif how == "device":
            world.proof[name] = StoreError("no process")
        elif how == "trial":
            world.trial[name] = "trial: does not agree"
        elif how == "load":
            world.cannot_run.add(name)

    @rule(refusal=st.sampled_from(Refusal), times=st.integers(1, 3))
    def metadata_are_refused(self, refusal: Refusal, times: int) -> None:
        left = [TrustError(refusal, "so it is")] * times

        def look() -> Any:
            if left:
                raise left.pop()
            return self.world._unsigned()

        self.world.look = look
        self.world.shelf.publish(METADATA.at(f"{len(self.world.shelf.said) + 1}.snapshot.json"), b"{}")

    # --- the broker

    @precondition(lambda self: self.world.node is not None)
    @rule(is_back=st.booleans(), is_empty=st.booleans())
    def connection_is_lost(self, is_back: bool, is_empty: bool) -> None:  # noqa: FBT001 -- likewise
        if is_empty:
            self.world.shelf.retained.clear()
        self.world.shelf.lose()
        if is_back:
            with self._disk():
                self.world.connect()

    @rule(number=st.integers(0, 30), payload=st.sampled_from([b"", b"x", bytes(65_536), bytes(70_000)]))
    def message_is_altered(self, number: int, payload: bytes) -> None:
        if retained := sorted(self.world.shelf.retained):
            self.world.shelf.publish(retained[number % len(retained)], payload)

    @precondition(lambda self: self.world.node is not None)
    @rule(number=st.integers(0, 30), payload=st.sampled_from([None, b"", b"x", bytes(65_536)]))
    def chunk_comes_unasked(self, number: int, payload: bytes | None) -> None:
        chunks = sorted(topic for topic in self.world.shelf.retained if "/chunk/" in topic)
        if chunks:
            topic = chunks[number % len(chunks)]
            with self._disk():
                content = self.world.shelf.retained[topic] if payload is None else payload
                self.world.updater.chunk(topic.rpartition("/")[2], content)

    @precondition(lambda self: self.world.node is not None)
    @rule(number=st.integers(0, 5), age_s=st.sampled_from([0.0, 0.0, 100.0]))
    def operator_orders(self, number: int, age_s: float) -> None:
        with self._disk():
            self.world.command(number, age_s=age_s)

    # --- the device

    @rule(is_full=st.sampled_from([True, False, False]))
    def disk_is_full(self, is_full: bool) -> None:  # noqa: FBT001 -- likewise
        self.is_full = is_full

    @rule(is_synced=st.sampled_from([True, True, False]), moved_s=st.sampled_from([0, 0, -7_200, 1_000]))
    def clock_is_set(self, is_synced: bool, moved_s: int) -> None:  # noqa: FBT001 -- likewise
        self.world.watch.synced = is_synced
        self.world.watch.wall_us += moved_s * 1_000_000

    @precondition(lambda self: self.may_be_damaged)
    @rule(
        name=st.sampled_from(["state.json", "slot-a.bundle", "slot-b.bundle", "candidate.bundle"]),
        content=st.sampled_from([None, b"", b"\0" * 50, b'{"state": "trial"}']),
    )
    def file_is_damaged(self, name: str, content: bytes | None) -> None:
        path = self.world.path / name
        if path.exists():
            self.is_damaged = True
            path.unlink() if content is None else path.write_bytes(content)

    # --- what is always so

    @invariant()
    def what_is_to_run_is_whole_and_so_is_what_was_before(self) -> None:
        self.world.check()
        if self.world.node is not None and not self.is_damaged:
            for held in (self.world.record.active, self.world.record.previous):
                if held is not None:
                    Folder(self.world.path).read(held)

    @invariant()
    def what_is_being_done_is_on_the_disk(self) -> None:
        if self.world.node is not None and not self.is_damaged and self.world.state in WORKING:
            assert self.world.saved().state is self.world.state

    @invariant()
    def the_disk_holds_no_more_than_it_must(self) -> None:
        files = [path for path in self.world.path.rglob("*") if path.is_file()]
        assert len(files) < 80
        assert sum(path.stat().st_size for path in files) < 3_000_000

    def teardown(self) -> None:
        try:
            self._calm_down()
        finally:
            shutil.rmtree(self.base)

    def _calm_down(self) -> None:
        """Let everything be right, and time pass: the node takes up what is named, or has."""
        world = self.world
        world.proof.clear()
        world.trial.clear()
        world.cannot_run.clear()
        self._mend()
        world.release(CALM)
        world.wait(20_000)
        assert (world.state, world.model) == (UpdateState.IDLE, CALM), world.record
        assert world.saved() == world.record
        Folder(world.path).read(world.record.active)
        assert world.report.reason == ""
        assert sorted(path.name for path in world.path.iterdir() if path.name.startswith((".", "cand"))) == []


@pytest.mark.parametrize("examples", [100])
def test_node_survives_anything_in_any_order(world: Any, disk_full: Any, power_cut: Any, examples: int) -> None:
    machine = type(
        "Bound", (AnyOrder,), {"make_world": type(world), "no_room": staticmethod(disk_full), "power_cut": power_cut}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=35, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

"""One virtual node: the real updater between a line to the broker, files in memory, and work that takes its time.

Its power can be cut and come back, and its program can crash and is started again; what is in memory stays.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from broker.connection import Arrived
from broker.contract.commands import Command
from broker.contract.decision import Label
from broker.contract.errors import BundleError, MessageError
from broker.contract.messages import NodeStatus, StatusReason, Versions, decode
from broker.contract.release import Course, Rollout, course
from broker.contract.topics import CHUNK, EMOTION, METADATA, ROLLBACK, TELEMETRY, NodeId, NodeTopic, every_command
from broker.contract.updates import UpdateState
from edge_node.ota.record import Held, Record
from edge_node.ota.updater import Me, Updater
from edge_node.simulate.box import Box
from edge_node.simulate.call import Identity, Terms
from edge_node.simulate.clock import RightClock
from edge_node.simulate.cost import Device
from edge_node.simulate.line import Line
from edge_node.simulate.memory import Memory, Shared
from edge_node.simulate.post import Post
from edge_node.simulate.speech import said
from edge_node.simulate.timetable import Appointment
from edge_node.simulate.voice import Voice
from edge_node.simulate.work import VirtualWork, WorkTerms

__all__ = ["NodeTerms", "VirtualNode"]

_REPLAY_S: Final = 180.0
"""As a real outbox by default."""
_RESTING: Final = frozenset({UpdateState.IDLE, UpdateState.REJECTED})


class NodeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the nodes of a fleet have in common."""

    line: Terms
    work: WorkTerms
    shared: Shared
    versions: Versions
    floor: str
    """The model that all are set up with, as `<name>/<version>`."""
    channel: str
    speech_share: float
    telemetry_s: float
    restart_s: float
    """Until a program that crashed is started again."""
    pubacks: Counter[int]
    """What the broker answered to the messages of outboxes, by reason."""


class VirtualNode:
    """One node. Belongs to the loop's thread."""

    def __init__(self, terms: NodeTerms, me: NodeId, identity: Identity, device: Device, rng: random.Random) -> None:
        """Prepare it; it has no power yet.

        Args:
            terms: of the fleet.
            me: its place in the topic tree.
            identity: as whom it connects.
            device: how long it takes for what.
            rng: draws everything else.
        """
        self.me = me
        self.memory = Memory(terms.shared)
        self._terms, self._device, self._rng = terms, device, rng
        self._times = terms.line.times
        self._box = Box(me, _hex(rng), _REPLAY_S)
        self._voice = Voice(_hex(rng), terms.versions, device, rng)
        self._post = Post(
            me,
            self._box,
            terms.pubacks,
            self._times.now_s,
            status=self._status,
            opened=lambda: self._answer(Updater.opened),
            arrived=self._arrived,
        )
        filters = (METADATA.every, every_command(me))
        self._post.use(Line(terms.line, identity, rng, filters=filters, will=self._post.will, hear=self._post.hear))
        self._updater: Updater | None = None
        self._work: VirtualWork | None = None
        self._running: Held | None = None
        self._tick: Appointment | None = None
        self._habits: dict[str, Appointment] = {}
        self._events: Iterator[tuple[float, Label]] = said(terms.speech_share, rng)

    # --- what is asked about it

    @property
    def is_on(self) -> bool:
        """Whether its program runs."""
        return self._updater is not None

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted it."""
        return self._post.is_connected

    @property
    def has_connected(self) -> bool:
        """Whether the broker has ever accepted it."""
        return self._post.has_connected

    @property
    def has_left(self) -> bool:
        """Whether nothing of it is on the broker any more, after `leave`."""
        return self._post.has_left

    @property
    def record(self) -> Record:
        """How its update stands."""
        return self.memory.load() if self._updater is None else self._updater.record

    @property
    def model(self) -> str:
        """The model that it runs, or will run when it has power again."""
        held = self.memory.load().active if self._updater is None else self._running
        return self._terms.floor if held is None else held.release

    def is_settled(self, rollout: Rollout) -> bool:
        """Return whether there is nothing left for it to do about what its channel is told."""
        if self._updater is None or self._work is None or self._work.rollout != rollout:
            return False
        record = self._updater.record
        way, _ = course(self.me, self.model, rollout)
        refused = record.state is UpdateState.REJECTED and record.release == rollout.release
        return record.state in _RESTING and (way is not Course.TAKE_UP or refused)

    # --- power and program

    def switch_on(self) -> None:
        """Give it power: its program starts, and begins to connect."""
        if self._updater is None and "start" not in self._habits:
            self._later("start", self._device.start_s(), self._start)

    def cut_power(self) -> None:
        """Take its power away, without a word."""
        self._end()
        self._post.cut(silently=True)

    def crash(self) -> None:
        """Let its program die; the system starts it again."""
        self._end()
        self._post.cut(silently=False)
        self._later("start", self._terms.restart_s + self._device.start_s(), self._start)

    def stop(self) -> None:
        """Let its program end in order."""
        if self._updater is not None:
            self._updater.stop()
        self._end()
        self._post.stop()

    def leave(self) -> None:
        """Take away what a broker holds of it; `has_left` when that is done."""
        if self._updater is not None:
            self._updater.stop()
        self._end()
        if self.has_connected:
            self._post.leave()
        else:
            self._post.cut(silently=False)

    def _start(self) -> None:
        self._habits.clear()
        self._voice = Voice(_hex(self._rng), self._terms.versions, self._device, self._rng)
        me = Me(
            node=self.me,
            boot_id=self._voice.boot_id,
            floor=self._terms.floor,
            litert=self._terms.versions.litert,
            channel=self._terms.channel,
        )
        self._work = VirtualWork(
            self._terms.work,
            self._device,
            self.memory,
            self._rng,
            answer=self._answer,
            changed=self._changed,
            crash=self.crash,
        )
        self._updater = Updater(me, self.memory, self, self._work, RightClock(self._times))
        self._running = self._choose(self._updater)
        self._post.start()
        self._answer(Updater.begin)
        self._work.runs(self._running)
        self._report()
        self._listen()

    def _choose(self, updater: Updater) -> Held | None:
        """Return the model to begin with, as the real node chooses it; None: the floor."""
        while (held := updater.record.active) is not None:
            try:
                self.memory.read(held)
            except BundleError as error:
                updater.unusable(held, str(error))
            else:
                break
        updater.running(None if held is None else held.sha256)
        return held

    def _changed(self, held: Held | None) -> None:
        self._running = held
        self._post.say_status(StatusReason.CHANGE)
        self._answer(lambda updater: updater.running(None if held is None else held.sha256))

    def _end(self) -> None:
        for each in (*self._habits.values(), *([self._tick] if self._tick else ())):
            each.cancel()
        self._habits.clear()
        if self._work is not None:
            self._work.end()
        self._updater = self._work = self._tick = None

    # --- what it says by itself

    def _status(self, reason: StatusReason) -> NodeStatus:
        return self._voice.status(reason, self.model)

    def _report(self) -> None:
        now_s, hop_s = self._times.now_s(), self._terms.work.rehearsal.hop_s
        if self.is_connected:
            self._box.forget(now_s)
        reconnects = max(0, self._post.connects - 1)
        self._box.put(
            TELEMETRY, lambda seq: self._voice.telemetry(seq, self._box, hop_s=hop_s, reconnects=reconnects), now_s
        )
        self._later("report", self._terms.telemetry_s, self._report)
        self._post.send()

    def _listen(self) -> None:
        """Wait for the next event."""
        if (following := next(self._events, None)) is not None:
            wait_s, label = following
            self._later("event", wait_s, lambda: self._notice(label))

    def _notice(self, label: Label) -> None:
        self._box.put(EMOTION, lambda seq: self._voice.event(seq, label, self.model), self._times.now_s())
        self._listen()
        self._post.send()

    def _later(self, habit: str, wait_s: float, action: Callable[[], None]) -> None:
        self._habits[habit] = self._times.after(wait_s, action)

    # --- the updater

    def _answer(self, call: Callable[[Updater], None]) -> None:
        """Tell the updater something, and do what follows; nothing, if the program has ended meanwhile."""
        if self._updater is None:
            return
        call(self._updater)
        due_s = self._updater.due_s
        if due_s is not None and (self._tick is None or self._tick.action is None or due_s < self._tick.due_s):
            if self._tick is not None:
                self._tick.cancel()
            self._tick = self._times.at(due_s, lambda: self._answer(Updater.tick))
        self._post.send()

    def _arrived(self, event: Arrived) -> None:
        if (name := METADATA.name_in(event.topic)) is not None:
            self._answer(lambda updater: updater.metadata(name, event.payload))
        elif (digest := CHUNK.name_in(event.topic)) is not None:
            self._answer(lambda updater: updater.chunk(digest, event.payload))
        elif event.topic == ROLLBACK.at(self.me):
            try:
                order = decode(event.payload, Command, ROLLBACK.largest_bytes)
            except MessageError:
                return
            self._answer(lambda updater: updater.command(order))

    # --- ports: the wire

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics on the node's connection."""
        self._post.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for them no more."""
        self._post.unsubscribe(topics)

    def say(self, row: NodeTopic, message: msgspec.Struct) -> None:
        """Publish by the node's connection."""
        self._post.say(row, message)


def _hex(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):016x}"

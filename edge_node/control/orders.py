"""Commands to this node: carried out once, soon, or not at all, and always answered.

    broker -> publisher's thread -> hear -> mute, threshold: here and now
                                        -> rollback: to the updates, which answer it themselves
                                        -> anything else of theirs: to the updates

Commands are not signed. Whoever has the broker can forge one, so all they can do is bounded, and so is what they cost:
a few in a minute are carried out, each of which the disk keeps at most once, and a few that are malformed are answered.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from broker.connection import Arrived, Event
from broker.contract.commands import Command, MuteCommand, Reply, ThresholdCommand
from broker.contract.errors import MessageError
from broker.contract.messages import decode
from broker.contract.topics import (
    MUTE,
    REPLY,
    ROLLBACK,
    THRESHOLD,
    CommandTopic,
    NodeId,
    NodeTopic,
    every_command,
    find_command,
)
from edge_node.clock import WallClock
from edge_node.control.answers import NO_DATE, Answers, untimely
from edge_node.control.mute import Mute
from edge_node.control.state import StateFile
from edge_node.control.tuning import Tuning
from edge_node.sparing import Sparing

__all__ = ["Door", "Orders"]

_log = logging.getLogger(__name__)

C = TypeVar("C", bound=Command)
Outcome = tuple[bool, str]
"""Whether it is carried out, and in words what comes of it."""

_MOST: Final = 30
_WITHIN_S: Final = 60.0
_NO_UPDATES: Final = "this node takes no updates, so there is nothing to go back to"
_RETAINED: Final = "the broker had retained the command, and one that is meant for now is never retained"


class Door:
    """Lets a few in within a minute, whoever they are."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody let in; `clock_s` is monotonic, s."""
        self._clock_s = clock_s
        self._let_in_s: deque[float] = deque(maxlen=_MOST)

    def lets_in(self) -> bool:
        """Return whether one more may come in, and count it if so."""
        now_s = self._clock_s()
        if len(self._let_in_s) == _MOST and now_s - self._let_in_s[0] < _WITHIN_S:
            return False
        self._let_in_s.append(now_s)
        return True


class Orders:
    """What operators tell this node. Belongs to the publisher's thread."""

    def __init__(
        self,
        node: NodeId,
        *,
        file: StateFile,
        mute: Mute,
        tuning: Tuning,
        answers: Answers,
        clock: WallClock,
        others: Callable[[Event], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            node: which one.
            file: remembers what was carried out.
            mute: what a command to mute acts on.
            tuning: what a command about thresholds acts on.
            answers: given so far.
            clock: tells a command's age.
            others: hears of everything that is not for here: the updates. None: this node takes none.
        """
        self._node, self._file, self._mute, self._tuning = node, file, mute, tuning
        self._answers, self._clock = answers, clock
        self._others = others
        self._door, self._door_of_junk = Door(), Door()
        self._sparing = Sparing()
        self._say: Callable[[NodeTopic, msgspec.Struct], None] | None = None

    def start(self, publish: Callable[[NodeTopic, msgspec.Struct], None]) -> None:
        """Begin; `publish` takes the answers."""
        self._say = publish

    @property
    def subscribe_to(self) -> tuple[str, ...]:
        """What this node reads for its commands."""
        return (every_command(self._node),)

    def hear(self, event: Event) -> None:
        """Take what happens on the node's connection; each arrival is acknowledged, here or by the updates."""
        row = find_command(event.topic, self._node) if isinstance(event, Arrived) else None
        if isinstance(event, Arrived) and row is not None and self._is_ours(row):
            self._take(event, row)
            event.connection.acknowledge(event.packet_id)
        elif self._others is not None:
            self._others(event)
        elif isinstance(event, Arrived):  # of a session in which this node still took updates
            event.connection.acknowledge(event.packet_id)

    def _is_ours(self, row: CommandTopic) -> bool:
        return row is not ROLLBACK or self._others is None

    def _take(self, event: Arrived, row: CommandTopic) -> None:
        """Decode a command, carry it out if it is one of now, and answer."""
        kinds: dict[CommandTopic, type[Command]] = {MUTE: MuteCommand, THRESHOLD: ThresholdCommand}
        try:
            command = decode(event.payload, kinds.get(row, Command), row.largest_bytes)
        except MessageError as error:  # counted apart: junk must keep no operator out
            if self._door_of_junk.lets_in():
                self._sparing.warn("malformed", f"{event.topic}: {error}")
                self._refuse(event.payload, row, str(error))
            return
        if not self._door.lets_in():
            self._sparing.warn("many", f"more than {_MOST} commands within a minute; the others are not carried out")
            return
        self._once(row, command, is_retained=event.retained)

    def _refuse(self, payload: bytes, row: CommandTopic, why: str) -> None:
        """Answer a command of which at least the id can be read."""
        try:
            command = decode(payload, Command, row.largest_bytes)
        except MessageError:
            return  # nobody to answer to
        if self._answers.find(command) is None:
            self._answer(self._answers.put(command, done=False, words=why))

    def _once(self, row: CommandTopic, command: Command, *, is_retained: bool) -> None:
        if (reply := self._answers.find(command)) is None:
            if command.id in self._file.state.orders:
                done, words = True, "was carried out already"
            elif is_retained:  # it would come again at each start, before the clock is right
                done, words = False, _RETAINED
            else:
                done, words = self._carry_out(command)
            _log.info("command %s: %s", row.name, words)
            reply = self._answers.put(command, done=done, words=words)
        self._answer(reply)

    def _carry_out(self, command: Command) -> Outcome:
        match command:
            case MuteCommand():
                return self._close_or_open(command)
            case ThresholdCommand():
                return self._tune(command)
            case _:
                return False, _NO_UPDATES

    def _answer(self, reply: Reply) -> None:
        if self._say is not None:
            self._say(REPLY, reply)

    def _close_or_open(self, command: MuteCommand) -> Outcome:
        """Mute, or end that. Without a right clock a command may be an old one: then it may close, not open."""
        if not self._clock.is_known():
            if not command.muted:
                return False, f"{NO_DATE}; it may mute, and not end that"
        elif (why := untimely(command, self._clock.now_us())) is not None:
            return False, why
        return True, self._mute.set(muted=command.muted, order=command.id)

    def _tune(self, command: ThresholdCommand) -> Outcome:
        if not self._clock.is_known():
            return False, NO_DATE
        if (why := untimely(command, self._clock.now_us())) is not None:
            return False, why
        if not command.reset and command.uncertain_below is None and command.speech_above is None:
            return False, "the command names no threshold"
        return True, self._tuning.set(command)

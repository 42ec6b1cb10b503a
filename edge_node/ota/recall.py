"""An operator's order to one node to go back: carried out once, soon, or not at all.

Commands are not signed, and whoever has the broker can forge one: so all it can do is to lead back to a model that ran
here before, at last to the one that the settings name.
"""

from typing import Final

import msgspec

from broker.contract.commands import COMMAND_EXPIRY_S, Command, Reply
from broker.contract.updates import UpdateState
from edge_node.ota.ports import Clock, Me
from edge_node.ota.record import Record, one_line

__all__ = ["Answer", "Answers", "consider"]

_MOST: Final = 32
_US: Final = 1_000_000


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of an order."""

    words: str
    is_done: bool = False
    """Whether it is being carried out, or was."""
    goes_back: bool = False
    """Whether the node goes back now."""


def consider(me: Me, record: Record, clock: Clock, command: Command) -> Answer:
    """Return what is done about an order to go back."""
    age_s = (clock.now_us() - command.issued_us) / _US
    if command.id == record.recalled:
        return Answer(words="was carried out already", is_done=True)
    if not clock.is_synced():
        return Answer(words="this node's clock is not synchronised, so a command's age cannot be told (update.clock)")
    if abs(age_s) > COMMAND_EXPIRY_S:
        return Answer(words=f"the command is {age_s:.0f} s old, at most {COMMAND_EXPIRY_S} s are allowed")
    if record.state not in {UpdateState.IDLE, UpdateState.REJECTED}:
        return Answer(words=f"an update is under way ({record.state}); abort its rollout, or wait")
    if record.active is None:
        return Answer(words=f"{me.floor} runs, the model that this node was set up with: there is none before it")
    before = record.previous.release if record.previous is not None else me.floor
    return Answer(words=f"goes back from {record.active.release} to {before}", is_done=True, goes_back=True)


class Answers:
    """What was answered lately: a command that comes twice gets the same answer twice."""

    def __init__(self, me: Me, clock: Clock) -> None:
        """Begin with none."""
        self._me, self._clock = me, clock
        self._replies: dict[str, Reply] = {}

    def find(self, command: Command) -> Reply | None:
        """Return what was answered to a command; None: nothing yet."""
        return self._replies.get(command.id)

    def put(self, command: Command, answer: Answer) -> Reply:
        """Return what is answered to a command, and remember it."""
        while len(self._replies) >= _MOST:
            self._replies.pop(next(iter(self._replies)))
        self._replies[command.id] = Reply(
            boot_id=self._me.boot_id,
            time_us=self._clock.now_us(),
            command=command.id,
            done=answer.is_done,
            words=one_line(answer.words),
        )
        return self._replies[command.id]

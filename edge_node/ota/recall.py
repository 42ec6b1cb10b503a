"""An operator's order to one node to go back: carried out once, soon, or not at all.

Commands are not signed, and whoever has the broker can forge one: so all it can do is to lead back to a model that ran
here before, at last to the one that the settings name.
"""

import msgspec

from broker.contract.commands import Command
from broker.contract.updates import UpdateState
from edge_node.control.answers import NO_DATE, untimely
from edge_node.ota.ports import Clock, Me
from edge_node.ota.record import Record

__all__ = ["Answer", "consider"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of an order."""

    words: str
    is_done: bool = False
    """Whether it is being carried out, or was."""
    goes_back: bool = False
    """Whether the node goes back now."""


def consider(me: Me, record: Record, clock: Clock, command: Command) -> Answer:
    """Return what is done about an order to go back."""
    if command.id == record.recalled:
        return Answer(words="was carried out already", is_done=True)
    if not clock.is_synced():
        return Answer(words=NO_DATE)
    if (why := untimely(command, clock.now_us())) is not None:
        return Answer(words=why)
    if record.state not in {UpdateState.IDLE, UpdateState.REJECTED}:
        return Answer(words=f"an update is under way ({record.state}); abort its rollout, or wait")
    if record.active is None:
        return Answer(words=f"{me.floor} runs, the model that this node was set up with: there is none before it")
    before = record.previous.release if record.previous is not None else me.floor
    return Answer(words=f"goes back from {record.active.release} to {before}", is_done=True, goes_back=True)

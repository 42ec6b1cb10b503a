"""What an operator can tell one node, and the node's answer.

Commands are not signed: whoever has the broker can forge one. So they are few, bounded and short-lived, and a node
shows what it made of them. None can make it publish anything else, or louder.
"""

import enum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.contract.messages import SCHEMA, NodeMessage
from broker.contract.scalars import Identifier, Microseconds, SpeechAbove, UncertainBelow

__all__ = ["COMMAND_EXPIRY_S", "Command", "CommandName", "MuteCommand", "Reply", "ThresholdCommand"]

COMMAND_EXPIRY_S: Final = 60
"""A command that is older is not carried out; the broker holds it for a node that is away no longer than that."""


class CommandName(enum.StrEnum):
    """What an operator can tell one node; the word stands in the topic."""

    ROLLBACK = "rollback"
    """Go back to the model that ran before, and do not take this one up again."""
    MUTE = "mute"
    """Close the microphone, or open it again."""
    THRESHOLD = "threshold"
    """Be more or less ready to call a sound speech, or a tone of voice certain."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator tells one node. A field that a node does not know is ignored."""

    schema: Literal[1] = SCHEMA
    id: Identifier
    """Random; the reply carries it, and a node carries a command out once."""
    issued_us: Microseconds
    """Wall clock of the sender, µs since 1970, UTC."""


class MuteCommand(Command, frozen=True, kw_only=True):
    """Close the microphone, or open it again; it lasts across restarts and updates."""

    muted: bool


class ThresholdCommand(Command, frozen=True, kw_only=True):
    """Change thresholds; they last across restarts and updates. What is not named stays; with `reset`, goes back."""

    uncertain_below: UncertainBelow | None = None
    speech_above: SpeechAbove | None = None
    reset: bool = False
    """Go back to what the settings and the bundle say, before anything that is named here is changed."""


class Reply(NodeMessage, frozen=True, kw_only=True):
    """A node's answer to a command."""

    command: Identifier
    done: bool
    """Whether it is being carried out; status and update reports say how it ends."""
    words: Annotated[str, Meta(max_length=200)]
    """What the node does, or why it does not."""

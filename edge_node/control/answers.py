"""What a node makes of a command's date, and what it answered lately."""

from typing import Final, Protocol

from broker.contract.commands import COMMAND_EXPIRY_S, Command, Reply

__all__ = ["NO_DATE", "Answers", "untimely"]

_MOST: Final = 32
_MOST_WORDS: Final = 200
_US: Final = 1_000_000
NO_DATE: Final = "this node's clock is not synchronised, so a command's age cannot be told (clock.trust)"


class Clock(Protocol):
    """The wall clock."""

    def now_us(self) -> int:
        """Return the wall clock, µs since 1970, UTC."""


def untimely(command: Command, now_us: int) -> str | None:
    """Return why a command is of another time than now; None: it is not."""
    age_s = (now_us - command.issued_us) / _US
    if abs(age_s) > COMMAND_EXPIRY_S:
        return f"the command is {age_s:.0f} s old, at most {COMMAND_EXPIRY_S} s are allowed"
    return None


class Answers:
    """What was answered lately: a command that comes twice gets the same answer twice."""

    def __init__(self, boot_id: str, clock: Clock) -> None:
        """Begin with none."""
        self._boot_id, self._clock = boot_id, clock
        self._replies: dict[str, Reply] = {}

    def find(self, command: Command) -> Reply | None:
        """Return what was answered to a command; None: nothing yet."""
        return self._replies.get(command.id)

    def put(self, command: Command, *, done: bool, words: str) -> Reply:
        """Return what is answered to a command, and remember it."""
        while len(self._replies) >= _MOST:
            self._replies.pop(next(iter(self._replies)))
        self._replies[command.id] = Reply(
            boot_id=self._boot_id,
            time_us=self._clock.now_us(),
            command=command.id,
            done=done,
            words=" ".join(words.encode(errors="replace").decode().split())[:_MOST_WORDS],
        )
        return self._replies[command.id]

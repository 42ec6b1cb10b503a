"""Thresholds that operators may change while a node runs: what is in force, and who said so."""

from collections.abc import Callable

from msgspec.structs import replace

from broker.contract.commands import ThresholdCommand
from broker.contract.condition import Thresholds
from broker.contract.errors import StoreError
from edge_node.control.state import State, StateFile

__all__ = ["Tuning"]


class Tuning:
    """A node's thresholds. For any thread."""

    def __init__(self, file: StateFile, ground: Callable[[], Thresholds], tune: Callable[[Thresholds], None]) -> None:
        """Begin with what is remembered; nothing is tuned before a command.

        Args:
            file: remembers what was commanded.
            ground: returns the thresholds that the settings and the bundle in use say.
            tune: takes thresholds that are in force from now on; it must not wait.
        """
        self._file, self._ground, self._tune = file, ground, tune

    def thresholds(self) -> Thresholds:
        """Return what is in force: as commanded, or else as the settings and the bundle in use say."""
        return self._file.state.thresholds(self._ground())

    def set(self, command: ThresholdCommand) -> str:
        """Carry a command out, at once, and for good if the disk allows it; return in words what is in force now."""
        named = {"uncertain_below": command.uncertain_below, "speech_above": command.speech_above}

        def step(state: State) -> State:
            kept = replace(state, uncertain_below=None, speech_above=None) if command.reset else state
            return replace(kept, **{key: value for key, value in named.items() if value is not None}).after(command.id)

        problem = ""
        try:
            self._file.change(step)
        except StoreError as error:
            problem = f", but only until this program ends: {error}"
        now = self.thresholds()
        self._tune(now)
        return f"uncertain below {now.uncertain_below:g}, speech above {now.speech_above:g}{problem}"

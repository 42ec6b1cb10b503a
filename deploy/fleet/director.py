"""How a rehearsal goes: everybody connects, the rollout is ordered, it ends, and everybody comes to rest."""

import enum
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from broker.contract.errors import LinkError, ReleaseError
from broker.contract.release import Rollout
from deploy.fleet.releases import Releases
from edge_node.simulate.churn import Presence
from edge_node.simulate.fleet import Fleet
from edge_node.simulate.node import VirtualNode

__all__ = ["Director", "Stage"]

_CONNECT_S: Final = 30.0
"""After the last has been switched on, so long is waited for all of them."""
_NOBODY_S: Final = 15.0
_SETTLE_S: Final = 90.0
_END_S: Final = 10.0
_CONTROLLED: Final = frozenset({0, 1})
"""Exit codes of a controller that has seen a rollout to its end: done, and aborted."""


class Stage(enum.StrEnum):
    """Where a rehearsal stands."""

    CONNECTING = "connecting"
    FOLLOWING = "following"
    """Nothing is published from here; what is told is taken up."""
    ROLLOUT = "rollout"
    SETTLING = "settling"
    OVER = "over"


class Director:
    """Looks at the fleet now and then, and does what is next."""

    def __init__(
        self,
        fleet: Fleet,
        releases: Releases | None,
        release: str,
        options: Sequence[str],
        *,
        log: Path,
        seconds: float,
        stop: threading.Event,
    ) -> None:
        """Prepare.

        Args:
            fleet: that runs.
            releases: where the release is published already; None: nothing is rolled out from here.
            release: its name.
            options: of the command `rollout`.
            log: file for what the controller says.
            seconds: after this long it is over in any case.
            stop: set when a person wants it to end.
        """
        self.stage = Stage.CONNECTING
        self.ordered_s: float | None = None
        """When the rollout was ordered, since the fleet's start."""
        self._fleet, self._releases, self._release = fleet, releases, release
        self._options, self._log, self._seconds, self._stop = options, log, seconds, stop
        self._controller: subprocess.Popen[bytes] | None = None
        self._settle_by_s = 0.0

    def look(self) -> bool:
        """Do what is next, and return whether there is more to come.

        Raises:
            LinkError: nobody can connect.
            ReleaseError: the controller has failed.
        """
        elapsed_s = self._fleet.elapsed_s
        if self._stop.is_set() or elapsed_s >= self._seconds:
            self.stage = Stage.OVER
        steps: dict[Stage, Callable[[float], None]] = {
            Stage.CONNECTING: self._connecting,
            Stage.ROLLOUT: self._controlling,
            Stage.SETTLING: self._settling,
        }
        if self.stage in steps:
            steps[self.stage](elapsed_s)
        return self.stage is not Stage.OVER

    def end(self) -> None:
        """End the controller, if it still runs; the rollout stays as it is."""
        if self._controller is not None and self._controller.poll() is None:
            self._controller.terminate()
            try:
                self._controller.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._controller.kill()
                self._controller.wait()

    @property
    def last_words(self) -> str:
        """What the controller said last."""
        if self._controller is None:
            return ""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    @property
    def rollout(self) -> Rollout | None:
        """What the channel was told last, as far as nodes know."""
        return self._fleet.seen[-1].rollout if self._fleet.seen else None

    def _connecting(self, elapsed_s: float) -> None:
        over_s = elapsed_s - self._fleet.spec.ramp_s
        if over_s >= _NOBODY_S and not any(node.has_connected for node, _ in self._fleet.nodes):
            problem = next((words for words, _ in self._fleet.line.problems.most_common(1)), "no answer")
            broker = self._fleet.line.broker
            msg = f"broker {broker.host}:{broker.port}: no virtual node could connect: {problem}"
            raise LinkError(msg)
        if over_s < _CONNECT_S and not all(_is_there(*each, elapsed_s) for each in self._fleet.nodes):
            return
        if self._releases is None:
            self.stage = Stage.FOLLOWING
        elif over_s >= 0:
            self._controller = self._releases.roll_out(self._release, self._options, self._log)
            self.stage, self.ordered_s = Stage.ROLLOUT, elapsed_s

    def _controlling(self, elapsed_s: float) -> None:
        code = None if self._controller is None else self._controller.poll()
        if code is None:
            return
        is_failed = code not in _CONTROLLED or self.last_words.startswith("sottovoce-release: error: ")
        if is_failed:
            msg = f"the controller ended with code {code}: {self.last_words or 'it said nothing'}"
            raise ReleaseError(msg)
        self._fleet.calm()
        self.stage, self._settle_by_s = Stage.SETTLING, elapsed_s + _SETTLE_S

    def _settling(self, elapsed_s: float) -> None:
        rollout = self.rollout
        is_back = all(node.is_connected for node, _ in self._fleet.nodes if node.has_connected)
        if elapsed_s >= self._settle_by_s or (is_back and rollout is not None and self._fleet.is_settled(rollout)):
            self.stage = Stage.OVER


def _is_there(node: VirtualNode, presence: Presence, elapsed_s: float) -> bool:
    """Return whether a node is connected, or is not to be yet, or is away again."""
    if node.is_connected or presence.comes_s is None or presence.comes_s > elapsed_s:
        return True
    return any(from_s <= elapsed_s <= to_s + 1 for from_s, to_s in presence.absences)

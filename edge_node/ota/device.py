"""What an updater needs from the world, on a real node: its connection, its clock, threads and child processes."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from broker.connection import Connection
from broker.contract.errors import BundleError, SottovoceError
from broker.contract.offer import Offer
from broker.contract.topics import NodeTopic
from broker.contract.updates import UpdateReport
from edge_node.clock import WallClock
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.folder import Folder
from edge_node.ota.proof import prove
from edge_node.ota.record import Held
from edge_node.ota.trial import Trial, TrialSpec
from edge_node.ota.trust import ask
from edge_node.settings import UpdateSettings

if TYPE_CHECKING:
    from edge_node.ota.updater import Updater

__all__ = ["Change", "Device"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_AGAIN_S: Final = 60.0
"""Until a trial is begun again for which the system had no process, memory or thread."""
_PROOF_S: Final = 60.0
"""A board of the slowest kind loads LiteRT and runs a golden vector or two in a fraction of this."""
_ANSWER_BYTES: Final = 4096
_MIB: Final = 1 << 20

Tell = Callable[[Callable[["Updater"], None]], None]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Another model is to run from now on."""

    held: Held | None
    """Which; None: the one that the settings name."""
    data: bytes | None
    """Its archive."""


class Device:
    """The ports `Clock`, `Wire` and `Work` of one node. What takes time runs in a thread that stays with its child."""

    def __init__(
        self, settings: UpdateSettings, folder: Folder, clock: WallClock, tell: Tell, change: Callable[[Change], None]
    ) -> None:
        """Begin without a connection.

        Args:
            settings: of the updates.
            folder: where bundles and metadata are.
            clock: tells the time.
            tell: lets the updater hear of something, on its own thread.
            change: takes the model that is to run.
        """
        self._settings, self._folder, self._clock = settings, folder, clock
        self._tell, self._change = tell, change
        self.connection: Connection | None = None
        self.publish: Callable[[NodeTopic, msgspec.Struct], None] | None = None
        """Says something, now or when there is a connection; None: not yet."""
        self.reported: UpdateReport | None = None
        """What was said last about updates; None: nothing yet."""
        self.trial: Trial | None = None
        """That hears what the node hears."""
        self._proof: Child | None = None
        self._offer: Offer | None = None  # on trial
        self._again_s = math.inf  # when its trial is begun anew

    # --- clock

    def now_us(self) -> int:
        """Return the wall clock, µs since 1970, UTC."""
        return self._clock.now_us()

    def monotonic_s(self) -> float:
        """Return a clock that only goes forward, in seconds."""
        return time.monotonic()

    def is_synced(self) -> bool:
        """Return whether the kernel, or the settings, say that the wall clock is right."""
        return self._clock.is_synced()

    # --- wire

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics on the node's connection."""
        if self.connection is not None:
            self.connection.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for them no more."""
        if self.connection is not None:
            self.connection.unsubscribe(topics)

    def say(self, row: NodeTopic, message: msgspec.Struct) -> None:
        """Publish by the node's connection."""
        if isinstance(message, UpdateReport):
            self.reported = message
        if self.publish is not None:
            self.publish(row, message)

    # --- work

    def verify(self) -> None:
        """Run python-tuf in a child."""
        folder, anchor, channel = self._folder, Path(self._settings.anchor), self._settings.channel

        def work() -> Offer:
            return ask(folder.metadata, folder.trusted, anchor, channel)

        self._begin(work, "verification", lambda updater, outcome: updater.verified(outcome))

    def prove(self, offer: Offer) -> None:
        """Run the gates of this device in a child."""
        limits = Limits(wall_s=_PROOF_S, memory_bytes=self._settings.memory_mib * _MIB, output_bytes=_ANSWER_BYTES)
        budget_us = round(self._settings.budget_ms * 1000)

        def started(child: Child) -> None:
            self._proof = child

        def work() -> None:
            prove(self._folder.candidate, offer.sha256, budget_us, limits=limits, started=started)

        def answer(updater: "Updater", outcome: SottovoceError | None) -> None:
            if not (isinstance(outcome, ChildError) and outcome.ending is Ending.CANCELLED):
                updater.proved(offer.sha256, outcome)

        self._begin(work, "proof", answer)

    def begin_trial(self, offer: Offer) -> None:
        """Let a child hear what the node hears."""
        spec = TrialSpec(
            windows=self._settings.trial_windows,
            most_s=self._settings.trial_most_s,
            budget_us=round(self._settings.budget_ms * 1000),
            agreement_at_least=self._settings.agreement_at_least,
        )
        limits = Limits(memory_bytes=self._settings.memory_mib * _MIB)
        self._offer, self._again_s = offer, math.inf
        self.trial = Trial(self._folder.candidate, offer.sha256, spec, limits=limits)
        self.trial.start()

    def activate(self, held: Held | None) -> None:
        """Hand the model to the pipeline's thread."""
        try:
            self._change(Change(held=held, data=None if held is None else self._folder.read(held)))
        except BundleError as error:
            assert held is not None  # noqa: S101 -- for the type checker: the floor is not read
            why = str(error)
            self._tell(lambda updater: updater.unusable(held, why))

    def cancel(self) -> None:
        """End proof and trial, and wait until the trial's child is gone."""
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.cancel()
        trial, self.trial, self._offer = self.trial, None, None
        if trial is not None:
            trial.stop()

    def look_at_trial(self) -> None:
        """Tell how far the trial is, and how it ended; one that could not be started is begun anew later."""
        if self._offer is not None and self.monotonic_s() >= self._again_s:
            self.begin_trial(self._offer)
        trial = self.trial
        if trial is None:
            return
        figures, outcome = trial.figures(), trial.outcome()
        if outcome is not None:
            self.trial = None
            trial.stop()
            if isinstance(outcome, ChildError):
                _log.warning("the trial of %s waits %g s: %s", trial.sha256[:12], _AGAIN_S, outcome)
                self._again_s = self.monotonic_s() + _AGAIN_S
                return
            failure = str(outcome) if isinstance(outcome, BundleError) else None
            self._tell(lambda updater: updater.tried(trial.sha256, figures, failure))
        elif figures is not None:
            share = figures.windows / self._settings.trial_windows
            self._tell(lambda updater: updater.trying(trial.sha256, figures, share))

    def _begin(self, work: Callable[[], T], name: str, answer: Callable[["Updater", T | SottovoceError], None]) -> None:
        """Work in a thread of its own, and let the updater hear what came of it, whatever that is."""

        def run() -> None:
            outcome: T | SottovoceError
            try:
                outcome = work()
            except SottovoceError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 -- who waits for an answer must get one
                _log.exception("the %s ended by a defect", name)
                outcome = ChildError(Ending.CRASHED, f"the {name} ended by a defect of this program: {error!r}")
            self._tell(lambda updater: answer(updater, outcome))

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError as error:  # no more threads
            refusal = ChildError(Ending.NOT_STARTED, f"the {name} cannot be started: {error}")
            self._tell(lambda updater: answer(updater, refusal))

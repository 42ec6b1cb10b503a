"""What takes time on a virtual node: begun here, answered when the device would have been done with it.

What comes of it is the real thing's answer where all nodes would find the same (`verdicts`), and made up where it
depends on the device and on what it hears: the time of a window, and how far two models agree.
"""

import enum
import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

import msgspec

from broker.contract.decision import CLASSES
from broker.contract.errors import BundleError
from broker.contract.offer import Offer
from broker.contract.release import Rollout
from broker.contract.updates import SCORE_BINS, TrialFigures
from edge_node.ota.proof import Gate
from edge_node.ota.record import Held
from edge_node.ota.trial import TrialSpec, judge_trial
from edge_node.ota.updater import Updater
from edge_node.simulate.cost import Device
from edge_node.simulate.memory import Memory
from edge_node.simulate.timetable import Appointment, Timetable
from edge_node.simulate.verdicts import Verdict, Verdicts

__all__ = ["Behaviour", "Rehearsal", "VirtualWork", "WorkTerms"]

_LOOK_AGAIN_S: Final = 0.05
_TRYING_S: Final = 1.0
"""How often a real trial's child says how far it is."""
_AGREES: Final = 0.8
"""Share of windows on which an ordinary new model agrees with the old one: an assumption."""

T = TypeVar("T")


class Behaviour(enum.StrEnum):
    """What the releases of a rehearsal do on every node."""

    GOOD = "good"
    """Passes everything."""
    BAD = "bad"
    """Passes every gate, and fails once it runs: it ends the program, or cannot be loaded a second time."""
    SLOW = "slow"
    """One window takes longer than the budget."""
    CORRUPT = "corrupt"
    """Its bundle is signed, but gives other answers than its golden vectors."""


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What releases do, and for how long nodes look at them."""

    behaviour: Behaviour
    trial: TrialSpec
    lasting_windows: int
    hop_s: float
    """Seconds between two windows."""


class WorkTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the work of all nodes has in common."""

    rehearsal: Rehearsal
    times: Timetable
    verdicts: Verdicts
    seen: Callable[[Rollout], None]
    """Is told what a node has verified that its channel is told."""


class VirtualWork:
    """The work of one node, from a start of its program to its end."""

    def __init__(
        self,
        terms: WorkTerms,
        device: Device,
        memory: Memory,
        rng: random.Random,
        *,
        answer: Callable[[Callable[[Updater], None]], None],
        changed: Callable[[Held | None], None],
        crash: Callable[[], None],
    ) -> None:
        """Begin with nothing to do.

        Args:
            terms: of the fleet.
            device: takes its time.
            memory: of the node.
            rng: draws what the device hears.
            answer: calls what it is given with the node's updater.
            changed: lets the node run another model, None: the floor, and tells the updater.
            crash: ends the node's program.
        """
        self._rehearsal, self._times, self._verdicts = terms.rehearsal, terms.times, terms.verdicts
        self._seen = terms.seen
        self._device, self._memory, self._rng = device, memory, rng
        self._answer, self._changed, self._crash = answer, changed, crash
        self.rollout: Rollout | None = None
        """That this node has verified last."""
        self._gates: Appointment | None = None
        self._others: dict[str, Appointment] = {}

    # --- the port

    def verify(self) -> None:
        """Ask what the metadata offer."""
        found = self._verdicts.offer(self._memory.metadata, self._memory.trusted)
        self._later("verify", self._device.trust_s(), lambda: self._when(found, "verify", self._verified))

    def prove(self, offer: Offer) -> None:
        """Prove the candidate."""
        found = self._verdicts.proof(self._memory.candidate or b"", offer.sha256)

        def done(refusal: str | None) -> None:
            error = BundleError(refusal) if refusal else self._too_slow()
            self._answer(lambda updater: updater.proved(offer.sha256, error))

        self._gate(self._device.proof_s(), lambda: self._when(found, None, done))

    def begin_trial(self, offer: Offer) -> None:
        """Let the candidate run beside the model in use."""
        self._gate(self._device.proof_s() + _TRYING_S, lambda: self._try(offer, 0))

    def activate(self, held: Held | None) -> None:
        """Let another model run."""
        self._later("activate", self._device.load_s(), lambda: self._activated(held))

    def cancel(self) -> None:
        """End proof and trial."""
        if self._gates is not None:
            self._gates.cancel()
            self._gates = None

    # --- what the node's own program would do

    def runs(self, held: Held | None) -> None:
        """Begin to judge windows by a model: it lasts, unless it is one that does not."""
        hop_s, most = self._rehearsal.hop_s, self._rehearsal.lasting_windows
        if held is not None and self._rehearsal.behaviour is Behaviour.BAD:
            self._later("lasting", hop_s * self._rng.randint(1, most), self._crash)
            return
        sha256 = None if held is None else held.sha256
        self._later("lasting", hop_s * most, lambda: self._answer(lambda updater: updater.lasted(sha256)))

    def end(self) -> None:
        """End everything: the program has ended."""
        self.cancel()
        for each in self._others.values():
            each.cancel()
        self._others.clear()

    # --- how it goes on

    def _verified(self, verdict: Verdict) -> None:
        self._memory.trusted = verdict.trusted
        if isinstance(verdict.outcome, Offer):
            self.rollout = verdict.outcome.rollout
            self._seen(self.rollout)
        self._answer(lambda updater: updater.verified(verdict.outcome))

    def _too_slow(self) -> BundleError | None:
        """Return why the candidate is too slow for this device, in the words of the real gate; None: it is not."""
        budget_us = self._rehearsal.trial.budget_us
        took_us = self._device.window_us()
        if self._rehearsal.behaviour is Behaviour.SLOW:
            took_us = max(took_us, round(budget_us * self._rng.uniform(1.2, 3)))
        if took_us <= budget_us:
            return None
        words = f"one window takes {took_us / 1000:.3g} ms, the budget is {budget_us / 1000:g} ms"
        return BundleError(f"{Gate.LATENCY}: {words}")

    def _try(self, offer: Offer, windows: int) -> None:
        """Hear for another second."""
        trial, hop_s = self._rehearsal.trial, self._rehearsal.hop_s
        windows = min(trial.windows, windows + round(_TRYING_S / hop_s))
        figures = self._figures(windows)
        failure = judge_trial(figures, trial)
        if windows == trial.windows or failure is not None:
            self._gates = None
            self._answer(lambda updater: updater.tried(offer.sha256, figures, failure))
            return
        self._gate(_TRYING_S, lambda: self._try(offer, windows))
        self._answer(lambda updater: updater.trying(offer.sha256, figures, windows / trial.windows))

    def _figures(self, windows: int) -> TrialFigures:
        agreed = round(windows * _AGREES)
        took_us = self._device.window_us()
        scores = [0] * SCORE_BINS
        scores[SCORE_BINS // 2] = windows
        return TrialFigures(
            windows=windows,
            classified=windows,
            agreed=agreed,
            p50_us=took_us,
            p95_us=round(1.2 * took_us),
            scores=tuple(scores),
            labels={CLASSES[0]: windows - agreed, CLASSES[1]: agreed},
        )

    def _activated(self, held: Held | None) -> None:
        try:
            if held is not None:
                self._memory.read(held)
                if self._rehearsal.behaviour is Behaviour.BAD and self._device.lacks_memory:
                    msg = f"{held.release}: cannot be loaded beside the program"
                    raise BundleError(msg)  # noqa: TRY301 -- as a real pipeline would
        except BundleError as error:
            words, broken = str(error), held
            if broken is not None:
                self._answer(lambda updater: updater.unusable(broken, words))
            return
        self._changed(held)
        self.runs(held)

    def _when(self, found: "Future[T]", kind: str | None, then: Callable[[T], None]) -> None:
        """Go on with what is found out; a thread of its own may not be done with it yet."""
        if found.done():
            then(found.result())
        elif kind is None:
            self._gate(_LOOK_AGAIN_S, lambda: self._when(found, None, then))
        else:
            self._later(kind, _LOOK_AGAIN_S, lambda: self._when(found, kind, then))

    def _gate(self, wait_s: float, action: Callable[[], None]) -> None:
        self.cancel()
        self._gates = self._times.after(wait_s, action)

    def _later(self, kind: str, wait_s: float, action: Callable[[], None]) -> None:
        if (before := self._others.pop(kind, None)) is not None:
            before.cancel()
        self._others[kind] = self._times.after(wait_s, action)

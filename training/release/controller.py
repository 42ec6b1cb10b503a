"""The controller of a rollout: looks at the fleet, steps through the phases, aborts, and ends when everybody is done.

It keeps no state that matters: what a channel is told is on the disk, how the nodes stand is on the broker. It can be
ended at any moment, and another one takes over from there.
"""

import enum
import math
import threading
import time
from typing import Final

import msgspec

from broker.contract.errors import LinkError, SottovoceError
from broker.contract.release import Rollout
from training.release.document import Document
from training.release.fleet import Move, Tally, failures, in_nodes, judge, next_percent, waits_for
from training.release.screen import Screen
from training.release.view import Latest, View
from training.release.watch import Watch

__all__ = ["Controller", "End", "Outcome"]

_LATEST: Final = 6
_REASONS: Final = 5
_ONCE_WAIT_S: Final = 15.0
_LADDER: Final = (2, 10, 50, 100)
"""Percentages to go on with where somebody has named none."""


class Outcome(enum.StrEnum):
    """How it ended."""

    DONE = "done"
    ABORTED = "aborted"
    REPLACED = "replaced"
    """The channel names another release now."""
    DETACHED = "detached"
    """Somebody ended the controller, and the rollout stays as it is."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended, and what is to be said about that; empty: nothing."""

    outcome: Outcome
    words: str


class Controller:
    """Follows one channel until there is nothing left to do."""

    def __init__(
        self,
        watch: Watch,
        document: Document,
        screen: Screen,
        *,
        release: str | None = None,
        acts: bool = True,
        tick_s: float = 1.0,
    ) -> None:
        """Prepare; nothing is done before `run`.

        Args:
            watch: who hears the nodes.
            document: what the channel is told.
            screen: where it is shown.
            release: whose rollout it is; None: of whatever the channel names at first.
            acts: whether it steps and aborts; else it only shows, and goes on until it is told to stop.
            tick_s: how often it looks.
        """
        self._watch, self._document, self._screen = watch, document, screen
        self._release = release
        self._acts = acts
        self._tick_s = tick_s
        self._rollout: Rollout | None = None
        self._since_s = 0.0
        self._is_owed = acts  # whether the broker may not have what is signed: an earlier command may have failed there
        self._complaint = ""

    def run(self, stop: threading.Event) -> End:
        """Control, or show, until the rollout has come to an end or somebody says stop.

        Raises:
            LinkError: the broker refuses the subscription, or another program took a mere look's connection over.
            ReleaseError: there is no such channel at the beginning.
        """
        self._turn_to(self._document.read())
        if not self._acts:
            self._screen.say("nobody steps or aborts here; watch --control does")
        while not stop.is_set():
            self._watch.listen(self._tick_s, stop)
            if stop.is_set():
                break
            self._say_notes()
            if self._watch.has_rival and not self._acts:
                msg = f"broker {self._watch.where}: another program watches as the same user: one is let in at a time"
                raise LinkError(msg)
            if end := self._tick():
                return end
        words = self._detached(self._rollout) if self._acts and self._rollout is not None else ""
        return End(outcome=Outcome.DETACHED, words=words)

    def look(self, stop: threading.Event) -> None:
        """Show once how things stand.

        Raises:
            LinkError: the broker does not answer.
            ReleaseError: there is no such channel.
        """
        rollout = self._document.read()
        deadline = time.monotonic() + _ONCE_WAIT_S
        while not self._watch.is_current:
            self._watch.listen(min(self._tick_s, 0.1), stop)
            if stop.is_set():
                return
            if time.monotonic() >= deadline:
                said = f" ({self._why_not()})" if self._watch.notes else ""
                msg = f"broker {self._watch.where}: no answer within {_ONCE_WAIT_S:g} s{said}"
                raise LinkError(msg)
        self._screen.show(self._view(rollout, self._watch.tally(rollout), 0.0, None), None)

    def _why_not(self) -> str:
        """Return the last note as a part of an error that names the broker itself, and is the end."""
        return self._watch.notes[-1].removeprefix(f"broker {self._watch.where}: ").removesuffix("; tries again")

    def _tick(self) -> End | None:
        rollout = self._read()
        if rollout is None:
            return None
        if rollout != self._rollout:
            self._turn_to(rollout)
        counted, elapsed_s = self._watch.tally(rollout), time.monotonic() - self._since_s
        can_judge = self._watch.is_current and not self._is_owed
        move = judge(counted, rollout, elapsed_s) if can_judge else Move.WAIT
        outcome = self._outcome(rollout, move) if self._acts else None
        # who only looks has not seen when the channel was told so
        self._screen.show(self._view(rollout, counted, elapsed_s, outcome), elapsed_s if self._acts else None)
        if outcome is not None:
            return End(outcome=outcome, words=_last_words(outcome, self._release or "", rollout, counted))
        if self._acts:
            self._act(rollout, counted, move)
        return None

    def _outcome(self, rollout: Rollout, move: Move) -> Outcome | None:
        if rollout.release != self._release:
            return Outcome.REPLACED
        if rollout.aborted and not self._is_owed:  # nodes go back only when they hear of it
            return Outcome.ABORTED
        return Outcome.DONE if move is Move.DONE else None

    def _act(self, rollout: Rollout, counted: Tally, move: Move) -> None:
        """Step or abort, or bring to the broker what an earlier tick could not."""
        if not self._is_owed and move not in {Move.STEP, Move.ABORT}:
            return
        if self._is_owed and not self._watch.is_current and not rollout.aborted:
            return  # no broker for the one is hardly one for the other; to try would take seconds each time
        try:
            if not self._is_owed:
                self._is_owed = True
                percent = next_percent(rollout)
                if move is Move.ABORT:
                    self._document.abort(rollout, failures(counted))
                elif percent is not None and self._document.step(rollout, percent):
                    self._screen.say(f"{rollout.channel}: {rollout.release}: {percent} % of the nodes")
            self._document.mirror()
            self._is_owed, self._complaint = False, ""
        except SottovoceError as error:
            self._complain(error)
        self._since_s = time.monotonic()

    def _read(self) -> Rollout | None:
        """Return the document; None: it cannot be read now, which is said once."""
        try:
            return self._document.read()
        except SottovoceError as error:
            self._complain(error)
            return None

    def _complain(self, error: SottovoceError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            self._screen.say(f"{error}; tries again")

    def _turn_to(self, rollout: Rollout) -> None:
        self._release = self._release or rollout.release
        self._rollout, self._since_s = rollout, time.monotonic()

    def _say_notes(self) -> None:
        while self._watch.notes:
            self._screen.say(self._watch.notes.popleft())

    def _view(self, rollout: Rollout, counted: Tally, elapsed_s: float, outcome: Outcome | None) -> View:
        ranked = sorted(counted.reasons.items(), key=lambda each: (-each[1], each[0]))
        return View(
            rollout=rollout,
            is_current=self._watch.is_current,
            fleet=counted,
            waits=self._waits(rollout, counted, elapsed_s),
            reasons=tuple(ranked[:_REASONS]),
            latest=tuple(Latest.of(*each) for each in self._watch.picture.latest(rollout, _LATEST)),
            outcome=outcome,
        )

    def _waits(self, rollout: Rollout, counted: Tally, elapsed_s: float) -> str:
        """Return what it waits for, in words; empty: nothing."""
        if not self._watch.is_current:
            return f"the broker {self._watch.where}; nothing is judged before"
        if rollout.aborted:
            return ""
        if rollout.paused:
            return "`sottovoce-release resume`"
        if rollout.percent == 0:
            return "`sottovoce-release rollout`, which says how many take it up"
        return waits_for(counted, rollout, elapsed_s if self._acts else math.inf) or ""

    def _detached(self, rollout: Rollout) -> str:
        owed = "; the broker may not have it: `sottovoce-release reseed`" if self._is_owed else ""
        return (
            f"detached: {rollout.channel} stays at {rollout.percent} % of the nodes, nobody steps or aborts{owed}. "
            f"Go on with: sottovoce-release watch --control --channel {rollout.channel}"
        )


def _last_words(outcome: Outcome, release: str, rollout: Rollout, counted: Tally) -> str:
    """Return the line that tells how it ended."""
    match outcome:
        case Outcome.ABORTED:
            because = f": {rollout.reason}" if rollout.reason else ""
            return f"{rollout.channel}: {release} was aborted at {rollout.percent} %{because}"
        case Outcome.REPLACED:
            return f"{rollout.channel}: names {rollout.release} now; the rollout of {release} is over"
        case _:
            return _done(release, rollout, counted)


def _done(release: str, rollout: Rollout, counted: Tally) -> str:
    """Return how many nodes run it; a rollout whose last phase is not of 100 % has not reached the others."""
    failed = f", {failures(counted)}" if counted.failed else ""
    absent = f", {counted.absent:,} offline may take it up when they return" if counted.absent else ""
    share = f"{counted.succeeded:,} of {in_nodes(counted.asked)}"
    runs = "runs" if counted.asked == 1 else "run"
    if rollout.percent == _LADDER[-1]:
        return f"{rollout.channel}: {release} is done at {rollout.percent} %: {share} {runs} it{failed}{absent}"
    told = f"{share} that {'was' if counted.asked == 1 else 'were'} asked {runs} it{failed}{absent}"
    if not counted.asked:
        told = "nobody was asked, as no node that is known is in"
    left = ",".join(str(percent) for percent in _LADDER if percent > rollout.percent)
    onward = f"sottovoce-release rollout {release} --channel {rollout.channel} --percent {left}"
    return f"{rollout.channel}: {release} stays at {rollout.percent} %, the last phase: {told}; next: {onward}"

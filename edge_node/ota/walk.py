"""The model walk: what a node does in each state, on its way from one model to the next.

    decide (choice) -> step (table, record) -> on the disk (ledger) -> said (reports) -> the state's action -> ports

Each action may be begun anew at any time: after a crash, and when the disk did not take the step that it led to.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from broker.contract.errors import StoreError
from broker.contract.offer import Offer
from broker.contract.updates import TrialFigures, UpdateState
from edge_node.ota.choice import Rest, Take, decide
from edge_node.ota.download import Download
from edge_node.ota.ledger import Ledger
from edge_node.ota.looks import Looks
from edge_node.ota.ports import Clock, Files, Me, Wire, Work
from edge_node.ota.record import MOST_STARTS, Record
from edge_node.ota.reports import About, Reports
from edge_node.ota.table import RUNNING, WORKING, Event
from edge_node.ota.timers import Pause, Timers

__all__ = ["Walk"]

_log = logging.getLogger(__name__)

_MOST_SPOILED: Final = 3
"""Times that the disk may spoil a release before it is given up."""
_US: Final = 1_000_000
_UNKNOWN: Final = "unknown"


class Walk:
    """The walk of one node. Nothing else moves the record from state to state."""

    def __init__(self, me: Me, files: Files, wire: Wire, work: Work, clock: Clock) -> None:
        """Take up the record where it was left; nothing is begun before `begin`.

        Raises:
            StoreError: what was saved cannot be read.
        """
        self._me, self._files, self._work, self._clock = me, files, work, clock
        self.timers, self._pause = Timers(clock.monotonic_s), Pause()
        self._reports = Reports(me, wire, clock)
        self._ledger = Ledger(files, lambda words: self._reports.note(About.DISK, words))
        self.looks = Looks(
            work,
            clock,
            self.timers,
            floor_us=lambda: self.record.floor_us,
            refuse=lambda words: self.tell(About.METADATA, words),
        )
        self.download = Download(
            files,
            wire,
            self.timers,
            progress=self.say_progress,
            trouble=lambda words: self.tell(About.CHUNKS, words),
            done=lambda: self.advance(Event.FETCHED),
        )
        self._actions = {
            UpdateState.IDLE: self._rest,
            UpdateState.DOWNLOADING: self._fetch,
            UpdateState.VERIFYING: self.looks.soon,
            UpdateState.TRIAL: self._try,
            UpdateState.COMMITTING: self._commit,
            UpdateState.ROLLING_BACK: self._restore,
            UpdateState.REJECTED: self._rest,
        }
        self.offer: Offer | None = None
        """What the metadata say; None: nothing that holds."""
        self.is_proving = False
        """Whether the answer of a proof is waited for."""
        self._is_begun = False
        self._runs: str | None = _UNKNOWN  # digest of the archive that runs; None: the floor
        self._spoiled = 0
        self._owed: Callable[[], None] | None = None  # a step that the disk did not take

    @property
    def record(self) -> Record:
        """How things stand."""
        return self._ledger.record

    def begin(self) -> None:
        """Go on with what was under way."""
        self._is_begun = self._reports.is_on = True
        self._reports.say(self.record)
        self._ledger.clear()
        self.looks.soon()
        self.act()

    def end(self) -> None:
        """Begin nothing more, and cease what is under way."""
        self._is_begun = self._reports.is_on = False
        self.download.end()
        self._work.cancel()
        self._ledger.end()
        self.timers.drop_all()

    def advance(
        self,
        event: Event,
        *,
        reason: str = "",
        offer: Offer | None = None,
        trial: TrialFigures | None = None,
        command: str = "",
    ) -> None:
        """Take the table's step, say it, and do what follows; `record.step` says what the arguments are."""
        before = self.record
        if not self._ledger.take(event, reason=reason, offer=offer, trial=trial, command=command):
            if before.state in WORKING:  # what rests decides anew
                self._owed = partial(self.advance, event, reason=reason, trial=trial)
            self._try_later()
            return
        after = self.record
        if before.state in WORKING:
            self.download.end()
            self._work.cancel()
        self._owed, self.is_proving = None, False
        self.timers.drop(self.act, self._rest)
        self._pause.reset()
        words = f"{event}: {after.release or before.release}: {before.state} -> {after.state}"
        _log.info("update of %s: %s%s", self._me.node, words, f" ({after.reason})" if after.reason else "")
        self._reports.changed()
        self._reports.say(after)
        self.act()

    def act(self) -> None:
        """Do what the state asks for."""
        if not self._is_begun:
            return
        if self._owed is not None:
            self._owed()
            return
        if not self._ledger.keep(self.record):
            self._try_later()
            if self.record.state in RUNNING:
                return
        self._actions[self.record.state]()

    def accept(self, offer: Offer) -> None:
        """Take what the metadata offer, now that they were verified, and do what it means."""
        self.offer = offer
        self._reports.note(About.METADATA, "")
        self._ledger.raise_floor(self._clock.now_us())
        self._consider()
        self._reports.say(self.record)

    def _consider(self) -> None:
        if self.offer is None or not self._is_begun:
            return
        match decide(self._me, self.record, self.offer, self._clock.now_us()):
            case Take(event=event, reason=reason):
                self.advance(event, reason=reason, offer=self.offer)
            case Rest() as rest:
                self._wait(rest)
            case None if self.record.state is UpdateState.VERIFYING and not self.is_proving and self._owed is None:
                self._prove()

    def told(self, sha256: str | None) -> None:
        """Hear which model runs."""
        self._runs = sha256
        if self.record.state is UpdateState.ROLLING_BACK:
            self.act()

    def opened(self) -> None:
        """Hear that there is a new connection."""
        self._pause.reset()
        self.download.opened()

    def look_later(self) -> None:
        """Look at the metadata again, each time after a longer while."""
        self.looks.soon(self._pause.next_s())

    def tell(self, about: About, words: str, *, level: int = logging.WARNING) -> None:
        """Report why nothing happens; no words: there is no reason any more."""
        self._reports.note(about, words, level=level)
        self._reports.say(self.record)

    def say_progress(self, share: float, figures: TrialFigures | None = None) -> None:
        """Report how far it is."""
        self._reports.say(self.record, share, figures)

    def keep(self, record: Record) -> bool:
        """Remember what changes no state, and return whether it could be."""
        is_kept = self._ledger.keep(record)
        self._reports.say(self.record)
        return is_kept

    # --- one action for each state, and what belongs to it

    def _rest(self) -> None:
        self._spoiled = 0
        self._ledger.clear()
        self._consider()

    def _wait(self, rest: Rest) -> None:
        record = self.record
        reason = "" if record.state is UpdateState.IDLE else record.reason
        if not self.keep(replace(record, turn=rest.turn, reason=reason)):
            self._try_later()
            return
        self.tell(About.COURSE, rest.words, level=logging.INFO)
        if rest.turn is not None:
            self.timers.after(max(0.0, (rest.turn.due_us - self._clock.now_us()) / _US), self._rest)

    def _fetch(self) -> None:
        assert self.record.offer is not None  # noqa: S101 -- for the type checker, here and below: `record.flaw` says so
        self.download.begin(self.record.offer)

    def _prove(self) -> None:
        record = self.record
        assert record.offer is not None  # noqa: S101 -- as above
        if record.proofs >= MOST_STARTS:
            self.advance(Event.FAILED, reason=f"the program ended {record.proofs} times in its proof")
            return
        try:
            is_whole = self._files.assemble(record.offer)
        except StoreError as error:
            self.tell(About.DEVICE, str(error))
            self.look_later()
            return
        if not is_whole:
            self._spoil("a chunk")
        elif self.keep(replace(record, proofs=record.proofs + 1)):
            self.tell(About.DEVICE, "")
            self.is_proving = True
            self._work.prove(record.offer)
        else:
            self.look_later()

    def _try(self) -> None:
        assert self.record.offer is not None  # noqa: S101 -- as above
        if self._files.is_assembled(self.record.offer):
            self._work.begin_trial(self.record.offer)
        else:
            self._spoil("the bundle")

    def _spoil(self, what: str) -> None:
        """Fetch it again; a disk that keeps spoiling it is not written for ever."""
        self._spoiled += 1
        if self._spoiled > _MOST_SPOILED:
            self.advance(Event.FAILED, reason=f"{what} on the disk was spoiled, {self._spoiled} times by now")
        else:
            self.advance(Event.SPOILED, reason=f"{what} on the disk was spoiled")

    def _commit(self) -> None:
        record = self.record
        assert record.offer is not None  # noqa: S101 -- as above
        if record.is_installed:
            if self._runs != self._active:
                self._activate()
            return
        try:
            is_there = self._files.install(record.offer, record.spare)
        except StoreError as error:
            self.tell(About.DEVICE, str(error))
            self._try_later()
            return
        if is_there:
            self.advance(Event.INSTALLED)
        else:
            self._spoil("the bundle")

    def _restore(self) -> None:
        if self._runs == self._active:
            self.advance(Event.RETURNED if self.record.is_withdrawn else Event.RESTORED)
        else:
            self._activate()

    def _activate(self) -> None:
        """Let the model run that is to run; until it is told which one does, it may be any that was asked for."""
        self._runs = _UNKNOWN
        self._work.activate(self.record.active)

    @property
    def _active(self) -> str | None:
        """Digest of the archive that is to run; None: the floor."""
        return None if self.record.active is None else self.record.active.sha256

    def _try_later(self) -> None:
        self._reports.say(self.record)
        self.timers.after(self._pause.next_s(), self.act)

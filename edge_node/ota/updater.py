"""How one node takes releases up: the same code on a device and, a thousand times, in the simulator of a fleet.

It belongs to one thread, knows no socket, no process and no disk (`edge_node.ota.ports`), and never waits: it is told
what has happened, and begins what follows (`edge_node.ota.walk`). Nothing in here touches the model that runs, until
`Work.activate`.
"""

import logging
import re
from typing import Final

from msgspec.structs import replace

from broker.contract.commands import Command
from broker.contract.errors import BundleError, Refusal, SottovoceError, StoreError, TrustError
from broker.contract.offer import Offer
from broker.contract.topics import METADATA, REPLY
from broker.contract.updates import TrialFigures, UpdateState
from edge_node.control.answers import Answers
from edge_node.ota import recall
from edge_node.ota.ports import Clock, Files, Me, Wire, Work
from edge_node.ota.record import Held, Record, settled
from edge_node.ota.reports import About
from edge_node.ota.table import WORKING, Event
from edge_node.ota.timers import Pause
from edge_node.ota.walk import Walk

__all__ = ["Me", "Updater"]

_log = logging.getLogger(__name__)

_SETTLE_S: Final = 0.3
"""After a file of metadata: its neighbours come with it."""
_LATER_S: Final = 900.0
_DISOWNED: Final = frozenset({Refusal.UNSIGNED_RELEASE, Refusal.UNKNOWN_CHANNEL})
"""Metadata that hold, and by which there is nothing for this node to take up."""


class Updater:
    """One node's updates."""

    def __init__(self, me: Me, files: Files, wire: Wire, work: Work, clock: Clock) -> None:
        """Take up the record where it was left; nothing is begun before `begin`.

        Raises:
            StoreError: what was saved cannot be read.
        """
        self._me, self._files, self._wire, self._clock = me, files, wire, clock
        self._walk = Walk(me, files, wire, work, clock)
        self._answers = Answers(me.boot_id, clock)
        self._metadata_pause = Pause()

    # --- what a node asks

    @property
    def record(self) -> Record:
        """How things stand."""
        return self._walk.record

    @property
    def due_s(self) -> float | None:
        """When `tick` has something to do, by the monotonic clock; None: not before something else happens."""
        return self._walk.timers.due_s

    # --- what its program does

    def begin(self) -> None:
        """Go on with what was under way."""
        self._walk.begin()

    def stop(self) -> None:
        """End because the program ends in order; what is under way goes on at the next start."""
        self._walk.end()

    def tick(self) -> None:
        """Do what is due."""
        self._walk.timers.turn()

    # --- what the broker sends

    def opened(self) -> None:
        """Hear that there is a connection, a new one: the broker knows nothing of what was asked for before."""
        self._metadata_pause.reset()
        self._walk.opened()

    def metadata(self, name: str, payload: bytes) -> None:
        """Take a file of metadata; empty: the broker retains it no longer."""
        if not re.fullmatch(METADATA.pattern, name):  # it would become the name of a file
            _log.warning("update of %s: %r is no file of metadata; not kept", self._me.node, name[:80])
            return
        try:  # of one that is too long, as much is kept as it takes to be refused for it
            is_new = self._files.put_metadata(name, payload[: METADATA.largest_bytes + 1])
        except StoreError as error:
            self._walk.tell(About.METADATA, str(error))
            self._walk.timers.within(self._metadata_pause.next_s(), self._ask_again)
            return
        if is_new:
            self._walk.looks.soon(_SETTLE_S)

    def chunk(self, digest: str, payload: bytes) -> None:
        """Take a part of a bundle; one that nobody waits for, or not for this one, is not kept."""
        self._walk.download.take(digest, payload)

    def command(self, command: Command) -> None:
        """Carry out an operator's order to go back, once, and answer."""
        if (reply := self._answers.find(command)) is not None:
            self._wire.say(REPLY, reply)
            return
        answer = recall.consider(self._me, self.record, self._clock, command)
        _log.info("update of %s: command rollback: %s", self._me.node, answer.words)
        self._wire.say(REPLY, self._answers.put(command, done=answer.is_done, words=answer.words))
        if answer.goes_back:
            self._walk.advance(Event.RECALLED, reason="an operator ordered this node back", command=command.id)

    def _ask_again(self) -> None:
        """Have the broker send all metadata again: some could not be kept."""
        self._wire.subscribe([METADATA.every])

    # --- what the device answers

    def verified(self, outcome: Offer | SottovoceError) -> None:
        """Hear what the metadata offer, or why they are refused."""
        walk = self._walk
        walk.looks.done()
        if isinstance(outcome, Offer):
            walk.accept(outcome)
            return
        refusal = outcome.refusal if isinstance(outcome, TrustError) else None
        if refusal is not None:
            walk.offer = None  # nothing is begun on what does not hold any more
        if refusal in _DISOWNED and self.record.state in WORKING:
            walk.advance(Event.WITHDRAWN, reason=str(outcome))
        level = logging.INFO if refusal is Refusal.INCOMPLETE else logging.WARNING  # the rest may be on its way
        walk.tell(About.METADATA, str(outcome), level=level)
        if self.record.state is UpdateState.VERIFYING:  # the first gate: closed until something says otherwise
            walk.look_later()
        elif refusal is None:
            walk.looks.soon(_LATER_S)

    def proved(self, sha256: str, outcome: SottovoceError | None) -> None:
        """Hear whether the candidate has passed the gates on this device; None: it has."""
        walk = self._walk
        if not walk.is_proving or not self._is_about(UpdateState.VERIFYING, sha256):
            return
        walk.is_proving = False
        if outcome is None:
            walk.advance(Event.PROVED)
        elif isinstance(outcome, BundleError | TrustError):
            walk.advance(Event.FAILED, reason=str(outcome))
        else:  # nothing was found out
            walk.keep(replace(self.record, proofs=0))
            walk.tell(About.DEVICE, str(outcome))
            walk.look_later()

    def trying(self, sha256: str, figures: TrialFigures, share: float) -> None:
        """Hear how far the trial is, as a share of its windows."""
        if self._is_about(UpdateState.TRIAL, sha256):
            self._walk.say_progress(share, figures)

    def tried(self, sha256: str, figures: TrialFigures | None, failure: str | None) -> None:
        """Hear how the trial ended, with what it counted, and why it failed if it did."""
        if self._is_about(UpdateState.TRIAL, sha256):
            event = Event.TRIED if failure is None else Event.FAILED
            self._walk.advance(event, reason=failure or "", trial=figures)

    def running(self, sha256: str | None) -> None:
        """Hear which model runs now, by its archive's digest; None: the floor."""
        self._walk.told(sha256)

    def unusable(self, held: Held, why: str) -> None:
        """Hear that a model in a slot cannot be run."""
        if held == self.record.active:
            _log.error("update of %s: %s", self._me.node, why)
            self._walk.advance(Event.FAILED if self.record.is_installed else Event.BROKEN, reason=why)

    def lasted(self, sha256: str | None) -> None:
        """Hear that a model has judged enough windows by itself."""
        record = self.record
        if record.active is not None and record.active.sha256 != sha256:
            return
        if record.is_installed:
            self._walk.advance(Event.CONFIRMED)
        else:
            self._walk.keep(settled(record))

    def _is_about(self, state: UpdateState, sha256: str) -> bool:
        record = self.record
        return record.state is state and record.offer is not None and record.offer.sha256 == sha256

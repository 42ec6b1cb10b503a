"""What a node remembers about updates across a crash, and how each event changes it: values in, values out."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from broker.contract.offer import Offer
from broker.contract.scalars import Count, Microseconds, Text
from broker.contract.updates import TrialFigures, UpdateState
from edge_node.ota.table import RUNNING, WORKING, Event, next_state

__all__ = [
    "MOST_STARTS",
    "Bad",
    "Held",
    "Record",
    "Slot",
    "Turn",
    "flaw",
    "one_line",
    "settled",
    "started",
    "step",
    "stopped",
]

MOST_STARTS: Final = 3
"""How often the program may end in a state of `RUNNING`, with a model or in its proof, until the model is given up."""
_MOST_BAD: Final = 32
_REASON: Final = 200

Slot = Literal["a", "b"]
Reason = Annotated[str, Meta(max_length=_REASON)]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A signed model in a slot."""

    slot: Slot
    release: Text
    """`<name>/<version>`."""
    sha256: str
    """Of the archive."""


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """A release that failed here, or that an operator recalled: it is not taken up again."""

    release: Text
    sha256: str
    reason: Reason


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """When this node begins with a release; counted from when it first read that it is in."""

    release: Text
    due_us: Microseconds
    """Wall clock, µs since 1970, UTC."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that outlives the program. A field that an older program does not know, it drops."""

    schema: Literal[1] = 1
    state: UpdateState = UpdateState.IDLE
    release: Text | None = None
    """That the state is about; None while idle: the model that runs."""
    reason: Reason = ""
    offer: Offer | None = None
    """What is being taken up; None in the states that take nothing up."""
    active: Held | None = None
    """The model that is to run; None: the one that the settings name, which is the floor."""
    previous: Held | None = None
    """The one before; None: the floor."""
    turn: Turn | None = None
    starts: Count = 0
    """Starts of the program since the state was entered, or with the model, that did not end well."""
    proofs: Count = 0
    """Proofs of the release that were begun and have not been answered."""
    bad: tuple[Bad, ...] = ()
    trial: TrialFigures | None = None
    """Of `release`."""
    is_withdrawn: bool = False
    """Whether the node goes back because a release was withdrawn, which says nothing against that."""
    recalled: str = ""
    """Id of the operator's last command that was carried out."""
    floor_us: Microseconds = 0
    """No earlier time is believed, µs since 1970: metadata were verified then."""

    @property
    def is_installed(self) -> bool:
        """Whether the model that is being taken up is the one to run already."""
        return self.offer is not None and self.active is not None and self.active.sha256 == self.offer.sha256

    @property
    def spare(self) -> Slot:
        """The slot that a new model goes into; the one of the model that runs is never written."""
        return "b" if self.active is not None and self.active.slot == "a" else "a"

    def badness(self, release: str, sha256: str) -> str | None:
        """Return why a release is not taken up again; None: nothing is known against it.

        The same bytes under another name are as bad; other bytes under the same name cannot be, as they are signed
        once.
        """
        return next((each.reason for each in self.bad if each.sha256 == sha256 or each.release == release), None)


def step(
    record: Record,
    event: Event,
    *,
    reason: str = "",
    offer: Offer | None = None,
    trial: TrialFigures | None = None,
    command: str = "",
) -> Record:
    """Return the record after an event.

    Args:
        record: as it is.
        event: what happened.
        reason: why, in words; cut to what a report holds.
        offer: what is taken up (OFFERED) or refused (REFUSED).
        trial: how it did (TRIED, and FAILED in a trial).
        command: id of the operator's command (RECALLED).

    Raises:
        KeyError: the event cannot happen in this state; a defect of ours.
    """
    state = next_state(record.state, event)
    after = replace(record, state=state, reason=one_line(reason), starts=0, proofs=0, is_withdrawn=False)
    match event:
        case Event.OFFERED | Event.REFUSED:
            assert offer is not None  # noqa: S101 -- for the type checker: it is an offer that is taken up or refused
            taken_up = offer if event is Event.OFFERED else None
            after = replace(after, offer=taken_up, release=offer.rollout.release, trial=None, turn=None)
        case Event.TRIED:  # the spare slot is about to be written: nothing that it held can be gone back to
            after = replace(after, trial=trial, previous=None)
        case Event.INSTALLED:
            assert record.offer is not None  # noqa: S101 -- likewise
            held = Held(slot=record.spare, release=record.offer.rollout.release, sha256=record.offer.sha256)
            after = replace(after, active=held, previous=record.active)
        case Event.CONFIRMED:
            assert record.offer is not None  # noqa: S101 -- likewise
            # what nodes were ordered away from is nothing that an operator's order may lead back to
            previous = None if record.offer.rollout.downgrade else record.previous
            after = replace(after, offer=None, release=None, previous=previous)
        case Event.WITHDRAWN if state is UpdateState.IDLE:
            after = replace(after, offer=None, release=None, trial=None)
        case Event.FAILED | Event.RECALLED | Event.WITHDRAWN | Event.BROKEN:
            after = _given_up(record, replace(after, recalled=command or record.recalled), event, trial)
        case Event.RESTORED:
            after = replace(after, reason=record.reason)
        case Event.RETURNED:
            after = replace(after, reason=record.reason, release=None, trial=None)
        case _:
            pass
    return after


def started(record: Record) -> Record:
    """Return the record at a start of the program: one more start is counted where a model could have ended it.

    A model that has not lasted `MOST_STARTS` starts is given up. Proofs are counted one by one, by whoever begins them.
    """
    if record.state not in RUNNING and record.active is None:
        return record
    if record.starts < MOST_STARTS:
        return replace(record, starts=record.starts + 1)
    what = record.state.value
    if record.state not in RUNNING and record.active is not None:
        what = f"the use of {record.active.release}"
    # where nothing new runs, or the way back is being gone, it is the model in use that does not last
    is_used = record.state not in {*RUNNING, UpdateState.IDLE, UpdateState.REJECTED}
    event = Event.BROKEN if is_used else Event.FAILED
    return step(record, event, reason=f"the program ended {record.starts} times in {what}")


def stopped(record: Record) -> Record:
    """Return the record when the program ends because it was told to: this start did end well."""
    return replace(record, starts=max(0, record.starts - 1), proofs=max(0, record.proofs - 1))


def settled(record: Record) -> Record:
    """Return the record once the model that runs has lasted."""
    return record if record.state in RUNNING else replace(record, starts=0)


def flaw(record: Record) -> str | None:
    """Return what is wrong with a record that no sequence of events leads to; None: nothing."""
    if (record.state in WORKING) != (record.offer is not None):
        return f"{record.state}, {'without' if record.offer is None else 'with'} an offer"
    if record.offer is not None and record.offer.bytes != record.offer.release.bytes:
        return "an offer whose chunks do not make it up"
    if record.previous is not None and (record.active is None or record.active.slot == record.previous.slot):
        return "a previous model without a slot of its own"
    return None


def one_line(words: str) -> str:
    """Return words as a report holds them; a path in them may be no text."""
    return " ".join(words.encode(errors="replace").decode().split())[:_REASON]


def _given_up(record: Record, after: Record, event: Event, trial: TrialFigures | None) -> Record:
    """Return the record when a model is given up; the one before is the one to run, from the first moment on."""
    if record.state is UpdateState.ROLLING_BACK:  # the model that it went back to is no better; the reason stands
        kept = replace(after, reason=record.reason, is_withdrawn=record.is_withdrawn)
        return replace(kept, active=record.previous, previous=None)
    if record.offer is not None and event is not Event.BROKEN:
        release, sha256, figures = record.offer.rollout.release, record.offer.sha256, trial or record.trial
    else:
        assert record.active is not None  # noqa: S101 -- the floor is not given up; for the type checker
        release, sha256, figures = record.active.release, record.active.sha256, None
    is_withdrawn = event is Event.WITHDRAWN
    after = replace(after, release=release, offer=None, turn=None, trial=figures, is_withdrawn=is_withdrawn)
    if record.active is not None and record.active.sha256 == sha256:
        after = replace(after, active=record.previous, previous=None)
    if event in {Event.FAILED, Event.RECALLED}:
        after = replace(after, bad=(*after.bad, Bad(release=release, sha256=sha256, reason=after.reason))[-_MOST_BAD:])
    return after

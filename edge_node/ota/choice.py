"""What verified metadata mean to a node, as a value: nothing happens in here."""

import msgspec

from broker.contract.offer import Offer
from broker.contract.release import Course, course, incompatibility, start_delay_s
from broker.contract.updates import UpdateState
from edge_node.ota.ports import Me
from edge_node.ota.record import Record, Turn
from edge_node.ota.table import WORKING, Event

__all__ = ["Rest", "Take", "decide"]

_US = 1_000_000


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """The table's step is to be taken."""

    event: Event
    reason: str = ""


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is to be done now."""

    turn: Turn | None = None
    """When the node begins, if it is to."""
    words: str = ""
    """Why nothing is done; empty where the record has a reason."""


def decide(me: Me, record: Record, offer: Offer, now_us: int) -> Take | Rest | None:
    """Return what is to be done about an offer; None: go on with what is under way.

    Args:
        me: the node.
        record: how things stand with it.
        offer: what was verified last.
        now_us: wall clock, µs since 1970, UTC.
    """
    if record.state is UpdateState.ROLLING_BACK:
        return None
    return _under_way(record, offer) if record.state in WORKING else _resting(me, record, offer, now_us)


def _under_way(record: Record, offer: Offer) -> Take | None:
    """Return whether a release is given up; who has begun goes on, unless metadata have come to say otherwise."""
    is_same = record.offer is not None and record.offer.sha256 == offer.sha256
    if is_same and offer.rollout.aborted:
        return Take(event=Event.WITHDRAWN, reason=f"aborted: {offer.rollout.reason}".removesuffix(": "))
    if not is_same and record.state is not UpdateState.COMMITTING:  # what may be going wrong is finished first
        return Take(event=Event.WITHDRAWN, reason=f"the channel names {offer.rollout.release} now")
    return None


def _resting(me: Me, record: Record, offer: Offer, now_us: int) -> Take | Rest:
    rollout = offer.rollout
    running = record.active.release if record.active is not None else me.floor
    way, why = course(me.node, running, rollout)
    is_rejected = record.state is UpdateState.REJECTED and record.release == rollout.release
    known = record.badness(rollout.release, offer.sha256)
    refusal = why if way is Course.REFUSE else None
    if way is Course.TAKE_UP:
        lacking = incompatibility(offer.release, me.litert)
        refusal = known or (f"compatibility: {lacking}" if lacking is not None else None)
    if refusal is not None:
        return Rest() if is_rejected else Take(event=Event.REFUSED, reason=refusal)
    if way is Course.TAKE_UP:
        return _in_turn(me, record, offer, now_us)
    if is_rejected and running != rollout.release and (rollout.aborted or known is not None):
        return Rest()  # it may not be wanted now, but what was found stands
    if record.state is UpdateState.REJECTED:
        return Take(event=Event.WITHDRAWN, reason=why)
    return Rest(words="" if running == rollout.release else why)


def _in_turn(me: Me, record: Record, offer: Offer, now_us: int) -> Take | Rest:
    """Return whether this node's moment within the spread time has come, or when it will."""
    rollout, turn = offer.rollout, record.turn
    latest_us = now_us + rollout.spread_s * _US
    if turn is None or turn.release != rollout.release or turn.due_us > latest_us:  # or the clock was set back
        delay_us = int(start_delay_s(me.node, rollout) * _US)
        turn = Turn(release=rollout.release, due_us=now_us + delay_us)
    if turn.due_us <= now_us:
        return Take(event=Event.OFFERED)
    return Rest(turn=turn, words=f"begins within {rollout.spread_s} s")

"""What a node's card says, in words. Pure, so that it can be tested without a browser."""

from datetime import UTC, datetime, tzinfo
from typing import Final

import msgspec

from broker.contract.decision import Label
from broker.contract.messages import StatusReason
from broker.contract.updates import UpdateState
from dashboard.console.readings import Emotion, Node, Presence, presence
from dashboard.console.updates import Standing, Update, standing

__all__ = ["Card", "ago", "card", "clock_time", "milliseconds", "percent", "update_words"]

_S: Final = 1_000_000
_NEWS: Final = 10
"""Messages in an outbox that are worth a word; a healthy node has one or two under way."""
_NOTHING: Final = "\N{EN DASH}"
_QUIET: Final = {Presence.ONLINE: "no speech", Presence.STALE: "no signal", Presence.OFFLINE: "offline"}
_JOINTS: Final = {UpdateState.TRIAL: " of", UpdateState.ROLLING_BACK: " from"}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """All the words of one card."""

    presence: Presence
    presence_text: str
    label: Label | None
    """The label that holds now; None: none does."""
    headline: str
    detail: str
    confidence: float
    """Of the label that holds now, else 0."""
    muted: bool
    context: str
    source: str
    model: str
    latency: str
    update: str
    """Empty: there is nothing to say."""
    standing: Standing | None
    warnings: tuple[str, ...]


def card(node: Node, now_us: int) -> Card:
    """Return what is to be said about a node at this moment."""
    state = presence(node, now_us)
    status, emotion, health = node.status, node.emotion, node.health
    muted = status is not None and status.muted
    listens = state is Presence.ONLINE and not muted
    current = emotion if emotion is not None and listens and emotion.is_current(now_us) else None
    if current is not None:
        headline = current.label.value
        how_sure = f"{percent(current.confidence)} confident"
        if current.label is Label.UNCERTAIN:  # its confidence is that of the likeliest class, which was not enough
            how_sure = f"likeliest label at {percent(current.confidence)}"
        detail = f"{how_sure}, {ago(current.age_us(now_us))}"
    else:
        headline = _QUIET[state] if state is not Presence.ONLINE or not muted else "muted"
        detail = _last(emotion, now_us)
    return Card(
        presence=state,
        presence_text=_presence(node, state, now_us),
        label=None if current is None else current.label,
        headline=headline,
        detail=detail,
        confidence=0.0 if current is None else current.confidence,
        muted=muted,
        context=_NOTHING if status is None else status.context,
        source=_NOTHING if status is None else status.source,
        model=node.model or _NOTHING,
        latency="no speech in the last hour"
        if health is None or health.p50_us is None or health.p95_us is None
        else f"p50 {milliseconds(health.p50_us)}, p95 {milliseconds(health.p95_us)}",
        update="" if node.update is None else update_words(node.update),
        standing=None if node.update is None else standing(node.update),
        warnings=tuple(_warnings(node, headline)),
    )


def update_words(update: Update) -> str:
    """Return the state of an update, how far it is and why, in one short line; empty where `standing` is None."""
    about = standing(update)
    if about is None:
        return ""
    head = update.state.value
    if about is not Standing.IDLE:  # an idle node's release is the one that it runs
        head += f"{_JOINTS.get(update.state, '')} {update.release or 'a release'}"
    details = [_how_far(update), update.reason] if about is Standing.UPDATING else [update.reason]
    return ": ".join(filter(None, (head, "; ".join(filter(None, details)))))


def _how_far(update: Update) -> str:
    """Return the progress, and of a trial what it has shown so far."""
    trial = update.trial
    far = percent(update.progress)
    if update.state is not UpdateState.TRIAL or trial is None:
        return far
    if not trial.classified:
        return f"{far}; no speech yet"
    return f"{far}; {percent(trial.agreed / trial.classified)} of {trial.classified:,} windows agree"


def _last(emotion: Emotion | None, now_us: int) -> str:
    if emotion is None:
        return "nothing heard yet"
    return f"last: {emotion.label.value}, {percent(emotion.confidence)}, {ago(emotion.age_us(now_us))}"


def _presence(node: Node, state: Presence, now_us: int) -> str:
    if state is Presence.OFFLINE and node.status is not None:
        why = {StatusReason.STOPPED.value: "stopped", StatusReason.LOST.value: "connection lost"}
        return f"offline: {why.get(node.status.reason, node.status.reason)}"
    if state is Presence.STALE:
        return "stale: not heard yet" if node.heard_us is None else f"stale: heard {ago(now_us - node.heard_us)}"
    return state.value


def _warnings(node: Node, headline: str) -> list[str]:
    found = []
    if node.status is not None and node.status.muted and headline != "muted":
        found.append("muted")
    if not node.clock_synced:
        found.append("clock not synchronised")
    if node.health is not None and node.health.outbox_depth >= _NEWS:
        found.append(f"{node.health.outbox_depth:,} waiting in the outbox")
    return found


def ago(age_us: int) -> str:
    """Return an age in words, in its largest unit."""
    seconds = max(0, age_us) // _S
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name} ago"
    return "just now" if seconds < 1 else f"{seconds} s ago"


def milliseconds(us: float) -> str:
    """Return a duration in ms, to two or three significant digits."""
    value = us / 1000
    for limit, decimals in ((1, 2), (10, 1)):
        if value < limit:
            return f"{value:.{decimals}f} ms"
    return f"{value:,.0f} ms"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{share:.0%}".replace("%", "\N{NARROW NO-BREAK SPACE}%")


def clock_time(us: int, zone: tzinfo, now_us: int) -> str:
    """Return the time of day; with the date when that is not today's."""
    try:
        then = datetime.fromtimestamp(us / _S, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return "impossible time"
    today = datetime.fromtimestamp(now_us / _S, UTC).astimezone(zone).date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M:%S}"

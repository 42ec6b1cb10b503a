"""What a node's card says, in words. Pure, so that it can be tested without a browser."""

import enum
from typing import Final

import msgspec

from broker.contract.decision import Label
from broker.contract.messages import StatusReason
from broker.contract.updates import UpdateState
from dashboard.console.details import details, hint, muted_words, silence_words, trouble_words, where_words
from dashboard.console.readings import Emotion, Node, Presence, presence
from dashboard.console.updates import Standing, Update, standing
from dashboard.console.wording import NOTHING, ago, milliseconds, percent

__all__ = ["Card", "Quiet", "card", "update_words"]

_NEWS: Final = 10
"""Messages in an outbox that are worth a word; a healthy node has one or two under way."""
_JOINTS: Final = {UpdateState.TRIAL: " of", UpdateState.ROLLING_BACK: " from"}


class Quiet(enum.StrEnum):
    """The headline of a node that has no label now."""

    SPEECHLESS = "no speech"
    MUTED = "muted"
    SOUNDLESS = "no sound"
    CLOCKLESS = "clock not set"
    UNHEARD = "no signal"
    OFFLINE = "offline"


_QUIET: Final = {
    Presence.ONLINE: Quiet.SPEECHLESS,
    Presence.STALE: Quiet.UNHEARD,
    Presence.OFFLINE: Quiet.OFFLINE,
}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """All the words of one card."""

    presence: Presence
    presence_text: str
    label: Label | None
    """The label that holds now; None: none does."""
    quiet: Quiet | None
    """Otherwise why not."""
    headline: str
    detail: str
    confidence: float
    """Of the label that holds now, else 0."""
    context: str
    where: str
    """The context, and what allows to listen there."""
    source: str
    model: str
    latency: str
    update: str
    """Empty: there is nothing to say."""
    standing: Standing | None
    warnings: tuple[str, ...]
    hint: str
    """Less than a warning; empty: there is none."""
    details: dict[str, str]


def card(node: Node, now_us: int) -> Card:
    """Return what is to be said about a node at this moment."""
    state = presence(node, now_us)
    status, emotion, health = node.status, node.emotion, node.health
    why = _why_deaf(node) if state is Presence.ONLINE else None
    listens = state is Presence.ONLINE and why is None
    current = emotion if emotion is not None and listens and emotion.is_current(now_us) else None
    quiet, because = (None, "") if current is not None else why or (_QUIET[state], "")
    return Card(
        presence=state,
        presence_text=_presence(node, state, now_us),
        label=None if current is None else current.label,
        quiet=quiet,
        headline=current.label.value if current is not None else quiet or "",
        detail=_how_sure(current, now_us) if current is not None else because or _last(emotion, now_us),
        confidence=0.0 if current is None else current.confidence,
        context=NOTHING if status is None else status.context,
        where=NOTHING if status is None else where_words(status),
        source=NOTHING if status is None else status.source,
        model=node.model or NOTHING,
        latency="no speech in the last hour"
        if health is None or health.p50_us is None or health.p95_us is None
        else f"p50 {milliseconds(health.p50_us)}, p95 {milliseconds(health.p95_us)}",
        update="" if node.update is None else update_words(node.update),
        standing=None if node.update is None else standing(node.update),
        warnings=tuple(_warnings(node, quiet, is_here=state is Presence.ONLINE)),
        hint=hint(status),
        details=details(node),
    )


def update_words(update: Update) -> str:
    """Return the state of an update, how far it is and why, in one short line; empty where `standing` is None."""
    about = standing(update)
    if about is None:
        return ""
    head = update.state.value
    if about is not Standing.IDLE:  # an idle node's release is the one that it runs
        head += f"{_JOINTS.get(update.state, '')} {update.release or 'a release'}"
    rest = [_how_far(update), update.reason] if about is Standing.UPDATING else [update.reason]
    return ": ".join(filter(None, (head, "; ".join(filter(None, rest)))))


def _how_far(update: Update) -> str:
    """Return the progress, and of a trial what it has shown so far."""
    trial = update.trial
    far = percent(update.progress)
    if update.state is not UpdateState.TRIAL or trial is None:
        return far
    if not trial.classified:
        return f"{far}; no speech yet"
    return f"{far}; {percent(trial.agreed / trial.classified)} of {trial.classified:,} windows agree"


def _why_deaf(node: Node) -> tuple[Quiet, str] | None:
    """Return why a node that is there tells no label: a headline, and what more is known; None: nothing hinders it."""
    if node.status is None:
        return None
    if node.status.muted:
        return Quiet.MUTED, muted_words(node.status)
    if why := silence_words(node.status):
        return Quiet.SOUNDLESS, why
    return (Quiet.CLOCKLESS, "its events wait for the clock") if node.awaits_clock else None


def _how_sure(emotion: Emotion, now_us: int) -> str:
    said = f"{percent(emotion.confidence)} confident"
    if emotion.label is Label.UNCERTAIN:  # its confidence is that of the likeliest class, which was not enough
        said = f"likeliest label at {percent(emotion.confidence)}"
    return f"{said}, {ago(emotion.age_us(now_us))}"


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


def _warnings(node: Node, quiet: Quiet | None, *, is_here: bool) -> list[str]:
    found = []
    if node.status is not None and node.status.muted and quiet is not Quiet.MUTED:
        found.append(Quiet.MUTED.value)
    if not node.clock_synced and quiet is not Quiet.CLOCKLESS:
        found.append("clock not synchronised" + (": its events wait for the clock" if node.awaits_clock else ""))
    if is_here:
        found += trouble_words(node.status, node.health)
    if node.health is not None and node.health.outbox_depth >= _NEWS:
        found.append(f"{node.health.outbox_depth:,} waiting in the outbox")
    return found

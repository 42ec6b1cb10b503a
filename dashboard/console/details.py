"""What can be said of a node's condition, in words: why it does not hear, what is wrong, and the details. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.contract.condition import CaptureProblem, CaptureState, MuteSource
from dashboard.console.condition import Health, Status
from dashboard.console.readings import Node
from dashboard.console.wording import NOTHING, decibels, mebibytes, percent, plural, seconds

__all__ = ["DETAILS", "details", "hint", "muted_words", "silence_words", "trouble_words", "where_words"]

DETAILS: Final = ("Windows", "Level", "Drift", "Thresholds", "Notice", "Outbox", "Broker", "Sound", "Machine")
"""What the details of a card tell, in this order."""

_CLIPPED_FROM: Final = 0.1
"""Share of overdriven windows that is worth a word: a door that slams is not."""

_MUTED: Final[Mapping[MuteSource, str]] = MappingProxyType(
    {
        MuteSource.COMMAND: "by an operator",
        MuteSource.BUTTON: "by the switch at the node",
        MuteSource.QUIET_HOURS: "by its quiet hours",
        MuteSource.UNREADABLE: "because its record of muting cannot be read",
    }
)
_PROBLEMS: Final[Mapping[CaptureProblem, str]] = MappingProxyType(
    {
        CaptureProblem.LOST: "device lost, looking for it",
        CaptureProblem.BUSY: "device busy, another program has it",
        CaptureProblem.STALLED: "the device delivers nothing, beginning anew",
        CaptureProblem.STUCK: "only zeros: a mute switch, or a loose plug?",
        CaptureProblem.RATE: "its sample rate changed, opening it again",
        CaptureProblem.OVERLOADED: "the machine cannot keep up, sound is lost",
        CaptureProblem.UNUSABLE: "the device cannot be used, trying again",
    }
)


def muted_words(status: Status) -> str:
    """Return by whom a node is muted; empty: it does not say."""
    return " and ".join(_MUTED[source] for source in status.muted_by)


def silence_words(status: Status) -> str:
    """Return why there is no sound; empty: there is some, or the node is muted."""
    if status.muted or (status.capture is CaptureState.LISTENING and status.problem is not CaptureProblem.STUCK):
        return ""
    return "opening the microphone" if status.problem is None else _PROBLEMS[status.problem]


def trouble_words(status: Status | None, health: Health | None) -> list[str]:
    """Return what somebody should see to although there is sound."""
    found = []
    if status is not None and status.problem is not None and not status.muted and not silence_words(status):
        is_over = status.problem is not CaptureProblem.OVERLOADED
        found.append(f"sound was gone: {status.problem.value}" if is_over else _PROBLEMS[status.problem])
    if health is not None and health.windows and health.clipped >= _CLIPPED_FROM * health.windows:
        found.append(f"overdriven in {percent(health.clipped / health.windows)} of the windows: lower the gain")
    if health is not None and health.throttled:
        found.append("processor slowed down by heat or low voltage")
    return found


def where_words(status: Status) -> str:
    """Return where a node listens, and what allows it where people work or learn."""
    found = [status.context]
    if status.employees_present:
        found.append("employees present")
    if status.exemption is not None:
        found.append(f"{status.exemption} exemption ({status.exemption_reference or 'no reference'})")
    return ", ".join(found)


def hint(status: Status | None) -> str:
    """Return what is still to be done about people's rights; empty: nothing."""
    return "" if status is None or status.notice_acknowledged else "Notice to the people here is not confirmed"


def details(node: Node) -> dict[str, str]:
    """Return `DETAILS` in words."""
    status, health = node.status, node.health
    found = dict.fromkeys(DETAILS, NOTHING)
    if status is not None:
        found["Thresholds"] = _thresholds(status)
        found["Notice"] = "confirmed by the operator" if status.notice_acknowledged else "not confirmed"
    if health is not None:
        found |= {
            "Windows": _windows(health),
            "Level": _level(health),
            "Drift": _drift(health),
            "Outbox": _outbox(health),
            "Broker": plural(health.reconnects, "reconnect") + " since start",
            "Sound": _sound(health),
            "Machine": _machine(health),
        }
    return found


def _thresholds(status: Status) -> str:
    if status.uncertain_below is None or status.speech_above is None:
        return NOTHING
    return f"speech from {percent(status.speech_above)}, uncertain below {percent(status.uncertain_below)}"


def _windows(health: Health) -> str:
    if not health.windows:
        return "none in the last interval"
    parts = (("silent", health.silent), ("no speech", health.gated), ("classified", health.classified))
    return ", ".join(f"{percent(count / health.windows)} {what}" for what, count in parts)


def _level(health: Health) -> str:
    if health.level_dbfs is None:
        return NOTHING
    clipped = health.clipped / health.windows if health.windows else 0.0
    return decibels(health.level_dbfs) + (f", {percent(clipped)} overdriven" if clipped else "")


def _drift(health: Health) -> str:
    found = (
        ("confidence", health.mean_confidence),
        ("entropy", health.mean_entropy),
        ("divergence", health.divergence),
    )
    return ", ".join(f"{what} {value:.2f}" for what, value in found if value is not None) or NOTHING


def _outbox(health: Health) -> str:
    waiting = plural(health.outbox_depth, "message")
    found = [f"{waiting}, oldest {seconds(health.outbox_age_us)}" if health.outbox_depth else "empty"]
    if health.outbox_dropped:
        found.append(f"{health.outbox_dropped:,} dropped when full")
    if health.refused_events:
        found.append(f"{health.refused_events:,} refused by the disk")
    return "; ".join(found)


def _sound(health: Health) -> str:
    found = [f"{plural(health.dropped_blocks, 'block')} lost"]
    for count, what in ((health.restarts, "restart"), (health.reopens, "re-open"), (health.rescans, "search")):
        if count:
            found.append(plural(count, what))
    return ", ".join(found)


def _machine(health: Health) -> str:
    found = [f"{percent(health.cpu_share)} of a core", mebibytes(health.rss_bytes)]
    if health.temperature_c is not None:
        found.append(f"{health.temperature_c:.0f}\N{NARROW NO-BREAK SPACE}\N{DEGREE SIGN}C")
    if health.throttled is not None:
        found.append("slowed down" if health.throttled else "full speed")
    return ", ".join(found)

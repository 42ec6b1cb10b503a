"""What labels, nodes and contexts look like: named once, for the style sheet, the cards and the charts.

Nothing is told by colour alone: every colour comes with a word, a shape or a place.
"""

from pathlib import Path
from typing import Final

import msgspec

from broker.contract.condition import Context
from broker.contract.decision import Label
from dashboard.console.readings import Presence
from dashboard.console.updates import Standing
from dashboard.console.words import Quiet

__all__ = [
    "ACCENT",
    "CONTEXT_ICONS",
    "FAVICON",
    "LABELS",
    "PRESENCES",
    "QUIETS",
    "STANDINGS",
    "LabelLook",
    "fill",
    "style_sheet",
]


class LabelLook(msgspec.Struct, frozen=True, kw_only=True):
    """How a label is drawn."""

    fill: str
    """Colour of areas, in both themes."""
    ink_light: str
    """Colour of words on a light ground, at least 4.5:1."""
    ink_dark: str
    icon: str


LABELS: Final = {
    Label.PLEASANT: LabelLook(fill="#3a9d5d", ink_light="#27763f", ink_dark="#68c98a", icon="sentiment_satisfied"),
    Label.NEUTRAL: LabelLook(fill="#8a94a6", ink_light="#566174", ink_dark="#b3bccb", icon="sentiment_neutral"),
    Label.UNPLEASANT: LabelLook(fill="#d2553f", ink_light="#b23a26", ink_dark="#f28b76", icon="sentiment_dissatisfied"),
    Label.UNCERTAIN: LabelLook(fill="#c9a227", ink_light="#7d6209", ink_dark="#e3c257", icon="help_outline"),
}

PRESENCES: Final = {
    Presence.ONLINE: "check_circle",
    Presence.STALE: "warning",
    Presence.OFFLINE: "cancel",
}
"""Icon of a node's presence; its colour is in the style sheet."""

QUIETS: Final = {
    Quiet.SPEECHLESS: "graphic_eq",
    Quiet.MUTED: "mic_off",
    Quiet.SOUNDLESS: "hearing_disabled",
    Quiet.CLOCKLESS: "schedule",
    Quiet.UNHEARD: "sensors_off",
    Quiet.OFFLINE: "sensors_off",
}
"""Icon of a node without a label; what somebody should see to has a colour in the style sheet."""

STANDINGS: Final = {
    Standing.UPDATING: "downloading",
    Standing.REJECTED: "block",
    Standing.IDLE: "schedule",
}
"""Icon of how a node stands towards updates; its colour is in the style sheet."""

CONTEXT_ICONS: Final = {
    Context.HOME: "home",
    Context.VEHICLE: "directions_car",
    Context.CARE: "volunteer_activism",
    Context.PUBLIC: "groups",
    Context.RESEARCH: "science",
    Context.WORKPLACE: "work",
    Context.EDUCATION: "school",
}

ACCENT: Final = "#2f6fb2"
"""Of what can be chosen, and of bars that are no label."""

FAVICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="'
    + ACCENT
    + '"/>'
    '<path d="M7 16v0M12 12v8M17 8v16M22 13v6M26 16v0" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>'
)

_SHEET: Final = Path(__file__).with_name("style.css")


def fill(label: Label) -> str:
    """Return a label's colour in areas, as CSS."""
    return f"var(--sv-{label.value})"


def style_sheet() -> str:
    """Return the page's CSS: the labels' colours, then the sheet."""
    fills = "".join(f"--sv-{label.value}:{look.fill};" for label, look in LABELS.items())
    light = "".join(f"--sv-{label.value}-ink:{look.ink_light};" for label, look in LABELS.items())
    dark = "".join(f"--sv-{label.value}-ink:{look.ink_dark};" for label, look in LABELS.items())
    rules = "".join(
        f".sv-ink-{name}{{color:var(--sv-{name}-ink)}}.sv-fill-{name}{{background:var(--sv-{name})}}" for name in Label
    )
    return (
        f":root{{{fills}{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{rules}{_SHEET.read_text(encoding='utf-8')}"
    )

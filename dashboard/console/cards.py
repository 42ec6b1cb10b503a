"""A node's card on the page. It is built once; each second only the words that changed are sent."""

from nicegui import ui

from dashboard.console.details import DETAILS
from dashboard.console.looks import CONTEXT_ICONS, LABELS, PRESENCES, QUIETS, STANDINGS
from dashboard.console.readings import Node
from dashboard.console.words import Card, Quiet, card

__all__ = ["NodeCard", "text"]


def text(tag: str, content: str = "", classes: str = "") -> ui.label:
    """Return an element of this tag that holds text, never HTML."""
    element = ui.label(content).classes(classes)
    element.tag = tag
    return element


class NodeCard:
    """One node."""

    def __init__(self, node: Node) -> None:
        """Build the card at the place that is being filled."""
        self._base = "sv-card"
        with ui.element("article").classes(self._base).props(f'aria-label="Node {node.id}"') as self._card:
            with ui.element("div").classes("sv-card-head"):
                self._context_icon = ui.icon("sensors").classes("sv-card-icon")
                with ui.element("div").classes("sv-card-name"):
                    text("h3", node.id.node)
                    text("div", node.id.site, "sv-muted sv-small")
                with ui.element("div").classes("sv-presence") as self._chip:
                    self._chip_icon = ui.icon("sensors")
                    self._chip_text = text("span")
            with ui.element("div").classes("sv-now"):
                self._label_icon = ui.icon("graphic_eq").classes("sv-now-icon")
                with ui.element("div"):
                    self._headline = text("div", "", "sv-headline")
                    self._detail = text("div", "", "sv-muted")
            with ui.element("div").classes("sv-meter").props('aria-hidden="true"'):
                self._meter = ui.element("div")
            with ui.element("dl").classes("sv-facts"):
                self._latency = _fact("Latency")
                self._model = _fact("Model")
                self._source = _fact("Source")
                self._context = _fact("Context")
            with ui.element("div").classes("sv-update") as self._update:
                self._update_icon = ui.icon("downloading")
                self._update_text = text("span")
            self._warning = ui.element("div").classes("sv-warning")
            with self._warning:
                ui.icon("info")
                self._warning_text = text("span")
            self._hint = text("p", "", "sv-hint sv-muted sv-small")
            with ui.element("details").classes("sv-details"):
                text("summary", "Details", "sv-muted sv-small")
                with ui.element("dl").classes("sv-facts"):
                    self._details = {name: _fact(name) for name in DETAILS}

    def update(self, node: Node, now_us: int) -> None:
        """Say what is so now."""
        words = card(node, now_us)
        self._chip.classes(replace=f"sv-presence sv-{words.presence.value}")
        self._chip_icon.set_name(PRESENCES[words.presence])
        self._chip_text.set_text(words.presence_text)
        self._card.classes(replace=f"{self._base} sv-is-{words.presence.value}")
        icons = {context.value: icon for context, icon in CONTEXT_ICONS.items()}
        self._context_icon.set_name(icons.get(words.context, "sensors"))
        self._context.set_text(words.where)
        for name, said in words.details.items():
            self._details[name].set_text(said)
        ink, icon = _look(words)
        self._label_icon.set_name(icon)
        self._label_icon.classes(replace=f"sv-now-icon {ink}")
        self._headline.set_text(words.headline)
        self._headline.classes(replace=f"sv-headline {ink}")
        self._detail.set_text(words.detail)
        self._meter.classes(replace="" if words.label is None else f"sv-fill-{words.label.value}")
        self._meter.style(replace=f"width: {words.confidence:.0%}")
        self._latency.set_text(words.latency)
        self._model.set_text(words.model)
        self._source.set_text(words.source)
        self._say_update(words)
        self._warning_text.set_text(" · ".join(words.warnings))
        self._warning.set_visibility(bool(words.warnings))
        self._hint.set_text(words.hint)
        self._hint.set_visibility(bool(words.hint))

    def _say_update(self, words: Card) -> None:
        self._update.set_visibility(words.standing is not None)
        if words.standing is not None:
            self._update.classes(replace=f"sv-update sv-{words.standing.value}")
            self._update_icon.set_name(STANDINGS[words.standing])
        self._update_text.set_text(words.update)

    def delete(self) -> None:
        """Take the card from the page."""
        self._card.delete()


def _look(words: Card) -> tuple[str, str]:
    """Return the class of the headline's colour, and its icon."""
    if words.label is not None:
        return f"sv-ink-{words.label.value}", LABELS[words.label].icon
    quiet = words.quiet or Quiet.SPEECHLESS
    return f"sv-{quiet.name.lower()}", QUIETS[quiet]


def _fact(name: str) -> ui.label:
    with ui.element("div"):
        text("dt", name)
        return text("dd")

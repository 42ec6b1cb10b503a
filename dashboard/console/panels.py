"""The smaller parts of the page: the numbers on top, the models, the table of events, the dead letters."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from typing import Any, Final

from nicegui import ui

from dashboard.console.cards import text
from dashboard.console.fleet import Fleet, ModelCount
from dashboard.console.looks import STANDINGS
from dashboard.console.readings import Emotion, Letter, Totals
from dashboard.console.wording import clock_time, percent

__all__ = ["Events", "Letters", "Models", "Numbers", "panel"]

_NUMBERS: Final = {
    "stored": "Events stored",
    "lost": "Lost",
    "duplicates": "Duplicates",
    "redelivered": "Redelivered",
    "dead_letters": "Dead letters",
}
_SHOULD_BE_NONE: Final = {"lost", "duplicates"}
_NODE_CELL: Final = '<q-td :props="props">{{ props.row.site }}/<wbr>{{ props.row.node }}</q-td>'


@contextmanager
def panel(title: str, anchor: str) -> Iterator[ui.element]:
    """Open a section with a heading; what is built inside goes below it. Yields the line of the heading."""
    with ui.element("section").classes("sv-panel").props(f'aria-labelledby="{anchor}"'):
        head = ui.element("div").classes("sv-section-head")
        with head:
            text("h2", title).props(f'id="{anchor}"')
        yield head


class Numbers:
    """What became of all events."""

    def __init__(self) -> None:
        """Build the row of numbers."""
        self._values: dict[str, ui.label] = {}
        with ui.element("dl").classes("sv-numbers"):
            for name, title in _NUMBERS.items():
                with ui.element("div"):
                    text("dt", title)
                    self._values[name] = text("dd", "\N{EN DASH}")

    def update(self, totals: Totals) -> None:
        """Show these counts."""
        for name, shown in self._values.items():
            value: int | None = getattr(totals, name)
            is_bad = name in _SHOULD_BE_NONE and bool(value)
            shown.set_text("not counted here" if value is None else f"{value:,}{' !' if is_bad else ''}")
            shown.classes(replace="sv-bad" if is_bad else "sv-small sv-muted" if value is None else "")


def _column(name: str, title: str, *, right: bool = False, classes: str = "") -> dict[str, Any]:
    align = "right" if right else "left"
    return {"name": name, "label": title, "field": name, "align": align, "classes": classes, "headerClasses": classes}


class Models:
    """Which models run, and how the nodes that are worth a word stand towards updates."""

    def __init__(self) -> None:
        """Build the list of models and the table of nodes."""
        self._shown: tuple[ModelCount, ...] = ()
        with panel("Models", "sv-models") as head:
            with head:
                self._summary = text("span", "", "sv-muted")
            self._models = ui.element("ul").classes("sv-models").props('aria-label="Nodes by model"')
            self._table = _table(
                [
                    _column("node", "Node", classes="sv-break sv-node"),
                    _column("update", "Update", classes="sv-break"),
                    _column("model", "Runs", classes="sv-wide-only"),
                    _column("reported", "Reported", classes="sv-wide-only"),
                ]
            )
            self._table.add_slot("body-cell-node", _NODE_CELL)
            self._table.add_slot(
                "body-cell-update",
                '<q-td :props="props"><span :class="`sv-update sv-${props.row.standing}`">'
                '<q-icon :name="props.row.icon" aria-hidden="true" /><span>{{ props.value }}</span></span></q-td>',
            )
            self._left_out = text("p", "", "sv-muted sv-small")

    def update(self, fleet: Fleet, zone: tzinfo, now_us: int) -> None:
        """Show these models and nodes."""
        self._summary.set_text(fleet.summary)
        if fleet.models != self._shown:
            self._models.clear()
            with self._models:
                for each in fleet.models:
                    _show_model(each)
            self._shown = fleet.models
        self._table.set_visibility(bool(fleet.rows))
        _show(
            self._table,
            [
                {
                    "key": str(each.node),
                    "site": each.node.site,
                    "node": each.node.node,
                    "update": each.words,
                    "standing": each.standing.value,
                    "icon": STANDINGS[each.standing],
                    "model": each.model,
                    "reported": clock_time(each.reported_us, zone, now_us),
                }
                for each in fleet.rows
            ],
        )
        self._left_out.set_text(fleet.left_out)
        self._left_out.set_visibility(bool(fleet.left_out))


def _show_model(model: ModelCount) -> None:
    with ui.element("li"):
        text("b", model.model)
        with ui.element("div").classes("sv-meter").props('aria-hidden="true"'):
            ui.element("div").classes("sv-fill-accent").style(f"width: {model.share:.0%}")
        text("span", model.words, "sv-muted")


class Events:
    """The newest events."""

    def __init__(self) -> None:
        """Build the table."""
        with panel("Latest events", "sv-events"):
            self._table = _table(
                [
                    _column("time", "Time"),
                    _column("node", "Node", classes="sv-break sv-node"),
                    _column("label", "Label"),
                    _column("confidence", "Confidence", right=True),
                    _column("latency", "Latency, ms", right=True),
                    _column("model", "Model", classes="sv-wide-only"),
                ]
            )
            self._table.add_slot(
                "body-cell-label",
                '<q-td :props="props"><i :class="`sv-dot sv-fill-${props.value}`" aria-hidden="true"></i>'
                "{{ props.value }}</q-td>",
            )
            self._table.add_slot("body-cell-node", _NODE_CELL)

    def update(self, events: tuple[Emotion, ...], zone: tzinfo, now_us: int) -> None:
        """Show these events."""
        _show(
            self._table,
            [
                {
                    "key": f"{each.node} {each.boot_id} {each.seq}",
                    "time": clock_time(each.time_us, zone, now_us),
                    "site": each.node.site,
                    "node": each.node.node,
                    "label": each.label.value,
                    "confidence": percent(each.confidence),
                    "latency": f"{each.total_us / 1000:,.0f}",
                    "model": each.model,
                }
                for each in events
            ],
        )


class Letters:
    """The newest messages that broke the contract; not on the page when there are none."""

    def __init__(self) -> None:
        """Build the table."""
        with ui.element("div") as self._all, panel("Dead letters", "sv-letters"):
            text("p", "Messages that break the contract are set aside, with the reason.", "sv-muted sv-small")
            self._table = _table(
                [
                    _column("time", "Time"),
                    _column("topic", "Topic", classes="sv-break"),
                    _column("reason", "Reason", classes="sv-break"),
                    _column("size", "Bytes", right=True, classes="sv-wide-only"),
                ]
            )
        self._all.set_visibility(False)

    def update(self, letters: tuple[Letter, ...], zone: tzinfo, now_us: int) -> None:
        """Show these dead letters."""
        self._all.set_visibility(bool(letters))
        _show(
            self._table,
            [
                {
                    "key": f"{each.received_us} {each.topic} {index}",
                    "time": clock_time(each.received_us, zone, now_us),
                    "topic": each.topic,
                    "reason": each.reason,
                    "size": f"{each.size_bytes:,}",
                }
                for index, each in enumerate(letters)
            ],
        )


def _table(columns: list[dict[str, Any]]) -> ui.table:
    table = ui.table(columns=columns, rows=[], row_key="key", pagination=0)
    return table.props("flat dense hide-bottom").classes("sv-table")


def _show(table: ui.table, rows: list[dict[str, Any]]) -> None:
    """Send the rows when they differ from those that are shown; rows are known by their key and stay in place."""
    if rows != table.rows:
        table.rows = rows

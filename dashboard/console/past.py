"""The charts on the page: the timeline, the latency of the stages, the share of the labels."""

from typing import Any, Final

import msgspec
from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.topics import NodeId
from dashboard.console.cards import text
from dashboard.console.chart import AXIS_PX, Chart
from dashboard.console.charts import LANE_PX, ROW_PX, STAGE_PX, latency_options, share_options, timeline_options
from dashboard.console.node_panel import NodePanel
from dashboard.console.panels import panel
from dashboard.console.readings import SPAN_NAMES, Span
from dashboard.console.watch import Watch, now_us

__all__ = ["Past"]

_HOW: Final = {
    Span.MINUTES: "Every event. A label holds until the next one, or for 6 s.",
    Span.HOUR: "The most frequent label of each 30 s with speech.",
    Span.DAY: "The most frequent label of each 10 min with speech.",
}


class Past:
    """Three charts that are drawn from one reading, and the condition of one node."""

    def __init__(self, watch: Watch) -> None:
        """Build them at the place that is being filled."""
        self._watch = watch
        self._nodes: list[NodeId] = []
        self._span = Span.MINUTES
        self._chosen = ""
        self._utc = True
        with panel("Emotion over time", "sv-timeline") as head:
            with head:
                ui.toggle(SPAN_NAMES, value=self._span, on_change=self._choose_span).props(
                    'dense no-caps unelevated role="group" aria-label="How far back"'
                ).classes("sv-toggle")
            _legend()
            self._timeline = Chart("A lane per node with its labels over time; the newest are in the table below")
            self._how = text("p", "", "sv-muted sv-small")
        with ui.element("div").classes("sv-pair"):
            with panel("Latency by stage", "sv-latency") as head:
                with head:
                    self._choice = (
                        ui.select({"": "all nodes"}, value="", on_change=self._choose_node)
                        .props('dense outlined options-dense aria-label="Node whose latency is shown"')
                        .classes("sv-select")
                    )
                self._latency = Chart("Median and 95th percentile of each stage, in milliseconds")
                text("p", "Bar and first number: p50. Mark and second: p95.", "sv-muted sv-small")
                text("p", "Mean of the last 10 min, logarithmic scale.", "sv-muted sv-small")
            with panel("Share of labels", "sv-shares"):
                self._shares = Chart("Share of each label in the windows with speech, by node")
                self._share_how = text("p", "", "sv-muted sv-small")
        self._one = NodePanel(watch)
        self._say_span()

    def use_utc(self, *, utc: bool) -> None:
        """Mark the time axis in UTC, or in the browser's own zone."""
        self._utc = utc

    async def refresh(self, nodes: list[NodeId]) -> None:
        """Draw what is known about these nodes; keep what is shown when the store cannot be read."""
        self._nodes = nodes
        names = {"": "all nodes"} | {str(node): str(node) for node in nodes}
        if names != self._choice.options:
            self._choice.set_options(names, value=self._chosen if self._chosen in names else "")
        await self._one.refresh(nodes, self._span, utc=self._utc)
        try:
            history = await self._watch.history(self._span).get()
        except StoreError:
            return
        history = msgspec.structs.replace(history, until_us=now_us())  # the axis moves on between two readings
        self._timeline.draw(timeline_options(history, nodes, utc=self._utc), _with_axis(LANE_PX * len(nodes)))
        chosen = next((node for node in nodes if str(node) == self._chosen), None)
        latency = latency_options(history.stages, chosen)
        self._latency.draw(latency, _with_axis(STAGE_PX * len(latency["yAxis"]["data"])))
        shares = share_options(history, nodes)
        self._shares.draw(shares, _with_axis(ROW_PX * len(shares["yAxis"]["data"])))

    async def _choose_span(self, event: ValueChangeEventArguments[Any]) -> None:
        self._span = event.value
        self._say_span()
        await self.refresh(self._nodes)

    async def _choose_node(self, event: ValueChangeEventArguments[Any]) -> None:
        self._chosen = event.value
        await self.refresh(self._nodes)

    def _say_span(self) -> None:
        self._how.set_text(_HOW[self._span])
        self._share_how.set_text(f"Of the windows with speech in the last {SPAN_NAMES[self._span]}.")


def _with_axis(rows_px: int) -> int:
    return rows_px + AXIS_PX if rows_px else 0


def _legend() -> None:
    with ui.element("div").classes("sv-legend").props('aria-label="Legend"'):
        for label, place in (
            (Label.PLEASANT, "above"),
            (Label.NEUTRAL, "middle"),
            (Label.UNPLEASANT, "below"),
            (Label.UNCERTAIN, "thin line"),
        ):
            with ui.element("span"):
                ui.element("i").classes(f"sv-fill-{label.value} sv-mark-{label.value}")
                text("b", label.value)
                text("span", place, "sv-muted")

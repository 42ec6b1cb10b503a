"""One node over time: closed until somebody wants to know; nothing is read or drawn for it until then."""

from typing import Any, Final

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from broker.contract.errors import StoreError
from broker.contract.topics import NodeId
from dashboard.console.cards import text
from dashboard.console.chart import Chart
from dashboard.console.node_charts import NODE_CHARTS, NodeChart, node_options
from dashboard.console.readings import SPAN_NAMES, Span
from dashboard.console.watch import Watch, now_us

__all__ = ["NodePanel"]

_HEIGHT_PX: Final = 128


class NodePanel:
    """The condition of one node that is chosen here, over the span that is chosen above."""

    def __init__(self, watch: Watch) -> None:
        """Build it closed, at the place that is being filled."""
        self._watch = watch
        self._nodes: list[NodeId] = []
        self._chosen = ""
        self._is_open = False
        self._span, self._utc = Span.MINUTES, True
        with ui.element("details").classes("sv-panel sv-fold").props('aria-labelledby="sv-one"') as fold:
            fold.on("toggle", self._fold, js_handler="(event) => emit(event.target.open)")
            with ui.element("summary").classes("sv-section-head"):
                text("h2", "One node over time").props('id="sv-one"')
                text("span", "speech gate, level, drift, outbox, processor", "sv-muted")
            with ui.element("div").classes("sv-section-head"):
                self._how = text("span", "", "sv-muted sv-small")
                self._choice = (
                    ui.select({}, on_change=self._choose)
                    .props('dense outlined options-dense aria-label="Node whose condition is shown"')
                    .classes("sv-select")
                )
            self._place = ui.element("div").classes("sv-small-charts")
        self._charts: list[tuple[NodeChart, Chart]] = []

    async def refresh(self, nodes: list[NodeId], span: Span, *, utc: bool) -> None:
        """Draw what is known about the chosen node; keep what is shown when the store cannot be read."""
        self._nodes, self._span, self._utc = nodes, span, utc
        names = [str(node) for node in nodes]
        if names != list(self._choice.options):
            self._choice.set_options(names, value=self._chosen if self._chosen in names else names[0])
        self._how.set_text(f"The last {SPAN_NAMES[span]}, in intervals of {_words(span.bucket_us)}.")
        node = next((each for each in nodes if str(each) == self._choice.value), None)
        if not self._is_open or node is None:
            return
        try:
            figures = await self._watch.figures(node, span).get()
        except StoreError:
            return
        for chart, drawn in self._charts:
            options = node_options(chart, figures, span, now_us(), utc=utc)
            drawn.draw(options, _HEIGHT_PX if options["series"] else 0)

    async def _fold(self, event: GenericEventArguments) -> None:
        self._is_open = bool(event.args)
        if self._is_open and not self._charts:
            with self._place:
                self._charts = [(each, _build(each)) for each in NODE_CHARTS]
        await self.refresh(self._nodes, self._span, utc=self._utc)

    async def _choose(self, event: ValueChangeEventArguments[Any]) -> None:
        self._chosen = event.value
        await self.refresh(self._nodes, self._span, utc=self._utc)


def _build(chart: NodeChart) -> Chart:
    with ui.element("section").props(f'aria-label="{chart.title}"'):
        with ui.element("div").classes("sv-chart-head"):
            text("h3", chart.title + (f", {chart.unit}" if chart.unit else ""))
            if len(chart.series) > 1:
                with ui.element("div").classes("sv-legend"):
                    for each in chart.series:
                        with ui.element("span"):
                            shape = "bar" if each.look.is_bar else each.look.dashes
                            ui.element("i").classes(f"sv-key-{shape}").style(
                                f"color: var({each.look.colour}); opacity: {each.look.opacity}"
                            )
                            text("span", each.name)
        drawn = Chart(f"{chart.title} of the chosen node over time")
        if chart.how:
            text("p", chart.how, "sv-muted sv-small")
    return drawn


def _words(length_us: int) -> str:
    length_s = length_us // 1_000_000
    return f"{length_s} s" if length_s < 60 else f"{length_s // 60} min"  # noqa: PLR2004 -- seconds of a minute

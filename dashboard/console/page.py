"""The page. It is built once per visitor; a timer fills in what changed."""

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from nicegui import ui

from broker.contract.errors import StoreError
from dashboard.console.cards import NodeCard, text
from dashboard.console.fleet import fleet
from dashboard.console.looks import ACCENT, style_sheet
from dashboard.console.panels import Events, Letters, Models, Numbers
from dashboard.console.past import Past
from dashboard.console.readings import Live, Node, NoStoreYetError, Presence, presence
from dashboard.console.watch import Watch, now_us
from dashboard.console.wording import clock_time

if TYPE_CHECKING:
    from broker.contract.topics import NodeId

__all__ = ["show"]

_PATIENCE_S: Final = 30.0
_DISCLAIMER: Final = "Labels are a model's guess about tone of voice, not about what a person feels."


async def show(watch: Watch) -> None:
    """Build the page for one visitor and keep it up to date while the page is open."""
    ui.add_css(style_sheet())
    ui.colors(primary=ACCENT)
    page = _Page(watch)
    try:
        await ui.context.client.connected(timeout=_PATIENCE_S)
    except TimeoutError:
        return  # a program that takes the page and runs no script
    await page.begin()
    ui.timer(1.0, page.refresh)


async def _zone() -> tzinfo:
    """Return the visitor's time zone; UTC when this machine does not know it."""
    try:
        return ZoneInfo(str(await ui.run_javascript("Intl.DateTimeFormat().resolvedOptions().timeZone", timeout=5.0)))
    except (TimeoutError, ValueError, OSError, KeyError):
        return UTC


class _Page:
    """The parts of the page that change."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._zone: tzinfo = UTC
        self._live = Live()
        self._read_us: int | None = None
        self._cards: dict[NodeId, NodeCard] = {}
        with ui.element("main").classes("sv-page"):
            self._build_head()
            self._build_nodes()
            with ui.element("div").classes("sv-stack") as self._rest:
                self._models = Models()
                self._past = Past(watch)
                self._events = Events()
            self._letters = Letters()
            with ui.element("footer").classes("sv-muted sv-small"):
                self._footer = text("span")
        self._rest.set_visibility(False)

    def _build_head(self) -> None:
        with ui.element("header").classes("sv-head"):
            with ui.element("div"):
                text("h1", "Sottovoce")
                text("p", _DISCLAIMER, "sv-muted")
            with ui.element("div").classes("sv-presence sv-store").props('role="status"') as self._store:
                self._store_icon = ui.icon("hourglass_empty")
                self._store_text = text("span", "Looking for the store")
        with ui.element("div").classes("sv-banner").props('role="alert"') as self._banner:
            ui.icon("warning")
            self._banner_text = text("span")
        self._banner.set_visibility(False)
        self._numbers = Numbers()

    def _build_nodes(self) -> None:
        with ui.element("section").props('aria-labelledby="sv-nodes"'):
            with ui.element("div").classes("sv-section-head"):
                text("h2", "Nodes").props('id="sv-nodes"')
                self._count = text("span", "", "sv-muted")
            self._grid = ui.element("div").classes("sv-grid")
            with ui.element("div").classes("sv-panel sv-empty") as self._empty:
                ui.icon("sensors_off")
                text("p", "No node has reported yet.", "sv-empty-title")
                with ui.element("p").classes("sv-muted"):
                    text("span", "Start one: ")
                    text("code", "sottovoce-node run --config node.toml")
                text("p", "It appears here as soon as a collector has stored its first message.", "sv-muted sv-small")
        self._empty.set_visibility(False)

    async def begin(self) -> None:
        """Show the first reading, in the visitor's time zone."""
        self._zone = await _zone()
        self._past.use_utc(utc=self._zone is UTC)
        self._footer.set_text(f"Times are in {self._zone}. The page refreshes itself every second.")
        await self.refresh()

    async def refresh(self) -> None:
        """Read what is due and show what changed."""
        now = now_us()
        try:
            live = await self._watch.live.get()
            totals = await self._watch.totals.get()
        except StoreError as error:
            self._say_trouble(error, now)
        else:
            self._live, self._read_us = live, now
            self._numbers.update(totals)
            self._banner.set_visibility(False)
            self._say_store("online", "check_circle", f"Store connected: {self._watch.place}")
        self._show_nodes(self._live.nodes, now)
        self._models.update(fleet(self._live.nodes, now), self._zone, now)
        self._events.update(self._live.events, self._zone, now)
        self._letters.update(self._live.letters, self._zone, now)
        if self._live.nodes:
            await self._past.refresh([node.id for node in self._live.nodes])

    def _say_store(self, state: str, icon: str, words: str) -> None:
        self._store.classes(replace=f"sv-presence sv-store sv-{state}")
        self._store_icon.set_name(icon)
        self._store_text.set_text(words)

    def _say_trouble(self, error: StoreError, now: int) -> None:
        """Say what is wrong with the store, and from when the values are that are still shown."""
        if isinstance(error, NoStoreYetError):
            self._say_store("stale", "hourglass_empty", "No store yet" if self._read_us is None else "Store missing")
        else:
            self._say_store("offline", "cancel", "Store unreadable")
        since = "" if self._read_us is None else f" What is shown is from {clock_time(self._read_us, self._zone, now)}."
        words = str(error)
        self._banner_text.set_text(f"{words[:1].upper()}{words[1:]}.{since}")
        self._banner.set_visibility(True)

    def _show_nodes(self, nodes: tuple[Node, ...], now: int) -> None:
        for gone in self._cards.keys() - {node.id for node in nodes}:
            self._cards.pop(gone).delete()
        for node in nodes:
            if node.id not in self._cards:
                with self._grid:
                    self._cards[node.id] = NodeCard(node)
            self._cards[node.id].update(node, now)
        online = sum(presence(node, now) is Presence.ONLINE for node in nodes)
        self._count.set_text(f"{online} of {len(nodes)} online" if nodes else "")
        self._empty.set_visibility(not nodes)
        self._rest.set_visibility(bool(nodes))

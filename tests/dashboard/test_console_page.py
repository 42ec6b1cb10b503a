"""The console's page in a real browser, served by the real program from a real store.

Over 300 lines, because one set of fixtures (browser, program, store) serves all of it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from broker.contract.condition import CaptureProblem, CaptureState, Context, Exemption, MuteSource
from broker.contract.decision import Label
from broker.contract.updates import TrialFigures, UpdateState
from dashboard.collector.records import DeadLetter, Record, read_message
from dashboard.collector.sqlite_store import SqliteStore

Make = Callable[..., Record]
Put = Callable[..., None]
Open = Callable[..., Page]

_CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_S = 1_000_000
_EVIL = '<img src=x onerror="window.evil=1"> {{ 7*7 }} ${8*8} `\''


expect.set_options(timeout=10_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(_CHROMIUM).exists():
        why = f"no browser at {_CHROMIUM}: install Debian's chromium, or name one in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def server(tmp_path: Path, path: Path) -> Iterator[subprocess.Popen[str]]:
    with (tmp_path / "console.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.console", "run", "--no-browser", "--port", "0", "--store", str(path)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    yield process
    process.terminate()
    process.wait(timeout=10)
    assert process.stdout is not None
    process.stdout.close()
    assert "Traceback" not in (tmp_path / "console.log").read_text()


@pytest.fixture
def url(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    return server.stdout.readline().strip()


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Open]:
    """Return a function that opens the page; at the end nothing has left loopback and no script has complained."""
    pages: list[Page] = []
    asked: list[str] = []
    complaints: list[str] = []
    interrupted: list[str] = []

    def hear(line: ConsoleMessage) -> None:
        if "ERR_NETWORK_CHANGED" in line.text:  # an interface came or went on this machine: Chromium drops everything
            interrupted.append(line.text)
        elif line.type in {"error", "warning"}:
            complaints.append(line.text)

    def opened(*, width: int = 1280, dark: bool = False) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            timezone_id="Asia/Tokyo",
            locale="en-US",
        )
        pages.append(page)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", hear)
        for _ in range(3):
            interrupted.clear()
            page.goto(url)
            with suppress(PlaywrightTimeoutError):
                page.locator("header").wait_for(timeout=10_000)
            if not interrupted:
                break
        return page

    yield opened
    for page in pages:
        page.close()
    assert asked
    assert {urlsplit(each).hostname for each in asked if not each.startswith("data:")} == {"127.0.0.1"}
    assert not complaints


@pytest.fixture
def put(path: Path) -> Iterator[Put]:
    store = SqliteStore(path)

    def write(*records: Record | DeadLetter) -> None:
        store.write(list(records))

    yield write
    store.close()


@pytest.fixture
def fleet(put: Put, event: Make, telemetry: Make, status: Make) -> None:
    """A store with two nodes that are there."""
    now = _now()
    for site, node, context in (("home", "kitchen", Context.HOME), ("vehicle", "van", Context.VEHICLE)):
        name = f"{site}/{node}"
        put(status(now - 60 * _S, now - 60 * _S, node=name, context=context))
        put(*[event(n, now - (50 - 5 * n) * _S, node=name, label=Label.NEUTRAL) for n in range(1, 10)])
        put(telemetry(1, now, node=name, emitted=9))


def _now() -> int:
    return time.time_ns() // 1000


def _fresh(record: Record) -> Record:
    return Record(node=record.node, message=record.message, received_us=_now())


def test_without_a_node_the_page_says_how_to_start_one(open_page: Open, put: Put) -> None:
    put()
    page = open_page()
    expect(page.get_by_text("No node has reported yet.")).to_be_visible()
    expect(page.get_by_text("sottovoce-node run --config node.toml")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Store connected")
    expect(page.get_by_text("Labels are a model's guess about tone of voice")).to_be_visible()
    expect(page.locator(".sv-chart:visible")).to_have_count(0)


@pytest.mark.usefixtures("fleet")
def test_each_node_has_a_card_and_the_charts_are_drawn(open_page: Open) -> None:
    page = open_page()
    expect(page.get_by_role("article")).to_have_count(2)
    card = page.get_by_role("article", name="Node home/kitchen")
    for words in ("kitchen", "online", "neutral", "confident", "factory/1", "replay: synthetic", "home", "12 waiting"):
        expect(card).to_contain_text(words)
    expect(page.get_by_text("2 of 2 online")).to_be_visible()
    expect(page.get_by_role("table").first.locator("tbody tr")).to_have_count(15)
    expect(page.locator(".sv-numbers")).to_contain_text("Events stored18")
    expect(page.locator(".sv-numbers")).to_contain_text("Lost0")
    charts = page.locator(".sv-chart svg")
    expect(charts).to_have_count(3)
    expect(charts.nth(0)).to_contain_text("kitchen")
    expect(charts.nth(1)).to_contain_text("inference")
    expect(charts.nth(2)).to_contain_text("62%")
    expect(page.get_by_text("Times are in Asia/Tokyo.")).to_be_visible()


@pytest.mark.usefixtures("fleet")
def test_updates_are_told_on_the_card_and_for_the_whole_fleet(
    open_page: Open, put: Put, update: Make, trial: TrialFigures
) -> None:
    page = open_page()
    models = page.get_by_role("region", name="Models")
    expect(models).to_contain_text("no update under way")
    expect(models.get_by_role("listitem")).to_have_text(["factory/12 nodes"])
    expect(models.get_by_role("table")).to_be_hidden()
    card = page.get_by_role("article", name="Node vehicle/van")
    expect(card.locator(".sv-update")).to_be_hidden()
    put(_fresh(update(_now(), node="vehicle/van", state=UpdateState.TRIAL, progress=0.5, trial=trial)))
    expect(card.locator(".sv-update")).to_contain_text("trial of factory/4: 50")
    expect(models).to_contain_text("1 updating")
    put(_fresh(update(_now(), node="vehicle/van", state=UpdateState.REJECTED, reason="too slow")))
    expect(card.locator(".sv-update.sv-rejected")).to_contain_text("rejected factory/4: too slow")
    row = models.get_by_role("table").locator("tbody tr")
    expect(row).to_have_count(1)
    for words in ("vehicle/van", "rejected factory/4: too slow", "factory/1"):
        expect(row).to_contain_text(words)
    put(_fresh(update(_now(), node="vehicle/van", state=UpdateState.IDLE)))
    expect(card.locator(".sv-update")).to_be_hidden()
    expect(models.get_by_role("table")).to_be_hidden()


@pytest.mark.usefixtures("fleet")
def test_a_card_says_why_it_hears_nothing_and_its_details_stay_open(
    open_page: Open, put: Put, telemetry: Make, status: Make
) -> None:
    page = open_page()
    card = page.get_by_role("article", name="Node home/kitchen")
    expect(card.get_by_text("Machine")).to_be_hidden()
    card.get_by_text("Details").click()
    expect(card).to_contain_text("60\N{NARROW NO-BREAK SPACE}% silent")
    now = _now()
    lost = {"capture": CaptureState.RECOVERING, "problem": CaptureProblem.LOST}
    put(status(now, now, node="home/kitchen", employees_present=True, **lost))
    expect(card.locator(".sv-soundless.sv-headline")).to_have_text("no sound")
    expect(card).to_contain_text("device lost, looking for it")
    expect(card).to_contain_text("Notice to the people here is not confirmed")
    expect(card).to_contain_text("employees present")
    put(telemetry(2, _now(), node="home/kitchen", silent_windows=0, gated_windows=8))
    expect(card).to_contain_text("50\N{NARROW NO-BREAK SPACE}% no speech")
    expect(card.get_by_text("Machine")).to_be_visible()
    by = (MuteSource.BUTTON,)
    put(status(now, _now(), node="home/kitchen", muted=True, muted_by=by, notice_acknowledged=True))
    expect(card.locator(".sv-headline")).to_have_text("muted")
    expect(card).to_contain_text("by the switch at the node")
    expect(card.locator(".sv-hint")).to_be_hidden()


@pytest.mark.usefixtures("fleet")
def test_one_node_over_time_is_drawn_for_whoever_opens_it(open_page: Open, put: Put, telemetry: Make) -> None:
    put(*[telemetry(n, _now() - (10 - n) * 10 * _S, node="vehicle/van", level_dbfs=-30.0) for n in range(2, 9)])
    page = open_page()
    expect(page.locator(".sv-chart svg")).to_have_count(3)
    page.get_by_role("heading", name="One node over time").click()
    level = page.get_by_role("region", name="Level", exact=True)
    expect(level).to_contain_text("Nothing to show in this time.")  # the kitchen's telemetry is of an older node
    expect(page.get_by_role("region", name="Windows", exact=True).locator("svg")).to_be_visible()
    page.get_by_label("Node whose condition is shown").click()
    page.get_by_role("option", name="vehicle/van").click()
    expect(level.locator("svg")).to_be_visible()
    expect(page.get_by_text("The last 5 min, in intervals of 10 s.")).to_be_visible()
    page.get_by_role("button", name="1 h").click()
    expect(page.get_by_text("The last 1 h, in intervals of 30 s.")).to_be_visible()


@pytest.mark.usefixtures("fleet")
def test_a_new_event_appears_by_itself_and_nothing_else_moves(open_page: Open, put: Put, event: Make) -> None:
    page = open_page(width=390)
    card = page.get_by_role("article", name="Node vehicle/van")
    expect(card).to_contain_text("neutral")
    card.evaluate("card => { card.mark = 'the same element'; window.scrollTo(0, 300); }")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    for number, label in ((10, Label.UNPLEASANT), (11, Label.PLEASANT)):
        put(_fresh(event(number, _now(), node="vehicle/van", label=label, confidence=0.87)))
        expect(card.locator(".sv-headline")).to_have_text(label.value, timeout=5_000)
        expect(page.get_by_role("table").first.locator("tbody tr").first).to_contain_text(label.value)
    expect(card).to_contain_text("87")
    assert card.evaluate("card => card.mark") == "the same element"
    assert page.evaluate("window.scrollY") == 300
    assert page.evaluate("getSelection().toString()") == "Sottovoce"


def test_a_node_that_appears_later_gets_its_card(open_page: Open, put: Put, event: Make) -> None:
    put()
    page = open_page()
    expect(page.get_by_text("No node has reported yet.")).to_be_visible()
    put(_fresh(event(1, _now())))
    expect(page.get_by_role("article", name="Node lab/pi-1")).to_be_visible()
    expect(page.get_by_text("No node has reported yet.")).to_be_hidden()


@pytest.mark.usefixtures("fleet")
def test_a_removed_store_is_said_and_the_last_values_stay(open_page: Open, path: Path) -> None:
    page = open_page()
    expect(page.get_by_role("article")).to_have_count(2)
    for each in path.parent.glob("store.sqlite*"):
        each.unlink()
    expect(page.get_by_role("alert")).to_contain_text("There is no store at")
    expect(page.get_by_role("alert")).to_contain_text("What is shown is from")
    expect(page.get_by_role("status")).to_contain_text("Store missing")
    expect(page.get_by_role("article")).to_have_count(2)


def test_an_unreadable_store_is_said(open_page: Open, path: Path) -> None:
    page = open_page()
    expect(page.get_by_role("status")).to_contain_text("No store yet")
    path.write_text("no database at all, but long enough to be looked at as one " * 20)
    expect(page.get_by_role("alert")).to_contain_text("not a database")
    expect(page.get_by_role("status")).to_contain_text("Store unreadable")


def test_strings_from_the_network_are_shown_as_they_are(
    open_page: Open, put: Put, event: Make, status: Make, update: Make
) -> None:
    now, evil = _now(), _EVIL
    put(status(now, now, source=evil, model=evil[:64]), _fresh(event(1, now, model=evil[:64])))
    put(read_message(f"sottovoce/v1/{evil}", b"{}", now))
    put(update(now, state=UpdateState.REJECTED, reason=evil, release=evil[:64]))
    page = open_page()
    expect(page.get_by_role("article")).to_contain_text(evil)
    expect(page.get_by_role("article")).to_contain_text(evil[:64])
    expect(page.get_by_role("article").locator(".sv-update")).to_contain_text(f"rejected {evil[:64]}: {evil}")
    expect(page.get_by_role("region", name="Models").get_by_role("listitem")).to_contain_text(evil[:64])
    expect(page.get_by_role("table").first).to_contain_text(f"rejected {evil[:64]}: {evil}")
    expect(page.get_by_role("table").nth(1)).to_contain_text(evil[:64])
    expect(page.get_by_role("table").last).to_contain_text(evil)
    assert page.locator("main img").count() == 0
    assert page.evaluate("window.evil") is None


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(
    open_page: Open, put: Put, event: Make, telemetry: Make, status: Make, update: Make, *, dark: bool
) -> None:
    now, name = _now(), f"{'s' * 32}/{'n' * 32}"
    put(*[event(n, now - n * _S, node=name, model="m" * 64, label=Label.UNPLEASANT) for n in range(1, 30)])
    put(telemetry(1, now, node=name), read_message("t" * 256, b"{}", now))
    put(update(now, node=name, state=UpdateState.REJECTED, reason="r" * 200, release="m" * 64))
    lost = {"capture": CaptureState.RECOVERING, "problem": CaptureProblem.STALLED, "muted_by": tuple(MuteSource)}
    exempted = {"exemption": Exemption(reason="safety", reference="x" * 100), "employees_present": True}
    put(status(now, now, node=name, source="u" * 128, model="m" * 64, **lost, **exempted))
    page = open_page(width=390, dark=dark)
    page.get_by_text("Details").click()
    page.get_by_role("heading", name="One node over time").click()
    expect(page.locator(".sv-small-charts svg").first).to_be_visible()
    expect(page.locator(".sv-chart svg:visible").last).to_be_visible()
    expect(page.get_by_role("table").last).to_contain_text("ttt")
    widest = page.evaluate(
        "Math.max(...[document.documentElement, ...document.querySelectorAll('main .sv-panel, main article')]"
        ".map(e => e.scrollWidth - e.clientWidth))"
    )
    assert widest <= 0
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.usefixtures("fleet")
def test_the_theme_follows_the_system(open_page: Open) -> None:
    grounds = []
    for dark in (False, True):
        page = open_page(dark=dark)
        expect(page.get_by_role("article").first).to_be_visible()
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(244, 246, 248)", "rgb(17, 21, 26)"]


@pytest.mark.usefixtures("fleet")
def test_the_span_is_chosen_with_the_keyboard(open_page: Open) -> None:
    page = open_page()
    button = page.get_by_role("button", name="24 h")
    expect(page.get_by_text("Every event.")).to_be_visible()
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The most frequent label of each 10 min with speech.")).to_be_visible()
    expect(page.get_by_text("Of the windows with speech in the last 24 h.")).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "true")


@pytest.mark.usefixtures("fleet")
def test_the_latency_of_one_node_is_chosen(open_page: Open) -> None:
    page = open_page()
    choice = page.get_by_label("Node whose latency is shown")
    choice.click()
    page.get_by_role("option", name="vehicle/van").click()
    expect(choice).to_have_value("vehicle/van")
    expect(page.locator(".sv-chart svg").nth(1)).to_contain_text("0.50 ms / 0.70 ms")


@pytest.mark.usefixtures("fleet")
def test_headings_and_names_are_there_for_a_screen_reader(open_page: Open) -> None:
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sottovoce")
    expect(page.get_by_role("heading", level=2)).to_have_text(
        [
            *("Nodes", "Models", "Emotion over time", "Latency by stage", "Share of labels"),
            *("One node over time", "Latest events"),
        ]
    )
    expect(page.get_by_role("heading", level=3)).to_have_text(["kitchen", "van"])
    for name in ("A lane per node", "Median and 95th percentile", "Share of each label"):
        expect(page.get_by_role("img", name=name)).to_be_visible()
    expect(page.get_by_role("group", name="How far back")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en-US"


@pytest.mark.usefixtures("fleet")
def test_a_lost_server_is_said_and_an_open_page_does_not_hold_it_back(
    browser: Browser, url: str, server: subprocess.Popen[str]
) -> None:
    page = browser.new_page()
    page.goto(url)
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_text("Connection lost")).to_be_hidden()
    began = time.monotonic()
    server.terminate()
    server.wait(timeout=10)
    assert time.monotonic() - began < 2
    expect(page.get_by_text("Connection lost")).to_be_visible(timeout=10_000)
    page.close()

"""What a rollout looks like: on a terminal of 80 columns, in a log, and for a program."""

import io
import json
import random
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.live import Live

from broker.contract.release import Rollout, is_in
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState
from training.release.board import board
from training.release.fleet import Tally, tally, waits_for
from training.release.screen import JsonScreen, LiveScreen, PlainScreen, open_screen
from training.release.view import Latest, View

STATES = [None, *UpdateState]


def _rollout(**changes: Any) -> Rollout:
    rollout = Rollout(channel="stable", release="factory/12", percent=10, phases=(2, 10, 50, 100), min_nodes=20)
    return msgspec.structs.replace(rollout, **changes)


def _view(nodes: int, rollout: Rollout) -> View:
    """Return a fleet in the middle of it, every state among its nodes, with reasons as long as they may be."""
    drawn = random.Random(1)
    reports = {}
    for number in range(nodes):
        node = NodeId("office-of-the-north-wing", f"meeting-room-{number:04}" if number % 3 else f"n{number}")
        state = drawn.choice(STATES) if is_in(node, rollout) else None
        reports[node] = UpdateReport(
            boot_id="0" * 16,
            time_us=number,
            release=rollout.release if state else "factory/11",
            state=state or UpdateState.IDLE,
            reason=drawn.choice(["too slow " * 22, "wrong labels", "no memory", "no room"]),
            progress=0.5,
        )
    counted = tally(reports, rollout, dict.fromkeys(list(reports)[::9], 5.0))
    return View(
        rollout=rollout,
        is_current=True,
        fleet=counted,
        waits=waits_for(counted, rollout, 0) or "",
        reasons=tuple(sorted(counted.reasons.items(), key=lambda each: -each[1])),
        latest=tuple(Latest.of(*each) for each in list(reports.items())[:6]),
        outcome=None,
    )


def _drawn(view: View, width: int, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, force_terminal=True)
    console.print(board(view, 3_725, width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("nodes", [0, 1, 1_000, 20_000])
@pytest.mark.parametrize("change", [{}, {"percent": 100}, {"aborted": True, "reason": "b" * 200}, {"percent": 0}])
def test_board_fits_a_terminal(nodes: int, width: int, change: dict[str, Any]) -> None:
    lines = _drawn(_view(nodes, _rollout(**change)), width)
    assert max(map(len, lines)) <= min(width, 120)
    assert len(lines) < 24
    assert lines[0].startswith("stable: factory/12 at ")
    assert lines[0].endswith("1:02:05")
    assert len(lines[1]) == min(width, 120), "the bar"


def test_board_says_all_that_is_known() -> None:
    text = "\n".join(_drawn(_view(1_000, _rollout(percent=50)), 120))
    for words in (
        "factory/12 at 50 %, phase 3 of 4 (2, 10, 50, 100 %)",
        "1,000 nodes known, 888 online",
        "waits for",
        "such as office-of-the-north-wing/",
        "failed because",
        "wrong labels",
        "node, changed last",
        *("not begun", "offline", "not heard of", "downloading", "verifying", "trial", "committing"),
        *("succeeded", "failed", "rolling back"),
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"paused": True, "reason": "lunch"}, "paused: lunch"),
        ({"aborted": True, "reason": "21 of 130 failed"}, "aborted: 21 of 130 failed"),
        ({"aborted": True}, "ABORTED"),
        ({"phases": ()}, "stable: factory/12 at 10 % "),
    ],
)
def test_board_says_what_the_channel_is_told(change: dict[str, Any], words: str) -> None:
    assert words in "\n".join(_drawn(_view(10, _rollout(**change)), 80))


def test_board_small_terminal_leaves_the_nodes_out() -> None:
    view = _view(1_000, _rollout(percent=50))
    assert "changed last" in "\n".join(_drawn(view, 80, 40))
    small = _drawn(view, 80, 18)
    assert "changed last" not in "\n".join(small)
    assert len(small) < 18


def test_board_one_failure_among_thousands_is_seen() -> None:
    fleet = Tally(nodes=9_999, online=9_999, asked=9_999, under_way={}, succeeded=9_998, failed=1, reasons={})
    bar = _drawn(msgspec.structs.replace(_view(0, _rollout()), fleet=fleet), 80)[1]
    assert bar == "█" * 79 + "▚"


def test_latest_tells_how_a_trial_went() -> None:
    trial = TrialFigures(
        windows=900, classified=800, agreed=770, p50_us=9_000, p95_us=12_345, scores=(0,) * 10, labels={}
    )
    report = UpdateReport(
        boot_id="0" * 16,
        time_us=1,
        release="factory/12",
        state=UpdateState.TRIAL,
        reason="",
        progress=1.0,
        trial=trial,
    )
    quiet = msgspec.structs.replace(report, trial=msgspec.structs.replace(trial, classified=0, agreed=0))
    latest = tuple(Latest.of(NodeId("home", name), each) for name, each in (("a", report), ("b", quiet)))
    text = _drawn(msgspec.structs.replace(_view(0, _rollout()), latest=latest), 80)
    assert [line.rstrip().split(maxsplit=2) for line in text[-2:]] == [
        ["home/a", "trial", "96.2 % agreed, p95 12.3 ms"],
        ["home/b", "trial", "p95 12.3 ms"],
    ]


def test_latest_tells_what_a_resting_node_runs() -> None:
    report = UpdateReport(
        boot_id="0" * 16, time_us=1, release="factory/3", state=UpdateState.IDLE, reason="waits for T", progress=1.0
    )
    others = (
        report,
        msgspec.structs.replace(report, release=None, reason=""),
        msgspec.structs.replace(report, state=UpdateState.REJECTED, reason="too slow"),
    )
    latest = tuple(Latest.of(NodeId("home", "a"), each) for each in others)
    text = _drawn(msgspec.structs.replace(_view(0, _rollout()), latest=latest), 80)
    assert [line.rstrip().split(maxsplit=2)[1:] for line in text[-3:]] == [
        ["idle", "waits for T, runs factory/3"],
        ["idle", "no release seen"],
        ["rejected", "too slow, factory/3"],
    ]


def test_one_node_is_no_nodes() -> None:
    assert "1 node known, " in "\n".join(_drawn(_view(1, _rollout()), 80))
    file = io.StringIO()
    PlainScreen(Console(file=file)).show(_view(1, _rollout()), 0)
    assert ": 1 node, " in file.getvalue()


def test_live_screen_leaves_the_last_table_and_what_was_said() -> None:
    file = io.StringIO()
    console = Console(width=80, height=24, file=file, force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        screen = LiveScreen(live)
        screen.show(_view(10, _rollout()), 1)
        screen.say("stable: factory/12: 50 % of the nodes")
        screen.show(_view(10, _rollout(percent=50)), 1)
    screen.say("the end")
    text = file.getvalue()
    assert text.rstrip().endswith("the end")
    assert "stable: factory/12: 50 % of the nodes" in text


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_plain_screen_prints_a_line_for_each_change_and_at_most_one_a_second() -> None:
    file, clock = io.StringIO(), Clock()
    screen = PlainScreen(Console(file=file, width=80), clock=clock)
    first, second = _view(10, _rollout()), _view(10, _rollout(percent=50))
    screen.show(msgspec.structs.replace(first, is_current=False), 0)
    for _ in range(3):
        screen.show(first, 0)
        screen.show(second, 0)
    assert file.getvalue().count("\n") == 1
    clock.now_s = 1.0
    for _ in range(3):
        screen.show(second, 1)
    clock.now_s = 5.0
    screen.show(second, 1)
    lines = file.getvalue().splitlines()
    assert [line.split(" ", 1)[1].partition(" nodes")[0] for line in lines] == [
        "stable: factory/12: 10 %: 10",
        "stable: factory/12: 50 %: 10",
    ]
    screen.show(first, 1)
    screen.show(msgspec.structs.replace(second, outcome="done"), 1)
    assert file.getvalue().count("\n") == 4, "the last one is told at once"


def test_plain_line_of_every_state() -> None:
    file = io.StringIO()
    PlainScreen(Console(file=file)).show(_view(1_000, _rollout(percent=100, paused=True)), 0)
    line = file.getvalue()
    assert "stable: factory/12: paused, 100 %: 1,000 nodes, 888 online, 1,000 asked: " in line
    counts = [each.strip().split(" ", 1) for each in line.partition("asked: ")[2].split(", ")]
    assert sum(int(count) for count, _ in counts) == 1_000
    assert {"not begun", "downloading", "trial", "succeeded", "failed", "offline"} <= {what for _, what in counts}


def test_json_screen_prints_one_object_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    screen = JsonScreen(clock=clock)
    view = _view(10, _rollout(percent=100))
    for clock.now_s in (0.0, 2.0, 4.0):
        screen.show(view, clock.now_s)
    screen.show(msgspec.structs.replace(view, outcome="aborted"), 4)
    screen.say("the end")
    out, err = capsys.readouterr()
    first, last = map(json.loads, out.splitlines())
    assert first["rollout"]["percent"] == 100
    assert first["fleet"]["asked"] == 10
    assert (first["outcome"], last["outcome"]) == (None, "aborted")
    assert err == "the end\n"


def test_open_screen_without_a_terminal_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with open_screen(as_json=False) as screen:
        screen.show(_view(10, _rollout()), 0)
    assert capsys.readouterr().out.count("\n") == 1
    with open_screen(as_json=True) as screen:
        screen.show(_view(10, _rollout()), 0)
    assert json.loads(capsys.readouterr().out)["is_current"] is True

"""What the cards say and what the charts are told, without a browser."""

from collections.abc import Callable
from datetime import UTC, timedelta, timezone
from typing import Any

import msgspec
import pytest

from broker.contract.condition import CaptureProblem, CaptureState, Context, MuteSource
from broker.contract.decision import Label
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.charts import latency_options, share_options, timeline_options
from dashboard.console.condition import Figures, Health, Status, increases
from dashboard.console.looks import CONTEXT_ICONS, LABELS, QUIETS, style_sheet
from dashboard.console.node_charts import NODE_CHARTS, node_options
from dashboard.console.readings import Emotion, History, Node, Presence, Span, StageLatency, WindowCount
from dashboard.console.timeline import mean_stages, segments, shares
from dashboard.console.wording import ago, clock_time, milliseconds, percent
from dashboard.console.words import Quiet, card

_NOW = 1_800_000_000_000_000
_S = 1_000_000
_NODE = NodeId("home", "kitchen")


def _emotion(age_s: float, label: Label = Label.NEUTRAL, *, clock_synced: bool = True) -> Emotion:
    at = _NOW - int(age_s * _S)
    return Emotion(
        node=_NODE,
        boot_id="0123456789abcdef",
        seq=1,
        time_us=at,
        received_us=at,
        clock_synced=clock_synced,
        label=label,
        confidence=0.62,
        model="factory/1",
        total_us=120_000,
    )


_STATUS = Status(
    boot_id="0123456789abcdef",
    received_us=_NOW,
    online=True,
    reason="birth",
    model="factory/1",
    context="home",
    source="USB",
    muted=False,
    clock_synced=True,
    notice_acknowledged=True,
)
_HEALTH = Health(
    boot_id="0123456789abcdef",
    received_us=_NOW,
    clock_synced=True,
    outbox_depth=0,
    p50_us=None,
    p95_us=None,
    silent=12,
    gated=4,
    classified=4,
)


def _said(health: dict[str, Any] | None = None, **status: Any) -> Node:
    """Return a node that is there and hears, but for what is named."""
    return Node(
        id=_NODE,
        status=msgspec.structs.replace(_STATUS, **status),
        emotion=_emotion(2),
        health=msgspec.structs.replace(_HEALTH, **(health or {})),
    )


def _node(emotion: Emotion | None = None, *, online: bool = True, muted: bool = False, heard_s: float = 1) -> Node:
    return Node(
        id=_NODE,
        status=Status(
            boot_id="0123456789abcdef",
            received_us=_NOW,
            online=online,
            reason="lost",
            model="factory/1",
            context="home",
            source="replay: synthetic",
            muted=muted,
            clock_synced=True,
        ),
        emotion=emotion,
        health=Health(
            boot_id="0123456789abcdef",
            received_us=_NOW - int(heard_s * _S),
            clock_synced=False,
            outbox_depth=1_200,
            p50_us=121_000,
            p95_us=None,
        ),
    )


def test_a_label_that_is_repeated_is_the_headline() -> None:
    words = card(_node(_emotion(4)), _NOW)
    assert (words.headline, words.label, words.confidence) == ("neutral", Label.NEUTRAL, 0.62)
    assert words.detail == "62\N{NARROW NO-BREAK SPACE}% confident, 4 s ago"


def test_an_uncertain_label_is_not_called_confident() -> None:
    assert card(_node(_emotion(4, Label.UNCERTAIN)), _NOW).detail.startswith("likeliest label at 62")


def test_a_label_that_is_no_longer_repeated_is_not_current() -> None:
    words = card(_node(_emotion(70)), _NOW)
    assert (words.headline, words.label, words.confidence) == ("no speech", None, 0)
    assert words.detail == "last: neutral, 62\N{NARROW NO-BREAK SPACE}%, 1 min ago"


@pytest.mark.parametrize(
    ("node", "state", "text", "headline"),
    [
        (_node(_emotion(2), muted=True), Presence.ONLINE, "online", "muted"),
        (_node(_emotion(95), heard_s=95), Presence.STALE, "stale: heard 1 min ago", "no signal"),
        (_node(_emotion(2), online=False), Presence.OFFLINE, "offline: connection lost", "offline"),
        (Node(id=_NODE), Presence.STALE, "stale: not heard yet", "no signal"),
    ],
)
def test_a_node_that_does_not_listen_has_no_current_label(
    node: Node, state: Presence, text: str, headline: str
) -> None:
    words = card(node, _NOW)
    assert (words.presence, words.presence_text, words.headline, words.label) == (state, text, headline, None)


def test_a_card_warns_of_what_a_person_should_know() -> None:
    words = card(_node(muted=True), _NOW)
    assert words.warnings == ("clock not synchronised", "1,200 waiting in the outbox")
    assert words.latency == "no speech in the last hour"
    assert card(_node(muted=True, online=False), _NOW).warnings[0] == "muted"


@pytest.mark.parametrize(
    ("sources", "detail"),
    [
        ((), "last: neutral"),
        ((MuteSource.COMMAND,), "by an operator"),
        ((MuteSource.BUTTON, MuteSource.QUIET_HOURS), "by the switch at the node and by its quiet hours"),
        ((MuteSource.UNREADABLE,), "because its record of muting cannot be read"),
    ],
)
def test_a_muted_node_says_by_whom(sources: tuple[MuteSource, ...], detail: str) -> None:
    words = card(_said(muted=True, muted_by=sources, capture=CaptureState.MUTED), _NOW)
    assert (words.quiet, words.label, words.warnings) == (Quiet.MUTED, None, ())
    assert words.detail.startswith(detail)


@pytest.mark.parametrize(
    ("state", "problem", "detail"),
    [
        (CaptureState.RECOVERING, CaptureProblem.LOST, "device lost, looking for it"),
        (CaptureState.RECOVERING, CaptureProblem.BUSY, "device busy, another program has it"),
        (CaptureState.RECOVERING, None, "opening the microphone"),
        (CaptureState.LISTENING, CaptureProblem.STUCK, "only zeros: a mute switch, or a loose plug?"),
    ],
)
def test_a_node_without_sound_says_why_and_has_no_current_label(
    state: CaptureState, problem: CaptureProblem | None, detail: str
) -> None:
    words = card(_said(capture=state, problem=problem), _NOW)
    assert (words.headline, words.detail, words.label) == ("no sound", detail, None)


@pytest.mark.parametrize("problem", CaptureProblem)
def test_every_problem_has_words_of_its_own_wherever_it_turns_up(problem: CaptureProblem) -> None:
    words = {
        (said.headline, said.detail if said.quiet else "", said.warnings)
        for state in (CaptureState.LISTENING, CaptureState.RECOVERING)
        for said in (card(_said(capture=state, problem=problem), _NOW),)
    }
    assert len(words) == (1 if problem is CaptureProblem.STUCK else 2)
    assert all(headline == "no sound" or warnings for headline, _, warnings in words)


def test_a_node_that_hears_all_the_same_keeps_its_label_and_warns() -> None:
    words = card(_said({"clipped": 5, "throttled": True}, problem=CaptureProblem.OVERLOADED), _NOW)
    assert words.label is Label.NEUTRAL
    assert words.warnings == (
        "the machine cannot keep up, sound is lost",
        "overdriven in 25\N{NARROW NO-BREAK SPACE}% of the windows: lower the gain",
        "processor slowed down by heat or low voltage",
    )
    assert card(_said({"clipped": 1}), _NOW).warnings == (), "a door may slam"
    gone = msgspec.structs.replace(_said({"clipped": 5}), status=msgspec.structs.replace(_STATUS, online=False))
    assert card(gone, _NOW).warnings == (), "what was true when it went needs nobody now"


def test_a_node_whose_clock_is_not_set_says_what_its_events_wait_for() -> None:
    status = msgspec.structs.replace(_STATUS, clock_synced=False)
    words = card(Node(id=_NODE, status=status), _NOW)
    assert (words.presence_text, words.headline, words.detail) == (
        "online",
        "clock not set",
        "its events wait for the clock",
    )
    assert words.warnings == ()
    deaf = msgspec.structs.replace(status, muted=True)
    assert card(Node(id=_NODE, status=deaf), _NOW).warnings == (
        "clock not synchronised: its events wait for the clock",
    )


def test_a_place_of_work_tells_its_exemption_and_only_a_notice_that_is_missing_is_hinted_at() -> None:
    words = card(_said(context="care", employees_present=True, exemption="medical", exemption_reference="file 7"), _NOW)
    assert (words.context, words.where) == ("care", "care, employees present, medical exemption (file 7)")
    assert (words.hint, words.details["Notice"]) == ("", "confirmed by the operator")
    words = card(_said(notice_acknowledged=False, employees_present=False), _NOW)
    assert (words.where, words.hint) == ("home", "Notice to the people here is not confirmed")
    assert words.details["Notice"] == "not confirmed"


def test_details_say_what_is_known_and_nothing_else() -> None:
    figures = {
        "level_dbfs": -31.4,
        "clipped": 1,
        "mean_confidence": 0.625,
        "mean_entropy": 0.5,
        "divergence": None,
        "outbox_depth": 2,
        "outbox_age_us": 1_500_000,
        "outbox_dropped": 3,
        "reconnects": 1,
        "dropped_blocks": 2,
        "restarts": 1,
        "reopens": 0,
        "rescans": 2,
        "rss_bytes": 64 * 2**20,
        "cpu_share": 0.02,
        "temperature_c": 51.5,
        "throttled": False,
    }
    words = card(_said(figures, uncertain_below=0.45, speech_above=0.5), _NOW).details
    assert {name: said.replace("\N{NARROW NO-BREAK SPACE}", " ") for name, said in words.items()} == {
        "Windows": "60 % silent, 20 % no speech, 20 % classified",
        "Level": "\N{MINUS SIGN}31 dBFS, 5 % overdriven",
        "Drift": "confidence 0.62, entropy 0.50",
        "Thresholds": "speech from 50 %, uncertain below 45 %",
        "Notice": "confirmed by the operator",
        "Outbox": "2 messages, oldest 1.5 s; 3 dropped when full",
        "Broker": "1 reconnect since start",
        "Sound": "2 blocks lost, 1 restart, 2 searches",
        "Machine": "2 % of a core, 64 MiB, 52 \N{DEGREE SIGN}C, full speed",
    }
    assert set(card(Node(id=_NODE), _NOW).details.values()) == {"\N{EN DASH}"}


def test_every_way_to_be_quiet_and_every_context_has_an_icon() -> None:
    assert QUIETS.keys() == set(Quiet)
    assert CONTEXT_ICONS.keys() == set(Context)


def test_counts_since_boot_become_increases_and_begin_anew_with_the_program() -> None:
    assert list(increases([4, 4, 7, None, 9, 2])) == [0, 0, 3, None, 2, 2]


def _drawn(title: str, *figures: Figures) -> dict[str, list[Any]]:
    (chart,) = (each for each in NODE_CHARTS if each.title == title)
    options = node_options(chart, figures, Span.HOUR, _NOW, utc=True)
    return {each["name"]: each["data"] for each in options["series"]}


def test_a_nodes_windows_are_shares_and_a_bucket_without_windows_is_left_out() -> None:
    drawn = _drawn("Windows", Figures(from_us=0, silent=6, gated=3, classified=1), Figures(from_us=30 * _S))
    assert drawn == {"classified": [[15_000, 10]], "no speech": [[15_000, 30]], "silent": [[15_000, 60]]}


def test_a_nodes_line_is_broken_where_nothing_was_heard_and_a_point_alone_is_marked() -> None:
    levels = [(0, -30.0), (30, -31.0), (300, -32.0)]
    drawn = _drawn("Level", *(Figures(from_us=at * _S, level_dbfs=level) for at, level in levels))
    first, second, gap, alone = drawn["level"]
    assert (first, second, gap) == ([15_000, -30.0], [45_000, -31.0], [45_001, None])
    assert alone == {"value": [315_000, -32.0], "symbol": "circle"}


def test_a_nodes_chart_without_figures_draws_nothing() -> None:
    assert _drawn("Drift") == _drawn("Drift", Figures(from_us=0)) == {}
    assert _drawn("Processor", Figures(from_us=0, temperature_c=80.0, throttled=True))["slowed down"] == [
        [15_000, 80.0]
    ]


def test_age_goes_by_arrival_when_the_nodes_clock_is_not_synchronised() -> None:
    emotion = Emotion(**{name: getattr(_emotion(2, clock_synced=False), name) for name in Emotion.__struct_fields__})
    assert emotion.age_us(_NOW) == 2 * _S
    assert _emotion(-5).age_us(_NOW) == 0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3, "just now"),
        (0.4, "just now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (7_200, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_ages_are_in_their_largest_unit(seconds: float, expected: str) -> None:
    assert ago(int(seconds * _S)) == expected


def test_numbers_are_short() -> None:
    assert [milliseconds(us) for us in (61, 4_260, 121_400, 2_345_678)] == ["0.06 ms", "4.3 ms", "121 ms", "2,346 ms"]
    assert percent(0.625) == "62\N{NARROW NO-BREAK SPACE}%"


def test_a_time_of_another_day_has_its_date_and_an_impossible_one_is_no_crash() -> None:
    assert clock_time(_NOW, UTC, _NOW) == "08:00:00"
    assert clock_time(_NOW, timezone(timedelta(hours=2)), _NOW) == "10:00:00"
    assert clock_time(_NOW - 86_400 * _S, UTC, _NOW) == "2027-01-14 08:00:00"
    assert clock_time(2**53 * 1_000, UTC, _NOW) == "impossible time"


def test_events_become_segments_that_join_end_and_cut() -> None:
    events = tuple(
        _emotion(age, label) for age, label in ((60, Label.NEUTRAL), (55, Label.NEUTRAL), (53, Label.PLEASANT))
    )
    found = segments(History(span=Span.MINUTES, until_us=_NOW, events=events))
    assert [(each.label, (_NOW - each.from_us) // _S, (_NOW - each.until_us) // _S) for each in found] == [
        (Label.NEUTRAL, 60, 53),
        (Label.PLEASANT, 53, 47),
    ]


def test_windows_become_segments_of_the_most_frequent_label_and_silence_a_gap() -> None:
    bucket = Span.HOUR.bucket_us
    counts = [{Label.NEUTRAL: 5, Label.PLEASANT: 2}, {Label.NEUTRAL: 1}, {Label.NEUTRAL: 0}, {Label.UNPLEASANT: 1}]
    windows = tuple(WindowCount(node=_NODE, from_us=n * bucket, counts=each) for n, each in enumerate(counts))
    history = History(span=Span.HOUR, until_us=_NOW, windows=windows)
    assert [(each.label, each.from_us // bucket, each.until_us // bucket) for each in segments(history)] == [
        (Label.NEUTRAL, 0, 2),
        (Label.UNPLEASANT, 3, 4),
    ]
    assert shares(history)[_NODE][Label.NEUTRAL] == 6


def test_stages_are_those_of_one_node_or_the_mean_of_all_in_the_order_of_the_walk() -> None:
    van = NodeId("car", "van")
    found = [
        StageLatency(node=_NODE, stage=Stage.TOTAL, p50_us=100, p95_us=200),
        StageLatency(node=van, stage=Stage.TOTAL, p50_us=300, p95_us=400),
        StageLatency(node=van, stage=Stage.CAPTURE, p50_us=10, p95_us=20),
    ]
    assert mean_stages(found, _NODE) == {Stage.TOTAL: (100, 200)}
    assert list(mean_stages(found, None).items()) == [(Stage.CAPTURE, (10, 20)), (Stage.TOTAL, (200, 300))]


@pytest.mark.parametrize(
    "draw", [lambda h: timeline_options(h, [_NODE], utc=True), lambda h: share_options(h, [_NODE])]
)
def test_tooltips_are_text_not_html(draw: Callable[[History], dict[str, dict[str, str]]]) -> None:
    assert draw(History(span=Span.HOUR, until_us=_NOW))["tooltip"]["renderMode"] == "richText"


def test_a_chart_of_nothing_has_no_rows() -> None:
    empty = History(span=Span.HOUR, until_us=_NOW)
    assert latency_options([], None)["yAxis"]["data"] == []
    assert share_options(empty, [_NODE])["yAxis"]["data"] == []
    assert timeline_options(empty, [_NODE], utc=False)["series"][0]["data"] == []


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio, after WCAG 2.2, "relative luminance" and "contrast ratio"."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("label", Label)
def test_labels_can_be_read_on_both_grounds(label: Label) -> None:
    sheet = style_sheet()
    light, dark = "#ffffff", "#1a2027"
    assert f"--sv-surface: {light}" in sheet
    assert f"--sv-surface: {dark}" in sheet
    look = LABELS[label]
    assert _contrast(look.ink_light, light) >= 4.5
    assert _contrast(look.ink_dark, dark) >= 4.5
    assert _contrast(look.fill, dark) >= 3

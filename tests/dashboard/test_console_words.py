"""What the cards say and what the charts are told, without a browser."""

from collections.abc import Callable
from datetime import UTC, timedelta, timezone

import pytest

from broker.contract.decision import Label
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.charts import latency_options, share_options, timeline_options
from dashboard.console.looks import LABELS, style_sheet
from dashboard.console.readings import Emotion, Health, History, Node, Presence, Span, StageLatency, Status, WindowCount
from dashboard.console.timeline import mean_stages, segments, shares
from dashboard.console.words import ago, card, clock_time, milliseconds, percent

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
            received_us=_NOW - int(heard_s * _S), clock_synced=False, outbox_depth=1_200, p50_us=121_000, p95_us=None
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

"""What is on the wire is what was meant, or one MessageError that names the field."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no stubs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.condition import (
    LATENCY_BOUNDS_US,
    CaptureProblem,
    CaptureReport,
    CaptureState,
    Drift,
    Quantiles,
)
from broker.contract.decision import Label
from broker.contract.errors import MessageError
from broker.contract.generate import schema
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, Stage, Telemetry, decode, encode
from broker.contract.topics import EMOTION, NODE_TOPICS, STATUS, UPDATE, NodeTopic
from broker.contract.topics import TELEMETRY as TELEMETRY_ROW
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState

LARGEST = 2**53 - 1
COUNTS = st.integers(0, LARGEST)
SHARES = st.floats(0, 1)
IDENTIFIERS = st.text("0123456789abcdef", min_size=16, max_size=16)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
LATENCIES = st.builds(EventLatency, **dict.fromkeys(EventLatency.__struct_fields__, COUNTS))
EVENTS = st.builds(
    EmotionEvent,
    schema=st.just(1),
    boot_id=IDENTIFIERS,
    time_us=COUNTS,
    seq=st.integers(1, LARGEST),
    mono_us=COUNTS,
    clock_synced=st.booleans(),
    label=st.sampled_from(Label),
    confidence=SHARES,
    model=TEXTS,
    latency_us=LATENCIES,
)
TELEMETRY = st.builds(
    Telemetry,
    **dict.fromkeys(Telemetry.__struct_fields__, COUNTS)
    | {
        "schema": st.just(1),
        "boot_id": IDENTIFIERS,
        "outbox_id": IDENTIFIERS,
        "seq": st.integers(1, LARGEST),
        "clock_synced": st.booleans(),
        "windows": st.dictionaries(st.sampled_from(Label), COUNTS),
        "latency_us": st.dictionaries(
            st.sampled_from(Stage),
            st.builds(
                Quantiles,
                count=COUNTS,
                p50=COUNTS,
                p95=COUNTS,
                p99=COUNTS,
                histogram=st.lists(COUNTS, max_size=len(LATENCY_BOUNDS_US) + 1).map(tuple),
            ),
        ),
        "level_dbfs": st.none() | st.floats(-300, 20),
        "drift": st.none()
        | st.builds(Drift, mean_confidence=SHARES, mean_entropy=SHARES, divergence=st.none() | SHARES),
        "capture": st.none()
        | st.builds(
            CaptureReport,
            state=st.sampled_from(CaptureState),
            problem=st.none() | st.sampled_from(CaptureProblem),
            restarts=COUNTS,
            reopens=COUNTS,
            rescans=COUNTS,
        ),
        "throttled": st.none() | st.booleans(),
        "cpu_share": st.floats(0, 1e3),
        "temperature_c": st.none() | st.floats(-50, 150),
    },
)
ROWS = pytest.mark.parametrize("row", NODE_TOPICS, ids=[row.name for row in NODE_TOPICS])
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


def _changed(message: msgspec.Struct, **changes: object) -> bytes:
    document = msgspec.to_builtins(message, str_keys=True) | changes
    return json.dumps(document).encode("utf-8", "surrogatepass")


@given(EVENTS)
def test_event_any_valid_survives_the_wire_unless_too_large(event: EmotionEvent) -> None:
    size = len(msgspec.json.encode(event))
    if size > EMOTION.largest_bytes:
        with pytest.raises(MessageError, match=f"{size} bytes, at most {EMOTION.largest_bytes}"):
            encode(event, EMOTION.largest_bytes)
    else:
        assert decode(encode(event, EMOTION.largest_bytes), EmotionEvent, EMOTION.largest_bytes) == event


@given(TELEMETRY)
def test_telemetry_any_valid_survives_the_wire(telemetry: Telemetry) -> None:
    most = TELEMETRY_ROW.largest_bytes
    assert decode(encode(telemetry, most), Telemetry, most) == telemetry


@ROWS
def test_message_valid_survives_the_wire(row: NodeTopic, messages: dict[str, Any]) -> None:
    message = messages[row.name]
    assert decode(encode(message, row.largest_bytes), row.message, row.largest_bytes) == message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"audio": "UklGRg=="}, "audio"),
        ({"transcript": "hello"}, "transcript"),
        ({"seq": -1}, "seq"),
        ({"seq": 0}, "seq"),
        ({"seq": 2**53}, "seq"),
        ({"seq": 10**300}, "seq"),
        ({"seq": 1.5}, "seq"),
        ({"seq": "1"}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": None}, "seq"),
        ({"confidence": 1.000001}, "confidence"),
        ({"confidence": -0.1}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"label": "angry"}, "label"),
        ({"label": "Pleasant"}, "label"),
        ({"boot_id": "0123456789abcde"}, "boot_id"),
        ({"boot_id": "0123456789ABCDEF"}, "boot_id"),
        ({"boot_id": "0123456789abcdef\n"}, "boot_id"),
        ({"model": ""}, "model"),
        ({"model": "x" * 65}, "model"),
        ({"latency_us": {}}, "latency_us"),
        ({"time_us": -1}, "time_us"),
        ({"clock_synced": 1}, "clock_synced"),
        ({"schema": 2}, "schema 2 is not understood, only 1"),
        ({"schema": 2, "novelty": 1}, "schema 2 is not understood, only 1"),
        ({"schema": 0}, "schema 0 is not understood, only 1"),
        ({"schema": "1"}, "schema"),
    ],
)
def test_decode_bad_field_is_named(event: EmotionEvent, change: dict[str, object], field: str) -> None:
    with pytest.raises(MessageError, match=field) as caught:
        decode(_changed(event, **change), EmotionEvent, 10_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", EmotionEvent.__struct_fields__[1:])
def test_decode_missing_field_is_named(event: EmotionEvent, field: str) -> None:
    document = msgspec.to_builtins(event)
    del document[field]
    with pytest.raises(MessageError, match=field):
        decode(json.dumps(document).encode(), EmotionEvent, 1_024)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_decode_not_finite_is_refused(event: EmotionEvent, number: str) -> None:
    payload = encode(event, 1_024).replace(b"0.625", number.encode())
    with pytest.raises(MessageError):
        decode(payload, EmotionEvent, 1_024)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b"\x00",
        b"\xff\xfe",
        b"{",
        b'{"schema":1',
        b"[" * 4_000,
        b'{"x":' + b"[" * 4_000 + b"]" * 4_000 + b"}",
        b'{"schema":' * 1_500,
        b'{"model":"\xff"}',
        b'{"schema":1,"boot_id":"\xc3"}',
        b'{"seq":' + b"9" * 9_000 + b"}",
        b"\xef\xbb\xbf{}",
    ],
    ids=range(15),
)
@ROWS
def test_decode_no_message_is_one_message_error(row: NodeTopic, payload: bytes) -> None:
    with pytest.raises(MessageError, match=f"^{row.message.__name__}: "):
        decode(payload, row.message, 100_000)


def test_decode_text_that_is_no_utf8_is_refused(event: EmotionEvent) -> None:
    payload = encode(event, 1_024).replace(b"factory", b"f\xfftory")
    with pytest.raises(MessageError, match="not UTF-8"):
        decode(payload, EmotionEvent, 1_024)


@ROWS
@given(payload=st.binary(max_size=300))
def test_decode_arbitrary_bytes_raises_only_message_errors(row: NodeTopic, payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode(payload, row.message, row.largest_bytes)


@ROWS
@given(data=st.data())
def test_decode_altered_bytes_raises_only_message_errors(
    row: NodeTopic, messages: dict[str, Any], data: st.DataObject
) -> None:
    payload = bytearray(encode(messages[row.name], row.largest_bytes))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode(bytes(payload), row.message, row.largest_bytes)
    except MessageError:
        return
    assert decode(encode(message, row.largest_bytes), row.message, row.largest_bytes) == message


@ROWS
def test_decode_too_large_is_refused_before_it_is_read(row: NodeTopic) -> None:
    with pytest.raises(MessageError, match=f"{row.largest_bytes + 1} bytes, at most {row.largest_bytes} are allowed"):
        decode(b" " * (row.largest_bytes + 1), row.message, row.largest_bytes)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_encode_not_finite_is_refused(messages: dict[str, Any], value: float) -> None:
    for name, field in (("emotion", "confidence"), ("telemetry", "cpu_share"), ("telemetry", "temperature_c")):
        with pytest.raises(MessageError):
            encode(msgspec.structs.replace(messages[name], **{field: value}), 4_096)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "\udcff"), ("seq", 0), ("seq", 10**40), ("confidence", object()), ("label", "angry"), ("boot_id", "")],
)
def test_encode_broken_contract_is_refused(event: EmotionEvent, field: str, value: object) -> None:
    with pytest.raises(MessageError, match=r"^EmotionEvent: "):
        encode(msgspec.structs.replace(event, **{field: value}), 1_024)


@ROWS
def test_schema_accepts_what_encode_makes(row: NodeTopic, messages: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(row))
    jsonschema.validate(json.loads(encode(messages[row.name], row.largest_bytes)), schema(row))


@given(EVENTS)
def test_schema_any_valid_event_is_accepted(event: EmotionEvent) -> None:
    jsonschema.validate(json.loads(msgspec.json.encode(event)), schema(EMOTION))


@pytest.mark.parametrize(
    "change",
    [
        {"audio": "UklGRg=="},
        {"seq": 0},
        {"seq": 2**53},
        {"seq": "1"},
        {"confidence": 2},
        {"label": "angry"},
        {"boot_id": "0123456789abcdef\n"},
        {"boot_id": "xyz"},
        {"model": ""},
        {"model": "x" * 65},
        {"latency_us": {}},
        {"schema": 2},
        {"clock_synced": None},
    ],
)
def test_schema_refuses_what_decode_refuses(event: EmotionEvent, change: dict[str, object]) -> None:
    payload = _changed(event, **change)
    with pytest.raises(MessageError):
        decode(payload, EmotionEvent, 10_000)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(payload), schema(EMOTION))


@ROWS
def test_message_has_no_place_for_audio_text_or_identity(row: NodeTopic) -> None:
    """The names of all fields that anything on the wire has: who adds one has to think about this line."""
    assert {*row.message.__struct_fields__} <= {
        *("schema", "boot_id", "time_us", "seq", "mono_us", "clock_synced", "label", "confidence", "model"),
        *("latency_us", "outbox_id", "interval_us", "windows", "silent_windows", "emitted", "outbox_dropped"),
        *("outbox_depth", "outbox_age_us", "refused_events", "dropped_blocks", "reconnects", "rss_bytes"),
        *("cpu_share", "temperature_c", "online", "reason", "versions", "context", "source", "muted", "muted_by"),
        *("employees_present", "exemption", "notice_acknowledged", "capture", "problem", "thresholds", "throttled"),
        *("gated_windows", "clipped_windows", "level_dbfs", "drift"),
        *("channel", "release", "state", "progress", "trial", "command", "done", "words"),
        *("device", "origin", "availability", "components"),  # names and templates, made before anything is heard
    }


def test_status_longest_source_fits_its_topic(messages: dict[str, Any]) -> None:
    longest = msgspec.structs.replace(messages["status"], source="\N{MICROPHONE}" * 128, model="m" * 64)
    assert decode(encode(longest, STATUS.largest_bytes), NodeStatus, STATUS.largest_bytes) == longest


def test_update_report_longest_reason_fits_its_topic(messages: dict[str, Any]) -> None:
    for letter in ("\N{MICROPHONE}", "\x01"):
        most = 2**53 - 1
        trial = TrialFigures(
            windows=most,
            classified=most,
            agreed=most,
            p50_us=most,
            p95_us=most,
            scores=(most,) * 10,
            labels=dict.fromkeys(Label, most),
        )
        longest = msgspec.structs.replace(messages["update"], reason=letter * 200, release=letter * 64, trial=trial)
        assert decode(encode(longest, UPDATE.largest_bytes), UpdateReport, UPDATE.largest_bytes) == longest


@pytest.mark.parametrize("state", UpdateState)
def test_update_report_every_state_survives_the_wire(messages: dict[str, Any], state: UpdateState) -> None:
    report = msgspec.structs.replace(messages["update"], state=state, release=None, reason="")
    assert decode(encode(report, UPDATE.largest_bytes), UpdateReport, UPDATE.largest_bytes) == report

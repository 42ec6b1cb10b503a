"""systemd's units for a repository of releases: run as they say, on folders of the test's own."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.release.arguments import parse
from training.release.files import Files
from training.release.roles import Role

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
PROGRAM = "/opt/sottovoce/bin/sottovoce-release"
STATE = "/var/lib/sottovoce-release"
ALERT = "/etc/sottovoce/alert"
HARDENED = {
    "CapabilityBoundingSet": [""],
    "LockPersonality": ["yes"],
    "NoNewPrivileges": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateTmp": ["yes"],
    "ProtectHome": ["yes"],
    "ProtectKernelTunables": ["yes"],
    "ProtectSystem": ["strict"],
    "RestrictSUIDSGID": ["yes"],
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
}

services = pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("sottovoce-release*.service")))


def _read(name: str) -> dict[str, list[str]]:
    """Return a unit's values by key; no key of ours is in two sections."""
    lines = (UNITS / name).read_text(encoding="utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for key, _, value in (line.partition("=") for line in lines if re.match(r"[A-Z]\w+=", line)):
        found.setdefault(key, []).append(value)
    return found


def _command(name: str) -> list[str]:
    (line,) = _read(name)["ExecStart"]
    return shlex.split(line)


def _run(name: str, releases: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run what a unit runs, on another folder."""
    program, *arguments = _command(name)
    assert program == PROGRAM
    told = [word.replace(f"{STATE}/releases", str(releases)) for word in arguments]
    assert str(releases) in told
    return subprocess.run(
        [sys.executable, "-m", "training.release", *told],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@services
def test_unit_is_hardened(name: str) -> None:
    unit = _read(name)
    assert {key: unit.get(key) for key in HARDENED} == HARDENED
    assert unit.get("User", ["root"]) == ["sottovoce-release"] or unit["DynamicUser"] == ["yes"]
    assert "TimeoutStartSec" in unit, "a oneshot unit has no limit of its own"


@services
def test_unit_writes_nowhere_but_in_its_repository(name: str) -> None:
    unit = _read(name)
    assert not {"ReadWritePaths", "BindPaths"} & set(unit)
    if name.startswith("sottovoce-release-alert"):
        assert "StateDirectory" not in unit
    else:
        assert unit["StateDirectory"] == [Path(STATE).name]
        assert unit["StateDirectoryMode"] == ["0700"]
        assert parse(_command(name)[1:]).repository.is_relative_to(STATE)


@pytest.mark.parametrize(("name", "when"), [("refresh", "daily"), ("check", "*-*-* 01/6:30:00")])
def test_unit_timer_catches_up_and_alerts(name: str, when: str) -> None:
    timer = _read(f"sottovoce-release-{name}.timer")
    assert (timer["OnCalendar"], timer["Persistent"], timer["WantedBy"]) == ([when], ["true"], ["timers.target"])
    assert "RandomizedDelaySec" in timer
    service = _read(f"sottovoce-release-{name}.service")
    assert service["OnFailure"] == ["sottovoce-release-alert@%N.service"]
    assert (UNITS / "sottovoce-release-alert@.service").exists()


def test_unit_refresh_signs_by_the_credential(releases: Path, online_passphrase: Path) -> None:
    name = "sottovoce-release-refresh.service"
    unit = _read(name)
    (credential,) = unit["LoadCredential"]
    named, _, source = credential.partition(":")
    assert source.startswith("/etc/sottovoce/")
    (setting,) = unit["Environment"]
    variable, _, path = setting.partition("=")
    assert path == f"%d/{named}"
    assert parse(_command(name)[1:]).command == "refresh"
    before = Files(releases).read(Role.TIMESTAMP)
    done = _run(name, releases, **{variable: path.replace("%d", str(online_passphrase.parent))})
    assert (done.returncode, done.stderr) == (0, "")
    assert Files(releases).read(Role.TIMESTAMP) != before


def test_unit_check_needs_no_passphrase_and_fails_when_nobody_refreshes(releases: Path) -> None:
    name = "sottovoce-release-check.service"
    assert not {"LoadCredential", "Environment"} & set(_read(name))
    assert _run(name, releases).returncode == 0
    settings = releases / "settings.toml"
    settings.write_text(settings.read_text("utf-8").replace("online_days = 14", "online_days = 36"), "utf-8")
    done = _run(name, releases)
    assert done.returncode == 1
    assert "run `sottovoce-release refresh`" in done.stdout + done.stderr


def test_unit_alert_logs_as_an_error_and_tells_the_command(tmp_path: Path) -> None:
    name = "sottovoce-release-alert@.service"
    assert _read(name)["SyslogLevel"] == ["err"]
    command = tmp_path / "alert"
    words = [word.replace("$$", "$").replace("%i", "some-unit").replace(ALERT, str(command)) for word in _command(name)]
    told = "model updates need somebody: some-unit has failed, and journalctl --unit some-unit says why\n"
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == told
    heard = tmp_path / "heard"
    command.write_text(f'#!/bin/sh\necho "$1" > {heard}\nexit 7\n', encoding="utf-8")
    command.chmod(0o755)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (told, 7), "an alert that does not work fails its unit"
    assert heard.read_text(encoding="utf-8") == told


def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing: it is a part of systemd")
    program = tmp_path / "sottovoce-release"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for path in UNITS.glob("sottovoce-release*"):
        made = tmp_path / path.name.replace("@.", "@some-unit.")
        made.write_text(path.read_text(encoding="utf-8").replace(PROGRAM, str(program)), encoding="utf-8")
    units = sorted([*tmp_path.glob("*.service"), *tmp_path.glob("*.timer")])
    assert len(units) == len(list(UNITS.glob("sottovoce-release*"))) == 5
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

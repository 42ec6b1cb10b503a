"""The container that keeps releases signed: once a day, sooner after a failure, and unhealthy when it cannot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.docker.refresh import Last, keep, problem_of
from training.release.files import Files
from training.release.roles import Role

ROOT = Path(__file__).parents[2]
DAY_S, AGAIN_S = 86_400, 900


@pytest.fixture
def start(releases: Path, online_passphrase: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts the program, by default without end."""
    environment = {"SOTTOVOCE_RELEASES": str(releases), "SOTTOVOCE_ONLINE_PASSPHRASE_FILE": str(online_passphrase)}
    started = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.docker.refresh", "--state", str(tmp_path / "state.json"), *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def check(start: Callable[..., "subprocess.Popen[str]"]) -> Callable[[], tuple[int, str]]:
    """Return a function that asks for the health."""

    def ask() -> tuple[int, str]:
        process = start("--check")
        told, failed = process.communicate(timeout=60)
        assert failed == ""
        return process.returncode, told

    return ask


@pytest.fixture
def first(start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> Callable[[], str]:
    """Return a function that lets the program refresh once, stops it, and returns its log."""

    def run() -> str:
        process = start()
        while not (tmp_path / "state.json").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)  # between two looks at what another process writes
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
        return log

    return run


def test_refresh_signs_at_its_start_and_is_healthy(
    first: Callable[[], str], check: Callable[[], tuple[int, str]], releases: Path
) -> None:
    assert check() == (1, "no refresh has ended yet\n")
    before = Files(releases).read(Role.TIMESTAMP)
    assert "INFO deploy.docker.refresh: refreshed\n" in first()
    assert Files(releases).read(Role.TIMESTAMP) != before
    assert check() == (0, "")


def test_refresh_that_fails_is_unhealthy_and_says_why(
    first: Callable[[], str], check: Callable[[], tuple[int, str]], online_passphrase: Path
) -> None:
    online_passphrase.write_text("another passphrase", encoding="utf-8")
    log = first()
    assert "ERROR deploy.docker.refresh: not refreshed, tries again every 15 minutes: " in log
    code, told = check()
    assert code == 1
    assert "does not open; the passphrase of the online keys is wrong" in told
    assert told in log
    assert "another passphrase" not in log + told


def test_refresh_without_a_repository_goes_on_and_says_what_to_do(
    first: Callable[[], str], check: Callable[[], tuple[int, str]], releases: Path
) -> None:
    releases.rename(releases.with_name("elsewhere"))
    assert "make one with `sottovoce-release init`" in first()
    assert check()[0] == 1


def test_refresh_health_tells_what_somebody_must_do_soon(
    first: Callable[[], str], check: Callable[[], tuple[int, str]], releases: Path
) -> None:
    first()
    settings = releases / "settings.toml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace("online_days = 14", "online_days = 36"), "utf-8")  # of which 14 are less than 0.4
    code, told = check()
    assert code == 1
    assert told.count("\n") == 1
    for role in ("snapshot", "timestamp", "rollout"):
        assert f"{role} expires in 14 days; run `sottovoce-release refresh`" in told


def test_refresh_health_finds_offline_keys(releases: Path, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(Last(problem=None)))
    assert problem_of(releases, tmp_path / "state.json") is None
    (tmp_path / "offline").rename(releases / "keys" / "offline")
    problem = problem_of(releases, tmp_path / "state.json")
    assert problem == f"offline keys are in {releases / 'keys' / 'offline'}; move them to a medium that you put away"


def test_refresh_is_daily_and_sooner_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    problems = [None, "no way", "no way", "no key", None, None]
    noted: list[Last] = []
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) == len(problems)

    with caplog.at_level("INFO", "deploy.docker.refresh"):
        keep(iter(problems).__next__, wait, noted.append)
    assert [last.problem for last in noted] == problems
    assert waited == [DAY_S, AGAIN_S, AGAIN_S, AGAIN_S, DAY_S, DAY_S]
    assert caplog.messages == [
        "refreshed",
        "not refreshed, tries again every 15 minutes: no way",
        "not refreshed, tries again every 15 minutes: no key",
        "refreshed, after 3 failures",
        "refreshed",
    ]

"""`sottovoce-fleet`, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.contract.errors import SettingsError
from broker.local import free_port
from deploy.fleet.address import identity_there, settings_of
from deploy.fleet.outcome import Outcome, broken_promise
from edge_node.simulate.fleet import names
from edge_node.simulate.work import Behaviour

ROOT = Path(__file__).parents[3]
FIELDS = {
    "nodes", "reachable", "tried", "rolled_back", "stuck", "without_model", "active_new", "active_old", "rejected",
    "seconds_to_last_node", "bytes_per_node", "broker_cpu_s", "broker_rss_mb", "messages_per_s", "seed", "release",
    "phases", "aborted", "machine", "late_p95_ms", "longest_busy_s", "options",
}  # fmt: skip


def fleet(*arguments: object, wait_s: float = 60, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.fleet", *map(str, arguments)],
        env=os.environ | environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=wait_s,
        check=False,
    )


def assert_one_line(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), done.stderr
    assert lines[0].startswith("sottovoce-fleet: error: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture
def open_broker(tmp_path: Path, stage: object) -> Iterator[str]:  # the stage knows what to do without Mosquitto
    """The URL of a Mosquitto that lets everybody do everything."""
    assert stage
    port = free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    process = subprocess.Popen(["mosquitto", "-c", configuration], env=environment, stderr=subprocess.DEVNULL)
    yield f"mqtt://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module", autouse=True)
def slow_release(stage: object) -> Iterator["subprocess.Popen[str]"]:
    """A rehearsal that runs while the other tests do; the last of them reads what it said."""
    assert stage
    arguments = (
        "simulate", "--nodes", "20", "--release", "slow", "--json", "--seed", "7", "--percent", "60,100",
        "--spread", "0s", "--min-nodes", "3", "--churn", "0", "--trial-windows", "2",
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.fleet", *arguments],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process
        process.terminate()


def test_simulate_on_a_broker_that_is_there_leaves_nothing_behind(open_broker: str) -> None:
    retained = ["mosquitto_sub", "-V", "5", "-p", open_broker.rpartition(":")[2], "-t", "#", "-W", "1", "-v"]
    during: list[str] = []
    arguments = ["simulate", "--nodes", "8", "--seconds", "4", "--json", "--churn", "0", "--broker", open_broker]
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.fleet", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None:
            during += subprocess.run(retained, capture_output=True, text=True, check=False).stdout.splitlines()
        assert process.stdout is not None
        outcome = json.loads(process.stdout.read())
    said = {line.partition(" ")[0] for line in during if line.partition(" ")[2]}
    assert {f"sottovoce/v1/node/{node}/status" for node in names(8)} <= said
    assert process.returncode == 0
    assert (outcome["reachable"], outcome["identity"], outcome["broker_cpu_s"]) == (8, None, None)
    after = subprocess.run(retained, capture_output=True, text=True, check=False)
    assert after.stdout == ""


def test_simulate_of_more_nodes_than_files_may_be_open_is_refused() -> None:
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 200; exec {sys.executable} -m deploy.fleet simulate --nodes 150"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_one_line(done, 2, "--nodes 150", "200 files", "ulimit -Hn")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://broker.lan:1883", "mqtts:// encrypts"),
        ("mqtts://broker.lan", "--i-own-this-broker"),
        ("mqtts://me:secret@broker.lan", "SOTTOVOCE_BROKER_PASSWORD"),
        ("http://127.0.0.1:1883", "is neither"),
        ("mqtt://127.0.0.1:99999", "out of range"),
        ("127.0.0.1:1883", "is neither"),
        ("mqtt://127.0.0.1/a/path", "is neither"),
    ],
)
def test_simulate_on_a_broker_that_may_not_be_loaded_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_of(url, None, is_owned=False)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_simulate_on_a_broker_that_one_owns_asks_for_its_password_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_of("mqtts://tester@broker.lan:8884", Path("ca.crt"), is_owned=True)
    assert (settings.host, settings.port, settings.tls, settings.username) == ("broker.lan", 8884, True, "tester")
    (node,) = names(1)
    monkeypatch.delenv("SOTTOVOCE_BROKER_PASSWORD", raising=False)
    assert identity_there(settings_of("mqtt://localhost", None, is_owned=False))(node).username is None
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", "secret")
    assert identity_there(settings)(node).username == "tester"
    assert identity_there(settings_of("mqtt://localhost", None, is_owned=False))(node).username == str(node)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repository", "releases"), ("--repository goes with --broker",)),
        (("--broker", "mqtt://127.0.0.1:1", "--release", "corrupt"), ("--release corrupt needs",)),
        (
            ("--broker", "mqtt://127.0.0.1:1", "--repository", "/nonexistent"),
            ("/nonexistent", "sottovoce-release init"),
        ),
        (("--costs", "/nonexistent"), ("/nonexistent", "measure --out")),
    ],
)
def test_simulate_with_arguments_that_do_not_go_together_says_so(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_one_line(fleet("simulate", "--nodes", 5, *arguments), 2, *words)


def test_simulate_interrupted_ends_every_process(tmp_path: Path, stage: object) -> None:
    assert stage
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.fleet", "simulate", "--nodes", "10", "--spread", "30s"],
        env=os.environ | {"TMPDIR": str(tmp_path)},  # every program's command line names a file in it
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not any("rollout" in line for line in _naming(tmp_path)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)  # between two looks at the table of processes
    assert len(_naming(tmp_path)) == 3  # broker, collector, controller
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert _naming(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_simulate_prints_one_line_of_json_and_its_progress_elsewhere(slow_release: "subprocess.Popen[str]") -> None:
    out, progress = slow_release.communicate(timeout=60)
    assert slow_release.returncode == 0, progress
    assert out.count("\n") == 1
    outcome: dict[str, Any] = json.loads(out)
    assert outcome.keys() >= FIELDS
    assert (outcome["nodes"], outcome["reachable"], outcome["active_old"]) == (20, 20, 20)
    assert (outcome["tried"], outcome["active_new"], outcome["stuck"], outcome["without_model"]) == (0, 0, 0, 0)
    assert outcome["rejected"] >= 3
    assert all(reason.startswith("latency: one window takes ") for reason in outcome["reasons"])
    assert outcome["aborted"]
    assert outcome["phases"][-1]["aborted"]
    # the nodes fetched the bundle, and the broker's process and sockets were measured
    assert outcome["bytes_per_node"]["down"] > 0.3 * 361_000
    assert outcome["broker_cpu_s"] > 0
    assert outcome["broker_rss_mb"] > 0
    assert outcome["collector"]["dead_letters"] == outcome["collector"]["lost"] == 0
    assert "phases 60,100 %" in progress
    assert "20 of 20 connected" in progress


def _outcome(**changes: Any) -> Outcome:
    """Return that of a bad release that was stopped in its first phase; with some of its figures changed."""
    phase = {"at_s": 1.0, "paused": False, "reason": ""}
    figures = {
        "nodes": 100, "reachable": 95, "tried": 3, "rolled_back": 3, "stuck": 0, "without_model": 0, "active_new": 0,
        "active_old": 95, "rejected": 3, "reasons": {}, "aborted": True, "seconds_to_last_node": 9.0, "seconds": 60.0,
        "release": "bad", "identity": "made/1", "seed": 1, "options": {}, "messages_per_s": 1.0, "pubacks": {},
        "phases": [
            phase | {"percent": 0, "asked": 0, "aborted": False}, phase | {"percent": 3, "asked": 3, "aborted": False},
            phase | {"percent": 3, "asked": 3, "aborted": True},
        ],
        "bytes_per_node": {"down": 1, "up": 1}, "connection_problems": {}, "verified": 1, "collector": None,
        "broker": "", "broker_cpu_s": None, "broker_rss_mb": None, "simulator_cpu_s": 1.0, "late_p95_ms": 1.0,
        "late_p99_ms": 1.0, "longest_busy_s": 1.0, "machine": "",
    }  # fmt: skip
    return msgspec.convert(figures | changes, Outcome)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (Behaviour.BAD, {}, None),
        (Behaviour.BAD, {"tried": 4}, "4 nodes have tried the release, at most 3 were to"),
        (Behaviour.BAD, {"aborted": False}, "was not aborted"),
        (Behaviour.BAD, {"active_new": 1}, "1 nodes still run"),
        (Behaviour.BAD, {"stuck": 2}, "2 are stuck"),
        (Behaviour.BAD, {"without_model": 1}, "1 nodes have no model"),
        (Behaviour.BAD, {"reachable": 0}, "no node is connected"),
        (Behaviour.SLOW, {"tried": 0}, None),
        (Behaviour.SLOW, {"tried": 1}, "at most 0 were to"),
        (Behaviour.CORRUPT, {"tried": 1}, "at most 0 were to"),
        (Behaviour.GOOD, {"active_new": 95}, None),
        (Behaviour.GOOD, {"active_new": 94}, "94 of 95 reachable nodes"),
        (Behaviour.GOOD, {"identity": None}, None),
    ],
)
def test_promise_of_a_release_is_judged_by_the_figures(
    kind: Behaviour, changes: dict[str, Any], words: str | None
) -> None:
    broken = broken_promise(kind, _outcome(**changes))
    assert broken is None if words is None else words in str(broken)


def _naming(folder: Path) -> list[str]:
    """Return the command lines of the running programs that name a folder."""
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended while we looked
            continue
        if str(folder) in line:
            lines.append(line)
    return lines

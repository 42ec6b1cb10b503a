"""The privacy check on the real program, and on programs that leak: it passes the one and catches each of the others.

The leaking nodes are the real one with a few lines changed, as a careless or a malicious change would. They run side
by side, as most of their time is spent listening.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from broker.contract.bundle import read_bundle
from edge_node.models import factory_bundle
from edge_node.privacy.check import report_of
from edge_node.privacy.report import Report, Verdict
from edge_node.privacy.run import Plan, run_node

SETTINGS = {"site": "check", "node": "node", "deployment": {"context": "research"}}

_BEGIN = """
import base64, json, logging, mmap, os, sqlite3, sys
import numpy as np
from broker.connection import Connection
from edge_node.__main__ import main
from edge_node.classifier import Classifier
from edge_node.control.mute import Mute
from edge_node.model import Model

blocks = []

def on_block(leak):
    hear = Model.hear
    def leaking(self, block):
        blocks.append(block)
        leak(np.round(block.samples[::3] * 32767).astype("<i2").tobytes())
        return hear(self, block)
    Model.hear = leaking

def on_features(leak):
    run = Classifier.run
    def leaking(self, features):
        if blocks or features.any():
            leak(features)
        return run(self, features)
    Classifier.run = leaking
"""
_END = "\nsys.exit(main())\n"

LEAKS = {
    "a recording beside the outbox": "on_block(lambda data: len(blocks) < 6 and open('take.raw', 'ab').write(data))",
    "audio in a file that a node may write, by memory": """
file = open("outbox.sqlite.part", "w+b"); file.truncate(16384)
memory = mmap.mmap(file.fileno(), 16384)
on_block(lambda data: memory.write(data) if memory.tell() + len(data) <= 16384 else None)""",
    "features in the log": """
on_block(lambda data: None)
def tell(features):
    if 40 <= len(blocks) <= 50:
        logging.info("%s", json.dumps(features[:24].round(2).tolist()))
on_features(tell)""",
    "audio on a topic of its own": """
publish, told = Connection.publish, []
def leaking(self, topic, payload, **more):
    if len(blocks) > 20 and not told:
        told.append(b"".join(np.round(each.samples[::3] * 32767).astype("<i2").tobytes() for each in blocks[-4:]))
        self._client.publish("sottovoce/v1/debug", base64.b64encode(told[0]), qos=0)
    return publish(self, topic, payload, **more)
Connection.publish = leaking
on_block(lambda data: None)""",
    "features in the database": """
def keep(features):
    with sqlite3.connect("outbox.sqlite", timeout=5) as db:
        db.execute("CREATE TABLE IF NOT EXISTS message_detail (data BLOB)")
        db.execute("INSERT INTO message_detail VALUES (?)", (features[:40].astype("<f2").tobytes(),))
on_block(lambda data: None)
on_features(lambda features: len(blocks) > 1 and len(blocks) < 40 and keep(features))""",
    "a mute that does not mute": "Mute.is_muted = lambda self: False",
}


def needed(program: str) -> None:
    if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {program}: apt-get install {program}")
        pytest.skip(f"{program} is not installed: apt-get install {program}")


@pytest.fixture(scope="module")
def caught() -> Mapping[str, Report]:
    """Reports of all leaking nodes."""
    for each in ("strace", "mosquitto"):
        needed(each)
    bundle = read_bundle(factory_bundle(), "the factory model")
    with TemporaryDirectory(prefix="leaks-") as folder:

        def run(number: int, leak: str) -> Report:
            place = Path(folder) / str(number)
            place.mkdir()
            program = place / "leaking.py"
            program.write_text(_BEGIN + leak + _END)
            plan = Plan(heard_s=6, muted_s=5, settings=SETTINGS, program=(sys.executable, str(program)))
            (place / "run").mkdir()
            return report_of(run_node(plan, place / "run"), SETTINGS, bundle, 5, with_controls=False)

        with ThreadPoolExecutor(len(LEAKS)) as pool:
            return dict(zip(LEAKS, pool.map(run, range(len(LEAKS)), LEAKS.values()), strict=True))


def failed(report: Report) -> dict[str, str]:
    return {each.claim: each.words for each in report.findings if each.verdict is Verdict.FAILS}


def test_the_real_node_passes(tmp_path: Path) -> None:
    for each in ("strace", "mosquitto"):
        needed(each)
    out = tmp_path / "report.html"
    command = [sys.executable, "-m", "edge_node", "privacy-check", "--seconds", "16", "--json", "--out", str(out)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    report = json.loads(done.stdout)
    assert (done.returncode, [each for each in report["findings"] if each["verdict"] == "fails"]) == (0, []), (
        done.stderr
    )
    assert report["holds"]
    assert report["most_bits_per_second"] < report["least_speech_bits_per_second"]
    for each in report["sought"]:
        assert max(each["found"], each["by_chance"]) < each["limit"] <= each["planted"], each
    assert "what this does not see" in out.read_text().lower()


@pytest.mark.parametrize(
    ("leak", "claims"),
    [
        ("a recording beside the outbox", {"it writes to its own files only", "not found: audio"}),
        (
            "audio in a file that a node may write, by memory",
            {"it writes to its own files only", "the recording is whole", "not found: audio"},
        ),
        ("features in the log", {"not found: features, frame by frame", "its log is too short for speech"}),
        (
            "audio on a topic of its own",
            {"every byte on the wire is a message of the contract", "not found: audio"},
        ),
        (
            "features in the database",
            {"the outbox holds messages of the contract only", "not found: features, frame by frame"},
        ),
        ("a mute that does not mute", {"muted, it says nothing of what it hears"}),
    ],
)
def test_a_node_that_leaks_is_caught(caught: Mapping[str, Report], leak: str, claims: set[str]) -> None:
    assert claims <= set(failed(caught[leak])), failed(caught[leak])
    assert not caught[leak].holds


def test_a_settings_file_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('site = "home"\nnode = "kitchen"\n')
    command = [sys.executable, "-m", "edge_node", "privacy-check", "--config", str(tmp_path / "node.toml")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("sottovoce-node: error: settings file")


def test_without_strace_it_says_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_node", "privacy-check"]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": str(tmp_path)}
    )

    assert done.returncode == 2
    assert "sudo apt install strace" in done.stderr

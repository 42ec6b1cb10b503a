"""What the privacy check's tests share: a signal's secrets, and programs under strace."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.contract.bundle import Bundle
from edge_node.privacy.deeds import Deeds, deeds_of
from edge_node.privacy.known import Secrets, secrets_of
from edge_node.privacy.sound import known_signal
from edge_node.privacy.trace import command, read_calls


@pytest.fixture(scope="session")
def secrets(factory: Bundle) -> Secrets:
    return secrets_of(known_signal(9), factory)


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[str], Deeds]:
    """Run a Python program in a folder of its own, and return what it did."""
    if (strace := shutil.which("strace")) is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs strace: apt-get install strace")
        pytest.skip("strace is not installed: apt-get install strace")

    def run(program: str) -> Deeds:
        notes = tmp_path / "notes"
        (tmp_path / "folder").mkdir()
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        whole = command(strace, notes, [sys.executable, "-c", program])
        subprocess.run(whole, cwd=tmp_path / "folder", env=environment, check=True, timeout=60)
        with notes.open() as lines:
            return deeds_of(read_calls(lines))

    return run

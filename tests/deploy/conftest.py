"""A repository of releases with its online keys, made by the program itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE, ONLINE = "correct horse battery", "staple of every day"


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    subprocess.run(
        [
            *(sys.executable, "-m", "training.release", "init", "--repository", folder / "releases"),
            *("--offline-keys", folder / "offline"),
            *("--offline-passphrase-env", "OFFLINE_WORD", "--online-passphrase-env", "ONLINE_WORD"),
        ],
        cwd=ROOT,
        env=os.environ | {"OFFLINE_WORD": OFFLINE, "ONLINE_WORD": ONLINE},
        capture_output=True,
        check=True,
    )
    return folder


@pytest.fixture
def releases(_made_once: Path, tmp_path: Path) -> Path:
    """Return a repository as it is on a machine that refreshes: its offline keys are in `offline`, beside it."""
    shutil.copytree(_made_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "releases"


@pytest.fixture
def online_passphrase(tmp_path: Path) -> Path:
    """Return a file that holds the passphrase of the online keys."""
    path = tmp_path / "online-passphrase"
    path.write_text(f"{ONLINE}\n", encoding="utf-8")
    return path

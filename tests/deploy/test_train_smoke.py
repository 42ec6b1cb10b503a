import tempfile
from pathlib import Path

import pytest

from deploy.ci.train_smoke import main

PREPARE = "sottovoce-train prepare --data corpora --out prepared"


def test_smoke_run_that_succeeds_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main([], [PREPARE]) == 0
    out = capfd.readouterr().out
    assert f"$ {PREPARE}\n" in out
    assert "decoded 117" in out
    assert "smoke run: 1 commands succeeded in " in out
    assert list(tmp_path.iterdir()) == []


def test_smoke_run_that_fails_names_the_command_and_keeps_what_was_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "sottovoce-train train --config smoke.toml --data nowhere --fold 0 --threads 0"
    assert main(["--keep", str(tmp_path / "kept")], [wrong, PREPARE]) == 1
    told = capfd.readouterr()
    assert told.err.splitlines()[0] == "sottovoce-train: error: --threads 0: allowed is 1 or more"
    assert told.err.splitlines()[-1].endswith(f": {wrong}: exit code 2")
    assert PREPARE not in told.out
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"corpora", "smoke.toml", "space.toml"}


def test_smoke_run_without_the_programs_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--keep", str(tmp_path)], ["sottovoce-nothing"]) == 1
    assert "sottovoce-nothing: not in " in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []

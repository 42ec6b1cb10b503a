import subprocess
import sys

import numpy as np
import pytest

from training.exam.metrics import score_clips
from training.terminal import add_scores, open_console, score_grid


class Spoken:
    def __init__(self, corpus: str) -> None:
        self.corpus = corpus


def _printed(capsys: pytest.CaptureFixture[str], *corpora: str) -> list[list[str]]:
    truth, decided = np.arange(len(corpora)) % 3, np.zeros(len(corpora), dtype=np.int64)
    table = score_grid("test")
    add_scores(table, "fold 0", score_clips(truth, decided, [Spoken(corpus) for corpus in corpora]))
    open_console().print(table)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_score_table_names_a_corpus_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _printed(capsys, "office", "ravdess", "office")
    assert [row[2] for row in rows[2:]] == ["RAVDESS", "office", "pooled", "corpus-macro"]
    assert rows[3][3:] == ["2", "50.0", "50.0", "33.3", "100.0", "-", "0.0"]
    assert rows[5][3:] == ["25.0"]  # the mean of 0 and 50


def test_score_table_of_one_corpus_takes_nothing_together(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _printed(capsys, "savee", "savee", "savee")
    assert rows[0] == [
        "test",
        "corpus",
        "clips",
        "accuracy",
        "UAR",
        "macro-F1",
        "recall",
        "pleasant",
        "neutral",
        "unpleasant",
    ]
    assert [row[2] for row in rows[2:]] == ["SAVEE"]


def test_commands_are_known_before_tensorflow_or_litert_is_loaded() -> None:
    """Help is quick, and `baseline` runs where neither is installed."""
    code = (
        "import sys, training.__main__, training.baseline.command\n"
        "print({'tensorflow', 'ai_edge_litert', 'matplotlib', 'optuna'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"

"""What a training run leaves behind, as structs: one per fold, and their summary.

run/
    results.json        Run: the experiment, every fold, and the folds' test sides taken as one
    fold-<k>/           model.tflite, reference.tflite, curves.png, confusion.png
"""

from pathlib import Path
from typing import Final

import msgspec

from broker.contract.decision import DecisionSpec
from broker.contract.errors import DataError
from broker.contract.features import Normalisation
from training.config import Experiment
from training.evaluate import Figures
from training.metrics import Scores, corpus_macro_uar, merge

__all__ = ["RESULTS_NAME", "Epoch", "FoldResult", "Machine", "Run", "fold_folder", "read_run", "summarise"]

RESULTS_NAME: Final = "results.json"


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the learning curves."""

    loss: float
    """Mean training loss."""
    accuracy: float
    """Share of training windows told rightly, as they were drawn."""
    validation_uar: float
    """Corpus-macro UAR of the validation clips."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were measured."""

    processor: str
    cores: int
    python: str
    tensorflow: str
    litert: str


class FoldResult(msgspec.Struct, frozen=True, kw_only=True):
    """One training run and its exam."""

    fold: int | None
    """Index of the tested fold; None: by clip."""
    split: str
    training_speakers: tuple[str, ...]
    validation_speakers: tuple[str, ...]
    test_speakers: tuple[str, ...]
    training_clips: dict[str, int]
    """Per corpus."""
    epochs: tuple[Epoch, ...]
    best_epoch: int
    parameters: int
    float_bytes: int
    quantized_bytes: int
    normalisation: Normalisation
    bias: tuple[float, ...]
    """Added to the classes' logits, in the order of `CLASSES`; folded into the last layer."""
    decision: DecisionSpec
    validation: Figures
    """Quantized."""
    test: dict[str, Figures]
    """`float` and `quantized`, by the node's path."""
    test_cropped: Figures | None
    """Float, on the paper's one crop per clip instead of the node's windows; None for other experiments."""
    same_windows: float
    """Share of the test windows with the same decision by both models."""
    seconds: float
    """Wall time of the fold, features included."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """All folds of an experiment."""

    experiment: str
    created: str
    """Date, ISO 8601."""
    settings: Experiment
    machine: Machine
    folds: tuple[FoldResult, ...]
    pooled: dict[str, Scores]
    """Quantized, the folds' test sides taken as one, per corpus; every test clip counts once."""
    macro_uar: float
    """Unweighted mean of the corpora's UAR in `pooled`."""


def summarise(folds: tuple[FoldResult, ...]) -> tuple[dict[str, Scores], float]:
    """Return the scores per corpus over all folds' test clips, and their corpus-macro UAR."""
    corpora = list(dict.fromkeys(corpus for fold in folds for corpus in fold.test["quantized"].corpora))
    pooled = {
        corpus: merge(
            fold.test["quantized"].corpora[corpus] for fold in folds if corpus in fold.test["quantized"].corpora
        )
        for corpus in corpora
    }
    return pooled, corpus_macro_uar(pooled)


def fold_folder(run: Path, fold: int | None) -> Path:
    """Return where a fold's files lie."""
    return run / ("by-clip" if fold is None else f"fold-{fold}")


def read_run(folder: Path) -> Run:
    """Return what `train` wrote.

    Raises:
        DataError: the folder holds no finished run.
    """
    path = folder / RESULTS_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: no results of a training run ({error}); run `sottovoce-train train` first"
        raise DataError(msg) from error

"""What a training run leaves behind, as structs: one per fold and seed, and their summary.

run/
    results.json            Run: the experiment, and every fold and seed
    fold-<k>/seed-<n>/      model.tflite, reference.tflite, network.keras, predictions.jsonl, curves.png, confusion.png
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.bundle import Training
from broker.contract.decision import DecisionSpec
from broker.contract.errors import DataError
from broker.contract.features import Normalisation
from training.config import Experiment
from training.exam.evaluate import Figures, Group

__all__ = [
    "RESULTS_NAME",
    "Energy",
    "Epoch",
    "FoldResult",
    "Machine",
    "Run",
    "fold_folder",
    "read_run",
    "this_machine",
]

RESULTS_NAME: Final = "results.json"


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the learning curves."""

    loss: float
    """Mean training loss."""
    accuracy: float
    """Share of training windows told rightly, as they were drawn."""
    validation_uar: float | None
    """Corpus-macro UAR of the validation clips; None: they were trained on."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were measured."""

    processor: str
    """Its model where the system tells it, else its architecture."""
    cores: int
    """Logical ones."""
    python: str
    """Version; so are the next two."""
    tensorflow: str
    litert: str


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took from the grid, as codecarbon estimates it."""

    kilowatt_hours: float
    """Of this process, memory included; where the system shows no power counters, an estimate from the processor's
    rated power and its load."""
    co2_kg: float
    """CO2 equivalents, by the country's mix of sources."""
    country: str
    """ISO 3166 alpha-3, or `world`: the world's average where none was named."""
    seconds: float
    """Wall time that was measured."""


class FoldResult(msgspec.Struct, frozen=True, kw_only=True):
    """One training run and its exam."""

    fold: int | None
    """Index of the test side; None: there is but one, or none."""
    seed: int
    """Of the weights and the draws."""
    origin: Training
    """Who trained, who chose, who was tested, by which split."""
    training_clips: dict[str, int]
    """Per corpus."""
    epochs: tuple[Epoch, ...]
    """Those that chose the settings, before a refit; so is the next."""
    best_epoch: int
    """From 0: the one whose weights were kept."""
    parameters: int
    """Trained numbers of the network."""
    float_bytes: int
    """Size of reference.tflite."""
    quantized_bytes: int
    """Size of model.tflite."""
    normalisation: Normalisation
    """Of the clips that the weights were fitted to."""
    temperature: float
    """Divided the logits; folded into the last layer."""
    bias: tuple[float, ...]
    """Added to the classes' logits, in the order of `CLASSES`; folded into the last layer."""
    decision: DecisionSpec
    prior: tuple[float, float, float] | None = None
    """Share of each class among the windows that the weights were fitted to, as they were drawn; None: results older
    than this field."""
    validation: Figures
    """Quantized; of the weights that chose the settings, before a refit."""
    test: Group | None
    """Both models on the test side, as `evaluate` tells it; None where nobody is tested."""
    cross_corpus: Group | None
    """Likewise on the clips of corpora that never train; None: there are none."""
    test_cropped: Figures | None
    """Float, on the paper's one crop per clip instead of the node's windows; None for other experiments."""
    seconds: float
    """Wall time of the fold, features included."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """All folds of an experiment, with each seed."""

    experiment: str
    """Its name."""
    created: str
    """Date, ISO 8601."""
    settings: Experiment
    machine: Machine
    """Where `train` last ran."""
    folds: tuple[FoldResult, ...]
    """In order of fold and seed."""
    energy: Energy | None
    """Of all that is in here; None: not measured."""


def this_machine() -> Machine:
    """Return what this process runs on."""
    facts = Path("/proc/cpuinfo")  # Linux has it
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(
        processor=names[0] if names else platform.machine(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        litert=version("ai-edge-litert"),
    )


def fold_folder(run: Path, fold: int | None, seed: int) -> Path:
    """Return where the files of a fold and seed lie."""
    return run / ("only" if fold is None else f"fold-{fold}") / f"seed-{seed}"


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

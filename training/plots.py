"""Pictures of a run: learning curves and confusion matrices."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from broker.contract.decision import CLASSES
from training.corpora import CORPORA
from training.evaluate import Evaluation, Figures
from training.metrics import Scores
from training.results import FoldResult

__all__ = ["plot_confusion", "plot_curves", "plot_evaluation"]

_BLUE: Final = "#2b6cb0"
_RED: Final = "#c05621"
_GREY: Final = "#718096"
_DARK: Final = 0.55
"""Share above which a cell needs white text."""
_TITLES: Final[dict[str, str]] = {corpus.key: corpus.title for corpus in CORPORA}


def plot_curves(result: FoldResult, path: Path) -> None:
    """Write loss and validation UAR per epoch as a PNG."""
    epochs = np.arange(1, len(result.epochs) + 1)
    best = result.best_epoch + 1
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [epoch.loss for epoch in result.epochs], color=_BLUE, marker=".")
    left.set(title="Training loss", xlabel="epoch", ylabel="cross-entropy")
    for curve, colour, label in (
        ([epoch.validation_uar for epoch in result.epochs], _RED, "validation UAR"),
        ([epoch.accuracy for epoch in result.epochs], _BLUE, "training accuracy, as drawn"),
    ):
        right.plot(epochs, curve, color=colour, marker=".", label=label)
    right.axhline(1 / len(CLASSES), color=_GREY, linestyle=":", label="chance UAR")
    right.axvline(best, color=_GREY, linewidth=0.8, label=f"kept: epoch {best}")
    right.set(title="Accuracy and validation UAR", xlabel="epoch", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.legend(fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(f"Split {result.split}", fontsize=10)
    figure.savefig(path, format="png")


def plot_confusion(figures: Figures, title: str, path: Path) -> None:
    """Write the confusion matrices of one model, one per corpus, as a PNG."""
    _matrices([(_TITLES[corpus], scores) for corpus, scores in figures.corpora.items()], title, path)


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the quantized model's confusion matrices, one per group and corpus, as a PNG."""
    panels = [
        (f"{_TITLES[corpus]}, {group.standing}{' (optimistic)' if group.is_seen else ''}", scores)
        for group in evaluation.groups
        for corpus, scores in group.models["quantized"].corpora.items()
    ]
    _matrices(panels, f"{evaluation.bundle}, quantized", path)


def _matrices(panels: list[tuple[str, Scores]], title: str, path: Path) -> None:
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(max(4.2, 3.1 * columns), 3.5 * rows + 0.4)
    names = [str(label) for label in CLASSES]
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, [*panels, *[None] * 4], strict=False):
        if panel is None:
            axes.set_visible(False)
            continue
        name, scores = panel
        counts = np.array(scores.confusion)
        present = counts.sum(axis=1) + scores.unheard
        share = counts / np.maximum(present[:, None], 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(counts.shape):
            axes.text(
                column,
                row,
                f"{share[row, column]:.0%}\n{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] > _DARK else "black",
            )
        axes.set_title(f"{name}\nUAR {scores.uar:.1%}, {scores.clips:,} clips", fontsize=9)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        rows_named = [
            f"{each}\n({lost} silent)" if lost else each for each, lost in zip(names, scores.unheard, strict=True)
        ]
        axes.set_yticks(range(len(names)), rows_named, fontsize=8, rotation=90, va="center", ha="center")
        axes.tick_params(axis="y", pad=12)
        axes.set_xlabel("decided", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="png")


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=110, layout="constrained")

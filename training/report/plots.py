"""Learning curves and confusion matrices: the pictures that `train` and `evaluate` write, and that a report shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from broker.contract.decision import CLASSES
from training.data.corpora import title_of
from training.exam.evaluate import Evaluation, Figures
from training.exam.metrics import Scores
from training.fitting.results import FoldResult
from training.report.canvas import CHANCE_UAR, GREY, INK, bare, colour, figure, save

__all__ = ["Panel", "draw_confusion", "draw_curves", "plot_confusion", "plot_curves", "plot_evaluation"]

_DARK: Final = 0.55
"""Share above which a cell needs white text."""
_COLUMNS: Final = 3
"""Matrices side by side."""


class Panel(NamedTuple):
    """One confusion matrix."""

    title: str
    scores: Scores
    repeats: int = 1
    """How often each clip counts in the scores; the counts shown are per repeat."""


def plot_curves(result: FoldResult, path: Path) -> None:
    """Write loss and validation UAR per epoch as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    save(lambda: draw_curves([result], f"{result.origin.split}, seed {result.seed}"), path)


def plot_confusion(figures: Figures, title: str, path: Path) -> None:
    """Write the confusion matrices of one model, one per corpus, as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    panels = [Panel(title_of(corpus), scores) for corpus, scores in figures.corpora.items()]
    save(lambda: draw_confusion(panels, title), path)


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the quantized model's confusion matrices, one per group and corpus, as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    panels = [
        Panel(f"{title_of(corpus)}, {group.standing}{' (optimistic)' if group.is_seen else ''}", scores)
        for group in evaluation.groups
        for corpus, scores in group.models["quantized"].corpora.items()
    ]
    save(lambda: draw_confusion(panels, f"{evaluation.bundle}, quantized"), path)


def draw_curves(results: Sequence[FoldResult], title: str) -> Figure:
    """Return training loss and validation UAR per epoch, a line per fold and seed, a colour per fold."""
    drawn = figure(3.2)
    left, right = drawn.subplots(1, 2)
    folds = list(dict.fromkeys(item.fold for item in results))
    named: set[int | None] = set()
    for item in results:
        epochs = np.arange(1, len(item.epochs) + 1)
        look = {"color": colour(folds.index(item.fold)), "linewidth": 1.2, "alpha": 0.9}
        left.plot(epochs, [epoch.loss for epoch in item.epochs], **look)
        scores = _validation(item)
        if np.isfinite(scores).any():
            named_here = "validation" if len(results) == 1 else f"fold {item.fold}"
            first = item.fold not in named
            right.plot(epochs, scores, label=named_here if first else None, **look)
            named.add(item.fold)
            best = item.best_epoch
            right.plot(best + 1, scores[best], "o", markersize=4, color=look["color"])
    accuracy = _mean([[epoch.accuracy for epoch in item.epochs] for item in results])
    mean = "training accuracy" if len(results) == 1 else "training accuracy, mean"
    right.plot(np.arange(1, len(accuracy) + 1), accuracy, "--", color=GREY, linewidth=1, label=mean)
    right.axhline(CHANCE_UAR, color=GREY, linestyle=":", linewidth=1, label="chance UAR")
    left.set(title="Training loss", xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    right.set(title="Validation UAR" if named else "Accuracy", xlabel="epoch", ylim=(0.2, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = right.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower left", ncols=min(len(labels), 3))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    drawn.suptitle(title)
    return drawn


def draw_confusion(panels: Sequence[Panel], title: str) -> Figure:
    """Return confusion matrices, rows: truth, columns: decision; each row's shares sum to one."""
    columns = len(panels) if len(panels) <= _COLUMNS else next(n for n in (3, 2) if len(panels) % n == 0 or n == 2)  # noqa: PLR2004 -- even rows if possible
    rows = -(-len(panels) // columns)
    drawn = figure((2.75 if columns < _COLUMNS else 2.35) * rows + 0.35)
    grid = drawn.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        name, scores, repeats = panels[place]
        _matrix(axes, scores, repeats)
        axes.set_title(f"{name}\nUAR {scores.uar:.1%}, {scores.clips // repeats:,} clips", fontsize=8.5)
        if place % columns == 0:
            axes.set_ylabel("true")
        axes.set_xlabel("decided")
    drawn.suptitle(title)
    return drawn


def _matrix(axes: Axes, scores: Scores, repeats: int) -> None:
    counts = np.array(scores.confusion)
    present = counts.sum(axis=1) + scores.unheard
    share = counts / np.maximum(present[:, None], 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        text = f"{share[row, column]:.0%}\n{counts[row, column] / repeats:,.0f}"
        ink = "white" if share[row, column] > _DARK else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    names = [str(label) for label in CLASSES]
    lost = [f"{name}\n({gone} unheard)" if gone else name for name, gone in zip(names, scores.unheard, strict=True)]
    axes.set_xticks(range(len(names)), names, fontsize=6.8)
    axes.set_yticks(range(len(names)), lost, fontsize=6.8, rotation=90, va="center")
    bare(axes)


def _validation(item: FoldResult) -> npt.NDArray[np.float64]:
    return np.array([np.nan if epoch.validation_uar is None else epoch.validation_uar for epoch in item.epochs])


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of curves of different lengths, at each place over those that reach it."""
    longest = max(len(curve) for curve in curves)
    return [float(np.mean([curve[place] for curve in curves if len(curve) > place])) for place in range(longest)]

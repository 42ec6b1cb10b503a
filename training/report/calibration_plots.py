"""Whether confidence can be believed, as pictures: reliability diagram and risk-coverage curve."""

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.exam.calibration import BINS, reliability, risk_coverage
from training.exam.predictions import Prediction, probabilities_of, truth_of
from training.report.canvas import GREY, colour, figure, fitting

__all__ = ["draw_calibration"]

_FEWEST: Final = 0.05
"""Share answered below which the curve shows single clips."""

Seeds = Mapping[int, Sequence[Prediction]]


def draw_calibration(runs: Sequence[tuple[str, Seeds]], title: str) -> Figure:
    """Return accuracy over confidence beside the error over the share of clips that are answered.

    Args:
        runs: what each is called, and what it said of each clip, per seed; all seeds are taken as one.
        title: of the picture.
    """
    drawn = figure(3.3)
    left, right = drawn.subplots(1, 2)
    for place, (name, seeds) in enumerate(runs):
        said = [item for items in seeds.values() for item in items]
        _reliability(left, said, colour(place), alone=len(runs) == 1)
        curve = risk_coverage(truth_of(said), probabilities_of(said))
        answered = curve.coverage >= _FEWEST
        right.plot(curve.coverage[answered], curve.risk[answered], color=colour(place), linewidth=1.5, label=name)
    left.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1)
    left.set(title="Reliability", xlabel="confidence", ylabel="share that is right", xlim=(1 / 3, 1), ylim=(0, 1))
    right.set(title="Error among the surest", xlabel="share answered", ylabel="share that is wrong")
    right.set(xlim=(0, 1), ylim=(0, None))
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(visible=True)
    if len(runs) > 1:
        drawn.legend(
            *right.get_legend_handles_labels(), loc="outside lower left", ncols=fitting([name for name, _ in runs])
        )
    drawn.suptitle(title)
    return drawn


def _reliability(axes: Axes, said: Sequence[Prediction], shade: str, *, alone: bool) -> None:
    """Draw accuracy per bin of confidence: bars and how many clips each holds, or one line among several."""
    bins = reliability(truth_of(said), probabilities_of(said))
    if not alone:
        axes.plot([item.confidence for item in bins], [item.accuracy for item in bins], "o-", markersize=3, color=shade)
        return
    middles = [(item.low + item.high) / 2 for item in bins]
    axes.bar(middles, [item.accuracy for item in bins], width=0.88 / BINS, color=shade)
    shares = [item.clips / len(said) for item in bins]
    axes.step(
        [bins[0].low, *(item.high for item in bins)], [shares[0], *shares], where="pre", color="black", linewidth=0.9
    )
    axes.plot([], [], color="black", linewidth=0.9, label="share of the clips")
    axes.legend(loc="upper left")

"""Whether confidence can be believed, as pictures: reliability diagram, risk-coverage curves, what a decision does."""

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.exam.calibration import BINS, reliability, risk_coverage
from training.exam.predictions import Prediction, probabilities_of, truth_of
from training.fitting.calibrate import GRID, Calibration, Part, Tried
from training.report.canvas import GREY, INK, colour, figure, fitting

__all__ = ["draw_calibration", "draw_decision"]

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


def draw_decision(calibration: Calibration, title: str) -> Figure:
    """Return the error over the share of windows that are answered, beside what the rules do to a live label.

    Args:
        calibration: the decision; its threshold is a dot on each curve.
        title: of the picture.
    """
    drawn = figure(3.5)
    left, right = drawn.subplots(1, 2, width_ratios=(1.25, 1))
    for place, (name, part) in enumerate(calibration.parts.items()):
        shade = colour(place)
        left.fill_between(
            GRID, [each.low for each in part.curve], [each.high for each in part.curve], color=shade, alpha=0.15
        )
        left.plot(GRID, [each.mean for each in part.curve], color=shade, linewidth=1.5, label=_named(name, part))
        left.plot(part.answered.mean, part.wrong.mean, "o", color=shade, markersize=6)
    left.set(title="Error among the surest windows", xlabel="share answered", ylabel="share that is wrong")
    left.set(xlim=(0, 1.02), ylim=(0, None))
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.grid(visible=True)
    left.plot([], [], "o", color=INK, markersize=6, label=f"threshold {calibration.decision.uncertain_below:g}")
    _flicker(right, calibration.parts)
    handles, labels = left.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower left", ncols=fitting(labels))
    drawn.suptitle(title)
    return drawn


def _named(name: Part, part: Tried) -> str:
    return f"{name}: AURC {100 * part.aurc.mean:.1f}"


def _flicker(axes: Axes, parts: Mapping[Part, Tried]) -> None:
    """Draw what happens in a minute of talk, if each window is decided by itself (grey) and by all rules."""
    told = parts.get("new") or next(iter(parts.values()))
    rates = {
        "label changes": (told.plain.changes, told.steady.changes),
        "right events": (told.plain.right_events, told.steady.right_events),
        "wrong events": (told.plain.wrong_events, told.steady.wrong_events),
    }
    for row, pair in enumerate(rates.values()):
        for nudge, rate, shade in ((-0.2, pair[0], GREY), (0.2, pair[1], colour(1))):
            axes.barh(row + nudge, rate, height=0.36, color=shade)
            axes.annotate(
                f"{rate:.1f}", (rate, row + nudge), (3, 0), textcoords="offset points", va="center", fontsize=7.5
            )
    axes.set_yticks(range(len(rates)), list(rates))
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.set_xlim(0, 1.18 * max(max(pair) for pair in rates.values()))
    axes.set(title="A minute of talk", xlabel="grey: each window by itself")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(visible=True, axis="x")


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

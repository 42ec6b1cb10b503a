"""Bars and curves of scores: per corpus, speaker, sex, emotion and noise, each with its spread over the seeds."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.data.corpora import Merge, title_of
from training.fitting.summary import Spread
from training.report.canvas import CHANCE_UAR, CLASS_COLOURS, GREY, colour, figure, fitting

__all__ = ["MOST_SPEAKERS", "draw_bars", "draw_groups", "draw_noise", "draw_speakers"]

MOST_SPEAKERS: Final = 40
"""Of more, the worst two thirds of that number and the best third are shown."""

_BAR_IN: Final = 0.2
"""Height of a bar."""
_EDGE_IN: Final = 0.9
"""Title and axis."""
_QUIET_DB: Final = 30
"""Where the quiet stands on the axis of noise levels."""

_APART_DB: Final = 0.25
"""Between two curves' points at one level, so that their spreads do not hide each other."""

Bars = Mapping[str, Spread]


def draw_bars(runs: Sequence[tuple[str, Bars]], title: str) -> Figure:
    """Return horizontal bars of UAR, a group per name and in it a bar per run.

    Args:
        runs: what each run is called, and its figures; a figure that a run lacks has no bar.
        title: of the picture.
    """
    names = list(dict.fromkeys(name for _, bars in runs for name in bars))
    thick = 0.8 / len(runs)
    drawn = figure(_EDGE_IN + _BAR_IN * (len(runs) + 0.6) * len(names))
    axes = drawn.subplots()
    for place, (run, bars) in enumerate(runs):
        rows = [row for row, name in enumerate(names) if name in bars]
        spreads = [bars[names[row]] for row in rows]
        middles = [row + (place - (len(runs) - 1) / 2) * thick for row in rows]
        _bars(axes, middles, spreads, 0.9 * thick, [colour(place)] * len(rows), run)
    _uar_axis(axes, names)
    if len(runs) > 1:
        drawn.legend(loc="outside lower left", ncols=fitting([run for run, _ in runs]))
    drawn.suptitle(title)
    return drawn


def draw_speakers(speakers: Bars, title: str) -> Figure:
    """Return a bar of UAR per speaker, each corpus in its colour, from best to worst within it."""
    ranked = sorted(speakers, key=lambda name: -speakers[name].mean)
    if len(ranked) > MOST_SPEAKERS:
        ranked = [*ranked[: MOST_SPEAKERS // 3], *ranked[MOST_SPEAKERS // 3 - MOST_SPEAKERS :]]
    corpora = list(dict.fromkeys(name.split("_", 1)[0] for name in sorted(speakers)))
    shown = [name for corpus in corpora for name in ranked if name.split("_", 1)[0] == corpus]
    drawn = figure(_EDGE_IN + 0.16 * len(shown))
    axes = drawn.subplots()
    for place, corpus in enumerate(corpora):
        rows = [row for row, name in enumerate(shown) if name.split("_", 1)[0] == corpus]
        colours = [colour(place)] * len(rows)
        _bars(axes, rows, [speakers[shown[row]] for row in rows], 0.75, colours, title_of(corpus), text=6.5)
    _uar_axis(axes, [name.split("_", 1)[-1] for name in shown])
    axes.tick_params(axis="y", labelsize=7)
    drawn.legend(loc="outside lower left", ncols=4)
    drawn.suptitle(title)
    return drawn


def draw_groups(sexes: Bars, emotions: Bars, merge: Merge, title: str) -> Figure:
    """Return UAR per sex beside recall per emotion, each emotion in the colour of the class it counts as."""
    drawn = figure(_EDGE_IN + 0.27 * max(len(emotions), 4))
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.35))
    _bars(left, range(len(sexes)), list(sexes.values()), 0.6, [colour(0)] * len(sexes), "", text=7.5)
    _uar_axis(left, list(sexes), ticks=3)
    left.set_ylim(max(len(sexes), 3) - 0.5, -0.5)
    left.set(title="by sex: UAR")
    ordered = sorted(emotions, key=lambda name: (list(CLASS_COLOURS).index(merge[name]), name))  # type: ignore[index]
    for label, shade in CLASS_COLOURS.items():
        rows = [row for row, name in enumerate(ordered) if merge[name] == label]  # type: ignore[index]
        _bars(right, rows, [emotions[ordered[row]] for row in rows], 0.7, [shade] * len(rows), str(label), text=7.5)
    _uar_axis(right, [str(name) for name in ordered], ticks=5)
    right.set(title="by emotion: called its class", xlabel="share of its clips")
    drawn.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=3)
    drawn.suptitle(title)
    return drawn


def draw_noise(curves: Sequence[tuple[str, Mapping[int, Spread], Spread]], title: str) -> Figure:
    """Return UAR over the level of noise, from quiet to loud.

    Args:
        curves: what each is called, its figures per level in dB below the speech, and that in quiet.
        title: of the picture.
    """
    drawn = figure(2.9)
    axes = drawn.subplots()
    for place, (name, levels, quiet) in enumerate(curves):
        spreads = [quiet, *levels.values()]
        places = [level + _APART_DB * (place - (len(curves) - 1) / 2) for level in (_QUIET_DB, *levels)]
        means = np.array([each.mean for each in spreads])
        errors = [means - [each.low for each in spreads], [each.high for each in spreads] - means]
        look = {"marker": "o", "markersize": 4, "linewidth": 1.4, "capsize": 2.5, "elinewidth": 0.9}
        axes.errorbar(places, means, yerr=errors, label=name, color=colour(place), **look)  # type: ignore[arg-type]
    levels_db = sorted({level for _, levels, _ in curves for level in levels}, reverse=True)
    axes.set_xticks([_QUIET_DB, *levels_db], ["quiet", *(f"{level} dB" for level in levels_db)])
    axes.invert_xaxis()
    axes.axhline(CHANCE_UAR, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("chance", (0.01, CHANCE_UAR), xycoords=("axes fraction", "data"), va="bottom", fontsize=7.5)
    axes.set(ylim=(0.25, None), ylabel="UAR, all clips taken as one", xlabel="noise lies this far below the speech")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=True)
    drawn.legend(loc="outside lower left", ncols=fitting([name for name, _, _ in curves]))
    drawn.suptitle(title)
    return drawn


def _bars(
    axes: Axes,
    rows: Sequence[float],
    spreads: Sequence[Spread],
    thick: float,
    colours: Sequence[str],
    name: str,
    *,
    text: float = 8,
) -> None:
    means = [each.mean for each in spreads]
    axes.barh(rows, means, height=thick, color=colours, label=name or None)
    for row, each in zip(rows, spreads, strict=True):
        end = each.high
        if each.high > each.low:
            axes.plot([each.low, each.high], [row, row], color="black", linewidth=0.9)
        axes.annotate(
            f"{100 * each.mean:.1f}", (end, row), (3, 0), textcoords="offset points", va="center", fontsize=text
        )


def _uar_axis(axes: Axes, names: Sequence[str], ticks: int = 6) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.08)
    axes.set_xticks(np.linspace(0, 1, ticks))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.axvline(CHANCE_UAR, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("UAR (dotted: chance)")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)

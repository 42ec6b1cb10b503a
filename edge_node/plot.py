"""The timeline of a recording as a small picture."""

from pathlib import Path
from typing import Final

from broker.contract.decision import CLASSES, Label
from broker.contract.errors import SettingsError
from edge_node.classify import Timeline

__all__ = ["COLOURS", "draw"]

COLOURS: Final = {
    Label.PLEASANT: "#3a9d5d",
    Label.NEUTRAL: "#8a94a6",
    Label.UNPLEASANT: "#d2553f",
    Label.UNCERTAIN: "#c9a227",
}


def draw(timeline: Timeline, out: Path) -> None:
    """Write a PNG: probabilities over time, and the decided label as a band below.

    Raises:
        SettingsError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- not on a node
        from matplotlib.patches import Patch  # noqa: PLC0415 -- likewise
    except ImportError as error:
        msg = "--plot needs matplotlib: pip install 'sottovoce[plot]'"
        raise SettingsError(msg) from error
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    curves, band = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    middles = [each.end_s - timeline.window_s / 2 for each in timeline.heard]
    for index, label in enumerate(CLASSES):
        values = [float("nan") if each.probabilities is None else each.probabilities[index] for each in timeline.heard]
        curves.plot(middles, values, color=COLOURS[label], marker="o", markersize=3)
    curves.set(ylim=(-0.02, 1.02), ylabel="probability", title=f"{Path(timeline.file).name} · model {timeline.model}")
    curves.grid(alpha=0.3)
    half = timeline.hop_s / 2
    for each, middle in zip(timeline.heard, middles, strict=True):
        if each.decision is not None:
            band.axvspan(middle - half, middle + half, color=COLOURS[each.decision.label], linewidth=0)
    band.set(yticks=[], xlabel="seconds (middle of the window)")
    band.set_ylabel("label", rotation=0, ha="right", va="center")
    band.set_xlim(middles[0] - half, middles[-1] + half)
    names = [Patch(color=colour, label=label.value) for label, colour in COLOURS.items()]
    names.append(Patch(facecolor="white", edgecolor="#8a94a6", label="silence"))
    figure.legend(handles=names, loc="outside lower center", ncols=len(names), frameon=False)
    try:
        figure.savefig(out, dpi=150)
    except (OSError, ValueError) as error:
        msg = f"--plot {out}: {error}; name a .png file in an existing folder"
        raise SettingsError(msg) from error

"""What all pictures share: width, colours, and PNG files that are the same each time.

Pictures are drawn for a column of text and stay readable on a telephone, so they are narrow and their letters large.
They are drawn on white; a dark page turns them over, so that no colour may stand for light or dark.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from broker.contract.decision import CLASSES, Label
from broker.files import write_whole

__all__ = [
    "CHANCE_UAR",
    "CLASS_COLOURS",
    "GREY",
    "INK",
    "WIDTH_IN",
    "bare",
    "colour",
    "figure",
    "fitting",
    "png",
    "save",
]

WIDTH_IN: Final = 5.8
CHANCE_UAR: Final = 1 / len(CLASSES)
INK: Final = "#1c2430"
GREY: Final = "#718096"
CLASS_COLOURS: Final = {Label.PLEASANT: "#3a9d5d", Label.NEUTRAL: "#8a94a6", Label.UNPLEASANT: "#d2553f"}
"""As the node's own timeline has them."""

_SERIES: Final = ("#2b6cb0", "#dd7a1f", "#2f8f6b", "#8a56b0", "#b8325e", "#7a6a2f")
_LETTERS: Final = 72
"""Of a legend, in the width of a picture."""
_KEY: Final = 8
"""Letters that the sign before a name is as wide as."""
_DPI: Final = 160
_PALETTE: Final = 128
"""Colours of a file: lines and letters need few, and it is a third of the size."""
_STYLE: Final[dict[str, Any]] = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.titlesize": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a speaker may be called `$`
}


def figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty picture; call it inside what `png` or `save` is given."""
    made = Figure(figsize=(width_in, height_in), dpi=_DPI)
    made.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    return made


def colour(place: int) -> str:
    """Return the colour of a run or a fold by its place among several."""
    return _SERIES[place % len(_SERIES)]


def fitting(names: Sequence[str]) -> int:
    """Return how many of these names a legend holds side by side."""
    return max(1, min(len(names), _LETTERS // (max(map(len, names)) + _KEY)))


def bare(axes: Axes) -> None:
    """Leave nothing of the frame."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def png(draw: Callable[[], Figure]) -> bytes:
    """Return a picture as a PNG: the same bytes for the same values, whatever the user's settings of matplotlib are."""
    with warnings.catch_warnings(), style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # a name in a script the font lacks
        drawn = io.BytesIO()
        draw().savefig(drawn, format="png")
    image = Image.open(drawn).convert("RGB")
    packed = io.BytesIO()
    image.quantize(_PALETTE, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Write a picture as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, png(draw))

"""The monitor at a terminal: meters, scores, what is decided, by rich."""

from typing import Final

import msgspec
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.contract.decision import CLASSES, Label
from broker.contract.messages import Stage
from edge_node.monitor.lines import decibels
from edge_node.monitor.view import NO_SPEECH, SILENCE, View, word_of

__all__ = ["Scene", "draw"]

_WIDTH: Final = 40
_PANEL: Final = 96
_FLOOR_DBFS: Final = -80.0
_LOUD_DBFS: Final = -12.0
_LOUDEST_DBFS: Final = -3.0
_STYLES: Final = {
    Label.PLEASANT.value: "green",
    Label.NEUTRAL.value: "blue",
    Label.UNPLEASANT.value: "red",
    Label.UNCERTAIN.value: "yellow",
    NO_SPEECH: "bright_black",
    SILENCE: "bright_black",
}
_SIGNS: Final = {Label.PLEASANT.value: "+", Label.NEUTRAL.value: "=", Label.UNPLEASANT.value: "-"} | {
    Label.UNCERTAIN.value: "?",
    NO_SPEECH: "·",
    SILENCE: " ",
}
_TIMED: Final = (Stage.CAPTURE, Stage.RESAMPLE, Stage.GATE, Stage.FEATURES, Stage.INFERENCE, Stage.DECISION)


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the monitor runs."""

    source: str
    model: str
    window_s: float
    hop_s: float


def draw(scene: Scene, view: View, dropped_blocks: int, now_s: float) -> Panel:
    """Return the picture of a moment; `now_s` of the clock that the view was made by."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, width=10)
    table.add_column(no_wrap=True, width=_WIDTH)
    table.add_column(no_wrap=True)
    table.add_row("level", _level_bar(view), _level_words(view, now_s))
    heard = view.heard
    speech = None if heard is None else heard.speech
    table.add_row("speech", _bar(speech or 0.0, "magenta"), "" if speech is None else f"{speech:.2f}")
    scores = None if heard is None else heard.probabilities
    for place, name in enumerate(CLASSES):
        value = 0.0 if scores is None else scores[place]
        table.add_row(name.value, _bar(value, _STYLES[name.value]), "" if scores is None else f"{value:.2f}")
    table.add_row("", "", "")
    table.add_row("decided", _decided(view), "")
    table.add_row("", "", "")
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(style="bold", no_wrap=True, width=10)
    below.add_column()
    legend = f"+ pleasant  = neutral  - unpleasant  ? uncertain  · no speech; {scene.hop_s:g} s each"
    below.add_row("last", _strip(view.history))
    below.add_row("", Text(legend, style="dim"))
    below.add_row("", "")
    below.add_row("times, ms", _times(view))
    below.add_row("heard", _counts(view, dropped_blocks))
    return Panel(
        Group(table, below),
        title=f"{scene.source}  ·  {scene.model}",
        title_align="left",
        subtitle="nothing is published or written  ·  Ctrl-C ends",
        subtitle_align="left",
        width=_PANEL,
    )


def _level_bar(view: View) -> Text:
    """Return a meter with the peak in it."""
    filled, peak = (_place(each) for each in (view.level_dbfs, view.peak_dbfs))
    bar = Text()
    for place in range(_WIDTH):
        level = _FLOOR_DBFS * (1 - (place + 1) / _WIDTH)
        style = "red" if level > _LOUDEST_DBFS else "yellow" if level > _LOUD_DBFS else "green"
        if place < filled:
            bar.append("█", style)
        elif place == peak - 1:
            bar.append("│", style)
        else:
            bar.append("░", "bright_black")
    return bar


def _level_words(view: View, now_s: float) -> Text:
    if view.is_deaf(now_s):
        return Text("no sound comes", style="bold red")
    if view.are_zeros:
        return Text("only zeros: muted at the device?", style="bold red")
    words = Text(f"{decibels(view.level_dbfs)} dBFS, peak {decibels(view.peak_dbfs).strip()}")
    if view.clipped_blocks:
        words.append(f"  CLIPPED {view.clipped_blocks}", style="bold red")
    return words


def _place(level: float) -> int:
    return max(0, min(_WIDTH, round((1 - max(level, _FLOOR_DBFS) / _FLOOR_DBFS) * _WIDTH)))


def _bar(share: float, style: str) -> Text:
    filled = max(0, min(_WIDTH, round(share * _WIDTH)))
    return Text.assemble(("█" * filled, style), ("░" * (_WIDTH - filled), "bright_black"))


def _decided(view: View) -> Text:
    if view.heard is None:
        return Text("not a whole window yet", style="dim")
    word = word_of(view.heard)
    decision = view.heard.decision
    confidence = "" if decision is None else f"  {decision.confidence:.2f}"
    return Text.assemble((f" {word} ", f"bold reverse {_STYLES[word]}"), confidence)


def _strip(history: tuple[str, ...]) -> Text:
    strip = Text()
    for each in history:
        strip.append(_SIGNS[each], style=f"bold {_STYLES[each]}")
    return strip


def _times(view: View) -> Text:
    latency = None if view.heard is None else view.heard.latency_us
    if latency is None:
        return Text("nothing to classify", style="dim")
    return Text("  ".join(f"{stage.value} {getattr(latency, stage.value) / 1_000:.1f}" for stage in _TIMED))


def _counts(view: View, dropped_blocks: int) -> Text:
    text = Text(f"{view.audio_s:.1f} s, {view.windows} windows, ")
    return text.append(f"{dropped_blocks} blocks dropped", style="bold red" if dropped_blocks else "")

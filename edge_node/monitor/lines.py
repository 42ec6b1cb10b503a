"""A line for each window, for what is no terminal."""

import math

from broker.contract.decision import CLASSES
from edge_node.monitor.view import View, word_of
from edge_node.pipeline import Heard

__all__ = ["line_of"]


def line_of(view: View, heard: Heard, dropped_blocks: int) -> str:
    """Return what a window came to: when, how loud, whether speech, the scores, what is decided, how long it took.

    Args:
        view: with the window in it.
        heard: the window.
        dropped_blocks: so far.
    """
    parts = [f"{view.audio_s:7.1f} s", f"{decibels(heard.level_dbfs)} dBFS", f"peak {decibels(view.peak_dbfs)}"]
    if (speech := heard.speech) is not None:
        parts.append(f"speech {speech:.2f}")
    if heard.probabilities is not None:
        parts += [f"{name} {value:.2f}" for name, value in zip(CLASSES, heard.probabilities, strict=True)]
    decided = "" if heard.decision is None else f" {heard.decision.confidence:.2f}"
    parts.append(f"-> {word_of(heard)}{decided}")
    if heard.latency_us is not None:
        took_us = heard.latency_us.gate + heard.latency_us.features + heard.latency_us.inference
        parts.append(f"{took_us / 1_000:.1f} ms")
    if view.clipped_blocks:
        parts.append(f"clipped {view.clipped_blocks}")
    if dropped_blocks:
        parts.append(f"dropped {dropped_blocks}")
    return "  ".join(parts)


def decibels(value: float) -> str:
    """Return a level, six letters wide."""
    return f"{value:6.1f}" if math.isfinite(value) else "  -inf"

"""What a monitor shows at a moment; values in, values out."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from broker.contract.decision import level_dbfs
from edge_node.pipeline import Heard
from edge_node.sound.conditioning import FULL_SCALE
from edge_node.sound.sources import Block, Samples

__all__ = ["HISTORY", "NO_SPEECH", "SILENCE", "View", "after_block", "after_tick", "peak_dbfs", "word_of"]

HISTORY: Final = 60
"""Windows that are remembered."""
SILENCE: Final = "silence"
NO_SPEECH: Final = "no speech"
_HOLD_S: Final = 1.5
"""For how long the highest peak stands."""
_DEAF_S: Final = 1.0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One moment."""

    audio_s: float = 0.0
    """Sound heard so far."""
    level_dbfs: float = float("-inf")
    """Of the last block."""
    peak_dbfs: float = float("-inf")
    """Highest of the last second and a half."""
    peak_at_s: float = 0.0
    clipped_blocks: int = 0
    are_zeros: bool = False
    """Whether the device gave nothing but zeros in the last block."""
    silent_since_s: float | None = None
    """Since when no block has come, in s of the caller's clock; None: they come."""
    windows: int = 0
    heard: Heard | None = None
    """The last window."""
    history: tuple[str, ...] = ()
    """What the last windows came to, the newest last."""

    def is_deaf(self, now_s: float) -> bool:
        """Return whether nothing has come for a while."""
        return self.silent_since_s is not None and now_s - self.silent_since_s >= _DEAF_S


def after_block(view: View, block: Block, heard: Sequence[Heard]) -> View:
    """Return the view after a block, and the windows that it completed."""
    audio_s = view.audio_s + len(block.samples) / block.rate_hz
    peak = peak_dbfs(block.samples)
    is_higher = peak >= view.peak_dbfs or audio_s - view.peak_at_s > _HOLD_S
    return msgspec.structs.replace(
        view,
        audio_s=audio_s,
        level_dbfs=level_dbfs(block.samples),
        peak_dbfs=peak if is_higher else view.peak_dbfs,
        peak_at_s=audio_s if is_higher else view.peak_at_s,
        clipped_blocks=view.clipped_blocks + bool((np.abs(block.samples) >= FULL_SCALE).any()),
        are_zeros=block.zeros,
        silent_since_s=None,
        windows=view.windows + len(heard),
        heard=heard[-1] if heard else view.heard,
        history=(*view.history, *map(word_of, heard))[-HISTORY:],
    )


def after_tick(view: View, now_s: float) -> View:
    """Return the view after a time without sound, `now_s` of the caller's clock."""
    if view.silent_since_s is not None:
        return view
    return msgspec.structs.replace(view, silent_since_s=now_s)


def peak_dbfs(samples: Samples) -> float:
    """Return the highest sample, in dB re full scale; -inf for none."""
    peak = float(np.abs(samples).max(initial=0.0))
    return 20 * math.log10(peak) if peak > 0 else float("-inf")


def word_of(heard: Heard) -> str:
    """Return what a window came to: a label, `no speech` or `silence`."""
    if heard.decision is not None:
        return heard.decision.label.value
    return NO_SPEECH if heard.gated else SILENCE

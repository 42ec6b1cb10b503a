"""Whether there is sound: the source opened for two seconds, as the node would, and looked at. None of it is kept."""

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Final

import numpy as np

from broker.contract.condition import CaptureProblem
from broker.contract.decision import level_dbfs
from broker.contract.errors import AudioError
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, skip, warn
from edge_node.settings import NodeSettings
from edge_node.sound.conditioning import FULL_SCALE
from edge_node.sound.once import open_once
from edge_node.sound.sources import STALE_S, TICK_S, Block, Samples, Source, SourceError

__all__ = ["judge", "listen"]

LISTENS_S: Final = 2.0
_QUIET_DBFS: Final = -60.0
"""A microphone whose loudest sample is below this hears less than a room's own noise."""
_CLIPPED_SHARE: Final = 1e-3
_ADVICE: Final = {
    CaptureProblem.BUSY: "end the program that holds it, or let both go through a sound server (PipeWire, PulseAudio)",
    CaptureProblem.LOST: "plug it in; `sottovoce-node devices` lists what there is; [source] device chooses",
    CaptureProblem.STALLED: "unplug it and plug it in again; try it with `arecord -d 2 /dev/null`",
    CaptureProblem.RATE: "unplug it and plug it in again; choose another with [source] device",
    CaptureProblem.UNUSABLE: "choose another with [source] device; `sottovoce-node devices` lists what there is",
}


def listen(settings: NodeSettings, muted: str | None) -> Finding:
    """Return how the source sounds.

    Args:
        settings: the node's.
        muted: who mutes it; then it stays closed. None: nobody does.
    """
    if muted is not None:
        return skip(Stage.SOUND, f"muted by {muted}: the microphone stays closed")
    try:
        source = open_once(settings.source)
        with_blocks = list(_some(source, LISTENS_S))
    except SourceError as error:
        return fail(Stage.SOUND, str(error), _ADVICE.get(error.problem, _ADVICE[CaptureProblem.LOST]))
    except AudioError as error:
        return fail(Stage.SOUND, str(error), "mend [source]; `sottovoce-node devices` lists what there is")
    if not with_blocks:
        return fail(Stage.SOUND, f"{source.description}: no sound came", _ADVICE[CaptureProblem.STALLED])
    samples = np.concatenate([each.samples for each in with_blocks])
    are_zeros = settings.source.kind == "microphone" and all(each.zeros for each in with_blocks)
    return judge(source.description, samples, are_zeros=are_zeros, rate_hz=with_blocks[-1].rate_hz)


def judge(description: str, samples: Samples, *, are_zeros: bool, rate_hz: int) -> Finding:
    """Return what samples tell of their source.

    Args:
        description: the source, in words.
        samples: shape (n,), float32, at least one.
        are_zeros: whether a device gave nothing but exact zeros.
        rate_hz: of the samples.
    """
    peak = float(np.abs(samples).max())
    peak_dbfs = 20 * math.log10(peak) if peak > 0 else None
    level = level_dbfs(samples)
    clipped = float(np.mean(np.abs(samples) >= FULL_SCALE))
    facts: dict[str, Fact] = {
        "level_dbfs": round(level, 1) if math.isfinite(level) else None,
        "peak_dbfs": None if peak_dbfs is None else round(peak_dbfs, 1),
        "clipped_share": round(clipped, 5),
        "rate_hz": rate_hz,
    }
    if are_zeros:
        advice = "look for a mute switch at the microphone, and for a loose plug; try another socket"
        return fail(Stage.SOUND, f"{description}: nothing but zeros for {LISTENS_S:g} s", advice, **facts)
    if peak_dbfs is None:
        return warn(Stage.SOUND, f"{description}: digital silence", "see that there is sound in it", **facts)
    words = f"{description}, {rate_hz} Hz: level {level:.0f} dBFS, peak {peak_dbfs:.0f} dBFS"
    if clipped > _CLIPPED_SHARE:
        advice = "turn the microphone down (`alsamixer`), or lower [source] gain_db"
        return warn(Stage.SOUND, f"{words}; {clipped:.1%} of the samples are clipped", advice, **facts)
    if peak_dbfs < _QUIET_DBFS:
        advice = "speak, and watch `sottovoce-node monitor`; turn it up (`alsamixer`), or raise [source] gain_db"
        return warn(Stage.SOUND, f"{words}: very quiet", advice, **facts)
    return ok(Stage.SOUND, words, **facts)


def _some(source: Source, seconds: float) -> Iterator[Block]:
    """Yield the blocks of the first so many seconds of sound, if they come in time."""
    heard_s, ticks_left = 0.0, int((seconds + STALE_S) / TICK_S)
    with contextlib.closing(source.blocks(threading.Event())) as blocks:
        for block in blocks:
            if block is None:
                ticks_left -= 1
                if ticks_left <= 0:
                    return
                continue
            yield block
            heard_s += len(block.samples) / block.rate_hz
            if heard_s >= seconds:
                return

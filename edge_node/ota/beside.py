"""The new model beside the old one, in a child process: what it makes of the audio that the node hears, in counts.

    stdin:   length (4 bytes, little-endian), Fed in msgpack, and again ...
    stdout:  one Line in JSON a second, or less often where nothing is fed

Both models hear the same blocks, and their windows are paired by when they end. A stream that began before the trial
did is entered where the old model has just ended a window, so that the new one's end when the old one's do. What the
node's speech gate refused, neither model judges.
"""

import math
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from broker.contract.bundle import Manifest
from broker.contract.decision import Decision, Label
from broker.contract.errors import BundleError
from broker.contract.updates import SCORE_BINS, TrialFigures
from edge_node.classifier import Classifier
from edge_node.ota.confined import begin, ran_out, within
from edge_node.ota.proof import load, load_runtime
from edge_node.ota.told import ToldGate
from edge_node.pipeline import Heard, Pipeline
from edge_node.sound.sources import Block

__all__ = ["LENGTH_BYTES", "Beside", "Fed", "Line", "decided"]

LENGTH_BYTES: Final = 4
_LINE_S: Final = 1.0
_PIECE_BYTES: Final = 65_536
_MOST_WAITING: Final = 1024
"""Windows of one model that wait for the other's."""
_ROUNDING: Final = 0.01
"""Of the sum of probabilities, and of each."""
_INSTANT_S: Final = 1e-6

Decided = tuple[float, Label | None]
"""Where a window ends, in seconds of audio since the last gap, and what was decided; None: silence."""


class Fed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A block as the node heard it, and what the old model decided by its end."""

    samples: bytes
    """float32."""
    rate_hz: int
    captured_ns: int
    gap: bool
    old: tuple[Decided, ...]
    refused: tuple[float, ...] = ()
    """Where those of its windows end that were loud enough, yet not speech."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is known so far."""

    blocks: int
    """Heard."""
    figures: TrialFigures
    fault: str = ""
    """Why the trial has failed, in words."""


class _Window(msgspec.Struct, frozen=True, kw_only=True):
    """What the new model made of a window, until the old one's decision is known."""

    end_s: float
    decision: Decision | None
    took_us: int


class Beside:
    """Hears and counts. Belongs to one thread."""

    def __init__(self, manifest: Manifest, classifier: Classifier, windows: int) -> None:
        """Start with nothing heard.

        Args:
            manifest: of the new model.
            classifier: it.
            windows: after how many the trial is over.
        """
        self._pipeline = Pipeline(manifest, classifier, ToldGate(self._is_refused))
        self._reach_s = manifest.window.hop_samples / manifest.features.sample_rate_hz / 2
        self._most = windows
        self._rate_hz = 0
        self._fed_s = 0.0  # since the last gap
        self._begins_s: float | None = None  # where the new model's stream begins in the old one's; None: not known yet
        self._old: deque[Decided] = deque(maxlen=_MOST_WAITING)
        self._refused: deque[float] = deque(maxlen=_MOST_WAITING)
        self._new: deque[_Window] = deque(maxlen=_MOST_WAITING)
        self._blocks = self._windows = self._agreed = 0
        self._took_us: list[int] = []
        self._scores = [0] * SCORE_BINS
        self._labels = dict.fromkeys(Label, 0)
        self._fault = ""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to learn."""
        return bool(self._fault) or self._windows >= self._most

    def hear(self, fed: Fed) -> None:
        """Let the new model hear a block."""
        self._blocks += 1
        samples = np.frombuffer(fed.samples, dtype=np.float32)
        gap = fed.gap
        if gap or fed.rate_hz != self._rate_hz:
            self._restart(fed)
        elif fed.old and self._old and fed.old[0][0] <= self._old[-1][0]:  # it has begun a stream, without a gap
            self._forget()
        self._fed_s += len(samples) / fed.rate_hz
        self._old.extend(fed.old)
        self._refused.extend(fed.refused)
        if self._begins_s is None and fed.old:
            end_s = fed.old[-1][0]
            self._begins_s = 0.0 if end_s <= self._fed_s + _INSTANT_S else end_s
            gap = self._begins_s > 0
            if gap:
                samples = samples[:0]  # the window ended in this block: the next one begins the stream
                self._new.clear()
        block = Block(samples=samples, rate_hz=fed.rate_hz, captured_ns=fed.captured_ns, gap=gap)
        try:
            for heard in self._pipeline.hear(block):
                self._note(heard)
        except (RuntimeError, ValueError) as error:
            if ran_out(error):
                raise
            self._fault = f"LiteRT fails on what is heard: {error}"
        self._pair()

    def line(self) -> Line:
        """Return what is known so far."""
        p50, p95 = np.percentile(self._took_us, (50, 95)) if self._took_us else (0, 0)
        return Line(
            blocks=self._blocks,
            fault=self._fault,
            figures=TrialFigures(
                windows=self._windows,
                classified=len(self._took_us),
                agreed=self._agreed,
                p50_us=round(p50),
                p95_us=round(p95),
                scores=tuple(self._scores),
                labels=dict(self._labels),
            ),
        )

    def _restart(self, fed: Fed) -> None:
        """Begin a stream anew, as the old model does; the first one of all may have begun before the trial."""
        self._forget()
        self._begins_s = 0.0 if fed.gap or self._rate_hz else None
        self._rate_hz = fed.rate_hz

    def _forget(self) -> None:
        self._old.clear()
        self._refused.clear()
        self._new.clear()
        self._begins_s, self._fed_s = None, 0.0

    def _note(self, heard: Heard) -> None:
        if heard.probabilities is not None and not _is_distribution(heard.probabilities):
            self._fault = "the model's probabilities are not finite, or do not add up to 1"
        took_us = 0 if heard.latency_us is None else heard.latency_us.features + heard.latency_us.inference
        end_s = heard.end_s + (self._begins_s or 0.0)
        self._new.append(_Window(end_s=end_s, decision=heard.decision, took_us=took_us))

    def _pair(self) -> None:
        """Count the windows of which both models' decisions are known."""
        while self._new and not self.is_over:
            window = self._new[0]
            if not self._old or self._old[-1][0] < window.end_s - _INSTANT_S:
                return
            self._new.popleft()
            found = decided(self._old, window.end_s, self._reach_s)
            if found is not None:
                self._count(window, found)

    def _is_refused(self, end_s: float) -> bool:
        """Return whether the node's gate refused the window that ends here in the new model's stream."""
        found = decided(self._old, end_s + (self._begins_s or 0.0), self._reach_s)
        return found is not None and found[0] in self._refused

    def _count(self, window: _Window, old: Decided) -> None:
        self._windows += 1
        if window.decision is None or old[0] in self._refused:
            return
        self._took_us.append(window.took_us)
        self._agreed += window.decision.label == old[1]
        self._scores[min(SCORE_BINS - 1, int(window.decision.confidence * SCORE_BINS))] += 1
        self._labels[window.decision.label] += 1


def decided(old: Sequence[Decided], end_s: float, reach_s: float) -> Decided | None:
    """Return the old model's decision that belongs to a window of the new one.

    It is the one whose window ends nearest, if that is within reach: the models may not have begun in the same
    instant. Else their hops differ, and it is what the old model said last; None: it had said nothing.

    Args:
        old: its decisions, oldest first.
        end_s: where the new model's window ends, in seconds.
        reach_s: how far apart two windows may end that are the same, in seconds.
    """
    nearest = min(old, key=lambda each: abs(each[0] - end_s), default=None)
    if nearest is None or abs(nearest[0] - end_s) <= reach_s + _INSTANT_S:
        return nearest
    return next((each for each in reversed(old) if each[0] <= end_s), None)


def _is_distribution(probabilities: tuple[float, ...]) -> bool:
    within_bounds = all(-_ROUNDING <= each <= 1 + _ROUNDING for each in probabilities)  # false for NaN
    return within_bounds and math.isclose(sum(probabilities), 1, abs_tol=_ROUNDING)


def _fed(descriptor: int) -> Iterator[Fed | None]:
    """Yield what is fed until there is no more; None when nothing came for a while."""
    unread = bytearray()
    while True:
        if not select.select([descriptor], [], [], _LINE_S)[0]:
            yield None
            continue
        piece = os.read(descriptor, _PIECE_BYTES)
        if not piece:
            return
        unread += piece
        while len(unread) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(unread[:LENGTH_BYTES], "little")
            if len(unread) < end:
                break
            fed = msgspec.msgpack.decode(bytes(unread[LENGTH_BYTES:end]), type=Fed)
            del unread[:end]
            yield fed


def _say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _listen(archive: Path, sha256: str, windows: int) -> None:
    bundle, classifier = load(archive, sha256)
    beside = Beside(bundle.manifest, classifier, windows)
    _say(said := beside.line())
    due_s = time.monotonic() + _LINE_S
    for fed in _fed(sys.stdin.fileno()):
        if fed is not None:
            beside.hear(fed)
        if beside.is_over:
            break
        if (fed is None or time.monotonic() >= due_s) and (line := beside.line()) != said:
            _say(said := line)
            due_s = time.monotonic() + _LINE_S
    _say(beside.line())


def _main() -> int:
    memory_bytes = begin()
    load_runtime()
    archive, sha256, windows = sys.argv[1:]

    def work() -> None:
        try:
            _listen(Path(archive), sha256, int(windows))
        except BundleError as error:
            nothing = TrialFigures(
                windows=0, classified=0, agreed=0, p50_us=0, p95_us=0, scores=(0,) * SCORE_BINS, labels={}
            )
            _say(Line(blocks=0, fault=str(error), figures=nothing))

    return within(memory_bytes, work)


if __name__ == "__main__":
    sys.exit(_main())

"""From sound to label, on one screen.

    block -> resample -> window -> (level) -> features -> probabilities -> decision -> event -> outbox -> MQTT

A window that is too quiet goes no further: nothing of it is analysed until a louder one that shares its frames.
`Pipeline.hear` is everything up to the decision. `edge_node.node` carries on to the outbox, `edge_node.classify` to
a timeline. Training evaluates models with the same windows, features and decision, from `broker.contract`.
"""

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import soxr

from broker.contract.bundle import Manifest
from broker.contract.decision import Announced, Decision, decide, is_worth_an_event, smooth
from broker.contract.features import extract
from broker.contract.messages import EventLatency
from broker.contract.stream import FrameStream
from broker.contract.windows import Window
from edge_node.classifier import Classifier
from edge_node.sources import Block

__all__ = ["Heard", "Pipeline"]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one window came to."""

    end_s: float
    """Where the window ends, in seconds of audio since the last gap."""
    level_dbfs: float
    decided_ns: int
    """Monotonic time of the decision, in ns."""
    probabilities: tuple[float, ...] | None = None
    """Of this window alone, in the order of `decision.CLASSES`; None: too quiet to classify."""
    decision: Decision | None = None
    """Smoothed over the windows so far; None: silence."""
    latency_us: EventLatency | None = None
    is_event: bool = False
    """Whether it is worth an event."""


class Pipeline:
    """Turns blocks into decisions. Belongs to one thread."""

    def __init__(
        self, manifest: Manifest, classifier: Classifier, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Start with silence."""
        self._manifest = manifest
        self._rate_hz = manifest.features.sample_rate_hz
        self._classifier = classifier
        self._clock_ns = clock_ns
        self._stream = FrameStream(manifest.features, manifest.normalisation, manifest.window)
        self._resampler: soxr.ResampleStream | None = None
        self._block_rate_hz = 0
        self._smoothed: np.ndarray | None = None
        self._announced: Announced | None = None
        quiet = np.zeros(manifest.window.length_samples, dtype=np.float32)
        extract(quiet, manifest.features, manifest.normalisation)  # makes its tables now, not in the first window

    def hear(self, block: Block) -> Iterator[Heard]:
        """Yield a result for each window that this block completes."""
        taken_ns = self._clock_ns()
        if block.gap or block.rate_hz != self._block_rate_hz:
            self._restart(block.rate_hz)
        samples = block.samples if self._resampler is None else self._resampler.resample_chunk(block.samples)
        resampled_ns = self._clock_ns()
        held_ns = 0 if self._resampler is None else round(self._resampler.delay() * 1e9 / self._rate_hz)
        for window in self._stream.push(samples, block.captured_ns - held_ns):
            capture_us = max(0, taken_ns - window.captured_ns) // 1000
            yield self._judge(window, capture_us, (resampled_ns - taken_ns) // 1000)

    def forget(self) -> None:
        """Begin a new stream with the next block, as after a gap."""
        self._block_rate_hz = 0

    def _judge(self, window: Window, capture_us: int, resample_us: int) -> Heard:
        spec = self._manifest.decision
        if window.level_dbfs < spec.silent_below_dbfs:
            self._smoothed = None
            if self._announced is not None:
                self._announced = msgspec.structs.replace(self._announced, label=None)
            end_s, decided_ns = window.end_sample / self._rate_hz, self._clock_ns()
            return Heard(end_s=end_s, level_dbfs=window.level_dbfs, decided_ns=decided_ns)
        began_ns = self._clock_ns()
        features = self._stream.features(window)
        extracted_ns = self._clock_ns()
        probabilities = self._classifier.run(features)
        inferred_ns = self._clock_ns()
        self._smoothed = smooth(self._smoothed, probabilities, spec)
        decision = decide(self._smoothed, spec)
        decided_ns = self._clock_ns()
        heard_us = window.captured_ns // 1000  # the audio's own time, which replay may run through faster
        is_event = is_worth_an_event(decision, self._announced, heard_us)
        if is_event:
            self._announced = Announced(label=decision.label, at_us=heard_us)
        work_us = resample_us + (decided_ns - began_ns) // 1000
        return Heard(
            end_s=window.end_sample / self._rate_hz,
            level_dbfs=window.level_dbfs,
            probabilities=tuple(probabilities.tolist()),
            decision=decision,
            latency_us=EventLatency(
                capture=capture_us,
                resample=resample_us,
                features=(extracted_ns - began_ns) // 1000,
                inference=(inferred_ns - extracted_ns) // 1000,
                decision=(decided_ns - inferred_ns) // 1000,
                total=max(work_us, (decided_ns - window.captured_ns) // 1000),
            ),
            decided_ns=decided_ns,
            is_event=is_event,
        )

    def _restart(self, rate_hz: int) -> None:
        """Begin a new stream: no window may span a gap or a change of rate."""
        self._block_rate_hz = rate_hz
        self._stream.reset()
        self._smoothed = None
        self._resampler = (
            None if rate_hz == self._rate_hz else soxr.ResampleStream(rate_hz, self._rate_hz, 1, dtype="float32")
        )

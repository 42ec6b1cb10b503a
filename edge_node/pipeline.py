"""From sound to label, on one screen.

    block -> resample -> window -> speech gate -> features -> probabilities -> decision -> event -> outbox -> MQTT

A window that is too quiet, or holds no speech, goes no further: nothing of it is analysed until one that shares its
frames holds some.
`Pipeline.hear` is everything up to the decision. `edge_node.node` carries on to the outbox, `edge_node.classify` to
a timeline. Training evaluates models with the same windows, features and decision, from `broker.contract`.
"""

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import soxr

from broker.contract.bundle import Manifest
from broker.contract.condition import Thresholds
from broker.contract.decision import Deciding, Decision, advance, break_off, fall_silent, with_thresholds
from broker.contract.features import extract
from broker.contract.messages import EventLatency
from broker.contract.stream import FrameStream
from broker.contract.windows import Window
from edge_node.classifier import Classifier
from edge_node.sound.clipping import Clipping
from edge_node.sound.gate import SpeechGate, check_speech_above
from edge_node.sound.sources import Block

__all__ = ["Heard", "Pipeline"]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one window came to."""

    end_s: float
    """Where the window ends, in seconds of audio since the last gap."""
    level_dbfs: float
    decided_ns: int
    """Monotonic time of the decision, in ns."""
    speech: float | None = None
    """The gate's probability that it holds speech; None: too quiet to ask, or there is no gate."""
    gated: bool = False
    """Whether it was loud enough, yet not speech."""
    clipped: bool = False
    """Whether a part of it was too loud for the microphone: it stands still at full scale."""
    probabilities: tuple[float, ...] | None = None
    """Of this window alone, in the order of `decision.CLASSES`; None: too quiet, or no speech."""
    decision: Decision | None = None
    """After the windows so far; None: silence, or no speech."""
    latency_us: EventLatency | None = None
    is_event: bool = False
    """Whether it is worth an event."""


class Pipeline:
    """Turns blocks into decisions. Belongs to one thread."""

    def __init__(
        self,
        manifest: Manifest,
        classifier: Classifier,
        gate: SpeechGate | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start with silence.

        Args:
            manifest: of the model.
            classifier: it.
            gate: tells speech; None: whatever is loud enough is classified. Of several pipelines that share one, only
                the one that hears at the moment may use it, and must be told to `forget` first.
            clock_ns: monotonic, in ns.
        """
        self._manifest = manifest
        self._rate_hz = manifest.features.sample_rate_hz
        self._classifier = classifier
        self._gate = gate
        self._speech_above = 0.0 if gate is None else gate.speech_above
        self._clock_ns = clock_ns
        self._clipping = Clipping()
        self._stream = FrameStream(manifest.features, manifest.normalisation, manifest.window)
        self._resampler: soxr.ResampleStream | None = None
        self._block_rate_hz = 0
        self._decision = manifest.decision
        self._deciding = Deciding()
        self._begins_us: int | None = None  # when the stream's first sample was captured; None: no window yet
        quiet = np.zeros(manifest.window.length_samples, dtype=np.float32)
        extract(quiet, manifest.features, manifest.normalisation)  # makes its tables now, not in the first window

    def hear(self, block: Block) -> Iterator[Heard]:
        """Yield a result for each window that this block completes."""
        taken_ns = began_ns = self._clock_ns()
        if block.gap or block.rate_hz != self._block_rate_hz:
            self._restart(block.rate_hz)
        self._clipping.push(block.samples)
        samples = block.samples if self._resampler is None else self._resampler.resample_chunk(block.samples)
        held_ns = 0 if self._resampler is None else round(self._resampler.delay() * 1e9 / self._rate_hz)
        for window in self._stream.push(samples, block.captured_ns - held_ns):
            capture_us = max(0, taken_ns - window.captured_ns) // 1000
            yield self._judge(window, capture_us, (self._clock_ns() - began_ns) // 1000)
            began_ns = self._clock_ns()

    def forget(self) -> None:
        """Begin a new stream with the next block, as after a gap."""
        self._block_rate_hz = 0

    def tune(self, thresholds: Thresholds) -> None:
        """Decide by other thresholds from the next window on; any thread may say so.

        Raises:
            SettingsError: one is out of its bounds; both stay as they were.
        """
        decision = with_thresholds(self._manifest.decision, uncertain_below=thresholds.uncertain_below)
        self._speech_above, self._decision = check_speech_above(thresholds.speech_above), decision

    def _judge(self, window: Window, capture_us: int, resample_us: int) -> Heard:
        heard_us = self._heard_us(window)
        end_s = window.end_sample / self._rate_hz
        clipped = self._clipping.within(end_s - len(window.samples) / self._rate_hz, end_s)
        began_ns = self._clock_ns()
        speech, goes_on = self._pass(window)
        passed_ns = self._clock_ns()
        if not goes_on:
            self._deciding = fall_silent(self._deciding)
            return Heard(
                end_s=end_s,
                level_dbfs=window.level_dbfs,
                decided_ns=passed_ns,
                speech=speech,
                gated=speech is not None,
                clipped=clipped,
            )
        features = self._stream.features(window)
        extracted_ns = self._clock_ns()
        probabilities = self._classifier.run(features)
        inferred_ns = self._clock_ns()
        self._deciding = advance(self._deciding, probabilities.tolist(), heard_us, self._decision)
        decided_ns = self._clock_ns()
        work_us = resample_us + (decided_ns - began_ns) // 1000
        return Heard(
            end_s=end_s,
            level_dbfs=window.level_dbfs,
            speech=speech,
            clipped=clipped,
            probabilities=tuple(probabilities.tolist()),
            decision=self._deciding.decision,
            latency_us=EventLatency(
                capture=capture_us,
                resample=resample_us,
                gate=(passed_ns - began_ns) // 1000,
                features=(extracted_ns - passed_ns) // 1000,
                inference=(inferred_ns - extracted_ns) // 1000,
                decision=(decided_ns - inferred_ns) // 1000,
                total=max(work_us, (decided_ns - window.captured_ns) // 1000),
            ),
            decided_ns=decided_ns,
            is_event=self._deciding.is_event,
        )

    def _pass(self, window: Window) -> tuple[float | None, bool]:
        """Return the probability of speech, None where nobody asked for it, and whether the window goes on."""
        if window.level_dbfs < self._decision.silent_below_dbfs:
            if self._gate is not None:
                self._gate.skip(window)
            return None, False
        if self._gate is None:
            return None, True
        speech = self._gate.hear(window)
        return speech, speech > self._speech_above

    def _heard_us(self, window: Window) -> int:
        """Return when a window ended, in µs: counted in samples within a stream, so that no block's jitter is in it."""
        end_us = window.end_sample * 1_000_000 // self._rate_hz
        if self._begins_us is None:
            self._begins_us = window.captured_ns // 1000 - end_us
        return self._begins_us + end_us

    def _restart(self, rate_hz: int) -> None:
        """Begin a new stream: no window may span a gap or a change of rate."""
        self._block_rate_hz = rate_hz
        self._stream.reset()
        self._clipping.restart(rate_hz)
        if self._gate is not None:
            self._gate.restart(self._rate_hz)
        self._deciding = break_off(self._deciding)
        self._begins_us = None
        self._resampler = (
            None if rate_hz == self._rate_hz else soxr.ResampleStream(rate_hz, self._rate_hz, 1, dtype="float32")
        )

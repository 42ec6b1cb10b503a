"""A trial of a new model beside the old one, on what the node hears: only the old one is listened to.

    pipeline's thread --feed--> queue --> trial's thread <--pipes--> child (edge_node.ota.beside)

Audio is in memory and in the pipe, never on a disk. The pipeline's thread only appends to the queue: whatever becomes
of the child, it never waits. A queue that is full ends the trial, for a model that cannot keep up is no use.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from broker.contract.errors import BundleError
from broker.contract.updates import TrialFigures
from edge_node.ota.beside import LENGTH_BYTES, Decided, Fed, Line
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.proof import refused
from edge_node.pipeline import Heard
from edge_node.sound.sources import Block

__all__ = ["Trial", "TrialSpec", "judge_trial"]

_log = logging.getLogger(__name__)

_LIMITS: Final = Limits()
_MOST_BLOCKS: Final = 300
"""In the queue: 30 s of audio, while the child loads its libraries and the model; 6 MB at 48 kHz."""
_STALL_S: Final = 20.0
"""A child that was fed and says nothing for this long hangs; a slow disk may take half of it to load the libraries."""
_GRACE_S: Final = 30.0
_OUTPUT_BYTES: Final = 64 << 20
"""Half a kilobyte a second, for a day."""
_ENOUGH_FOR_TIME: Final = 21
"""So that one window alone, in which the device may have been paused, makes no difference to the 95 %."""
_ENOUGH_FOR_AGREEMENT: Final = 40
_MOST_WORDS: Final = 200


class TrialSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial asks of a model."""

    windows: Annotated[int, Meta(ge=1)] = 120
    """Windows that both models judge, silence included, before it ends."""
    most_s: Annotated[float, Meta(gt=0)] = 900.0
    """It ends after this many seconds with what was heard by then, in a quiet room perhaps nothing.

    Those in which the node itself was paused do not count.
    """
    budget_us: Annotated[int, Meta(gt=0)]
    """Longest time that 95 % of the classified windows may take, features and inference, in µs."""
    agreement_at_least: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """Share of the classified windows that both models give the same label."""


def judge_trial(figures: TrialFigures, spec: TrialSpec) -> str | None:
    """Return why a model has failed, by what is known so far, in words; None: nothing speaks against it."""
    if figures.classified >= _ENOUGH_FOR_TIME and figures.p95_us > spec.budget_us:
        took, budget = figures.p95_us / 1000, spec.budget_us / 1000
        return f"95 % of {figures.classified} windows take up to {took:.3g} ms, the budget is {budget:g} ms"
    least = spec.agreement_at_least
    if figures.classified >= _ENOUGH_FOR_AGREEMENT and figures.agreed < least * figures.classified:
        share, due = 100 * figures.agreed / figures.classified, 100 * least
        return f"agrees with the old model on {share:.0f} % of {figures.classified} windows, {due:g} % are due"
    return None


class Trial:
    """One trial, from `start` to an outcome or to `stop`."""

    def __init__(
        self,
        archive: Path,
        sha256: str,
        spec: TrialSpec,
        *,
        limits: Limits = _LIMITS,
        most_blocks: int = _MOST_BLOCKS,
        stall_s: float = _STALL_S,
    ) -> None:
        """Prepare it.

        Args:
            archive: the new bundle's file.
            sha256: of it.
            spec: what is asked of it.
            limits: of the child, of which only the memory counts: how long it runs follows from `spec`.
            most_blocks: of audio that may wait for the child.
            stall_s: after how long without a word a child that is fed hangs, in seconds.
        """
        self.sha256 = sha256
        self._spec, self._most_blocks, self._stall_s = spec, most_blocks, stall_s
        limits = replace(limits, wall_s=spec.most_s + _GRACE_S, output_bytes=_OUTPUT_BYTES)
        self._child = Child("edge_node.ota.beside", [archive, sha256, str(spec.windows)], limits=limits)
        self._now_s = self._child.now_s
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        # one thread appends and one takes: that needs no lock, for which the pipeline's thread might have to wait
        self._queue: deque[tuple[Block, tuple[Decided, ...], tuple[float, ...]]] = deque()
        self._overflowed = self._is_over = False
        self._ends_s = 0.0
        self._sent = 0
        self._unanswered_since_s = 0.0
        self._unread = bytearray()
        self._line: Line | None = None
        self._outcome: TrialFigures | BundleError | ChildError | None = None

    # --- any thread

    def start(self) -> None:
        """Begin, without waiting for the child."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self._outcome = ChildError(Ending.NOT_STARTED, f"cannot be started: {error}")

    def feed(self, block: Block, heard: Sequence[Heard]) -> None:
        """Let the new model hear a block, and know what the old one made of it; returns at once, whatever happens."""
        if self._is_over or self._overflowed:
            return
        if len(self._queue) >= self._most_blocks:
            self._overflowed = True
            return
        old = tuple((each.end_s, None if each.decision is None else each.decision.label) for each in heard)
        self._queue.append((block, old, tuple(each.end_s for each in heard if each.gated)))

    def figures(self) -> TrialFigures | None:
        """Return what was counted so far; None: the child is not ready yet."""
        line = self._line
        return None if line is None else line.figures

    def outcome(self) -> TrialFigures | BundleError | ChildError | None:
        """Return the figures of a trial that was passed, or why it was not; None: it goes on, or was stopped.

        A ChildError: it could not be started, which says nothing about the model.
        """
        return self._outcome

    def stop(self) -> None:
        """End it, if it has not ended, and wait until the child is gone; an outcome that there is stays."""
        self._child.cancel()
        if self._thread.ident is not None:
            self._thread.join()

    # --- the trial's own thread, which the child lives and dies with

    def _run(self) -> None:
        try:
            self._ends_s = self._now_s() + self._spec.most_s
            self._child.converse(self._next, self._take, self._watch)
            self._outcome = self._passed()
        except BundleError as error:
            self._outcome = error
        except ChildError as error:
            if error.ending is Ending.NOT_STARTED:
                self._outcome = error
            elif error.ending is not Ending.CANCELLED:
                self._outcome = _failed(str(refused(error)))
        except Exception as error:  # noqa: BLE001 -- who waits for an outcome must get one
            _log.exception("the trial of %s ended by a defect", self.sha256[:12])
            self._outcome = _failed(f"ended by a defect of this program: {error!r}")
        finally:
            self._is_over = True
            self._queue.clear()
        _log.debug("the trial of %s ended: %s", self.sha256[:12], self._outcome)

    def _next(self) -> bytes | None:
        """Return the next block for the child; b"": none waits; None: the time is over."""
        if self._now_s() >= self._ends_s:
            return None
        if not self._queue:
            return b""
        block, old, refused = self._queue.popleft()
        if self._line is None or self._sent == self._line.blocks:
            self._unanswered_since_s = self._now_s()
        self._sent += 1
        samples = np.ascontiguousarray(block.samples, dtype=np.float32).tobytes()
        fed = Fed(
            samples=samples,
            rate_hz=block.rate_hz,
            captured_ns=block.captured_ns,
            gap=block.gap,
            old=old,
            refused=refused,
        )
        data = msgspec.msgpack.encode(fed)
        return len(data).to_bytes(LENGTH_BYTES, "little") + data

    def _take(self, piece: bytes) -> None:
        """Read what the child says, and end the trial at once where that is enough to fail."""
        self._unread += piece
        *lines, rest = self._unread.split(b"\n")
        self._unread = bytearray(rest)
        for each in lines:
            try:
                self._line = line = msgspec.json.decode(each, type=Line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ChildError(Ending.CRASHED, "answered nonsense") from error
            self._unanswered_since_s = self._now_s()
            failure = line.fault or judge_trial(line.figures, self._spec)
            if failure:
                raise _failed(failure)

    def _watch(self) -> None:
        if self._overflowed:
            waiting_s = sum(len(block.samples) / block.rate_hz for block, *_ in self._queue)
            why = f"the model cannot keep up: {waiting_s:.0f} s of audio wait for it"
            raise _failed(why)
        is_answered = self._line is not None and self._line.blocks >= self._sent
        if self._sent and not is_answered and self._now_s() > self._unanswered_since_s + self._stall_s:
            raise ChildError(Ending.HUNG, f"no word for {self._stall_s:g} s")

    def _passed(self) -> TrialFigures:
        """Return the figures of a child that ended in order."""
        if self._line is None:
            raise ChildError(Ending.CRASHED, "ended without a word")
        return self._line.figures


def _failed(why: str) -> BundleError:
    return BundleError(f"trial: {' '.join(why.split())}"[:_MOST_WORDS])

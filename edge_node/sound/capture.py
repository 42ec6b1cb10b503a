"""Sound that goes on: a source is watched, begun anew when it fails, and closed while the node is muted.

    is muted          close the stream, wait
    blocks come       hand them on
    the source fails  one line in the log; then attempts, as `edge_node.sound.recovery` has them in its table, for ever
    the source ends   so does this: a recording is over

What a supervisor sees: `blocks` yields at least twice a second, a block or a tick (None), whatever the device does, as
long as its loop makes progress; a node that is muted, or looks for a microphone that is not there, is alive. Devices
are opened and closed in this loop. A call of PortAudio that never returns (a sound server that hangs has that effect)
stops the ticks, so that a watchdog that is fed by them ends the program: nothing within the program could. (One that
fails may take a second: PortAudio asks a busy device a hundred times.)
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Final

import msgspec

from broker.contract.condition import CaptureProblem, CaptureReport, CaptureState
from broker.contract.errors import AudioError
from edge_node.sound.recovery import Attempt, Failed, Heard, Load, Recovery, Tier, Trouble, step, weigh
from edge_node.sound.sources import BLOCK_S, TICK_S, Block, Source, SourceError

__all__ = ["Capture", "nothing_to_rescan"]

_log = logging.getLogger(__name__)

_STUCK: Final = (
    "nothing but zeros for {:.0f} s; is its mute switch on, or a plug loose? "
    "The stream is begun anew now and then, for that helps with some drivers"
)
_OVERLOAD: Final = (
    "this machine has lost {:.1f} s of sound within 10 s; "
    "a model with a longer hop, a smaller model or fewer programs beside it help"
)


def nothing_to_rescan() -> None:
    """Look for no devices: recordings have none."""


class Capture:
    """One source, kept going. Belongs to one thread, but for its report and its counters."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        is_muted: Callable[[], bool],
        mutings: Callable[[], int] = lambda: 0,
        rescan: Callable[[], None] = nothing_to_rescan,
        clock_s: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Find the source; it is not listened to yet. That it is not there now is no error: it may come.

        Args:
            open_source: returns the source, found anew each time. No stream is open then.
            is_muted: asked at least every `TICK_S`.
            mutings: how often the node was muted so far: one that is over again before anybody looked counts, too.
            rescan: looks for all devices anew, for `open_source` to find. No stream is open then.
            clock_s: monotonic time, in s.
            wait: waits until an event or for so many seconds.
            chance: a number from 0 to 1, for the time between two attempts.

        Raises:
            AudioError: the source can never be used as it is set.
        """
        self._open_source, self._is_muted, self._rescan = open_source, is_muted, rescan
        self._mutings = mutings
        self._clock_s, self._wait, self._chance = clock_s, wait, chance
        self._source: Source | None = None
        self._dropped_before = 0
        self._rate_hz: int | None = None
        self._state = CaptureState.LISTENING
        self._recovery = Recovery()
        self._load = Load(since_s=clock_s())
        self._told: set[CaptureProblem] = set()
        self._next: Attempt | None = None
        self._is_known = False
        self._due_s = clock_s()
        self._is_gap = False
        self._attempts = dict.fromkeys(Tier, 0)
        self.description = "no source yet"
        """What is listened to, in words; it may change when a source is found again."""
        try:
            self._find()
        except SourceError as error:
            self._fail(error)

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost because the machine was too slow or the device overran; not what nobody heard meanwhile."""
        return self._dropped_before + (0 if self._source is None else self._source.dropped_blocks)

    def report(self) -> CaptureReport:
        """Return how capture stands."""
        trouble, problem = self._recovery.trouble, None
        if trouble is not None:
            problem = trouble.problem
        elif self._load.is_too_much:
            problem = CaptureProblem.OVERLOADED
        return CaptureReport(
            state=self._state,
            problem=problem,
            restarts=self._attempts[Tier.RESTART],
            reopens=self._attempts[Tier.REOPEN],
            rescans=self._attempts[Tier.RESCAN],
        )

    def blocks(self, stop: threading.Event) -> Generator[Block | None, None, None]:
        """Yield blocks until `stop` is set or the source ends, and None at least twice a second while there are none.

        Raises:
            AudioError: the source cannot be used, and that will not mend itself.
        """
        while not stop.is_set():
            is_muted = self._is_muted()
            self._turn(is_muted=is_muted)
            wait_s = TICK_S if is_muted else min(TICK_S, self._due_s - self._clock_s())
            if wait_s > 0:
                self._wait(stop, wait_s)
                yield None
                continue
            try:
                has_ended = yield from self._listen(self._ready(), stop)
            except SourceError as error:
                self._fail(error)
            else:
                if has_ended:
                    return

    def _listen(self, source: Source, stop: threading.Event) -> Generator[Block | None, None, bool]:
        """Hand on one stream's blocks until it is to be begun anew; return whether the source has ended."""
        mutings = self._mutings()
        with contextlib.closing(source.blocks(stop)) as blocks:
            for block in blocks:
                if self._is_muted():  # what was heard since the last look is not handed on
                    return False
                if self._mutings() != mutings:
                    self._is_gap = True
                    _log.info("%s was muted meanwhile; what came since the last look is thrown away", self.description)
                    return False
                if block is None:
                    yield None
                    continue
                self._weigh()
                attempt = self._hear(block)
                yield msgspec.structs.replace(block, gap=True) if self._is_gap else block
                self._is_gap = False
                if attempt is not None:
                    self._schedule(attempt)
                    return False
        return True

    def _turn(self, *, is_muted: bool) -> None:
        """Note that the node has been muted, or is no longer."""
        if is_muted == (self._state is CaptureState.MUTED):
            return
        self._is_gap = True
        self._next, self._due_s = None, self._clock_s()
        if is_muted:
            self._state = CaptureState.MUTED
            self._recovery = Recovery(zeros_attempts=self._recovery.zeros_attempts)
            self._load = Load(since_s=self._clock_s(), dropped_blocks=self.dropped_blocks)
            self._told.clear()
            self._is_known = False  # what was device 1 may be another one by the time it is listened to again
            _log.info("%s is closed: muted", self.description)
        else:
            self._state = CaptureState.LISTENING
            _log.info("%s is opened again: no longer muted", self.description)

    def _ready(self) -> Source:
        """Begin anew what is to be begun anew, and return the source.

        Raises:
            SourceError: it is not there.
        """
        tier = None if self._next is None else self._next.tier
        if tier is Tier.RESTART and not self._is_known:
            tier = Tier.REOPEN
        if tier is not None:
            self._attempts[tier] += 1
        if tier is Tier.RESCAN:
            self._rescan()
        if self._source is not None and self._is_known and tier in {None, Tier.RESTART}:
            return self._source
        try:
            return self._find()
        except SourceError:
            raise
        except AudioError as error:  # what is there now cannot be used; what will be there next, perhaps
            raise SourceError(CaptureProblem.UNUSABLE, self.description, str(error)) from error

    def _find(self) -> Source:
        self._is_known = False
        source = self._open_source()
        self._dropped_before, self._source = self.dropped_blocks, source
        self._is_known = True
        self.description = source.description
        return source

    def _hear(self, block: Block) -> Attempt | None:
        """Note a block, and say what is over; return what to do about zeros, if anything."""
        now_s = self._clock_s()
        self._state, self._next = CaptureState.LISTENING, None
        before = self._recovery.trouble
        self._recovery, attempt = step(self._recovery, Heard(zeros=block.zeros), now_s)
        trouble = self._recovery.trouble
        if before is not None and trouble is None:
            self._say_over(before, block, now_s)
        elif trouble is not None and trouble.problem is CaptureProblem.STUCK and before is None:
            _log.warning("%s: %s: %s", CaptureProblem.STUCK, self.description, _STUCK.format(now_s - trouble.began_s))
        if trouble is None:
            self._rate_hz = block.rate_hz
            self._told.clear()
        return attempt

    def _fail(self, error: SourceError) -> None:
        """Say what is wrong, once, and decide what to do."""
        now_s = self._clock_s()
        self._state, self._is_gap = CaptureState.RECOVERING, True
        if self._source is None:
            self.description = error.description
        self._recovery, attempt = step(self._recovery, Failed(error.problem), now_s)
        if error.problem not in self._told:
            self._told.add(error.problem)
            _log.warning("%s: %s (tried again, at most a minute apart, until it works)", error.problem, error)
        if attempt is not None:
            self._schedule(attempt)

    def _schedule(self, attempt: Attempt) -> None:
        self._is_gap = True
        self._next = attempt
        self._due_s = self._clock_s() + attempt.wait_s * (1 + self._chance()) / 2

    def _say_over(self, trouble: Trouble, block: Block, now_s: float) -> None:
        if trouble.problem is CaptureProblem.STUCK:
            what = f"nothing but zeros for {now_s - trouble.began_s:.0f} s"
        else:
            what = f"{trouble.deaf_s:.1f} s without sound"
        is_new_rate = self._rate_hz not in {None, block.rate_hz}
        rate = f", now at {block.rate_hz} Hz instead of {self._rate_hz} Hz" if is_new_rate else ""
        _log.info(
            "%s is heard again after %s (%s; attempts: %d)%s",
            *(self.description, what, trouble.problem, trouble.attempts, rate),
        )

    def _weigh(self) -> None:
        """Say when this machine cannot keep up, and when it can again."""
        before, self._load = self._load, weigh(self._load, self.dropped_blocks, self._clock_s())
        if self._load.is_too_much and not before.is_too_much:
            _log.warning(
                "%s: %s: %s",
                CaptureProblem.OVERLOADED,
                self.description,
                _OVERLOAD.format(self._load.lost_blocks * BLOCK_S),
            )
        elif before.is_too_much and not self._load.is_too_much:
            lost_s = self._load.lost_blocks * BLOCK_S
            _log.info("%s: this machine keeps up again; %.1f s of sound were lost", self.description, lost_s)

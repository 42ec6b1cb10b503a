"""A program that listens through `Capture`, says twice a second how it stands, and mutes when it is told to.

    python listen.py DEVICE SPEED        and then lines on stdin: mute, unmute

SPEED is how much faster than time the clock runs by which it waits between two attempts; sound comes at its own pace.
Each line on stdout is a JSON object; the log is on stderr.
"""

import contextlib
import json
import logging
import sys
import threading
import time
from collections import deque

import msgspec
import numpy as np

from edge_node.sound.capture import Capture
from edge_node.sound.microphone import opener
from edge_node.sound.portaudio import rescan
from edge_node.sound.sources import Block

SAY_EVERY_S = 0.5


class Ear:
    """What was heard of late."""

    def __init__(self) -> None:
        self.blocks = self.ticks = self.gaps = 0
        self._rate_hz = 0
        self._last: deque[np.ndarray] = deque(maxlen=5)

    def take(self, block: Block | None) -> None:
        if block is None:
            self.ticks += 1
            self._last.clear()
            return
        self.blocks += 1
        self.gaps += block.gap
        self._rate_hz = block.rate_hz
        self._last.append(block.samples)

    def tone_hz(self) -> int | None:
        """Return the strongest frequency of the last half second, in Hz; None: no sound, or not yet for so long."""
        if len(self._last) < 5:
            return None
        heard = np.concatenate(self._last)
        if not heard.any():
            return None
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
        return round(float(spectrum.argmax()) * self._rate_hz / len(heard))


def main() -> None:
    device, speed = sys.argv[1], float(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    is_muted, stop, ear = threading.Event(), threading.Event(), Ear()

    def obey() -> None:
        for line in sys.stdin:
            (is_muted.set if line.strip() == "mute" else is_muted.clear)()
        stop.set()

    threading.Thread(target=obey, daemon=True).start()
    capture = Capture(
        opener(device),
        is_muted=is_muted.is_set,
        rescan=rescan,
        clock_s=lambda: time.monotonic() * speed,
        wait=lambda event, wait_s: event.wait(wait_s / speed),
    )
    due_s = 0.0
    for block in capture.blocks(stop):
        ear.take(block)
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + SAY_EVERY_S
            said = msgspec.to_builtins(capture.report()) | {
                "description": capture.description,
                "dropped": capture.dropped_blocks,
                "blocks": ear.blocks,
                "ticks": ear.ticks,
                "gaps": ear.gaps,
                "tone_hz": ear.tone_hz(),
            }
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the test is over
        main()

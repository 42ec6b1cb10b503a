"""Recordings, played as if a microphone heard them. `soundfile` is imported only where a file is read."""

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from broker.contract.errors import AudioError
from edge_node.sound.sources import BLOCK_S, HIGHEST_RATE_HZ, LOWEST_RATE_HZ, STALE_S, Block, Samples, printable

__all__ = ["AUDIO_ENDINGS", "Replay", "read_recording"]

_log = logging.getLogger(__name__)

AUDIO_ENDINGS: Final = (".wav", ".flac")

_PAUSE_S: Final = 1.0
"""Silence that replay puts between two recordings."""
_MOST_CHANNELS: Final = 2
_LARGEST_SAMPLE: Final = 1e6
"""Full scale is 1; a file of float samples with the range of 16-bit integers is still understood."""


class Replay:
    """Recordings, one after the other, at the pace of a microphone or as fast as they are taken."""

    dropped_blocks = 0

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        name: str | None = None,
        repeat: bool = False,
        real_time: bool = True,
        channel: int | None = None,
    ) -> None:
        """Choose recordings.

        Args:
            paths: files, and folders whose WAV and FLAC files are meant, in name order.
            name: what to call them in the status; None: by their files' names.
            repeat: begin again after the last.
            real_time: wait as long as the audio lasts.
            channel: the channel to hear, from 1; None: mono as it is, stereo mixed down.

        Raises:
            AudioError: a path does not exist, or there is no recording in it.
        """
        self._files = [file for path in paths for file in _recordings(path)]
        self._repeat = repeat
        self._real_time = real_time
        self._channel = channel
        self.description = printable(f"replay: {name or ', '.join(path.name or str(path) for path in paths)}")

    def blocks(self, stop: threading.Event) -> Generator[Block, None, None]:
        """Yield the recordings' blocks, with a second of silence after each.

        Raises:
            AudioError: a recording cannot be used, and it is the only one. (Of several, it is skipped and logged.)
        """
        usable = list(self._files)
        pace = _Pace(stop, real_time=self._real_time)
        while usable and not stop.is_set():
            for file in list(usable):
                try:
                    samples, rate_hz = read_recording(file, self._channel)
                except AudioError as error:
                    usable.remove(file)
                    if not usable:
                        raise
                    _log.warning("%s; skipped", error)
                    continue
                yield from pace.blocks(_with_pause(samples, rate_hz), rate_hz)
                if stop.is_set():
                    return
            if not self._repeat:
                return


class _Pace:
    """Hands out blocks when a microphone would have captured them."""

    def __init__(self, stop: threading.Event, *, real_time: bool) -> None:
        self._stop = stop
        self._real_time = real_time
        self._due_ns = time.monotonic_ns()

    def blocks(self, samples: Samples, rate_hz: int) -> Iterator[Block]:
        length = int(BLOCK_S * rate_hz)
        for start in range(0, len(samples), length):
            part = samples[start : start + length]
            self._due_ns += len(part) * 1_000_000_000 // rate_hz
            wait_s = (self._due_ns - time.monotonic_ns()) / 1e9
            if self._stop.wait(max(0.0, wait_s) if self._real_time else 0.0):
                return
            if wait_s < -STALE_S:  # the machine slept: do not rush to catch up
                self._due_ns = time.monotonic_ns()
            yield Block(samples=part, rate_hz=rate_hz, captured_ns=self._due_ns)


def read_recording(file: Path, channel: int | None = None) -> tuple[Samples, int]:
    """Return a recording as mono samples, shape (n,), float32, and its rate in Hz.

    Args:
        file: WAV or FLAC.
        channel: the channel to take, from 1; None: mono as it is, stereo mixed down.

    Raises:
        AudioError: not audio, empty, cut short, NaN in it, an unsupported rate or number of channels.
    """
    import soundfile  # noqa: PLC0415 -- 1 MiB of library that a microphone node does not need

    try:
        with soundfile.SoundFile(file) as opened:
            frames, channels, rate_hz = opened.frames, opened.channels, opened.samplerate
            samples = opened.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        why = "no such file" if not file.exists() else "empty file" if file.stat().st_size == 0 else str(error)
        msg = f"{file}: {why}; give a WAV or FLAC recording"
        raise AudioError(msg) from error
    if len(samples) == 0 or len(samples) < frames or _is_cut_short(file):
        msg = f"{file}: the recording is empty or cut short; give the whole file"
        raise AudioError(msg)
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        msg = f"{file}: {rate_hz} Hz; rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be used"
        raise AudioError(msg)
    if not np.abs(samples).max() <= _LARGEST_SAMPLE:  # false for NaN
        msg = f"{file}: holds NaN, infinite or absurdly large samples; export it again with full scale at 1"
        raise AudioError(msg)
    return _one_channel(file, samples, channels, channel), rate_hz


def _with_pause(samples: Samples, rate_hz: int) -> Samples:
    """Append silence, so that the next recording begins with a whole block, as everything does at a microphone."""
    to_whole_block = -len(samples) % int(BLOCK_S * rate_hz)
    return np.pad(samples, (0, int(_PAUSE_S * rate_hz) + to_whole_block))


def _is_cut_short(file: Path) -> bool:
    """Return whether a WAV file is shorter than its header says: libsndfile reads such a file without a word."""
    with file.open("rb") as opened:
        head = opened.read(8)
    declared = int.from_bytes(head[4:8], "little")
    is_streamed = declared in {0, 0xFFFFFFFF}  # written by a program that could not go back to the header
    return head[:4] == b"RIFF" and not is_streamed and declared + 8 > file.stat().st_size


def _one_channel(file: Path, samples: Samples, channels: int, channel: int | None) -> Samples:
    if channel is not None and channel > channels:
        msg = f"{file}: has {channels} channels, not {channel}"
        raise AudioError(msg)
    if channel is None and channels > _MOST_CHANNELS:
        msg = f"{file}: has {channels} channels; choose one with --channel"
        raise AudioError(msg)
    mono: Samples = samples.mean(axis=1) if channel is None else samples[:, channel - 1]
    return mono


def _recordings(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        msg = f"{path}: no such file or folder"
        raise AudioError(msg)
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in AUDIO_ENDINGS)
    if not found:
        msg = f"{path}: no WAV or FLAC recording in this folder"
        raise AudioError(msg)
    return found

"""Where sound comes from: a microphone, or recordings played as if they were one.

A source yields blocks. `sounddevice` and `soundfile` are imported only where they are used: a machine without
PortAudio runs everything but the microphone.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import AudioError

__all__ = ["AUDIO_ENDINGS", "Block", "BlockQueue", "Microphone", "Replay", "Source", "list_devices", "read_recording"]

_log = logging.getLogger(__name__)

AUDIO_ENDINGS: Final = (".wav", ".flac")
LOWEST_RATE_HZ: Final = 16_000
"""Below this the band that the features listen to is not in the signal."""
HIGHEST_RATE_HZ: Final = 192_000

_BLOCK_S: Final = 0.1
_QUEUE_BLOCKS: Final = 50
"""5 s of audio: more than a slow pipeline is ever behind unless it cannot keep up at all."""
_PAUSE_S: Final = 1.0
"""Silence that replay puts between two recordings."""
_MOST_CHANNELS: Final = 2
_STALE_S: Final = 5.0
_LARGEST_SAMPLE: Final = 1e6
"""Full scale is 1; a file of float samples with the range of 16-bit integers is still understood."""

Samples = npt.NDArray[np.float32]


class Block(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A piece of mono audio."""

    samples: Samples
    """Shape (n,), float32, full scale at 1, finite."""
    rate_hz: int
    captured_ns: int
    """Monotonic time at which the last sample was captured, in ns; replay that runs ahead of time says when a
    microphone would have captured it."""
    gap: bool = False
    """Whether audio between the previous block and this one is missing."""


class Source(Protocol):
    """Anything that a node can listen to."""

    @property
    def description(self) -> str:
        """What it is, in words, for the status message."""

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost so far."""

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
        """Yield blocks until `stop` is set or there are no more.

        Raises:
            AudioError: the source cannot be used.
        """


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
        self.description = _printable(f"replay: {name or ', '.join(path.name or str(path) for path in paths)}")

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
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
                yield from pace.blocks(samples, rate_hz)
                if stop.is_set():
                    return
                yield from pace.blocks(np.zeros(int(_PAUSE_S * rate_hz), dtype=np.float32), rate_hz)
            if not self._repeat:
                return


class _Pace:
    """Hands out blocks when a microphone would have captured them."""

    def __init__(self, stop: threading.Event, *, real_time: bool) -> None:
        self._stop = stop
        self._real_time = real_time
        self._due_ns = time.monotonic_ns()

    def blocks(self, samples: Samples, rate_hz: int) -> Iterator[Block]:
        length = int(_BLOCK_S * rate_hz)
        for start in range(0, len(samples), length):
            part = samples[start : start + length]
            self._due_ns += len(part) * 1_000_000_000 // rate_hz
            wait_s = (self._due_ns - time.monotonic_ns()) / 1e9
            if self._stop.wait(max(0.0, wait_s) if self._real_time else 0.0):
                return
            if wait_s < -_STALE_S:  # the machine slept: do not rush to catch up
                self._due_ns = time.monotonic_ns()
            yield Block(samples=part, rate_hz=rate_hz, captured_ns=self._due_ns)


class BlockQueue:
    """Blocks between one thread that puts and one that gets; when full, the oldest goes, and a gap is where it was."""

    def __init__(self, most_blocks: int) -> None:
        """Start empty."""
        self._queue: queue.Queue[tuple[int, Block]] = queue.Queue(most_blocks)
        self._put = 0
        self._got = 0
        self.dropped_blocks = 0
        """Blocks that nobody will get."""

    def put(self, block: Block, *, lost_before: bool = False) -> None:
        """Append a block, without waiting; `lost_before`: the device has dropped what came before it."""
        self._put += 2 if lost_before else 1
        self.dropped_blocks += lost_before
        while True:
            try:
                self._queue.put_nowait((self._put, block))
            except queue.Full:
                self._drop_oldest()
            else:
                return

    def get(self, timeout_s: float) -> Block:
        """Return the oldest block, marked when the one before it is missing.

        Raises:
            queue.Empty: none came in time.
        """
        number, block = self._queue.get(timeout=timeout_s)
        gap = number != self._got + 1
        self._got = number
        return msgspec.structs.replace(block, gap=gap)

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return  # the pipeline was quicker
        self.dropped_blocks += 1


class Microphone:
    """A sound card's input at its own rate."""

    def __init__(self, device: str | int | None = None, channel: int = 1) -> None:
        """Choose a device.

        Args:
            device: part of its name, its number, or None for the default; `sottovoce-node devices` lists them.
            channel: the channel to hear, from 1.

        Raises:
            AudioError: PortAudio is not installed, or there is no such input.
        """
        self._sounddevice = _sounddevice()
        try:
            found = self._sounddevice.query_devices(device, "input")
        except (ValueError, self._sounddevice.PortAudioError) as error:
            wanted = "the default microphone" if device is None else f"microphone {device!r}"
            msg = f"{wanted}: {error}; connect one, or choose another from `sottovoce-node devices`"
            raise AudioError(msg) from error
        if channel > found["max_input_channels"]:
            msg = f"microphone {found['name']!r} has {found['max_input_channels']} channels, not {channel}"
            raise AudioError(msg)
        self._device = found["index"]
        self._channel = channel
        self._rate_hz = int(found["default_samplerate"])
        self._queue = BlockQueue(_QUEUE_BLOCKS)
        self.description = _printable(f"microphone: {found['name']}")

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost so far."""
        return self._queue.dropped_blocks

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
        """Yield what the microphone hears, as it hears it.

        Raises:
            AudioError: the device cannot be opened, or has stopped delivering.
        """
        try:
            stream = self._sounddevice.InputStream(
                device=self._device,
                samplerate=self._rate_hz,
                blocksize=int(_BLOCK_S * self._rate_hz),
                channels=self._channel,
                dtype="float32",
                callback=self._heard,
            )
            with stream:
                while not stop.is_set():
                    try:
                        yield self._queue.get(_STALE_S)
                    except queue.Empty:
                        msg = f"{self.description} has delivered nothing for {_STALE_S:g} s; is it still connected?"
                        raise AudioError(msg) from None
        except self._sounddevice.PortAudioError as error:
            msg = f"{self.description}: {error}; is another program using it?"
            raise AudioError(msg) from error

    def _heard(self, samples: Samples, frames: int, times: Any, status: Any) -> None:  # noqa: ANN401 -- PortAudio's own structs
        """Copy into the queue and nothing else: this runs on PortAudio's thread."""
        now_ns = time.monotonic_ns()
        age_s = times.currentTime - times.inputBufferAdcTime - frames / self._rate_hz
        age_ns = int(age_s * 1e9) if 0 <= age_s < 1 else 0  # some back ends do not tell
        block = Block(samples=samples[:, self._channel - 1].copy(), rate_hz=self._rate_hz, captured_ns=now_ns - age_ns)
        self._queue.put(block, lost_before=bool(status.input_overflow))


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


def list_devices() -> list[dict[str, Any]]:
    """Return PortAudio's inputs, each with index, name, channels, rate_hz and whether it is the default.

    Raises:
        AudioError: PortAudio is not installed.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        {
            "index": each["index"],
            "name": each["name"],
            "channels": each["max_input_channels"],
            "rate_hz": int(each["default_samplerate"]),
            "default": each["index"] == default,
        }
        for each in sounddevice.query_devices()
        if each["max_input_channels"] > 0
    ]


def _printable(description: str) -> str:
    """Return what fits into a status message: file names may hold line breaks and bytes that are no UTF-8."""
    return "".join(each if each.isprintable() else "?" for each in description)[:128]


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


def _sounddevice() -> Any:  # noqa: ANN401 -- a module without types
    try:
        import sounddevice  # noqa: PLC0415 -- needs PortAudio, which only a microphone does
    except ImportError as error:
        msg = "the package sounddevice is missing: pip install 'sottovoce[node]'"
        raise AudioError(msg) from error
    except OSError as error:
        msg = f"{error}; a microphone needs it: sudo apt install libportaudio2"
        raise AudioError(msg) from error
    return sounddevice

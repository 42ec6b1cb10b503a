"""A microphone, through PortAudio.

`sounddevice` is imported only when it is used: a machine without PortAudio runs everything else.
"""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from broker.contract.errors import AudioError
from edge_node.sources import BLOCK_S, STALE_S, Block, Samples, printable

__all__ = ["BlockQueue", "Microphone", "list_devices"]

_QUEUE_BLOCKS: Final = 50
"""5 s of audio: more than a slow pipeline is ever behind unless it cannot keep up at all."""


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

    def lose_last(self) -> None:
        """Count the block that `get` returned last as lost: it was of no use."""
        self._got -= 1
        self.dropped_blocks += 1

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
        self.description = printable(f"microphone: {found['name']}")

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
                blocksize=int(BLOCK_S * self._rate_hz),
                channels=self._channel,
                dtype="float32",
                callback=self._heard,
            )
            with stream:
                while not stop.is_set():
                    try:
                        block = self._queue.get(STALE_S)
                    except queue.Empty:
                        msg = f"{self.description} has delivered nothing for {STALE_S:g} s; is it still connected?"
                        raise AudioError(msg) from None
                    if np.isfinite(block.samples).all():
                        yield block
                    else:  # a broken driver
                        self._queue.lose_last()
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

"""A microphone, through PortAudio."""

import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import msgspec

from broker.contract.errors import AudioError
from edge_node.noise import without_noise
from edge_node.sound.block_queue import BlockQueue, listen
from edge_node.sound.conditioning import Conditioning
from edge_node.sound.portaudio import find, list_devices, problem_of, rescan, sound_cards, sounddevice
from edge_node.sound.sources import BLOCK_S, HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Block, Samples, SourceError, printable

__all__ = ["Microphone", "opener"]

_QUEUE_BLOCKS: Final = 50
"""5 s of audio: more than a slow pipeline is ever behind unless it cannot keep up at all."""


class Microphone:
    """A sound card's input at its own rate."""

    def __init__(
        self,
        device: str | int | None = None,
        channel: int = 1,
        *,
        gain_db: float = 0.0,
        remove_dc: bool = True,
    ) -> None:
        """Choose a device; it is not opened yet.

        Args:
            device: part of its name, its number, or None for the default; `sottovoce-node devices` lists them.
            channel: the channel to hear, from 1.
            gain_db: amplification, in dB.
            remove_dc: whether to take a constant offset away, as I2S microphones have it.

        Raises:
            SourceError: there is no such input now.
            AudioError: PortAudio is not installed, the input has no such channel, or its rate cannot be used.
        """
        found = find(list_devices(), device)
        if channel > found.channels:
            msg = f"microphone {found.name!r} has {found.channels} channels, not {channel}; set channel in [source]"
            raise AudioError(msg)
        if not LOWEST_RATE_HZ <= found.rate_hz <= HIGHEST_RATE_HZ:
            msg = (
                f"microphone {found.name!r} runs at {found.rate_hz} Hz; "
                f"rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be used"
            )
            raise AudioError(msg)
        self._device = found
        self._channel = channel
        self._gain_db, self._remove_dc = gain_db, remove_dc
        self._queue = BlockQueue(_QUEUE_BLOCKS)
        self.description = printable(f"microphone: {found.name}")
        self.name = found.name

    @property
    def dropped_blocks(self) -> int:
        """Blocks lost so far."""
        return self._queue.dropped_blocks

    def blocks(self, stop: threading.Event) -> Generator[Block | None, None, None]:
        """Yield what the microphone hears, as it hears it, and None every `TICK_S` while it delivers nothing.

        The stream is open from the first step to the last, and closed when this generator is.

        Raises:
            SourceError: the device cannot be opened, or has stopped delivering.
        """
        self._queue = BlockQueue(_QUEUE_BLOCKS, self._queue.dropped_blocks)  # what the last stream left is old
        condition = Conditioning(self._gain_db, remove_dc=self._remove_dc)
        stream = self._opened()
        try:
            for block in listen(self._queue, self.description, lambda: bool(stream.active), stop):
                if block is None:
                    yield None
                else:
                    samples = condition(block.samples, block.rate_hz)
                    yield msgspec.structs.replace(block, samples=samples, zeros=not block.samples.any())
        finally:
            stream.abort(ignore_errors=True)  # at once: nothing that is still in the device is wanted
            stream.close(ignore_errors=True)

    def _opened(self) -> Any:  # noqa: ANN401 -- sounddevice has no types
        module = sounddevice()
        stream = None
        try:
            with without_noise():
                stream = module.InputStream(
                    device=self._device.index,
                    samplerate=self._device.rate_hz,
                    blocksize=int(BLOCK_S * self._device.rate_hz),
                    channels=self._channel,
                    dtype="float32",
                    callback=self._heard,
                )
                stream.start()
        except module.PortAudioError as error:
            if stream is not None:
                stream.close(ignore_errors=True)
            problem, why = problem_of(error)
            raise SourceError(problem, self.description, why) from error
        return stream

    def _heard(self, samples: Samples, frames: int, times: Any, status: Any) -> None:  # noqa: ANN401 -- PortAudio's own structs
        """Copy into the queue and nothing else: this runs on PortAudio's thread."""
        now_ns = time.monotonic_ns()
        rate_hz = self._device.rate_hz
        age_s = times.currentTime - times.inputBufferAdcTime - frames / rate_hz
        age_ns = int(age_s * 1e9) if 0 <= age_s < 1 else 0  # some back ends do not tell
        block = Block(samples=samples[:, self._channel - 1].copy(), rate_hz=rate_hz, captured_ns=now_ns - age_ns)
        self._queue.put(block, lost_before=bool(status.input_overflow))


def opener(
    device: str | int | None = None,
    channel: int = 1,
    *,
    gain_db: float = 0.0,
    remove_dc: bool = True,
    cards: Callable[[], str] = sound_cards,
) -> Callable[[], Microphone]:
    """Return what opens a microphone, and opens the same one again later, for `edge_node.sound.capture`.

    Devices are looked for anew when cards have come or gone: ALSA gives a card's number to the next one that comes, and
    what PortAudio has in its list under a name would be another microphone.

    Args:
        device: as `Microphone` takes it. What a number means is found out once: the device is found again by its name.
            The default is whatever is the default then.
        channel: as `Microphone` takes it.
        gain_db: likewise.
        remove_dc: likewise.
        cards: returns another text when a sound card has come or gone.
    """
    wanted, known = device, cards()

    def opened() -> Microphone:
        nonlocal wanted, known
        if (there_are := cards()) != known:
            rescan()
            known = there_are
        microphone = Microphone(wanted, channel, gain_db=gain_db, remove_dc=remove_dc)
        if isinstance(wanted, int):
            wanted = microphone.name
        return microphone

    return opened

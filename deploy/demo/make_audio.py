"""Makes the demonstration audio: sentences spoken by espeak-ng, with different prosody. No human voice is in it.

    python -m deploy.demo.make_audio

Needs espeak-ng (sudo apt install espeak-ng). The files are committed, so that a demo needs nothing but them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import soundfile
import soxr

__all__ = ["AUDIO", "main"]

AUDIO: Final = Path(__file__).parent / "audio"
_RATE_HZ: Final = 16_000
_PEAK: Final = 0.5


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the play."""

    place: str
    """Folder, and name of the node that will hear it."""
    name: str
    voice: str
    pitch: int
    """espeak-ng's base pitch, 0 to 99."""
    spread: str
    """How much the pitch moves, as SSML's `range`."""
    words_per_minute: int
    gain: float
    """Peak relative to the loudest sentence."""
    text: str


PLAY: Final = (
    Sentence(
        place="kitchen",
        name="1-delight",
        voice="en-us+f3",
        pitch=75,
        spread="x-high",
        words_per_minute=190,
        gain=0.9,
        text="Oh, that is wonderful! You baked the cake yourself? It smells so good!",
    ),
    Sentence(
        place="kitchen",
        name="2-plain",
        voice="en-us+f3",
        pitch=42,
        spread="low",
        words_per_minute=155,
        gain=0.5,
        text="The dishes are in the cupboard. The spoons are in the second drawer.",
    ),
    Sentence(
        place="kitchen",
        name="3-anger",
        voice="en-us+m7",
        pitch=60,
        spread="x-high",
        words_per_minute=210,
        gain=1.0,
        text="No! I told you not to touch the stove! Why do you never listen?",
    ),
    Sentence(
        place="living-room",
        name="1-plain",
        voice="en-gb",
        pitch=40,
        spread="low",
        words_per_minute=150,
        gain=0.5,
        text="The train leaves at nine. It arrives in the afternoon.",
    ),
    Sentence(
        place="living-room",
        name="2-sad",
        voice="en-gb",
        pitch=18,
        spread="x-low",
        words_per_minute=105,
        gain=0.3,
        text="I miss her so much. The house is empty now.",
    ),
    Sentence(
        place="living-room",
        name="3-surprise",
        voice="en-gb+f2",
        pitch=85,
        spread="x-high",
        words_per_minute=195,
        gain=0.9,
        text="Really? They are coming tonight? What a lovely surprise!",
    ),
    Sentence(
        place="van-1",
        name="1-plain",
        voice="en-us+m3",
        pitch=35,
        spread="medium",
        words_per_minute=160,
        gain=0.6,
        text="Turn left after the bridge, then follow the main road.",
    ),
    Sentence(
        place="van-1",
        name="2-fear",
        voice="en-us+m3",
        pitch=80,
        spread="high",
        words_per_minute=230,
        gain=1.0,
        text="Look out! Brake! There is somebody on the road!",
    ),
    Sentence(
        place="van-1",
        name="3-relief",
        voice="en-us+m3",
        pitch=55,
        spread="high",
        words_per_minute=165,
        gain=0.7,
        text="That was close. We are fine, everybody is fine. Great, let us go on.",
    ),
)


def main() -> int:
    """Write every sentence as FLAC and return the exit code."""
    for sentence in PLAY:
        file = AUDIO / sentence.place / f"{sentence.name}.flac"
        file.parent.mkdir(parents=True, exist_ok=True)
        samples = _speak(sentence)
        soundfile.write(file, samples, _RATE_HZ, subtype="PCM_16")
        sys.stdout.write(f"{file}: {len(samples) / _RATE_HZ:.1f} s, {file.stat().st_size} bytes\n")
    return 0


def _speak(sentence: Sentence) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "spoken.wav"
        command = [
            "espeak-ng", "-m", "-v", sentence.voice, "-p", str(sentence.pitch), "-s", str(sentence.words_per_minute),
            "-w", str(wave), f'<prosody range="{sentence.spread}">{sentence.text}</prosody>',
        ]  # fmt: skip
        subprocess.run(command, check=True)  # noqa: S603 -- our own text
        samples, rate_hz = soundfile.read(wave, dtype="float32")
    resampled = soxr.resample(samples, rate_hz, _RATE_HZ)
    return np.asarray(resampled * (_PEAK * sentence.gain / np.abs(resampled).max()), dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())

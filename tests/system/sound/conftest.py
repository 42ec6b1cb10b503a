"""A microphone without a sound card: PulseAudio plays into a virtual one, dies, comes back, loses it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

Until = Callable[..., None]
PARTS = ("pulseaudio", "pactl", "paplay")
TONE_HZ = 1_000


class SoundServer:
    """PulseAudio with a loudspeaker `vspk` and a microphone `vmic` that hears it."""

    def __init__(self, folder: Path, until: Until) -> None:
        self._socket = folder / "pulse.socket"
        self._script = folder / "pulse.pa"
        self._until = until
        home = folder / "home"
        home.mkdir()
        (home / ".asoundrc").write_text(
            'pcm.vmic { type pulse device "vmic" hint { show on description "Virtual microphone" } }\n'
        )
        self._script.write_text(
            f"load-module module-native-protocol-unix socket={self._socket} auth-anonymous=1\n"
            "load-module module-null-sink sink_name=vspk rate=48000 channels=1\n"
            "load-module module-remap-source master=vspk.monitor source_name=vmic channels=1\n"
        )
        self.environment = os.environ | {
            "HOME": str(home),
            "PULSE_SERVER": f"unix:{self._socket}",
            "XDG_RUNTIME_DIR": str(folder),
        }
        self._tone = folder / "tone.wav"
        self._playing: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", "-F", self._script, "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._until(self._socket.exists, "PulseAudio listens")
        self._until(lambda: "vmic" in self.control("list", "short", "sources"), "PulseAudio has the microphone")

    def kill(self) -> None:
        """End it as a crash would."""
        self._server.kill()
        self._server.wait()
        self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Take the microphone away, and all that its listeners could be moved to instead."""
        self.control("unload-module", "module-null-sink")

    def plug_in(self) -> None:
        self.control("load-module", "module-null-sink", "sink_name=vspk", "rate=48000", "channels=1")
        self.control("load-module", "module-remap-source", "master=vspk.monitor", "source_name=vmic", "channels=1")

    def listeners(self) -> list[str]:
        """Return the programs that the server lets hear, one line each."""
        lines = self.control("list", "short", "source-outputs").splitlines()
        return [line for line in lines if "module-remap-source" not in line]

    def control(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pactl", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )
        return done.stdout

    def play(self, recording: Path) -> None:
        self._playing.append(subprocess.Popen(["paplay", "--device=vspk", recording], env=self.environment))

    def is_playing(self) -> bool:
        return any(each.poll() is None for each in self._playing)

    def play_tone(self) -> None:
        """Play a tone of 1,000 Hz for longer than any test takes."""
        if not self._tone.exists():
            tone = 0.3 * np.sin(2 * np.pi * TONE_HZ * np.arange(120 * 48_000) / 48_000)
            soundfile.write(self._tone, tone, 48_000)
        self.play(self._tone)

    def hush(self) -> None:
        for each in self._playing:
            each.terminate()
            each.wait(10)
        self._playing.clear()

    def end(self) -> None:
        self.hush()
        self.go_on()
        self._server.terminate()
        self._server.wait(10)


@pytest.fixture
def sound_server(tmp_path: Path, until: Until) -> Iterator[SoundServer]:
    missing = [each for each in PARTS if shutil.which(each) is None]
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {missing}: apt-get install pulseaudio pulseaudio-utils libasound2-plugins")
        pytest.skip(f"{missing} are not installed: a virtual microphone needs PulseAudio")
    server = SoundServer(tmp_path, until)
    server.start()
    try:
        yield server
    finally:
        server.end()


class Listener:
    """The program `listen.py` in a process of its own: what it says, last of all, and its log."""

    def __init__(self, environment: dict[str, str], until: Until, *, speed: float) -> None:
        root = Path(__file__).parents[3]
        self._until = until
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("listen.py"), "vmic", str(speed)],
            env=environment | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self.said_s = time.monotonic()
        """When it said the last of that."""
        self.log: list[str] = []
        self._threads = [threading.Thread(target=each) for each in (self._hear, self._read)]
        for each in self._threads:
            each.start()

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def until(self, what: str, **expected: object) -> None:
        """Wait until it says all of this, later than now."""
        from_here = len(self.said)

        def is_said() -> bool:
            assert self._process.poll() is None, self.log
            return any(each.items() >= expected.items() for each in self.said[from_here:])

        self._until(is_said, f"{what}; last: {self.said[-1:]}, log: {self.log}", 40)

    def lines(self, level: str) -> list[str]:
        return [line for line in self.log if line.startswith(level)]

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it stops
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for each in self._threads:
            each.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))
            self.said_s = time.monotonic()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.rstrip())


@pytest.fixture
def listen(sound_server: SoundServer, until: Until, request: pytest.FixtureRequest) -> Callable[..., Listener]:
    """Start a listener whose clock, by which it waits between two attempts, runs faster than time."""

    def listened(*, speed: float = 10) -> Listener:
        listener = Listener(sound_server.environment, until, speed=speed)
        request.addfinalizer(listener.end)
        return listener

    return listened

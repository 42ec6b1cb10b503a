"""A node listens to a microphone for half an hour, and is then as large as it was. Opt-in: pytest -m slow -s.

SOTTOVOCE_SOAK_S sets how long, in s. What it measured is printed.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.contract.topics import NodeId
from edge_node.local.client import ask, default_place
from edge_node.local.messages import Done, SetMuted

SECONDS = float(os.environ.get("SOTTOVOCE_SOAK_S", "1800"))
LOOK_EVERY_S = 1.0
MOST_GROWTH_MIB = 2.0
"""Between the first third, once it is warm, and the last: more than a heap's breathing is a leak."""
WARM = 0.1
"""Share of the time in which everything happens once that happens at all."""
SPEECH = Path(__file__).parents[3] / "deploy" / "demo" / "audio" / "kitchen"
KITCHEN = NodeId("home", "kitchen")


class Looks:
    """One process, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._pid, self._began_s = pid, time.monotonic()
        self.sizes: list[tuple[float, float]] = []
        """Time of the look, as a share of all the time, and resident memory, in MiB."""
        self.open_files: list[int] = []
        self.threads: list[int] = []

    @property
    def share(self) -> float:
        return (time.monotonic() - self._began_s) / SECONDS

    def look(self) -> None:
        process = Path(f"/proc/{self._pid}")
        pages = int((process / "statm").read_text().split()[1])
        self.sizes.append((self.share, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        self.open_files.append(len(list((process / "fd").iterdir())))
        self.threads.append(len(list((process / "task").iterdir())))

    def mib(self, begin: float, end: float) -> float:
        """Return the middle size in a part of the time."""
        return statistics.median(mib for share, mib in self.sizes if begin <= share < end)

    def growth_mib_per_h(self, begin: float, end: float) -> float:
        """Return the slope of the size in a part of the time, by least squares."""
        part = [(share * SECONDS / 3600, mib) for share, mib in self.sizes if begin <= share < end]
        return statistics.linear_regression(*zip(*part, strict=True)).slope


@pytest.fixture
def is_chosen(request: pytest.FixtureRequest) -> None:
    if "slow" not in request.config.getoption("markexpr") and "SOTTOVOCE_SOAK_S" not in os.environ:
        pytest.skip(f"takes {SECONDS:g} s: pytest -m slow")


@pytest.mark.slow
@pytest.mark.usefixtures("is_chosen")
@pytest.mark.timeout(SECONDS * 1.2 + 300)
def test_node_that_listens_for_long_does_not_grow(sound_server: Any, stack: Any, until: Callable[..., None]) -> None:
    stack.start_collector()
    node = _start_whole_node(stack, sound_server)
    log = stack.folder / "home-kitchen.log"
    looks = Looks(node.pid)

    def listen_until(share: float) -> None:
        while looks.share < share:
            if not sound_server.is_playing():
                sound_server.play(_speech(stack.folder))
            assert node.poll() is None, log.read_text()
            looks.look()
            time.sleep(LOOK_EVERY_S)  # between two looks at another process

    listen_until(0.4)
    _mute_for_a_while(sound_server, until)
    listen_until(0.5)
    sound_server.unplug()
    until(lambda: "tried again" in log.read_text(), "the node misses its microphone")
    sound_server.plug_in()
    until(lambda: "is heard again" in log.read_text(), "the node has found it again", 90)
    listen_until(0.7)
    stored = stack.stored()
    listen_until(1)
    assert stack.stored() > stored > 0  # it heard to the end
    sound_server.hush()
    assert stack.stop(node) == 0
    events = stack.assert_nothing_lost()
    early, late = looks.mib(WARM, 1 / 3), looks.mib(2 / 3, 1)
    cpu_share = "sum(cpu_share * interval_us) / sum(interval_us)"
    ((dropped, reconnects, cpu),) = stack.query(
        f"SELECT max(dropped_blocks), max(reconnects), {cpu_share} FROM telemetry WHERE seq > 1"  # 1 tells of the start
    )
    sys.stdout.write(str(stack.query("SELECT seq, interval_us/1e6, cpu_share FROM telemetry")))
    sys.stdout.write(log.read_text())
    sys.stdout.write(
        f"\n{SECONDS:g} s: {early:.2f} MiB in the first third, {late:.2f} in the last, "
        f"{looks.growth_mib_per_h(WARM, 0.4):+.2f} MiB/h before the mute, {looks.growth_mib_per_h(0.6, 1):+.2f} after "
        f"the loss; {max(mib for _, mib in looks.sizes):.2f} MiB at most; {events} events, {dropped} dropped blocks, "
        f"{reconnects} reconnects, {max(looks.threads)} threads, {min(looks.open_files)} to {max(looks.open_files)} "
        f"open files, CPU {cpu:.4f}\n"
    )
    assert late - early <= MOST_GROWTH_MIB
    assert (dropped, reconnects) == (0, 0)
    warned = [line for line in log.read_text().splitlines() if " WARNING " in line or " ERROR " in line]
    assert warned
    assert all("device lost" in line or "no audio" in line for line in warned), warned


def _start_whole_node(stack: Any, sound_server: Any) -> Any:
    """Start a node as it is by default: with its gate, and telemetry every 10 s."""
    config: Path = stack._node(str(KITCHEN), 'kind = "microphone"\ndevice = "vmic"\n', 60)
    text = config.read_text().replace("[gate]\nenabled = false\n", "").replace("interval_s = 1\n", "interval_s = 10\n")
    config.write_text(text)
    return stack._start("edge_node", config, str(KITCHEN), sound_server.environment)


def _mute_for_a_while(sound_server: Any, until: Callable[..., None]) -> None:
    place = default_place(KITCHEN, sound_server.environment)
    assert place is not None
    assert isinstance(ask(place, SetMuted(node=str(KITCHEN), muted=True)), Done)
    until(lambda: sound_server.listeners() == [], "nobody listens")
    assert isinstance(ask(place, SetMuted(node=str(KITCHEN), muted=False)), Done)
    until(lambda: len(sound_server.listeners()) == 1, "the node listens again")


def _speech(folder: Path) -> Path:
    """Return the demo's speech, in one recording."""
    import numpy as np
    import soundfile

    path = folder / "speech.wav"
    if not path.exists():
        clips = [soundfile.read(each) for each in sorted(SPEECH.glob("*.flac"))]
        soundfile.write(path, np.concatenate([samples for samples, _ in clips]), clips[0][1])
    return path

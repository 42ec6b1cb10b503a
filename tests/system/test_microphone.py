"""A microphone, from PortAudio to the store: PulseAudio plays a recording into a virtual one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Until = Callable[..., None]
PARTS = ("pulseaudio", "paplay")


@pytest.fixture
def virtual_microphone(tmp_path: Path, until: Until) -> Iterator[dict[str, str]]:
    """The environment in which PortAudio finds a microphone `vmic`, and `paplay` speaks into it."""
    missing = [each for each in PARTS if shutil.which(each) is None]
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {missing}: apt-get install pulseaudio pulseaudio-utils libasound2-plugins")
        pytest.skip(f"{missing} are not installed: a virtual microphone needs PulseAudio")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".asoundrc").write_text(
        'pcm.vmic { type pulse device "vmic" hint { show on description "Virtual microphone" } }\n'
    )
    socket = tmp_path / "pulse.socket"
    script = tmp_path / "pulse.pa"
    script.write_text(
        f"load-module module-native-protocol-unix socket={socket} auth-anonymous=1\n"
        "load-module module-null-sink sink_name=vspk rate=48000 channels=1\n"
        "load-module module-remap-source master=vspk.monitor source_name=vmic channels=1\n"
    )
    environment = os.environ | {"HOME": str(home), "PULSE_SERVER": f"unix:{socket}", "XDG_RUNTIME_DIR": str(tmp_path)}
    server = subprocess.Popen(
        ["pulseaudio", "-n", "-F", script, "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(socket.exists, "PulseAudio listens")
        yield environment
    finally:
        server.terminate()
        server.wait(10)


def test_microphone_is_listed_and_heard_to_the_store(
    virtual_microphone: dict[str, str], stack: Any, recording: Path, until: Until
) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "edge_node", "devices"],
        env=virtual_microphone,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "vmic" in listed.stdout
    stack.start_collector()
    node = stack.start_microphone_node("vmic", virtual_microphone)
    played = subprocess.Popen(["paplay", "--device=vspk", recording], env=virtual_microphone)
    try:
        until(lambda: stack.stored() >= 3, "three events of what the microphone heard are stored", 40)
    finally:
        played.terminate()
        played.wait(10)
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT DISTINCT source FROM status") == [("microphone: vmic",)]
    ((resample_us, total_us),) = stack.query("SELECT max(resample_us), max(total_us) FROM emotion")
    assert resample_us > 0  # the card runs at 48 or 44.1 kHz
    assert total_us < 5_000_000


def test_microphone_that_is_not_there_is_said(virtual_microphone: dict[str, str], stack: Any) -> None:
    stack.start_collector()
    node = stack.start_microphone_node("no-such-thing", virtual_microphone)
    assert node.wait(30) == 3
    log = (stack.folder / "home-kitchen.log").read_text()
    assert "microphone 'no-such-thing'" in log
    assert "sottovoce-node devices" in log
    assert "Traceback" not in log

"""A real microphone, as far as PortAudio can tell: heard to the store, lost, found again, muted."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Until = Callable[..., None]
TONE_HZ = 1_000


def test_microphone_is_listed_and_heard_to_the_store(
    sound_server: Any, stack: Any, recording: Path, until: Until
) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "edge_node", "devices"],
        env=sound_server.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "vmic" in listed.stdout
    stack.start_collector()
    node = stack.start_microphone_node("vmic", sound_server.environment)
    sound_server.play(recording)
    until(lambda: stack.stored() >= 3, "three events of what the microphone heard are stored", 40)
    sound_server.hush()
    assert stack.stop(node) == 0
    stack.assert_nothing_lost()
    assert stack.query("SELECT DISTINCT source FROM status") == [("microphone: vmic",)]
    ((resample_us, total_us),) = stack.query("SELECT max(resample_us), max(total_us) FROM emotion")
    assert resample_us > 0  # the card runs at 48 or 44.1 kHz
    assert total_us < 5_000_000


def test_microphone_that_is_not_there_is_said_and_waited_for(sound_server: Any, stack: Any, until: Until) -> None:
    stack.start_collector()
    node = stack.start_microphone_node("no-such-thing", sound_server.environment)
    log = stack.folder / "home-kitchen.log"
    until(lambda: "microphone 'no-such-thing': not found" in log.read_text(), "it says that there is none")
    assert "sottovoce-node devices" in log.read_text()
    assert stack.stop(node) == 0
    assert "Traceback" not in log.read_text()


LISTED = """
from edge_node.sound.portaudio import list_devices, rescan

for _ in range(2):
    assert "vmic" in [each.name for each in list_devices()]
    rescan()
print("libx265" in open("/proc/self/maps").read())
"""


def test_list_of_microphones_loads_no_video_codecs(sound_server: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTED],
        env=sound_server.environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"  # of the encoder in libasound2-plugins, which is never unloaded


FOUND_ANEW = """
import pathlib
from edge_node.sound.microphone import opener
from edge_node.sound.sources import SourceError

cards, settings = pathlib.Path("cards"), pathlib.Path.home() / ".asoundrc"
cards.write_text("none")
opened = opener("second", cards=cards.read_text)

def found():
    try:
        return opened().description
    except SourceError as error:
        return str(error.problem)

print(found())
settings.write_text(settings.read_text().replace("pcm.vmic", "pcm.second"))
print(found())
cards.write_text("one")
print(found())
"""


def test_microphone_of_a_card_that_has_come_is_found_without_a_scan_of_its_own(
    sound_server: Any, tmp_path: Path
) -> None:
    """PortAudio reads its list of devices once, and again when the kernel's cards are others."""
    root = str(Path(__file__).parents[3])
    environment = sound_server.environment | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", FOUND_ANEW],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["device lost", "device lost", "microphone: second"]


def test_capture_survives_a_sound_server_killed_and_a_microphone_unplugged(
    sound_server: Any, listen: Callable[..., Any]
) -> None:
    listener = listen()
    sound_server.play_tone()
    listener.until("the tone is heard", state="listening", tone_hz=TONE_HZ)
    sound_server.kill()
    sound_server.hush()
    listener.until("the loss is seen", state="recovering", problem="device lost", tone_hz=None)
    listener.until("devices are looked for", rescans=2)
    sound_server.start()
    sound_server.play_tone()
    listener.until("the tone is heard again, and for good", state="listening", problem=None, tone_hz=TONE_HZ)
    gaps = listener.said[-1]["gaps"]
    assert gaps >= 1
    sound_server.unplug()
    sound_server.hush()
    listener.until("the loss is seen", state="recovering", problem="device lost")
    sound_server.plug_in()
    sound_server.play_tone()
    listener.until("the tone is heard again, and for good", state="listening", problem=None, tone_hz=TONE_HZ)
    assert listener.said[-1]["gaps"] > gaps
    assert listener.said[-1]["dropped"] == 0  # nobody was too slow
    warnings, infos = listener.lines("WARNING"), listener.lines("INFO")
    assert len(warnings) == len(infos) == 2, listener.log  # not a line per attempt
    assert all(line.startswith("WARNING device lost: microphone: vmic: the stream has ended") for line in warnings)
    assert all("microphone: vmic is heard again after" in line for line in infos)
    assert len(listener.log) <= 4 + 2 * 5, listener.log  # PortAudio's own lines when a stream breaks, none per attempt


def test_capture_muted_is_no_listener_of_the_sound_server(
    sound_server: Any, listen: Callable[..., Any], until: Until
) -> None:
    listener = listen()
    sound_server.play_tone()
    listener.until("the tone is heard", tone_hz=TONE_HZ)
    assert len(sound_server.listeners()) == 1
    listener.tell("mute")
    until(lambda: not sound_server.listeners(), "the server lets nobody hear")
    listener.until("it says so", state="muted", problem=None)
    blocks, ticks = listener.said[-1]["blocks"], listener.said[-1]["ticks"]
    listener.until("it is still muted", state="muted")
    assert listener.said[-1]["blocks"] == blocks
    assert listener.said[-1]["ticks"] > ticks
    assert sound_server.listeners() == []
    listener.tell("unmute")
    listener.until("the tone is heard again", state="listening", tone_hz=TONE_HZ)
    assert len(sound_server.listeners()) == 1
    assert (listener.said[-1]["gaps"], listener.lines("WARNING")) == (1, [])


def test_capture_of_a_quiet_virtual_microphone_says_zeros_and_hears_what_comes(
    sound_server: Any, listen: Callable[..., Any]
) -> None:
    listener = listen(speed=30)  # a minute of zeros takes two seconds
    listener.until("zeros are said, and it listens", state="listening", problem="only zeros", tone_hz=None)
    listener.until("the stream is begun anew", restarts=1)
    sound_server.play_tone()
    listener.until("the tone is heard, and all is well", state="listening", problem=None, tone_hz=TONE_HZ)
    assert [line.split(":")[0] for line in listener.lines("WARNING")] == ["WARNING only zeros"]
    assert len(listener.lines("INFO")) == 1


def test_capture_with_a_sound_server_that_stands_still_says_nothing_until_it_goes_on(
    sound_server: Any, listen: Callable[..., Any], until: Until
) -> None:
    """Nothing can be closed while it stands still: the ticks end, which is what ends a watchdog's patience."""
    listener = listen()
    sound_server.play_tone()
    listener.until("the tone is heard", tone_hz=TONE_HZ)
    sound_server.pause()
    until(lambda: time.monotonic() - listener.said_s > 2, "it says nothing any more, not even that it waits", 20)
    sound_server.go_on()
    listener.until("the tone is heard again", state="listening", problem=None, tone_hz=TONE_HZ)
    (warning,) = listener.lines("WARNING")
    assert warning.startswith("WARNING no audio: microphone: vmic: has delivered nothing for 5 s")

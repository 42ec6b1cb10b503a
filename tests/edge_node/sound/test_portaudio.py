"""A microphone is found by its name, errors have a word, and nobody's stderr is flooded."""

import logging
import os
import threading
from pathlib import Path

import msgspec
import pytest

from broker.contract.condition import CaptureProblem
from broker.contract.errors import AudioError
from edge_node.noise import without_noise
from edge_node.sound.portaudio import Device, as_json, as_text, find, problem_of, sound_cards
from edge_node.sound.sources import SourceError


def _device(index: int, name: str, *, default: bool = False, channels: int = 2) -> Device:
    return Device(index=index, name=name, hostapi="ALSA", channels=channels, rate_hz=48_000, default=default)


CARDS = [
    _device(0, "bcm2835 Headphones: - (hw:0,0)"),
    _device(1, "USB PnP Sound Device: Audio (hw:1,0)", channels=1),
    _device(2, "USB PnP Sound Device Pro: Audio (hw:2,0)"),
    _device(4, "pulse"),
    _device(5, "default", default=True),
    _device(6, "pulse of another user"),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 5),
        (1, 1),
        ("pulse", 4),
        ("PULSE, alsa", 4),
        ("Pro", 2),
        ("usb pro", 2),
        ("hw:1,0", 1),
        ("USB PnP Sound Device: Audio (hw:1,0)", 1),
        ("USB PnP Sound Device: Audio (hw:3,0)", 1),  # it has been plugged in again
    ],
)
def test_device_is_found(wanted: str | int | None, index: int) -> None:
    assert find(CARDS, wanted).index == index


@pytest.mark.parametrize("wanted", [None, 3, 99, "ReSpeaker", "Device USB", "hw:9,0"])
def test_device_that_is_not_there_may_come(wanted: str | int | None) -> None:
    with pytest.raises(SourceError, match="`sottovoce-node devices`") as caught:
        find([each for each in CARDS if not each.default], wanted)
    assert caught.value.problem is CaptureProblem.LOST
    assert caught.value.exit_code == 3


def test_device_that_could_be_several_is_refused() -> None:
    with pytest.raises(AudioError, match=r"could be any of 'USB PnP.*'USB PnP.*; give more of the name") as caught:
        find(CARDS, "usb")
    assert not isinstance(caught.value, SourceError)  # more of them will not help
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("Error opening InputStream: Device unavailable", -9985), CaptureProblem.BUSY),
        (("Error", -9999, (0, -16, "Device or resource busy")), CaptureProblem.BUSY),
        (("Error", -9999, (0, -5, "Input/output error")), CaptureProblem.LOST),
        (("Error", -9999, (0, -19, "No such device")), CaptureProblem.LOST),
        (("Illegal combination of I/O devices", -9993), CaptureProblem.LOST),
        (("Invalid device", -9996), CaptureProblem.LOST),
        (("Invalid sample rate", -9997), CaptureProblem.RATE),
        (("Internal PortAudio error", -9986), CaptureProblem.UNUSABLE),
        (("Error querying device 7",), CaptureProblem.UNUSABLE),
    ],
)
def test_error_of_portaudio_has_a_word(arguments: tuple[object, ...], problem: CaptureProblem) -> None:
    found, why = problem_of(RuntimeError(*arguments))
    assert found is problem
    assert "\n" not in why


def test_noise_goes_to_the_log_and_what_others_print_comes_out(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), without_noise():
        os.write(2, b"ALSA lib pulse.c:242:(pulse_connect) Unable to connect\n\n")
        thread = threading.Thread(target=os.write, args=(2, b"another thread's line\n"))
        thread.start()
        thread.join()
        os.write(2, b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 1736\n")
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "another thread's line\nafterwards\n"
    assert [each.message.split()[0] for each in caplog.records] == ["ALSA", "Expression", "INFO:"]


def test_noise_is_kept_away_when_opening_fails_too(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with without_noise():
            os.write(2, b"ALSA lib conf.c: no\nlast words\n")
            msg = "no"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="no"):
        fail()
    assert capfd.readouterr().err == "last words\n"


def test_sound_cards_differ_when_one_comes_or_goes(tmp_path: Path) -> None:
    assert sound_cards(tmp_path) == ""
    (tmp_path / "dev/snd").mkdir(parents=True)
    cards = tmp_path / "proc/asound/cards"
    cards.parent.mkdir(parents=True)
    cards.write_text(" 1 [Device         ]: USB-Audio - USB PnP Sound Device\n")
    (tmp_path / "dev/snd/pcmC1D0c").touch()
    with_one = sound_cards(tmp_path)
    assert with_one == sound_cards(tmp_path) != ""
    cards.write_text(" 1 [Camera         ]: USB-Audio - Another one under the same number\n")
    assert sound_cards(tmp_path) != with_one
    (tmp_path / "dev/snd/pcmC1D0c").unlink()
    cards.write_text("--- no soundcards ---\n")
    assert sound_cards(tmp_path) != with_one


def test_list_marks_the_default_and_says_how_to_choose() -> None:
    text = as_text(CARDS)
    assert "* " in next(line for line in text.splitlines() if " default " in line)
    assert sum(line.startswith("* ") and "ALSA" in line for line in text.splitlines()) == 1
    assert "1 channel\n" in text
    assert 'device = "default"' in text
    assert 'device = "bcm2835 Headphones: -"' in as_text(CARDS[:2])  # without the card's number, which changes
    assert "arecord -l" in as_text([])
    assert as_json(CARDS)[1] == msgspec.to_builtins(CARDS[1])

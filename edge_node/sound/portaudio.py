"""PortAudio's devices: listed, chosen by name, looked for again; and its errors, in this project's words.

`sounddevice` is imported only when it is used: a machine without PortAudio runs everything else.
"""

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.contract.condition import CaptureProblem
from broker.contract.errors import AudioError
from edge_node.noise import without_noise
from edge_node.sound.sources import SourceError

__all__ = [
    "Device",
    "as_json",
    "as_text",
    "find",
    "list_devices",
    "problem_of",
    "rescan",
    "sound_cards",
    "sounddevice",
]

_ENCODER: Final = b"pcm.a52"
_CARD: Final = re.compile(r" \(hw:\d+,\d+\)$")

# Error numbers of PortAudio (portaudio.h) and, where it hands on what ALSA said, of the system (errno.h).
_INVALID_SAMPLE_RATE: Final = -9997
_HOST_ERROR: Final = -9999
_DEVICE_UNAVAILABLE: Final = -9985
_LOST: Final = (-9996, -9993)  # invalid device; "illegal combination of devices": ALSA cannot open it
_EBUSY: Final = -16


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """An input."""

    index: int
    """PortAudio's number, which changes when devices come and go."""
    name: str
    hostapi: str
    """Through which part of the system PortAudio reaches it: ALSA, JACK, ..."""
    channels: int
    rate_hz: int
    """The rate at which it runs when nobody asks for another."""
    default: bool


def sounddevice() -> Any:  # noqa: ANN401 -- a module without types
    """Return the module.

    Raises:
        AudioError: it, or PortAudio, is not installed.
    """
    is_new = "sounddevice" not in sys.modules
    if is_new:
        _leave_encoder_out()
    try:
        import sounddevice as module  # noqa: PLC0415 -- needs PortAudio, which only a microphone does
    except ImportError as error:
        msg = "the package sounddevice is missing: pip install 'sottovoce[node]'"
        raise AudioError(msg) from error
    except OSError as error:
        msg = f"{error}; a microphone needs it: sudo apt install libportaudio2"
        raise AudioError(msg) from error
    if is_new:
        _let_go()
    return module


def _leave_encoder_out() -> None:
    """Take the AC-3 encoder from what ALSA knows, before PortAudio opens all of that to see what it can do.

    It is no microphone, and brings the libraries of video codecs, of which some are never unloaded: 3 MiB for good, and
    13 MiB at first, where Debian's libasound2-plugins are installed (measured). When ALSA reads anew, it is back.
    """
    with contextlib.suppress(OSError, AttributeError, ValueError), without_noise():
        alsa = ctypes.CDLL("libasound.so.2")  # ALSA, or a symbol, is missing: PortAudio does without
        known = ctypes.c_void_p.in_dll(alsa, "snd_config")
        encoder = ctypes.c_void_p()
        is_read = alsa.snd_config_update() >= 0 and known
        if is_read and alsa.snd_config_search(known, _ENCODER, ctypes.byref(encoder)) == 0:
            alsa.snd_config_delete(encoder)


def _let_go() -> None:
    """Unload what ALSA loaded to list devices: all of its plugins.

    It keeps them for later use, which most of them do not have; what a stream needs is loaded again when it is opened.
    PortAudio itself does the same when it ends.
    """
    with contextlib.suppress(OSError, AttributeError):  # PortAudio does without ALSA here
        ctypes.CDLL("libasound.so.2", mode=os.RTLD_NOLOAD | os.RTLD_NOW).snd_config_update_free_global()


def list_devices() -> list[Device]:
    """Return the inputs that PortAudio knows of. It looked for them when it was loaded, and at the last `rescan`.

    A device that another program holds without sharing it is not among them.

    Raises:
        AudioError: PortAudio is not installed.
        SourceError: PortAudio cannot list them now.
    """
    module = sounddevice()
    try:
        default = module.default.device[0]
        return [
            Device(
                index=each["index"],
                name=each["name"],
                hostapi=module.query_hostapis(each["hostapi"])["name"],
                channels=each["max_input_channels"],
                rate_hz=int(each["default_samplerate"]),
                default=each["index"] == default,
            )
            for each in module.query_devices()
            if each["max_input_channels"] > 0
        ]
    except module.PortAudioError as error:
        raise SourceError(CaptureProblem.UNUSABLE, "PortAudio", f"{error}; is the sound system running?") from error


def rescan() -> None:
    """Let PortAudio look for devices anew. No stream may be open: it would be closed.

    PortAudio reads its list once, and nothing but ending and beginning it changes that. `sounddevice` has no public
    function for it; its author names these two in its tracker (number 125). Each time costs some memory for good.

    Raises:
        SourceError: PortAudio does not begin again; the next attempt may.
    """
    module = sounddevice()
    with without_noise():
        try:
            while module._initialized:  # noqa: SLF001 -- see above
                module._terminate()  # noqa: SLF001 -- see above
            _leave_encoder_out()
            module._initialize()  # noqa: SLF001 -- see above
        except module.PortAudioError as error:
            raise SourceError(CaptureProblem.UNUSABLE, "PortAudio", f"{error}; is the sound system running?") from error
    _let_go()


def sound_cards(root: Path = Path("/")) -> str:
    """Return what the kernel says of its sound cards, which changes when one comes or goes; or nothing.

    Args:
        root: where /dev and /proc are.
    """
    with contextlib.suppress(OSError):
        names = sorted(each.name for each in (root / "dev/snd").iterdir())
        return "\n".join([*names, (root / "proc/asound/cards").read_text(errors="replace")])
    return ""


def find(devices: Sequence[Device], wanted: str | int | None) -> Device:
    """Return the one input that is meant.

    Args:
        devices: all inputs.
        wanted: words of its name, in order, in any case; or its number; or None for the default. A whole name counts
            before a part of one. The card's number, ` (hw:1,0)` at the end of a name, may have changed.

    Raises:
        SourceError: there is none now.
        AudioError: it could be any of several.
    """
    if wanted is None or isinstance(wanted, int):
        found = [each for each in devices if (each.default if wanted is None else each.index == wanted)]
    else:
        found = _named(devices, wanted) or _named(devices, _CARD.sub("", wanted))
    if not found:
        what = "the default microphone" if wanted is None else f"microphone {wanted!r}"
        why = "not found; connect it, end the program that holds it, or choose another from `sottovoce-node devices`"
        raise SourceError(CaptureProblem.LOST, what, why)
    if len(found) > 1:
        names = ", ".join(repr(each.name) for each in found)
        msg = f"microphone {wanted!r} could be any of {names}; give more of the name"
        raise AudioError(msg)
    return found[0]


def _named(devices: Sequence[Device], wanted: str) -> list[Device]:
    exact = [each for each in devices if wanted.lower() in {each.name.lower(), _full(each)}]
    if len(exact) == 1:
        return exact
    pattern = re.compile(".*".join(re.escape(word) for word in wanted.lower().split()))
    return [each for each in devices if pattern.search(_full(each))]


def _full(device: Device) -> str:
    return f"{device.name}, {device.hostapi}".lower()


def problem_of(error: Exception) -> tuple[CaptureProblem, str]:
    """Return what an error of PortAudio means, and what to do about it.

    Args:
        error: a PortAudioError: a text, PortAudio's number, and where that is "host error", the system's.
    """
    number = error.args[1] if len(error.args) > 1 else None
    system = error.args[2][1] if number == _HOST_ERROR and len(error.args) > 2 else None  # noqa: PLR2004 -- the third is there
    if number == _DEVICE_UNAVAILABLE or system == _EBUSY:
        return CaptureProblem.BUSY, "another program has it; end that program, or let both go through a sound server"
    if number == _INVALID_SAMPLE_RATE:
        return CaptureProblem.RATE, "it no longer runs at the rate that it had"
    if number in _LOST or number == _HOST_ERROR:
        return (
            CaptureProblem.LOST,
            f"cannot be opened ({error.args[0]}); is it connected, is the sound server running?",
        )
    return CaptureProblem.UNUSABLE, f"{error.args[0]}; try another from `sottovoce-node devices`"


def as_json(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """Return the list for programs."""
    return [msgspec.structs.asdict(each) for each in devices]


def as_text(devices: Sequence[Device]) -> str:
    """Return the list for people, and how to choose from it."""
    if not devices:
        return "No microphone found. Connect one; on Linux, `arecord -l` shows what the kernel sees.\n"
    width = max(len(each.name) for each in devices)
    lines = [
        f"{'*' if each.default else ' '} {each.index:3d}  {each.name:{width}}  {each.hostapi}, {each.rate_hz} Hz, "
        f"{each.channels} {'channel' if each.channels == 1 else 'channels'}"
        for each in devices
    ]
    example = next((each for each in devices if each.default), devices[0]).name
    hint = (
        "\n* is the default. To choose, put a part of the name into the settings, in [source]:\n\n"
        f'    device = "{_CARD.sub("", example)}"\n\n'
        "A number works, too, but changes when devices come and go. What another program holds is not listed.\n"
    )
    return "\n".join(lines) + "\n" + hint

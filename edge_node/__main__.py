"""`sottovoce-node`: the program on the device."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads cost more than such small products

import argparse
import contextlib
import ctypes
import datetime as dt
import faulthandler
import io
import json
import logging
import sys
from pathlib import Path
from typing import Final

from broker.contract.errors import exit_with_one_line
from broker.program import configure_logging, stop_on_signals
from broker.settings import read_settings
from edge_node.notice import options as notice_options
from edge_node.privacy import options as privacy_options

_log = logging.getLogger(__name__)

_M_ARENA_MAX: Final = -8
"""Of mallopt(3)."""


def main() -> int:
    """Run the program and return its exit code (docs/node.md lists them)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "µ" still gets the rest
    arguments = _parser().parse_args()
    configure_logging(verbose=getattr(arguments, "verbose", False))
    return exit_with_one_line("sottovoce-node", lambda: int(arguments.run(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sottovoce-node", description="Hears the emotional tone of speech and publishes labels, never audio."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="listen and publish until told to stop")
    run.add_argument("--config", type=Path, required=True, help="settings file, TOML (see docs/node.md)")
    run.add_argument("--verbose", action="store_true", help="log every window")
    run.set_defaults(run=_run)
    classify = commands.add_parser("classify", help="label a recording; publishes nothing")
    classify.add_argument("file", type=Path, metavar="FILE", help="WAV or FLAC")
    classify.add_argument("--bundle", help="model bundle (default: the factory model)")
    classify.add_argument("--channel", type=_positive, help="channel to hear, from 1")
    classify.add_argument("--json", action="store_true", help="print one JSON object")
    classify.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the timeline too")
    classify.set_defaults(run=_classify)
    devices = commands.add_parser("devices", help="list microphones")
    devices.add_argument("--json", action="store_true", help="print a JSON list")
    devices.set_defaults(run=_devices)
    monitor = commands.add_parser("monitor", help="show live what the node hears and makes of it; publishes nothing")
    monitor.add_argument("--config", type=Path, help="settings file; without it, a microphone as it is")
    monitor.add_argument("--device", help="microphone: part of its name, or its number")
    monitor.add_argument("--channel", type=_positive, help="channel to hear, from 1")
    monitor.add_argument("--bundle", help="model bundle (default: the settings', or the factory model)")
    monitor.add_argument("--seconds", type=_seconds, help="end after this much time (default: at Ctrl-C)")
    monitor.add_argument("--plain", action="store_true", help="a line for each window, as where there is no terminal")
    monitor.set_defaults(run=_monitor)
    doctor = commands.add_parser("doctor", help="say what is wrong with this node, and what to do")
    doctor.add_argument("--config", type=Path, required=True, help="settings file of the node")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument("--bundle", type=Path, metavar="SUPPORT.zip", help="write a file for whoever helps, no secrets")
    doctor.set_defaults(run=_doctor)
    notice = commands.add_parser("notice", help="make the page that tells people here what the node does")
    notice_options.add_options(notice)
    notice.set_defaults(run=_notice)
    mute = commands.add_parser("mute", help="close the microphone of this machine's node, or open it again")
    mute.add_argument("--config", type=Path, required=True, help="settings file of the node")
    mute.add_argument("--off", action="store_true", help="open it again")
    mute.set_defaults(run=_mute)
    privacy_check = commands.add_parser("privacy-check", help="prove that no audio leaves this program's memory")
    privacy_options.add_options(privacy_check)
    privacy_check.set_defaults(run=_privacy_check)
    retire = commands.add_parser("retire", help="take back what the broker keeps of a node that is to be no more")
    retire.add_argument("--config", type=Path, required=True, help="settings file of the stopped node")
    retire.add_argument("--force", action="store_true", help="although nobody can tell from here whether it runs")
    retire.set_defaults(run=_retire)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a channel: 1, 2, ..."
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        msg = f"{text!r} is not a time: a number of seconds above 0"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def _run(arguments: argparse.Namespace) -> int:
    from edge_node.node import Node  # noqa: PLC0415 -- LiteRT takes longer to import than a device list to print
    from edge_node.settings import NodeSettings  # noqa: PLC0415 -- likewise

    if "WATCHDOG_USEC" in os.environ:
        faulthandler.enable()  # systemd's watchdog ends what hangs by SIGABRT: the journal then shows where it hung
    settings = read_settings(arguments.config, NodeSettings)
    _share_one_heap()
    stop = stop_on_signals()  # before anything is begun that has to be ended in order
    if not Node(settings).run(stop):
        _log.warning("stopped with messages left in the outbox; they go out at the next start")
    return 0


def _share_one_heap() -> None:
    """Let glibc give the threads to come no heaps of their own: 0.6 MB, and each would grow by itself."""
    with contextlib.suppress(OSError, AttributeError):  # another library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _classify(arguments: argparse.Namespace) -> int:
    from edge_node.classify import as_json, as_text, classify  # noqa: PLC0415 -- likewise

    timeline = classify(arguments.file, arguments.bundle, arguments.channel)
    if arguments.plot is not None:
        from edge_node.plot import draw  # noqa: PLC0415 -- matplotlib is not on a node

        draw(timeline, arguments.plot)
    sys.stdout.write(json.dumps(as_json(timeline)) + "\n" if arguments.json else as_text(timeline))
    return 0


def _notice(arguments: argparse.Namespace) -> int:
    from edge_node.notice.command import read_facts, write_notice  # noqa: PLC0415 -- likewise

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every table that it prunes
    today = dt.datetime.now().astimezone().date()  # where the page will hang
    write_notice(read_facts(arguments, today), arguments.out)
    sys.stdout.write("".join(f"{path}\n" for path in arguments.out))
    return 0


def _mute(arguments: argparse.Namespace) -> int:
    from edge_node.control.mute_here import mute_here  # noqa: PLC0415 -- likewise
    from edge_node.local.client import likely_places  # noqa: PLC0415 -- likewise
    from edge_node.settings import NodeSettings  # noqa: PLC0415 -- likewise

    settings = read_settings(arguments.config, NodeSettings)
    node = settings.identity
    places = likely_places(settings.socket, node, os.environ, Path(settings.outbox.path))
    sys.stdout.write(f"{mute_here(node, places, settings.state_path, muted=not arguments.off)}\n")
    return 0


def _retire(arguments: argparse.Namespace) -> int:
    from edge_node.retire import retire  # noqa: PLC0415 -- likewise
    from edge_node.settings import NodeSettings  # noqa: PLC0415 -- likewise

    for line in retire(read_settings(arguments.config, NodeSettings), unseen_too=arguments.force):
        sys.stdout.write(f"{line}\n")
    return 0


def _privacy_check(arguments: argparse.Namespace) -> int:
    from edge_node.privacy.command import run  # noqa: PLC0415 -- likewise

    return run(arguments)


def _monitor(arguments: argparse.Namespace) -> int:
    from edge_node.monitor.command import run  # noqa: PLC0415 -- likewise

    return run(arguments, stop_on_signals())


def _doctor(arguments: argparse.Namespace) -> int:
    from edge_node.doctor.command import run  # noqa: PLC0415 -- likewise

    return run(arguments)


def _devices(arguments: argparse.Namespace) -> int:
    from edge_node.sound.portaudio import as_json, as_text, list_devices  # noqa: PLC0415 -- likewise

    devices = list_devices()
    sys.stdout.write(json.dumps(as_json(devices)) + "\n" if arguments.json else as_text(devices))
    return 0


if __name__ == "__main__":
    sys.exit(main())

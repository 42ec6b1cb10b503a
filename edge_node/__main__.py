"""`sottovoce-node`: the program on the device."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads cost more than such small products

import argparse
import io
import json
import logging
import sys
from pathlib import Path

from broker.contract.errors import exit_with_one_line
from broker.program import configure_logging, stop_on_signals
from broker.settings import read_settings

_log = logging.getLogger(__name__)


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
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a channel: 1, 2, ..."
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from edge_node.node import Node  # noqa: PLC0415 -- LiteRT takes longer to import than a device list to print
    from edge_node.settings import NodeSettings  # noqa: PLC0415 -- likewise

    settings = read_settings(arguments.config, NodeSettings)
    stop = stop_on_signals()  # before anything is begun that has to be ended in order
    if not Node(settings).run(stop):
        _log.warning("stopped with messages left in the outbox; they go out at the next start")
    return 0


def _classify(arguments: argparse.Namespace) -> int:
    from edge_node.classify import as_json, as_text, classify  # noqa: PLC0415 -- likewise

    timeline = classify(arguments.file, arguments.bundle, arguments.channel)
    if arguments.plot is not None:
        from edge_node.plot import draw  # noqa: PLC0415 -- matplotlib is not on a node

        draw(timeline, arguments.plot)
    sys.stdout.write(json.dumps(as_json(timeline)) + "\n" if arguments.json else as_text(timeline))
    return 0


def _devices(arguments: argparse.Namespace) -> int:
    from edge_node.microphone import list_devices  # noqa: PLC0415 -- likewise

    devices = list_devices()
    if arguments.json:
        sys.stdout.write(json.dumps(devices) + "\n")
    elif not devices:
        sys.stdout.write("No microphone found. Connect one; on Linux, `arecord -l` shows what the kernel sees.\n")
    else:
        for each in devices:
            mark = "*" if each["default"] else " "
            sys.stdout.write(
                f"{mark} {each['index']:3d}  {each['name']}  ({each['channels']} ch, {each['rate_hz']} Hz)\n"
            )
        sys.stdout.write("* the default; in [source], device = part of a name, or a number\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

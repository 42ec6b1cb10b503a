"""`sottovoce-console mute` and `threshold`: an operator tells one node something, and its answer is printed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from broker.contract.commands import Command, MuteCommand, ThresholdCommand
from broker.contract.errors import SettingsError
from broker.contract.topics import MUTE, OPERATOR_USER, THRESHOLD, CommandTopic, NodeId
from broker.order import fresh, give
from broker.settings import read_settings
from dashboard.console.settings import ConsoleSettings

__all__ = ["add_commands"]


class _Commands(Protocol):
    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 -- argparse's name
        """Return the parser of one more command."""


def add_commands(commands: _Commands) -> None:
    """Add the commands that a node is told something by."""
    mute = _add(commands, "mute", "close a node's microphone, or open it again", _mute)
    mute.add_argument("--off", action="store_true", help="open it again, unless something else keeps it closed")
    threshold = _add(commands, "threshold", "change what a node counts as speech, or as certain", _threshold)
    threshold.add_argument(
        "--uncertain-below", type=float, metavar="P", help="less confidence than this is `uncertain`, 0.34 to 0.95"
    )
    threshold.add_argument(
        "--speech-above", type=float, metavar="P", help="a window counts as speech above this, 0.05 to 0.95"
    )
    threshold.add_argument("--reset", action="store_true", help="first, go back to what its settings and model say")


def _add(
    commands: _Commands, name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what)
    command.add_argument("node", metavar="SITE/NODE", help="which node")
    command.add_argument(
        "--config",
        type=Path,
        required=True,
        help=f"settings file, TOML, with [broker] for the user {OPERATOR_USER!r}; docs/console.md has an example",
    )
    command.add_argument("--verbose", action="store_true", help="log more")
    command.set_defaults(run=run)
    return command


def _mute(arguments: argparse.Namespace) -> int:
    now = fresh()
    return _give(arguments, MUTE, MuteCommand(id=now.id, issued_us=now.issued_us, muted=not arguments.off))


def _threshold(arguments: argparse.Namespace) -> int:
    named = (arguments.uncertain_below, arguments.speech_above)
    if named == (None, None) and not arguments.reset:
        msg = "nothing to change; name --uncertain-below, --speech-above or --reset"
        raise SettingsError(msg)
    now = fresh()
    told = {"uncertain_below": named[0], "speech_above": named[1], "reset": arguments.reset}
    try:
        command = msgspec.convert({"id": now.id, "issued_us": now.issued_us, **told}, ThresholdCommand)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        msg = f"--{where.rstrip('`').replace('_', '-')}: {what}"
        raise SettingsError(msg) from error
    return _give(arguments, THRESHOLD, command)


def _give(arguments: argparse.Namespace, row: CommandTopic, command: Command) -> int:
    """Send a command, and say what the node makes of it."""
    site, slash, name = arguments.node.partition("/")
    if not slash:
        msg = f"{arguments.node!r} is no <site>/<node>"
        raise SettingsError(msg)
    node = NodeId(site, name)
    settings = read_settings(arguments.config, ConsoleSettings)
    if settings.broker is None:
        msg = f"{arguments.config}: names no [broker] to send commands by, as the user {OPERATOR_USER!r}"
        raise SettingsError(msg)
    answer = give(settings.broker, row, node, command, settings_name=str(arguments.config))
    if isinstance(answer, str):
        sys.stderr.write(f"sottovoce-console: {answer}\n")
        return 1
    if not answer.done:
        sys.stderr.write(f"sottovoce-console: {node} refuses: {answer.words}\n")
        return 1
    sys.stdout.write(f"{node}: {answer.words}\n")
    return 0

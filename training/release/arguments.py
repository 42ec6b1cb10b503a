"""The command line of `sottovoce-release`."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from broker.contract.errors import SettingsError
from broker.contract.topics import NodeId
from training.release.roles import Keep, Role

__all__ = ["parse"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FOLDER: Final = "SOTTOVOCE_RELEASES"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; `command` names the command."""
    parser = argparse.ArgumentParser(
        prog="sottovoce-release",
        description="Signs bundles, publishes them, and rolls them out to a share of the nodes.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_offline(commands)
    _add_channels(commands)
    _add_fleet(commands)
    status = _add(commands, "status", "roles, releases, channels, and what somebody must do soon")
    status.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    status.add_argument("--check", action="store_true", help="exit code 1 if something must be done soon")
    _add(commands, "reseed", "make the broker retain what it should, as every command does at its end")
    refresh = _add(commands, "refresh", "sign anew what expires; run it once a day")
    refresh.add_argument("--offline", action="store_true", help="root and targets as well, with the offline keys")
    return parser.parse_args(arguments)


def _add_offline(commands: Any) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add what needs an offline key."""
    init = _add(commands, "init", "make a repository and its keys")
    for role in (Role.ROOT, Role.TARGETS):
        init.add_argument(f"--{role}-keys", type=int, default=1, metavar="N", help=f"keys of {role} (default: 1)")
        init.add_argument(
            f"--{role}-threshold", type=int, default=1, metavar="N", help="how many of them must sign (default: 1)"
        )
    for keep in Keep:
        init.add_argument(
            f"--{keep}-keys", type=Path, metavar="DIR", help=f"where {keep} keys go (default: keys/{keep} in it)"
        )

    add = _add(commands, "add", "sign a bundle")
    add.add_argument("bundle", type=Path, metavar="BUNDLE", help="file that `sottovoce-train bundle` wrote")
    _channel(add, "whose release it must not be worse than")
    add.add_argument(
        "--force", type=_text, metavar="REASON", help="sign it although a gate refuses it; all can read why"
    )

    remove = _add(commands, "remove", "sign a bundle no longer, so that no node can be sent to it")
    remove.add_argument("release", metavar="RELEASE", help="as <name>/<version>")

    rotate = _add(commands, "rotate-key", "make a new key, and let it count instead of an old one")
    rotate.add_argument("role", type=_role, metavar="ROLE", help=", ".join(Role))
    rotate.add_argument("--old", metavar="ID", help="first letters of the old key's id, where the role has several")
    rotate.add_argument("--into", type=Path, metavar="DIR", help="where the new key goes (default: as init)")

    _add(commands, "sign", "add your signatures to a change that waits for them")


def _add_channels(commands: Any) -> None:  # noqa: ANN401 -- as above
    """Add what needs online keys alone."""
    publish = _add(commands, "publish", "let a channel name a release; `rollout` then says how many nodes take it up")
    publish.add_argument("release", nargs="?", metavar="RELEASE", help="as <name>/<version> (default: the newest)")
    _channel(publish, "that names it")
    publish.add_argument("--downgrade", action="store_true", help="order nodes that run a newer version back")

    rollout = _add(commands, "rollout", "let a share of a channel's nodes take up its release")
    rollout.add_argument("release", metavar="RELEASE", help="the one that the channel names")
    _channel(rollout, "whose nodes")
    rollout.add_argument(
        "--percent", type=_percentages, required=True, metavar="P[,P...]", help="the first holds from now on"
    )
    rollout.add_argument(
        "--spread", type=_duration, default=60, metavar="T", help="nodes begin within this time (default: 60s)"
    )
    rollout.add_argument(
        "--abort-above", type=_percentage, default=10, metavar="P", help="failures that end it (default: 10%%)"
    )
    rollout.add_argument(
        "--min-nodes", type=int, default=20, metavar="N", help="that must have executed before (default: 20)"
    )
    rollout.add_argument(
        "--detach", action="store_true", help="sign the first phase and return; nobody steps or aborts then"
    )
    for name, told, because in (
        ("pause", "let no further node begin", True),
        ("resume", "let nodes begin again", False),
        ("abort", "let no further node begin, and send nodes that are under way back; who has finished keeps it", True),
    ):
        command = _add(commands, name, told)
        _channel(command, "whose rollout")
        if because:
            command.add_argument("--reason", type=_text, help="for all to read")


def _add_fleet(commands: Any) -> None:  # noqa: ANN401 -- as above
    """Add what looks at the nodes."""
    watch = _add(commands, "watch", "show how the nodes take up what their channel names")
    _channel(watch, "whose nodes")
    watch.add_argument("--control", action="store_true", help="step through the phases and abort, as `rollout` does")
    watch.add_argument("--json", action="store_true", help="one JSON object on stdout for each change")
    watch.add_argument("--once", action="store_true", help="show how things stand, and return")
    rollback = _add(commands, "rollback", "tell one node to go back to the model that it ran before")
    rollback.add_argument("node", type=_node, metavar="NODE", help="as <site>/<node>")


def _add(commands: Any, name: str, told: str) -> argparse.ArgumentParser:  # noqa: ANN401 -- as above
    command: argparse.ArgumentParser = commands.add_parser(name, help=told, description=told)
    command.add_argument(
        "--repository",
        type=Path,
        default=Path(os.environ.get(_FOLDER) or "releases"),
        metavar="DIR",
        help=f"folder of the repository (default: ${_FOLDER}, or releases)",
    )
    command.add_argument(
        "--keys", type=Path, action="append", default=[], metavar="DIR", help="look for private keys here, too; repeat"
    )
    for keep in Keep:
        command.add_argument(
            f"--{keep}-passphrase-env",
            metavar="NAME",
            help=f"environment variable with the passphrase of the {keep} keys (default: ask)",
        )
    return command


def _channel(command: argparse.ArgumentParser, told: str) -> None:
    command.add_argument("--channel", default="stable", help=f"channel {told} (default: %(default)s)")


def _node(text: str) -> NodeId:
    site, _, node = text.partition("/")
    try:
        return NodeId(site, node)
    except SettingsError as error:
        msg = f"{text!r} is no <site>/<node>{f': {error}' if site and node else ''}"
        raise argparse.ArgumentTypeError(msg) from error


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        msg = f"{text!r} is no role: {', '.join(Role)}"
        raise argparse.ArgumentTypeError(msg) from error


def _percentage(text: str, least: int = 0) -> int:
    number = text.removesuffix("%")
    if not number.isdecimal() or not least <= int(number) <= 100:  # noqa: PLR2004 -- per cent
        msg = f"{text!r} is no whole percentage from {least} to 100"
        raise argparse.ArgumentTypeError(msg)
    return int(number)


def _percentages(text: str) -> list[int]:
    return [_percentage(each.strip(), least=1) for each in text.split(",")]


def _duration(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([smhd]?)", text)
    if match is None:
        msg = f"{text!r} is no time: a whole number with s, m, h or d, such as 60s"
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]) * _SECONDS[match[2] or "s"]


def _text(text: str) -> str:
    """Return a reason that can be signed: bytes that are no UTF-8 come as halves of surrogate pairs."""
    if not text.strip() or not text.isprintable():
        msg = "give a reason in words, on one line"
        raise argparse.ArgumentTypeError(msg)
    return text

"""The command line of `sottovoce-fleet`."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edge_node.simulate.work import Behaviour

__all__ = ["MOST_NODES", "MOST_SECONDS", "parse"]

MOST_NODES: Final = 10_000
MOST_SECONDS: Final = 14_400
_DURATION: Final = {"": 1, "s": 1, "m": 60, "h": 3_600}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; `command` names the command."""
    parser = argparse.ArgumentParser(
        prog="sottovoce-fleet", description="Virtual nodes that speak the real protocol and take up real releases."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_simulate(commands)
    measure = commands.add_parser(
        "measure",
        help="what updates take on this machine, for `simulate --costs`",
        description="What the real parts of an update take on this machine.",
    )
    measure.add_argument("--runs", type=_whole(1, 100), default=7, metavar="N", help="of each part (default: 7)")
    measure.add_argument("--out", type=Path, metavar="FILE", help="write the costs there, too")
    bundle = commands.add_parser(
        "bundle",
        help="write the factory model under another name, to try updates with",
        description="The factory model under another name: a release to try updates with, on real nodes too.",
    )
    bundle.add_argument("identity", type=_identity, metavar="NAME/VERSION", help="of the bundle, such as my-model/1")
    bundle.add_argument("--out", type=Path, required=True, metavar="FILE", help="the bundle's file")
    bundle.add_argument(
        "--kind",
        type=Behaviour,
        choices=[Behaviour.GOOD, Behaviour.CORRUPT],
        default=Behaviour.GOOD,
        metavar="KIND",
        help="good, or corrupt: its golden vectors disagree, so every node refuses it (default: good)",
    )
    return parser.parse_args(arguments)


def _add_simulate(commands: Any) -> None:  # noqa: ANN401 -- argparse keeps its type private
    simulate: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="run a fleet, and a rollout on it",
        description="Starts a broker, a collector, so many virtual nodes, and a rollout; ends when that has ended.",
    )
    add = simulate.add_argument
    add("--nodes", type=_whole(1, MOST_NODES), required=True, metavar="N", help=f"at most {MOST_NODES:,}")
    add("--seconds", type=_whole(1, MOST_SECONDS), default=900, metavar="S", help="end after this long (default: 900)")
    add(
        "--release",
        type=Behaviour,
        choices=list(Behaviour),
        default=Behaviour.GOOD,
        metavar="KIND",
        help="what it does: good, bad (fails once it runs), slow, corrupt (default: good)",
    )
    add("--seed", type=_whole(0, 2**32), default=1, metavar="K", help="draws release, devices and churn (default: 1)")
    add("--json", action="store_true", help="one line of JSON on stdout at the end, nothing else")

    fleet = simulate.add_argument_group("fleet")
    add = fleet.add_argument
    add("--churn", type=_whole(0, 50), default=10, metavar="P", help="%% away at first, %% that leave, %% slow (10)")
    add("--ramp", type=_whole(1, 1_000), default=50, metavar="N", help="nodes switched on in a second (default: 50)")
    add("--speech", type=_whole(0, 100), default=30, metavar="P", help="%% of the time with speech (default: 30)")
    add("--trial-windows", type=_whole(1, 100_000), default=40, metavar="N", help="of a trial (default: 40, so 20 s)")
    add("--costs", type=Path, metavar="FILE", help="what `measure --out` wrote on another machine")

    rollout = simulate.add_argument_group("rollout")
    add = rollout.add_argument
    add("--percent", default="2,10,50,100", metavar="P[,P...]", help="phases (default: 2,10,50,100)", type=_phases)
    add("--spread", type=_duration, default=15, metavar="T", help="nodes begin within this time (default: 15s)")
    add("--abort-above", type=_whole(0, 100), default=10, metavar="P", help="%% of failures that end it (default: 10)")
    add("--min-nodes", type=_whole(1, 1_000_000), default=20, metavar="N", help="executed before that (default: 20)")

    broker = simulate.add_argument_group("a broker that is there already")
    add = broker.add_argument
    add("--broker", metavar="URL", help="mqtt://127.0.0.1:1883 or mqtts://[user@]host:port; see docs/fleet.md")
    add("--ca-file", type=Path, metavar="FILE", help="certificate authority of the broker (default: the system's)")
    add("--i-own-this-broker", action="store_true", help="allow load on a broker on another machine")
    add(
        "--repository", type=Path, metavar="DIR", help="of releases that is mirrored there: publish the release from it"
    )
    add("--channel", metavar="NAME", help="of the nodes (default: rehearsal if a release is published, else stable)")
    add("--offline-passphrase-env", metavar="NAME", default="SOTTOVOCE_OFFLINE", help="of the repository (%(default)s)")
    add("--online-passphrase-env", metavar="NAME", default="SOTTOVOCE_ONLINE", help="likewise (%(default)s)")


def _identity(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,31}/[1-9][0-9]{0,8}", text):
        msg = f"{text!r} is no NAME/VERSION, such as my-model/1: a-z, 0-9, '.' and '-', and a whole number"
        raise argparse.ArgumentTypeError(msg)
    return text


def _whole(least: int, most: int) -> Any:  # noqa: ANN401 -- what argparse calls a type
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            msg = f"{text!r} is no whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return whole


def _phases(text: str) -> tuple[int, ...]:
    phases = tuple(_whole(1, 100)(each.strip().removesuffix("%")) for each in text.split(","))
    if list(phases) != sorted(set(phases)):
        msg = f"{text!r}: percentages must rise"
        raise argparse.ArgumentTypeError(msg)
    return phases


def _duration(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,5})([smh]?)", text)
    if match is None:
        msg = f"{text!r} is no time: a whole number with s, m or h, such as 15s"
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]) * _DURATION[match[2]]

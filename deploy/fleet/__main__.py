"""`sottovoce-fleet`: virtual nodes that speak the real protocol and take up real releases."""

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Final

from broker.contract.errors import SettingsError, exit_with_one_line
from deploy.fleet.arguments import parse

__all__ = ["main"]

_COMMANDS: Final = {
    "bundle": "deploy.fleet.bundle",
    "measure": "deploy.fleet.measure",
    "simulate": "deploy.fleet.rig",
}
_OURS: Final = {"broker", "dashboard", "deploy", "edge_node", "training"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the command that the arguments name; None: those of the process."""
    return exit_with_one_line("sottovoce-fleet", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    args = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("tuf").setLevel(logging.ERROR)
    for name in ("edge_node.ota", "edge_node.delivery.pauses"):  # what each of a thousand nodes complains of
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        command = importlib.import_module(_COMMANDS[args.command])  # --help needs none of what it imports
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        msg = f"the package {package} is missing: pip install 'sottovoce[demo]'"
        raise SettingsError(msg) from error
    code: int = command.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())

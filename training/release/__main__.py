"""`sottovoce-release`: what nodes may run is signed here, and how many of them run it yet."""

import importlib
import logging
import sys
from collections.abc import Sequence

from broker.contract.errors import SettingsError, exit_with_one_line
from training.release.arguments import parse

__all__ = ["main"]

_EXTRA = {"cryptography", "rich", "securesystemslib", "tuf"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the command that the arguments name; None: those of the process."""
    return exit_with_one_line("sottovoce-release", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    args = parse(arguments)  # before the packages that signing needs: --help works without them
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("tuf").setLevel(logging.ERROR)
    try:
        commands = importlib.import_module("training.release.commands")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        msg = f"the package {package} is missing: pip install 'sottovoce[release]'"
        raise SettingsError(msg) from error
    code: int = commands.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())

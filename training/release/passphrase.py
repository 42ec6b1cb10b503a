"""Where passphrases come from: the environment variable that was named, or a question at the terminal."""

import getpass
import sys
from collections.abc import Mapping

from broker.contract.errors import SettingsError
from broker.settings import secret
from training.release.keys import SHORTEST_PASSPHRASE, Passphrase
from training.release.roles import Keep

__all__ = ["passphrases"]

_ROLES = {Keep.OFFLINE: "root and targets", Keep.ONLINE: "snapshot, timestamp and rollout"}


def passphrases(variables: Mapping[Keep, str | None], *, new: bool) -> Passphrase:
    """Return a function that tells each passphrase, and asks for it once at most.

    Args:
        variables: names of environment variables; None: ask. `<name>_FILE` may name a file that holds it.
        new: whether keys are to be made with it, so that it is asked for twice.
    """
    known: dict[Keep, str] = {}

    def tell(keep: Keep) -> str:
        if keep not in known:
            variable = variables.get(keep)
            known[keep] = _ask(keep, new=new) if variable is None else _read(keep, variable)
        return known[keep]

    return tell


def _read(keep: Keep, variable: str) -> str:
    found = secret(variable)
    if found is None:
        msg = f"--{keep}-passphrase-env {variable}: neither {variable} nor {variable}_FILE is set in the environment"
        raise SettingsError(msg)
    return found


def _ask(keep: Keep, *, new: bool) -> str:
    if not sys.stdin.isatty():
        msg = f"no terminal to ask for the passphrase of the {keep} keys; name a variable by --{keep}-passphrase-env"
        raise SettingsError(msg)
    said = getpass.getpass(f"Passphrase of the {keep} keys ({_ROLES[keep]}): ")
    if new and len(said) >= SHORTEST_PASSPHRASE and getpass.getpass("Again: ") != said:
        msg = f"the two passphrases of the {keep} keys differ"
        raise SettingsError(msg)
    return said

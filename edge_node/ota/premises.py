"""What must be there before a node's updates begin: a first root, and a path that may be a folder's."""

import importlib.util
from pathlib import Path

from broker.contract.errors import SettingsError
from edge_node.settings import UpdateSettings

__all__ = ["check_paths"]


def check_paths(settings: UpdateSettings) -> None:
    """Look whether updates can begin: with a first root, and a folder that may be one.

    Raises:
        SettingsError: they cannot.
    """
    for key, value in (("anchor", settings.anchor), ("folder", settings.folder)):
        if "\0" in value:
            msg = f"update.{key} {value!r}: no path has a NUL byte in it; name one without"
            raise SettingsError(msg)
    path = Path(settings.anchor)
    if importlib.util.find_spec("tuf") is None:
        msg = "[update] needs the package tuf: pip install 'sottovoce[node]'"
        raise SettingsError(msg)
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        msg = f"update.anchor {path}: {error.strerror}; name the 1.root.json that came with this node's certificate"
        raise SettingsError(msg) from error

"""What must be there before a node's updates begin: a first root, and a folder that no other node uses."""

import fcntl
import importlib.util
import logging
import os
from pathlib import Path

from broker.contract.errors import SettingsError
from edge_node.settings import UpdateSettings

__all__ = ["check_paths", "hold"]

_log = logging.getLogger(__name__)


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


def hold(folder: Path) -> int | None:
    """Return a descriptor that holds a folder for this process alone; None: the disk lets nobody hold it.

    A disk that is read-only stops updates, never inference.

    Raises:
        SettingsError: another node has it.
    """
    descriptor = None
    try:
        descriptor = _opened(folder / ".lock")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            msg = f"update.folder {folder}: another node uses it; each needs one of its own"
            raise SettingsError(msg) from error
        words = "cannot be held for this node alone, let no other use it"
        _log.warning("update.folder %s: %s (%s)", folder, words, error.strerror)
        return None
    return descriptor


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a lock can be held on what can only be read
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

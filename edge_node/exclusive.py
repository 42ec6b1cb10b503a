"""What belongs to one node alone: its outbox, its folder of updates."""

import fcntl
import logging
import os
from pathlib import Path

from broker.contract.errors import SettingsError

__all__ = ["hold"]

_log = logging.getLogger(__name__)


def hold(path: Path, what: str) -> int | None:
    """Return a descriptor that holds a lock for this process alone; None: the disk lets nobody hold it, which is said.

    Args:
        path: the file to lock, made when missing.
        what: what it stands for, as the settings call it, such as `outbox.path some.sqlite`.

    Raises:
        SettingsError: another node has it.
    """
    descriptor = None
    try:
        descriptor = _opened(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            msg = f"{what}: another node uses it; each needs one of its own"
            raise SettingsError(msg) from error
        words = "cannot be held for this node alone, let no other use it"
        _log.warning("%s: %s (%s)", what, words, error.strerror)
        return None
    return descriptor


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a lock can be held on what can only be read
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

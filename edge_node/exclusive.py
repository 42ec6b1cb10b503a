"""What belongs to one node alone: its outbox, its folder of updates."""

import errno
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import Final

from broker.contract.errors import SettingsError
from broker.files import open_new

__all__ = ["UNREACHED", "InUseError", "hold", "holder", "unseen"]

_log = logging.getLogger(__name__)

_LOCKS: Final = Path("/proc/locks")
UNREACHED: Final = "set `socket` in its settings and restart it, or use sottovoce-console"
"""What to do about a node that runs and answers nowhere."""


class InUseError(SettingsError):
    """Another node has it."""


def hold(path: Path, what: str) -> int | None:
    """Return a descriptor that holds a lock for this process alone; None: the disk lets nobody hold it, which is said.

    Args:
        path: the file to lock, made when missing.
        what: what it stands for, as the settings call it, such as `outbox.path some.sqlite`.

    Raises:
        InUseError: another node has it.
        SettingsError: what is there is no file, but a link, say, of whoever may write to its folder.
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
            raise InUseError(msg) from error
        if error.errno == errno.ELOOP:
            msg = f"{what}: {path} is a link or no file, and nothing of a node's; remove it"
            raise SettingsError(msg) from error
        words = "cannot be held for this node alone, let no other use it"
        _log.warning("%s: %s (%s)", what, words, error.strerror)
        return None
    return descriptor


def holder(path: Path, locks: Path = _LOCKS) -> int | None:
    """Return the process that holds a lock on a file; None: nobody does, or it cannot be told. Nothing is touched."""
    try:
        inode = path.stat().st_ino
        lines = locks.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:  # `1: FLOCK  ADVISORY  WRITE 8407 fe:00:10265634 0 EOF`
        words = line.split()
        if "FLOCK" in words and "->" not in words and (at := words.index("FLOCK") + 4) < len(words):
            _device, _, number = words[at].rpartition(":")
            if number == str(inode):
                return max(0, int(words[at - 1]))
    return None


def unseen(path: Path, lock: Path) -> str | None:
    """Return why nobody can tell by a lock whether a node runs: it may have been started in another folder.

    Args:
        path: as the settings say it.
        lock: what a node that runs holds, and leaves behind.
    """
    if path.is_absolute() or os.path.lexists(lock) or os.path.lexists(path):
        return None
    return f"its relative paths begin here: {Path.cwd()}, where it never ran ({path} is not there)"


def _opened(path: Path) -> int:
    """Open what is there, or what is made for whoever has the folder; no link is followed."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            with open_new(path.name, folder, for_owner=True, mode=0o600) as made:
                return os.dup(made.fileno())
        except OSError:
            return _found(path.name, folder)
    finally:
        os.close(folder)


def _found(name: str, folder: int) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        found = os.open(name, os.O_RDWR | flags, dir_fd=folder)
    except OSError:  # a lock can be held on what can only be read
        found = os.open(name, os.O_RDONLY | flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return found

"""Files that appear whole or not at all."""

import contextlib
import os
import threading
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_new", "sync_folder", "write_whole"]


def write_whole(path: Path, data: bytes | memoryview, *, durable: bool = False, for_owner: bool = False) -> None:
    """Write a file under a temporary name beside it, then rename it; what a failure leaves is what was there before.

    Args:
        path: the file, in a folder that exists; several threads and processes may write it at once.
        data: all of its content.
        durable: whether it must outlast a power cut from here on, which takes the disk's time.
        for_owner: whether it belongs to whoever has the folder, where root writes it.

    Raises:
        OSError: it cannot be written.
    """
    part = f".{path.name}.{os.getpid()}-{threading.get_ident()}.part"
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        with open_new(part, folder, for_owner=for_owner) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        if durable:
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # renamed, it is gone
            os.unlink(part, dir_fd=folder)
        os.close(folder)


def open_new(name: str, folder: int, *, for_owner: bool, mode: int = 0o666) -> BinaryIO:
    """Open a file that is made by this very call, whatever link another user of the folder may have put there.

    Args:
        name: in the folder.
        folder: a descriptor of it.
        for_owner: whether it belongs to whoever has the folder, where root makes it.
        mode: its rights, less the umask.

    Raises:
        OSError: it cannot be made, or there is something of that name.
    """
    made = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    if for_owner and os.geteuid() == 0:
        owner = os.fstat(folder)
        with contextlib.suppress(OSError):  # another kind of disk; whoever cannot use it says so
            os.fchown(made, owner.st_uid, owner.st_gid)
    return os.fdopen(made, "wb")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: they cannot be.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

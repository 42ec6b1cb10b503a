"""Files that appear whole or not at all."""

import contextlib
import os
import threading
from pathlib import Path

__all__ = ["sync_folder", "write_whole"]


def write_whole(path: Path, data: bytes | memoryview, *, durable: bool = False) -> None:
    """Write a file under a temporary name beside it, then rename it; what a failure leaves is what was there before.

    Args:
        path: the file, in a folder that exists; several threads and processes may write it at once.
        data: all of its content.
        durable: whether it must outlast a power cut from here on, which takes the disk's time.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # renamed, it is gone
            part.unlink()


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

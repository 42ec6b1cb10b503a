"""What libraries in C print by themselves, kept from stderr: nobody can use it, and no logger made it."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Final

__all__ = ["without_noise"]

_log = logging.getLogger(__name__)

_NOISE: Final = (
    b"ALSA lib ",
    b"Expression '",
    b"jack server",
    b"Cannot connect to server",
    b"JackShmReadWritePtr",
    b"INFO: Created TensorFlow Lite",
)
_lock = threading.RLock()  # two that end in another order than they began would leave stderr in the file of one


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Keep what ALSA, JACK, PortAudio and LiteRT print by themselves from stderr.

    They go to the log, at DEBUG. What other threads print meanwhile comes out at the end.
    """
    with _lock:
        yield from _apart()


def _apart() -> Iterator[None]:
    try:
        real = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    held = os.memfd_create("stderr")
    os.dup2(held, 2)
    try:
        yield
    finally:
        os.dup2(real, 2)
        lines = os.pread(held, os.fstat(held).st_size, 0).splitlines(keepends=True)
        os.close(held)
        others = b"".join(line for line in lines if line.strip() and not line.startswith(_NOISE))
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(real, others)
        os.close(real)
    for line in lines:
        if line.startswith(_NOISE):
            _log.debug("%s", line.decode(errors="replace").strip())

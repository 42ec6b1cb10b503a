"""What a child process does before and around its work: it calls `begin`, imports what it needs, and works `within`.

`edge_node.ota.child` is the node's side.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["OUT_OF_MEMORY", "TERMS", "Terms", "begin", "ran_out", "within"]

OUT_OF_MEMORY: Final = 86
"""Exit code of a child that was refused memory."""
TERMS: Final = "SOTTOVOCE_CHILD"
"""Environment variable with the child's `Terms`, in JSON."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is told by the node, besides its arguments."""

    parent: int
    """Process id of the node."""
    nice: int
    """How much lower than the node's its priority is."""
    memory_bytes: int
    """What it may allocate on top of what it holds once its libraries are loaded."""


def begin() -> int:
    """Settle the child's dues to the node and to the system, before anything else, and return its memory limit, bytes.

    Raises:
        SystemExit: the node has gone, or there is none.
    """
    if TERMS not in os.environ:
        sys.exit("this module is run by the node, not by people")
    terms = msgspec.json.decode(os.environ.pop(TERMS), type=Terms)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # they are meant for the node, which ends its children
    with contextlib.suppress(OSError):  # none but Linux has it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))
    if os.getppid() != terms.parent:  # it went before it could be said
        sys.exit("the node has gone")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(terms.nice)
    return terms.memory_bytes


def within(memory_bytes: int, work: Callable[[], None], *, writes_files: bool = False) -> int:
    """Return the exit code of a work that is refused more memory than this, in bytes, and files too.

    Args:
        memory_bytes: what it may allocate on top of what the process holds now.
        work: writes what it finds to stdout.
        writes_files: whether it may write files after all.
    """
    if not writes_files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(OSError):  # none but Linux has it
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if (code := _system_error()) is not None:
        code.value = 0
    try:
        work()
    except Exception as error:
        if ran_out(error):
            return OUT_OF_MEMORY
        raise
    return 0


def ran_out(error: BaseException) -> bool:
    """Return whether memory was refused where this error, or what caused it, comes from.

    LiteRT says of it no more than that something failed; the C library's last error number still tells.
    """
    code = _system_error()
    is_refused = code is not None and code.value == errno.ENOMEM
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (is_refused and isinstance(cause, RuntimeError | ValueError)):
            return True
        cause = cause.__cause__
    return False


@lru_cache(maxsize=1)  # to look for it again would change it
def _system_error() -> "ctypes.c_int | None":
    """Return the `errno` of the thread that asks first, where the C library lets us look at it."""
    try:
        where = ctypes.CDLL(None)["__errno_location"]
    except (OSError, AttributeError):
        return None
    where.restype = ctypes.POINTER(ctypes.c_int)
    found: ctypes.c_int = where().contents
    return found

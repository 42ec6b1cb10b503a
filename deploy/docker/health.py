"""Health checks for containers, in the standard library alone: exit code 0 or 1, and a word on why.

    python -m deploy.docker.health connected 8883                      a TCP connection to that port is established
    python -m deploy.docker.health answers http://127.0.0.1:8080/x     a GET is answered with success

A node and a collector serve nothing that could be asked, so theirs is whether they hold a connection to the broker: a
certificate or an ACL that the broker refuses ends the connection at once. Linux only.
"""

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["is_connected", "main", "problem_of"]

_ESTABLISHED: Final = "01"  # include/net/tcp_states.h
_TIMEOUT_S: Final = 4.0


def is_connected(port: int, tables: Sequence[str]) -> bool:
    """Return whether one of the kernel's tables of TCP sockets holds a connection to a remote port.

    Args:
        port: the remote end's.
        tables: contents of /proc/net/tcp and /proc/net/tcp6.
    """
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return any(int(remote.rpartition(":")[2], 16) == port and state == _ESTABLISHED for _, _, remote, state, *_ in rows)


def problem_of(url: str) -> str | None:
    """Return why an address does not answer with success; None when it does."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):  # noqa: S310 -- the image names it, nobody else
            return None
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def main(arguments: Sequence[str]) -> int:
    """Check, and return the exit code that Docker expects."""
    match arguments:
        case ["connected", port]:
            tables = [path.read_text("ascii") for name in ("tcp", "tcp6") if (path := Path("/proc/net", name)).exists()]
            problem = None if is_connected(int(port), tables) else f"no connection to port {port}"
        case ["answers", url]:
            problem = problem_of(url)
        case _:
            problem = "usage: connected PORT | answers URL"
    if problem is not None:
        sys.stdout.write(f"{problem}\n")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

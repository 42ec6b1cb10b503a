"""Whether a fleet fits into this process: each virtual node holds a socket."""

import resource
from typing import Final

from broker.contract.errors import SettingsError

__all__ = ["make_room"]

_OTHERS: Final = 100
"""Files and sockets beside the nodes'."""


def make_room(nodes: int) -> None:
    """Raise the limit of open files as far as the system lets us; programs that are started later inherit it.

    Raises:
        SettingsError: so many nodes do not fit.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and nodes + _OTHERS > most:
        msg = (
            f"--nodes {nodes}: this system lets a process open {most:,} files, {nodes + _OTHERS:,} are needed; "
            "take fewer nodes, or raise the hard limit (ulimit -Hn)"
        )
        raise SettingsError(msg)
    soft = nodes + _OTHERS if most == resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))

"""The other end of a node's local socket: where to look for a node, and how to ask it."""

import enum
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import SottovoceError
from broker.contract.topics import NodeId
from edge_node.local.messages import Answer, Request, read_line

__all__ = ["Absence", "UnansweredError", "ask", "default_place", "likely_places", "place_beside"]

_ASK_S: Final = 5.0
_MOST_ANSWER_BYTES: Final = 262_144
_SERVICE_FOLDER: Final = "/run/sottovoce"
"""`RuntimeDirectory` of deploy/systemd/sottovoce-node.service."""


class Absence(enum.StrEnum):
    """Why there is no answer."""

    NOBODY = "nobody"
    """No node runs there."""
    FORBIDDEN = "forbidden"
    """One may; this user must not ask."""
    SILENT = "silent"
    """Something is there, and gives no answer that can be understood."""


class UnansweredError(SottovoceError):
    """Nobody has answered."""

    def __init__(self, absence: Absence, message: str) -> None:
        """Say why, in a word for programs and a line for people."""
        super().__init__(message)
        self.absence = absence


def default_place(node: NodeId, environ: Mapping[str, str]) -> Path | None:
    """Return where a node listens that was told nothing: in its service's folder, or its user's; None: there is none.

    Args:
        node: which one.
        environ: the environment; systemd names the folder of a service in RUNTIME_DIRECTORY, of a user in
            XDG_RUNTIME_DIR.
    """
    if folders := environ.get("RUNTIME_DIRECTORY"):
        return Path(folders.partition(":")[0]) / "node.sock"
    if folder := environ.get("XDG_RUNTIME_DIR"):
        return Path(folder) / f"sottovoce-{node.site}.{node.node}.sock"
    return None


def place_beside(outbox: Path) -> Path:
    """Return where a node listens that was told nothing and has no folder for it: it has one for its outbox."""
    return outbox.with_name(f"{outbox.name}.sock")


def likely_places(
    chosen: str | None, node: NodeId, environ: Mapping[str, str], outbox: Path | None = None
) -> list[Path]:
    """Return where to look for a node, likeliest first.

    Args:
        chosen: `socket` in the settings: None: nothing was chosen; empty: the node listens nowhere.
        node: which one.
        environ: the environment.
        outbox: the node's; None: nobody knows.
    """
    if chosen is not None:
        return [Path(chosen)] if chosen else []
    beside = None if outbox is None else place_beside(outbox)
    places = (default_place(node, environ), beside, Path(_SERVICE_FOLDER) / "node.sock")
    return list(dict.fromkeys(each for each in places if each is not None))


def ask(path: Path, request: Request, wait_s: float = _ASK_S) -> Answer:
    """Return what the node at a socket answers.

    Args:
        path: the socket.
        request: what to ask, or to order.
        wait_s: how long the answer may take in all, in s.

    Raises:
        UnansweredError: nobody is there, this user may not ask, or the answer cannot be understood.
    """
    until_s = time.monotonic() + wait_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(wait_s)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            line = read_line(connection, _MOST_ANSWER_BYTES, until_s)
        answer: Answer = msgspec.json.decode(line, type=Answer)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        msg = f"no node answers at {path}; is it running?"
        raise UnansweredError(Absence.NOBODY, msg) from error
    except PermissionError as error:
        msg = f"{path}: only the node's user and root may ask; try it with sudo"
        raise UnansweredError(Absence.FORBIDDEN, msg) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON of ours, or a null byte in the path
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        msg = f"{path}: {why}; is it a node of this version? Restart it if it hangs"
        raise UnansweredError(Absence.SILENT, msg) from error
    return answer

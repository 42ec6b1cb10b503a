"""A Unix socket at which the running node answers this machine's `sottovoce-node doctor` and `sottovoce-node mute`.

    request, one line of JSON  ->  answer, one line of JSON  ->  closed

Whoever may open it is the node's own user or root. It says how the node stands, and takes one order: to mute. One
thread serves one client after the other, each for two seconds at most: a client that hangs or sends rubbish holds up
the next one, and nothing else.
"""

import contextlib
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import SettingsError, SottovoceError, StoreError
from broker.contract.topics import NodeId
from edge_node.local.client import default_place, place_beside
from edge_node.local.messages import Another, Answer, Done, Refused, Report, ReportRequest, Request, read_line

__all__ = ["LocalSocket", "open_local_socket"]

_log = logging.getLogger(__name__)

_LONGEST_PATH: Final = 107
"""Bytes: a Unix socket's address holds 108, the last of them zero (unix(7))."""
_SERVE_S: Final = 2.0
_MOST_REQUEST_BYTES: Final = 4_096
_WAITING: Final = 4
_OTHERS_MAY_WRITE: Final = 0o022


class LocalSocket:
    """The node's end of the socket, open until `close`."""

    def __init__(
        self, path: Path, node: NodeId, *, report: Callable[[], Report], set_muted: Callable[[bool], str] | None
    ) -> None:
        """Listen.

        Args:
            path: where, in a folder that exists; only this user and root can open it.
            node: which one listens; an order to another is not carried out.
            report: how the node stands now; called on the socket's thread, and must not wait.
            set_muted: mutes, or ends that, and says in words what holds; likewise. None: it is not taken here.

        Raises:
            SettingsError: the path is too long, its folder is not safe, or something else is there.
            StoreError: the disk refuses it.
        """
        self._path, self._node, self._report, self._set_muted = path, str(node), report, set_muted
        self._listener = _listen(path)
        self._identity = _identity(path)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="local socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no longer, and remove the socket if it is still this one; safe to call twice."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept that the thread waits in
        self._thread.join(_SERVE_S + 1)
        self._listener.close()
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                self._path.unlink()

    def _serve(self) -> None:
        while not self._is_closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._is_closing.is_set():
                    return
                _log.warning("socket %s: %s; trying again", self._path, error.strerror)
                self._is_closing.wait(_SERVE_S)  # out of descriptors, say: that passes
                continue
            with client, contextlib.suppress(OSError):  # it hangs, or has gone: nobody to answer to
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        until_s = time.monotonic() + _SERVE_S
        answer: Answer
        try:
            request = msgspec.json.decode(read_line(client, _MOST_REQUEST_BYTES, until_s), type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            answer = Refused(words=f"not understood: {error}")
        else:
            answer = self._carry_out(request)
        client.settimeout(max(0.05, until_s - time.monotonic()))
        client.sendall(msgspec.json.encode(answer) + b"\n")

    def _carry_out(self, request: Request) -> Answer:
        try:
            if isinstance(request, ReportRequest):
                return self._report()
            if request.node != self._node:
                return Another(node=self._node)
            if self._set_muted is None:
                return Refused(words="this node cannot be muted here")
            return Done(words=self._set_muted(request.muted))
        except SottovoceError as error:
            return Refused(words=str(error))
        except Exception as error:  # noqa: BLE001 -- a defect of ours: the next may ask all the same
            _log.exception("socket %s: a request could not be answered", self._path)
            return Refused(words=f"a defect of the node: {type(error).__name__}")


def open_local_socket(
    chosen: str | None,
    node: NodeId,
    environ: Mapping[str, str],
    *,
    outbox: Path,
    report: Callable[[], Report],
    set_muted: Callable[[bool], str] | None = None,
) -> LocalSocket | None:
    """Return the node's socket; None: it listens nowhere.

    Args:
        chosen: `socket` in the settings. One that nobody chose and that cannot be used is no reason not to run.
        node: which one.
        environ: the environment.
        outbox: the node's; the socket is beside it where the environment names no folder.
        report: as `LocalSocket` takes it, as the rest.
        set_muted: likewise.

    Raises:
        SettingsError: the socket that was chosen cannot be used.
        StoreError: likewise, because of the disk.
    """
    if chosen is not None:
        return LocalSocket(Path(chosen), node, report=report, set_muted=set_muted) if chosen else None
    try:
        place = default_place(node, environ) or place_beside(outbox)
        return LocalSocket(place, node, report=report, set_muted=set_muted)
    except SottovoceError as error:
        _log.warning("%s; `sottovoce-node doctor` and `mute` do not reach this node", error)
        return None


def _listen(path: Path) -> socket.socket:
    """Return a listening socket that appears at its path when it is ready and closed to others."""
    made = path.with_name(f".{os.getpid()}")
    for each in (path, made):
        if len(os.fsencode(each)) > _LONGEST_PATH:
            msg = (
                f"socket {path}: {len(os.fsencode(each))} bytes long; a Unix socket's path has {_LONGEST_PATH} at most"
            )
            raise SettingsError(msg)
    _check_folder(path)
    _check_free(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
        listener.bind(str(made))
        made.chmod(0o600)
        listener.listen(_WAITING)
        made.replace(path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            made.unlink()
        msg = f"socket {path}: {error.strerror}; name a path in a folder that can be written"
        raise StoreError(msg) from error
    return listener


def _check_folder(path: Path) -> None:
    """Refuse a folder in which another user could put a socket of their own."""
    try:
        found = path.parent.stat()
    except OSError as error:
        msg = f"socket {path}: its folder: {error.strerror}; name a path in a folder that exists"
        raise SettingsError(msg) from error
    is_shared = found.st_mode & _OTHERS_MAY_WRITE and not found.st_mode & stat.S_ISVTX
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), 0} or is_shared:
        msg = f"socket {path}: its folder must be this user's or root's, and others must not write there"
        raise SettingsError(msg)


def _check_free(path: Path) -> None:
    """Refuse a path at which there is anything but a socket that nobody listens at any more."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        msg = f"socket {path}: {error.strerror}; name another path"
        raise SettingsError(msg) from error
    if not stat.S_ISSOCK(kind):
        msg = f"socket {path}: there is something else, which stays; name another path"
        raise SettingsError(msg)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_SERVE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # what a node left that was killed
        except OSError:  # busy or forbidden: somebody is there
            pass
    msg = f"socket {path}: another program listens there; each node needs one of its own"
    raise SettingsError(msg)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino

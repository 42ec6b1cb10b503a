"""One loop over the sockets of all virtual nodes: paho clients without a thread each.

What paho can do without waiting happens on the loop's thread. To connect may wait (for a name, a queue, TLS), so a few
threads do that. Bytes are the kernel's count for each connection: with TLS and MQTT's own, without TCP's headers.
"""

import queue
import selectors
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

__all__ = ["Socket", "Sockets", "Traffic"]

_CONNECTORS: Final = 8
_AT_ONCE: Final = 64
"""Sockets served in one turn: where all nodes hear something at once, appointments do not wait for all of them."""
_TCP_INFO_BYTES: Final = 136
_BYTES_UP_AND_DOWN: Final = struct.Struct("@QQ")
_AT: Final = 120
"""Of `tcpi_bytes_acked`, which `tcpi_bytes_received` follows, in Linux's struct tcp_info since 4.1."""

Socket = socket.socket


class Ready(Protocol):
    """Whoever has a socket in the loop."""

    def ready(self, *, read: bool, write: bool) -> None:
        """Hear that there is something to read, or room to write."""


class Traffic:
    """What went over the wire, for all nodes."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.down_bytes = 0
        """To the nodes, over connections that are closed."""
        self.up_bytes = 0
        self.received = 0
        """Messages that the broker published to nodes."""
        self.sent = 0
        """Messages that nodes published."""


class Sockets:
    """The loop. `turn`, `watch`, `forget` and `connect` belong to one thread."""

    def __init__(self) -> None:
        """Begin with no socket."""
        self.traffic = Traffic()
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(_CONNECTORS, thread_name_prefix="connect")
        self._done: queue.SimpleQueue[tuple[Callable[[Exception | None], None], Exception | None]] = queue.SimpleQueue()
        self._bell, self._rope = socket.socketpair()
        for each in (self._bell, self._rope):
            each.setblocking(False)  # noqa: FBT003 -- the standard library's signature
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._writing: dict[Socket, bool] = {}

    def connect(self, connect: Callable[[], object], then: Callable[[Exception | None], None]) -> None:
        """Call `connect` on another thread, and `then` on the loop's, with what `connect` raised."""

        def done(future: "Future[object]") -> None:
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            self._done.put((then, error))
            self._ring()

        self._pool.submit(connect).add_done_callback(done)

    def watch(self, sock: Socket, owner: Ready, *, write: bool) -> None:
        """Tell the owner when there is something to read, or, if it asks, room to write."""
        before = self._writing.get(sock)
        if before == write:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        if before is None:
            self._selector.register(sock, events, owner)
        else:
            self._selector.modify(sock, events, owner)
        self._writing[sock] = write

    def forget(self, sock: Socket) -> None:
        """Watch a socket no longer; before it is closed."""
        if self._writing.pop(sock, None) is not None:
            self._selector.unregister(sock)

    def count(self, sock: Socket) -> None:
        """Add what went over a socket, just before it is closed, to the traffic."""
        up, down = bytes_of(sock)
        self.traffic.up_bytes += up
        self.traffic.down_bytes += down

    def open_bytes(self) -> tuple[int, int]:
        """Return what went up and down over the sockets that are open now, in bytes."""
        pairs = [bytes_of(sock) for sock in self._writing]
        return sum(up for up, _ in pairs), sum(down for _, down in pairs)

    def turn(self, wait_s: float) -> bool:
        """Serve sockets that are ready, some of many; wait for one at most so long. Return whether none was ready."""
        ready = self._selector.select(0)
        is_idle = not ready
        if is_idle:
            ready = self._selector.select(wait_s)
        for key, events in ready[:_AT_ONCE]:
            if key.data is None:
                self._answer()
            elif key.fileobj in self._writing:  # or an earlier one of this turn has closed it
                owner: Ready = key.data
                owner.ready(read=bool(events & selectors.EVENT_READ), write=bool(events & selectors.EVENT_WRITE))
        return is_idle

    def close(self) -> None:
        """End; every connection must have been let go, and those that are being made are now."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._finish()
        self._selector.close()
        self._bell.close()
        self._rope.close()

    def _ring(self) -> None:
        try:
            self._rope.send(b".")
        except (BlockingIOError, OSError):  # it rings already, or the loop has ended
            return

    def _answer(self) -> None:
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            return
        self._finish()

    def _finish(self) -> None:
        while not self._done.empty():
            then, error = self._done.get_nowait()
            then(error)


def bytes_of(sock: Socket) -> tuple[int, int]:
    """Return the bytes that the other side has confirmed, and those that came from it; zeros where nobody can tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        up, down = _BYTES_UP_AND_DOWN.unpack_from(info, _AT)
    except (AttributeError, OSError, struct.error):
        return 0, 0
    return up, down

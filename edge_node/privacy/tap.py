"""A tap on the line between a node and its broker: hands every byte on, and keeps what the node sent."""

import contextlib
import socket
import threading
from typing import Final

__all__ = ["Tap"]

_AT_ONCE: Final = 65_536
_WAIT_S: Final = 5.0


class Tap:
    """Listens on loopback from its making until `close`."""

    def __init__(self, broker_port: int) -> None:
        """Listen on a port of its own, for a broker that listens on another of this machine.

        Raises:
            OSError: there is no free port.
        """
        self._broker = ("127.0.0.1", broker_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        """What the node sent, one for each connection, in order."""
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._start(self._accept)

    def close(self) -> None:
        """Listen no longer, and wait until what was sent has been kept."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_WAIT_S)
        for each in self._ends:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                node, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                broker = socket.create_connection(self._broker, _WAIT_S)
            except OSError:  # it has ended: the node tries again
                node.close()
                continue
            broker.settimeout(None)
            self._ends += (node, broker)
            self.sent.append(bytearray())
            self._start(_hand_on, node, broker, self.sent[-1])
            self._start(_hand_on, broker, node, bytearray())

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name="tap", daemon=True)  # type: ignore[arg-type] # ours
        self._threads.append(thread)
        thread.start()


def _hand_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_AT_ONCE):
            kept += data
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

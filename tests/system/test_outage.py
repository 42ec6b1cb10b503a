"""The broker is gone for ten minutes, sixty times as fast, while a node fills its outbox to the bound and beyond."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

FASTER = 60
OUTAGE_S = 600 / FASTER
FIRST_S, MOST_S = 1 / FASTER, 60 / FASTER
"""The default back-off, as fast; nothing else of the node is faster."""
ROWS = 200
Until = Callable[..., None]


class Nobody:
    """Where the broker was: notes when the node knocks (the collector does, too), and hangs up."""

    def __init__(self, port: int) -> None:
        self.knocks: list[float] = []
        self._server = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def leave(self) -> None:
        """Safe to call twice."""
        self._server.close()
        if self._thread.is_alive():
            self._thread.join()

    def _answer(self) -> None:
        self._server.settimeout(0.1)
        while True:
            try:
                caller, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            caller.settimeout(5)
            if b"home.kitchen" in caller.recv(1_024):  # its CONNECT
                self.knocks.append(time.monotonic())
            caller.close()


@pytest.fixture
def nobody(request: pytest.FixtureRequest) -> Callable[[int], Nobody]:
    def stand_in(port: int) -> Nobody:
        made = Nobody(port)
        request.addfinalizer(made.leave)
        return made

    return stand_in


def _rest(stack: Any, node: Any, until: Until) -> None:
    """Stop a node's process at a moment when all it has sent is in the store: what is in flight is nobody's."""

    def sent() -> set[int]:
        rows = stack.query("SELECT payload FROM message WHERE kind = 'emotion' AND state <> 0", stack.outbox())
        return {json.loads(payload)["seq"] for (payload,) in rows}

    def is_at_rest() -> bool:
        node.send_signal(signal.SIGSTOP)
        os.waitpid(node.pid, os.WUNTRACED)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if sent() <= {seq for (seq,) in stack.query("SELECT seq FROM emotion")}:
                return True
            time.sleep(0.05)  # the broker and the collector are at it
        node.send_signal(signal.SIGCONT)
        return False

    until(is_at_rest, "all that was sent is in the store")


def test_outage_of_ten_minutes_is_accounted_for_to_the_last_event(
    stack: Any, until: Until, nobody: Callable[[int], Nobody]
) -> None:
    stack.outbox_rows, stack.reconnect_s = ROWS, (FIRST_S, MOST_S)
    stack.start_collector()
    node = stack.start_node()
    until(lambda: stack.stored() > 20, "the stream has begun")
    _rest(stack, node, until)
    log = stack.folder / "home-kitchen.log"
    said = len(log.read_text().splitlines())
    stack.broker.kill()
    instead = nobody(stack.broker.port)
    node.send_signal(signal.SIGCONT)
    time.sleep(OUTAGE_S)  # how long the outage lasts is what is tested
    until(lambda: stack.query("SELECT dropped > 50 FROM counter", stack.outbox()) == [(1,)], "the outbox is full")
    lasted_s = instead.knocks[-1] - instead.knocks[0]
    instead.leave()
    assert stack.waiting() <= ROWS
    # every wait is at least half of its bound, which doubles from FIRST_S to MOST_S: six steps, then one length
    assert 3 <= len(instead.knocks) <= 1 + 6 + lasted_s / (MOST_S / 2)
    lines = log.read_text().splitlines()[said:]
    assert len(lines) <= 4, lines  # lost, hangs up, full
    stack.broker.start()
    until(lambda: stack.waiting() < ROWS / 2, "the outbox drains")
    assert stack.stop(node) == 0
    until(lambda: stack.query("SELECT reason FROM status ORDER BY id DESC LIMIT 1") == [("stopped",)], "the goodbye")
    until(lambda: stack.query("SELECT emitted = stored + dropped FROM delivery") == [(1,)], "the account is even", 10)
    ((emitted, dropped, stored),) = stack.query("SELECT emitted, dropped, stored FROM delivery")
    assert dropped > 50
    numbers = [row[0] for row in stack.query("SELECT seq FROM emotion ORDER BY seq")]
    assert (len(numbers), len(set(numbers)), numbers[-1]) == (stored, stored, emitted)
    assert len(set(range(1, emitted + 1)) - set(numbers)) == dropped
    assert len(log.read_text().splitlines()) - said <= 8

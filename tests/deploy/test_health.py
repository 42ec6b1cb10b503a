"""Health checks of the containers, on real sockets."""

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.local import free_port

ROOT = Path(__file__).parents[2]


def _check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.docker.health", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_health_connected_while_a_connection_lasts(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        port = str(listener.getsockname()[1])
        assert _check("connected", port).returncode == 1, "one that listens is no connection"
        with socket.create_connection((address, int(port))):
            assert _check("connected", port).returncode == 0
    done = _check("connected", port)
    assert (done.returncode, done.stdout) == (1, f"no connection to port {port}\n")


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        pass


@pytest.fixture
def served() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_health_answers_with_success_only(served: str) -> None:
    assert _check("answers", f"{served}/healthz").returncode == 0
    done = _check("answers", f"{served}/failing")
    assert (done.returncode, done.stdout) == (1, "HTTP Error 503: Service Unavailable\n")
    assert _check("answers", f"http://127.0.0.1:{free_port()}/healthz").returncode == 1


def test_health_unknown_question_is_unhealthy() -> None:
    assert _check("knows", "everything").returncode == 1

"""A real InfluxDB for a test: started on a free port, set up with a writer and a reader, ended by its pid."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

_READY_S = 30
_BUCKET = "sotto/main"
_CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "inmem"
  query-log-enabled = false
[coordinator]
  max-select-buckets = 100000
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "127.0.0.1:0"
  auth-enabled = true
  log-enabled = false
[logging]
  format = "json"
"""


def find_influxd() -> str | None:
    """Return a server that serves `/api/v2/write` (1.8 and above), or None."""
    if named := os.environ.get("SOTTOVOCE_INFLUXD"):
        return named
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("SOTTOVOCE_CACHE") or caches / "sottovoce")
    built = cache / "influxd-1.8.10" / "influxd"  # what deploy/ci/build_influxd.sh makes
    if built.is_file():
        return str(built)
    if found := shutil.which("influxd"):
        version = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
        if "InfluxDB v1.8" in version:  # Debian's 1.6 has no v2 API, and a 2.x is configured otherwise
            return found
    return None


class InfluxServer:
    """InfluxDB 1.8 as a process of ours."""

    org = "-"
    bucket = _BUCKET

    def __init__(self, binary: str, folder: Path) -> None:
        """Start on a free port and make users with random passwords."""
        self._binary = binary
        self._folder = folder
        self._admin, self._writer, self._reader = (secrets.token_hex(8) for _ in range(3))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        (folder / "influxdb.conf").write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
        self.start()
        self.ask(f"CREATE USER admin WITH PASSWORD '{self._admin}' WITH ALL PRIVILEGES", auth=None)
        self.ask('CREATE DATABASE sotto WITH DURATION INF REPLICATION 1 NAME "main"')
        for user, password, right in (("writer", self._writer, "WRITE"), ("reader", self._reader, "READ")):
            self.ask(f"CREATE USER {user} WITH PASSWORD '{password}'")
            self.ask(f"GRANT {right} ON sotto TO {user}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def token(self) -> str:
        """The writer's."""
        return f"writer:{self._writer}"

    @property
    def reader_token(self) -> str:
        """A token that is known and may not write."""
        return f"reader:{self._reader}"

    def start(self) -> None:
        """Start, on the same port as before if there was one."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("INFLUXDB_")}
        if self._port:
            env["INFLUXDB_HTTP_BIND_ADDRESS"] = f"127.0.0.1:{self._port}"
        log = self._folder / "log"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [self._binary, "run", "-config", str(self._folder / "influxdb.conf")],
                cwd=self._folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        deadline = time.monotonic() + _READY_S
        while not self._is_ready(log):
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)  # a program's start has no event to wait for

    def stop(self, *, hard: bool = False) -> None:
        """End the process, and nothing else."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            self._process.wait(timeout=_READY_S)
            self._process = None

    def ask(self, query: str, *, auth: str | None = "admin") -> list[dict[str, Any]]:
        """Return the series that an InfluxQL statement gives; times in ns.

        `auth` is a user's name; None for the statement that makes the first one.
        """
        passwords = {"admin": self._admin, "writer": self._writer, "reader": self._reader}
        answer = httpx.post(
            f"{self.url}/query",
            data={"q": query},
            params={"db": "sotto", "epoch": "ns"},
            auth=None if auth is None else (auth, passwords[auth]),
        )
        assert answer.status_code == httpx.codes.OK, answer.text
        result = answer.json()["results"][0]
        assert "error" not in result, f"{query}: {result}"  # a wrong SELECT is a 200 with an error inside
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def make_short_bucket(self) -> str:
        """Make a bucket that keeps points for an hour, and return its name."""
        self.ask('CREATE RETENTION POLICY "short" ON "sotto" DURATION 1h REPLICATION 1')
        return "sotto/short"

    def put(self, text: str) -> None:
        """Write line protocol directly, as a program that is not ours might."""
        answer = httpx.post(
            f"{self.url}/api/v2/write",
            params={"bucket": self.bucket, "org": self.org},
            content=text,
            headers={"Authorization": f"Token {self.token}"},
        )
        assert answer.is_success, answer.text

    def rows(self, query: str, *, auth: str = "reader") -> list[dict[str, Any]]:
        """Return the rows of every series, its tags among them."""
        return [
            dict(zip(series["columns"], values, strict=True)) | series.get("tags", {})
            for series in self.ask(query, auth=auth)
            for values in series["values"]
        ]

    def remove(self) -> None:
        """End the process if it runs."""
        self.stop()

    def _is_ready(self, log: Path) -> bool:
        for text in log.read_text(encoding="utf-8").splitlines():
            if "Listening on HTTP" in text and text.endswith("}"):
                self._port = int(json.loads(text)["addr"].rpartition(":")[2])
        if not self._port:
            return False
        try:
            return httpx.get(f"{self.url}/ping").status_code == httpx.codes.NO_CONTENT
        except httpx.TransportError:
            return False


class InfluxContainer:
    """InfluxDB 2.x in a container, with InfluxQL mapped onto its bucket."""

    org = "sotto"
    bucket = _BUCKET

    def __init__(self) -> None:
        """Start the container, make a bucket, a mapping, a token that may write and one that may not."""
        from testcontainers.core.container import DockerContainer  # only where Docker answers

        self._admin = secrets.token_hex(16)
        setup = {
            "DOCKER_INFLUXDB_INIT_MODE": "setup",
            "DOCKER_INFLUXDB_INIT_USERNAME": "admin",
            "DOCKER_INFLUXDB_INIT_PASSWORD": secrets.token_hex(8),
            "DOCKER_INFLUXDB_INIT_ORG": self.org,
            "DOCKER_INFLUXDB_INIT_BUCKET": _BUCKET,
            "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN": self._admin,
        }
        with socket.socket() as free:  # a port of our choice: Docker's own would change when the server is restarted
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._container = DockerContainer("influxdb:2").with_bind_ports(8086, port)
        for key, value in setup.items():
            self._container.with_env(key, value)
        self._container.start()
        self.start()
        (bucket,) = self._api("GET", f"/api/v2/buckets?name={_BUCKET.replace('/', '%2F')}")["buckets"]
        mapping = {"bucketID": bucket["id"], "orgID": bucket["orgID"], "database": "sotto", "retention_policy": "main"}
        self._api("POST", "/api/v2/dbrps", mapping | {"default": True})
        self.token, self.reader_token = (
            self._api(
                "POST",
                "/api/v2/authorizations",
                {
                    "orgID": bucket["orgID"],
                    "permissions": [{"action": action, "resource": {"type": "buckets", "id": bucket["id"]}}],
                },
            )["token"]
            for action in ("write", "read")
        )

    def start(self) -> None:
        """Start again if stopped, and wait until it answers."""
        container = self._container.get_wrapped_container()
        container.start()
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                self.url = f"http://{self._container.get_container_host_ip()}:{self._container.get_exposed_port(8086)}"
                if httpx.get(f"{self.url}/health").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.1)  # a container's start has no event to wait for

    def stop(self, *, hard: bool = False) -> None:
        """Stop the container; `remove` ends it."""
        container = self._container.get_wrapped_container()
        if hard:
            container.kill()
        else:
            container.stop()

    def remove(self) -> None:
        """End the container and its data."""
        self._container.stop()

    def ask(self, query: str, *, auth: str | None = "admin") -> list[dict[str, Any]]:
        """Return the series that an InfluxQL statement gives; times in ns."""
        token = self.reader_token if auth == "reader" else self._admin
        answer = httpx.post(
            f"{self.url}/query",
            data={"q": query},
            params={"db": "sotto", "rp": "main", "epoch": "ns"},
            headers={"Authorization": f"Token {token}"},
        )
        assert answer.status_code == httpx.codes.OK, answer.text
        result = answer.json()["results"][0]
        assert "error" not in result, f"{query}: {result}"
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def make_short_bucket(self) -> str:
        """Not made here: the writer's token is for one bucket."""
        pytest.skip("what a 2.x does with points beyond the retention is not tested yet")

    put = InfluxServer.put
    rows = InfluxServer.rows

    def _api(self, method: str, path: str, body: object = None) -> Any:  # JSON
        answer = httpx.request(
            method, f"{self.url}{path}", json=body, headers={"Authorization": f"Token {self._admin}"}
        )
        assert answer.is_success, answer.text
        return answer.json()


def docker_answers() -> bool:
    """Return whether a Docker engine can be reached."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30).returncode == 0
    )

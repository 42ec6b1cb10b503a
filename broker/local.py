"""A real broker on loopback, for the demo and the tests: Mosquitto, or the one that pip installs.

Mosquitto runs with the production ACL and a random password for each user. `iotcore` (rumqttd) stands in where
Mosquitto is not installed: passwords, but no ACL, no persistence, and no word when nobody subscribes.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from broker.contract.errors import LinkError
from broker.contract.generate import access_rules
from broker.contract.topics import HOME_ASSISTANT_USER, OPERATOR_USER, RELEASE_USER, WATCHER_USER

__all__ = ["LocalBroker", "free_port"]

_START_WAIT_S: Final = 10.0
_SBIN: Final = "/usr/sbin"  # Debian puts mosquitto here, which an ordinary user's PATH leaves out


class LocalBroker:
    """One broker in one folder. It can be killed and started again on the same port."""

    def __init__(self, folder: Path, users: Sequence[str], kind: Literal["mosquitto", "iotcore"] | None = None) -> None:
        """Write its configuration.

        Args:
            folder: where configuration, log and state go; must exist.
            users: nodes as `<site>/<node>`, the other users of the ACL by their names (`release`, `watcher`,
                `operator`, `homeassistant`); every other name is a collector.
            kind: which broker; None: Mosquitto where it is installed.

        Raises:
            LinkError: it is not installed.
        """
        self._folder = folder
        mosquitto = _which("mosquitto")
        self.kind = kind or ("mosquitto" if mosquitto else "iotcore")
        self.port = free_port()
        self.passwords = {user: secrets.token_urlsafe(16) for user in users}
        """By user name."""
        self._process: subprocess.Popen[bytes] | None = None
        if self.kind == "mosquitto":
            if mosquitto is None or _which("mosquitto_passwd") is None:
                msg = "Mosquitto is not installed: sudo apt install mosquitto"
                raise LinkError(msg)
            self._command = [mosquitto, "-c", str(self._configure_mosquitto())]
        else:
            if importlib.util.find_spec("iotcore") is None:
                msg = "no broker is installed: sudo apt install mosquitto, or pip install iotcore"
                raise LinkError(msg)
            configuration = str(self._configure_iotcore())
            self._command = [sys.executable, "-m", "iotcore", "--log-level", "CRITICAL", "--config", configuration]

    @property
    def log(self) -> Path:
        """What the broker has said so far."""
        return self._folder / "broker.log"

    @property
    def pid(self) -> int | None:
        """Of the process that was started last; None: none was."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and return when it accepts connections.

        Raises:
            LinkError: it ended, or does not answer in time.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own command
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + _START_WAIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.kill()
        msg = f"{self.kind} did not start on port {self.port}; it said: {self.log.read_text(errors='replace')[-500:]}"
        raise LinkError(msg)

    def stop(self) -> None:
        """Ask it to end; it saves its state."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def save(self) -> None:
        """Make Mosquitto write its state to the disk now, as it does every minute."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)

    def forget_state(self) -> None:
        """Delete what it has saved; call it between `kill` and `start`."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)

    def _configure_mosquitto(self) -> Path:
        password_file = self._folder / "passwords"
        password_file.touch(mode=0o600)
        password_file.write_text("".join(f"{user}:{word}\n" for user, word in self.passwords.items()))
        hasher = _which("mosquitto_passwd") or "mosquitto_passwd"
        subprocess.run([hasher, "-U", password_file], check=True, capture_output=True)  # noqa: S603 -- hashes in place
        acl_file = self._folder / "acl"
        acl_file.touch(mode=0o600)
        acl_file.write_text(access_rules(_collectors(self.passwords)))
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\n"
            "allow_anonymous false\n"
            f"password_file {password_file}\n"
            f"acl_file {acl_file}\n"
            "use_username_as_clientid true\n"
            "persistence true\n"
            f"persistence_location {self._folder}/\n"
            "autosave_interval 60\n"
            "max_queued_messages 100000\n"
            "max_packet_size 66560\n"
            "max_inflight_messages 0\n"
            f"user {_own_name()}\n"
            "log_dest stderr\n"
        )
        return configuration

    def _configure_iotcore(self) -> Path:
        configuration = self._folder / "rumqttd.toml"
        configuration.touch(mode=0o600)
        passwords = "".join(f'"{user}" = "{word}"\n' for user, word in self.passwords.items())
        configuration.write_text(
            "id = 0\n"
            "[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 10485760\nmax_segment_count = 10\n"
            f'[v5.1]\nname = "v5"\nlisten = "127.0.0.1:{self.port}"\nnext_connection_delay_ms = 1\n'
            "[v5.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 70000\n"
            "max_inflight_count = 200\ndynamic_filters = true\n"
            f"[v5.1.connections.auth]\n{passwords}"
        )
        return configuration


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _collectors(users: Iterable[str]) -> tuple[str, ...]:
    others = {RELEASE_USER, WATCHER_USER, OPERATOR_USER, HOME_ASSISTANT_USER}
    return tuple(user for user in users if "/" not in user and user not in others)


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def _own_name() -> str:
    """Return this process's user: Mosquitto, started by root, would otherwise change to one that cannot read here."""
    return pwd.getpwuid(os.geteuid()).pw_name

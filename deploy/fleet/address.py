"""Where virtual nodes connect, and as whom: one's own broker, or one that is there, within limits."""

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from broker.contract.errors import SettingsError
from broker.contract.topics import NodeId
from broker.settings import BrokerSettings, secret
from edge_node.simulate.call import Identity

__all__ = ["PASSWORD", "identity_there", "settings_of"]

PASSWORD: Final = "SOTTOVOCE_BROKER_PASSWORD"  # noqa: S105 -- the name of a variable, not a password
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


def settings_of(url: str, ca_file: Path | None, *, is_owned: bool) -> BrokerSettings:
    """Return how to reach the broker that a URL names.

    Args:
        url: `mqtt://127.0.0.1:1883`, or `mqtts://[user@]host:port`.
        ca_file: its certificate authority; None: the system's.
        is_owned: whether the caller says that the broker is theirs to load.

    Raises:
        SettingsError: the URL says something else, or load there is not allowed.
    """
    parts, port = _split(url)
    host = parts.hostname or ""
    is_here = _is_loopback(host)
    if parts.scheme == "mqtt" and not is_here:
        msg = f"--broker {url}: mqtt:// is for a broker on this machine only; mqtts:// encrypts"
        raise SettingsError(msg)
    if not is_here and not is_owned:
        msg = f"--broker {url}: is on another machine; --i-own-this-broker says that it is yours to load"
        raise SettingsError(msg)
    return BrokerSettings(
        host=host,
        port=port,
        tls=parts.scheme == "mqtts",
        ca_file=None if ca_file is None else str(ca_file),
        username=parts.username,
    )


def identity_there(settings: BrokerSettings) -> "Named":
    """Return as whom each node connects to a broker that is there.

    The password comes from the environment (`PASSWORD`, or the file that `PASSWORD_FILE` names). Without a user in the
    URL each node is called by its own name if there is a password, and by none if there is none.

    Raises:
        SettingsError: the file with the password cannot be read.
    """
    return Named(settings.username, secret(PASSWORD))


class Named:
    """Identities by one password."""

    def __init__(self, username: str | None, password: str | None) -> None:
        """Take the user's name in the URL, if there is one, and the password, if there is one."""
        self._username, self._password = username, password

    def __call__(self, node: NodeId) -> Identity:
        """Return as whom a node connects."""
        own = str(node) if self._password is not None else None
        return Identity(client_id=f"{node.site}.{node.node}", username=self._username or own, password=self._password)


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        msg = f"--broker {url}: {error}"
        raise SettingsError(msg) from error
    if parts.password is not None:
        msg = f"--broker: holds a password, which others could read; put it into the environment as {PASSWORD}"
        raise SettingsError(msg)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        msg = f"--broker {url}: is neither mqtt://127.0.0.1:1883 nor mqtts://[user@]host:port"
        raise SettingsError(msg)
    return parts, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Settings files: TOML to one frozen struct per program; a mistake is one line that names the key."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from broker.contract.errors import SettingsError, SottovoceError
from broker.explain import explain

__all__ = ["BrokerSettings", "read_settings", "secret"]

S = TypeVar("S", bound=msgspec.Struct)
Port = Annotated[int, Meta(ge=1, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=3_600)]


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is, and how to prove who we are. `[broker]` in every program's settings."""

    host: Annotated[str, Meta(min_length=1)] = "localhost"
    port: Port = 8883
    tls: bool = True
    """Switch off for a broker on this machine only."""
    ca_file: str | None = None
    """Certificate authority of the broker; None: the system's."""
    cert_file: str | None = None
    """This program's own certificate; its common name is the MQTT user name."""
    key_file: str | None = None
    username: str | None = None
    """MQTT user name where the broker asks for a password instead of a certificate."""
    password_env: str = "SOTTOVOCE_BROKER_PASSWORD"  # noqa: S105 -- the name of a variable, not a password
    """Environment variable that holds the password; never put the password itself in a file."""
    keepalive_s: Annotated[int, Meta(ge=5, le=3_600)] = 30
    reconnect_first_s: Seconds = 1.0
    """Longest wait before the first attempt to reconnect; doubles with each failure."""
    reconnect_most_s: Seconds = 60.0
    """Longest wait of all."""

    def __post_init__(self) -> None:
        """Refuse a password that would cross the network in clear text, and half a certificate.

        Raises:
            SettingsError: naming the keys.
        """
        if not self.tls and self.host not in {"localhost", "127.0.0.1", "::1"}:
            msg = f"broker.tls = false is for a broker on this machine only, not for {self.host!r}"
            raise SettingsError(msg)
        if (self.cert_file is None) != (self.key_file is None):
            msg = "broker.cert_file and broker.key_file go together"
            raise SettingsError(msg)


def read_settings(path: Path, kind: type[S], example: str = "docs/ has an example for each program") -> S:
    """Return the settings in a TOML file.

    Args:
        path: the file.
        kind: the struct to fill.
        example: what to tell a user whose file cannot be read.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or a key is unknown, missing, mistyped or out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"settings file {path}: {error.strerror}; {example}"
        raise SettingsError(msg) from error
    except (ValueError, RecursionError) as error:  # neither TOML nor text, a number of too many digits, too deep
        msg = f"settings file {path}: not valid TOML: {error}"
        raise SettingsError(msg) from error
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        msg = f"settings file {path}: {explain(error, raw, kind)}"
        raise SettingsError(msg) from error
    except SottovoceError as error:
        msg = f"settings file {path}: {error}"
        raise SettingsError(msg) from error


def secret(variable: str) -> str | None:
    """Return a secret from the environment, or from the file named by `<variable>_FILE`; None when neither is set.

    Raises:
        SettingsError: the file cannot be read.
    """
    if file := os.environ.get(f"{variable}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{variable}_FILE names {file}, which cannot be read: {error}"
            raise SettingsError(msg) from error
    return os.environ.get(variable)

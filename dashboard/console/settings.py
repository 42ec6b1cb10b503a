"""The console's settings file."""

from typing import Annotated

import msgspec
from msgspec import Meta

from broker.settings import BrokerSettings

__all__ = ["ConsoleSettings", "InfluxSettings", "SqliteSettings"]


class SqliteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sqlite]`: the collector's file."""

    path: str = "sottovoce.sqlite"


class InfluxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[influxdb]`: the collector's InfluxDB, read by InfluxQL."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/@]+$")]
    bucket: Annotated[str, Meta(min_length=1)]
    """As the collector names it; on InfluxDB 1.8 `<database>/<retention policy>`."""
    token_env: str = "SOTTOVOCE_INFLUXDB_TOKEN"  # noqa: S105 -- the name of a variable, not a token
    """Environment variable that holds the token; `<user>:<password>` on InfluxDB 1.8. A token that reads suffices."""


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the console reads, and where it serves."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """The console asks nobody for a password: put a proxy that does in front before you name another address."""
    names: tuple[str, ...] = ()
    """Names by which browsers may ask for it, beside localhost and `host`: a proxy's, a container's."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """0: any free one."""
    sqlite: SqliteSettings = SqliteSettings()
    influxdb: InfluxSettings | None = None
    """When it is there, it is read instead of SQLite."""
    broker: BrokerSettings | None = None
    """What `mute` and `threshold` send commands by, as the user `operator`; the page needs none."""

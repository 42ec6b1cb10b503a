"""The collector's settings file."""

from typing import Annotated

import msgspec
from msgspec import Meta

from broker.settings import BrokerSettings

__all__ = ["CollectorSettings", "InfluxSettings", "SqliteSettings"]

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class SqliteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sqlite]`: the store out of the box."""

    path: str = "sottovoce.sqlite"


class InfluxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[influxdb]`: InfluxDB 1.8, 2.x or 3 Core, behind a spool."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/@]+$")]
    bucket: Annotated[str, Meta(min_length=1)]
    """On InfluxDB 1.8: `<database>/<retention policy>`."""
    org: str = "-"
    """Ignored by InfluxDB 1.8."""
    token_env: str = "SOTTOVOCE_INFLUXDB_TOKEN"  # noqa: S105 -- the name of a variable, not a token
    """Environment variable that holds the token; `<user>:<password>` on InfluxDB 1.8."""
    spool_path: str = "sottovoce-spool.sqlite"
    spool_most_rows: Annotated[int, Meta(ge=100)] = 5_000_000
    """A day of 50 nodes at one event a second; when full, the collector stops acknowledging."""


class CollectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One collector."""

    name: Name = "collector"
    """Stable and different for each replica: it names the session on the broker."""
    group: Name = "collectors"
    """Replicas of one group share the messages; two groups receive all of them twice."""
    shared: bool = True
    """Whether to subscribe as one of a group; false for a lone collector on a broker without shared subscriptions."""
    broker: BrokerSettings = BrokerSettings()
    sqlite: SqliteSettings | None = None
    influxdb: InfluxSettings | None = None

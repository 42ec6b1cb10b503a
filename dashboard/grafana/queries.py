"""InfluxQL for Grafana: the questions that the dashboards ask, each the text of one query.

Grafana replaces `$timeFilter`, `$__interval` and `$__interval_ms`, and the variables `$site` and `$node` by
alternatives for a regular expression. Two rules hold for every query: grouping by time has a `$timeFilter` (or the
server would count intervals since 1970), and nothing averages quantiles.
"""

from typing import Any, Final, Literal, Self

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from broker.contract.condition import LATENCY_BOUNDS_US
from broker.contract.decision import Label
from broker.contract.messages import Stage

__all__ = ["NODES", "SITES", "SOURCE", "Target"]

SOURCE: Final = DataSourceRef(type_val="influxdb", uid="sottovoce-influxdb")
"""The data source that provisioning/datasources makes."""

SITES: Final = 'SHOW TAG VALUES FROM "telemetry" WITH KEY = "site"'
NODES: Final = 'SHOW TAG VALUES FROM "telemetry" WITH KEY = "node" WHERE "site" =~ /^$site$/'

_CHOSEN: Final = '"site" =~ /^$site$/ AND "node" =~ /^$node$/'
_SHOWN: Final = f"$timeFilter AND {_CHOSEN}"
_BY_NODE: Final = 'GROUP BY "site", "node"'
_BY_TIME: Final = "GROUP BY time($__interval)"
_BY_TIME_AND_NODE: Final = 'GROUP BY time($__interval), "site", "node"'
_YEAR: Final = "time > now() - 365d"
_NODE: Final = "$tag_site/$tag_node"


def _select(what: str, source: str, condition: str, grouping: str) -> str:
    return f"SELECT {what} FROM {source} WHERE {condition} {grouping}"  # noqa: S608 -- every part is written in here


def _most(field: str) -> str:
    return _select(f'max("{field}")', '"telemetry"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(null)")


def _mean(field: str) -> str:
    return _select(f'mean("{field}")', '"telemetry"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(null)")


def _last(field: str) -> str:
    return _select(f'last("{field}")', '"telemetry"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(null)")


def _risen(*counters: str) -> str:
    """Return by how much counters of one start of the program rose; where they began anew, the fall is left out."""
    of_each = ", ".join(f'non_negative_difference("{each}") AS "{each}"' for each in counters)
    rows = _select(of_each, '"telemetry"', _SHOWN, _BY_NODE)
    total = " + ".join(f'sum("{each}")' for each in counters)
    return f'SELECT {total} AS "n" FROM ({rows}) {_BY_NODE}'  # noqa: S608 -- every part is written in here


def _bin(index: int) -> str:
    """Return one bin of a histogram, summed, and called by its upper bound."""
    if index == len(LATENCY_BOUNDS_US):
        bound = LATENCY_BOUNDS_US[-1]
        return f'sum("over_{bound}_us") AS "over {_ms(bound)}"'
    bound = LATENCY_BOUNDS_US[index]
    return f'sum("to_{bound}_us") AS "{_ms(bound)}"'


def _ms(us: int) -> str:
    return f"{us / 1000:g} ms" if us < 1_000_000 else f"{us / 1_000_000:g} s"  # noqa: PLR2004 -- µs of a second


def _over(function: str, rows: str, grouping: str = "") -> str:
    """Return a query over the column `n` of another query's rows."""
    return f'SELECT {function}("n") FROM ({rows}) {grouping}'.rstrip()  # noqa: S608 -- every part is written in here


LABEL_NOW: Final = _select('last("label") AS "label", "confidence", "model"', '"emotion"', _SHOWN, _BY_NODE)
# fill(null): a node repeats its label every 5 s while speech lasts, so an interval without one is silence, not the
# label before it.
LABEL: Final = _select('last("label")', '"emotion"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(null)")
WINDOWS: Final = _select(
    ", ".join(f'sum("{label}") AS "{label}"' for label in Label), '"telemetry"', _SHOWN, f"{_BY_TIME} fill(null)"
)
EVENTS_PER_MINUTE: Final = _select(
    'count("label") * 60000 / $__interval_ms', '"emotion"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(0)"
)
CONFIDENCE: Final = _select('mean("confidence")', '"emotion"', _SHOWN, f"{_BY_TIME_AND_NODE} fill(null)")

TOTAL: Final = _select(
    'percentile("total_us", 50) AS "p50", percentile("total_us", 95) AS "p95", max("total_us") AS "max"',
    '"emotion"',
    _SHOWN,
    f"{_BY_TIME} fill(null)",
)
DISTRIBUTION: Final = _select(
    ", ".join(_bin(index) for index in range(len(LATENCY_BOUNDS_US) + 1)),
    '"stage_latency"',
    f"{_SHOWN} AND \"stage\" = '{Stage.TOTAL.value}'",
    f"{_BY_TIME} fill(null)",
)
STAGE_P50: Final = _select('median("p50_us")', '"stage_latency"', _SHOWN, f'{_BY_TIME}, "stage" fill(null)')
STAGE_P95: Final = _select('max("p95_us")', '"stage_latency"', _SHOWN, f'{_BY_TIME}, "stage" fill(null)')

OUTBOX_DEPTH: Final = _most("outbox_depth")
OUTBOX_AGE: Final = _most("outbox_age_us")
# An outbox counts its events from 1 without gaps: what lies between the first and the last and is not here is missing.
MISSING: Final = _select('spread("seq") + 1 - count("seq") AS "missing"', '"emotion"', _SHOWN, _BY_NODE)
DROPPED: Final = _over(
    "sum",
    _select('spread("outbox_dropped") AS "n"', '"telemetry"', _SHOWN, f'{_BY_NODE}, "outbox_id"'),
    _BY_NODE,
)
BLOCKS: Final = _risen("dropped_blocks")
RECONNECTS: Final = _risen("reconnects")
DEAD_LETTERS: Final = _select('count("topic")', '"dead_letter"', "$timeFilter", f"{_BY_TIME} fill(0)")

_CLASSIFIED: Final = " + ".join(f'sum("{label}")' for label in Label)
GATE: Final = _select(
    f'{_CLASSIFIED} AS "classified", sum("gated") AS "no speech", sum("silent") AS "silent"',
    '"telemetry"',
    _SHOWN,
    f"{_BY_TIME} fill(null)",
)
CAPTURE: Final = _last("capture")
PROBLEM: Final = _last("problem")
LEVEL: Final = _mean("level_dbfs")
CLIPPED: Final = _select(
    f'sum("clipped") / ({_CLASSIFIED} + sum("gated") + sum("silent"))',
    '"telemetry"',
    _SHOWN,
    f"{_BY_TIME_AND_NODE} fill(null)",
)
BEGUN_ANEW: Final = _risen("restarts", "reopens", "rescans")
DRIFT_CONFIDENCE: Final = _mean("mean_confidence")
DRIFT_ENTROPY: Final = _mean("mean_entropy")
DRIFT_DIVERGENCE: Final = _mean("divergence")

# A node that runs for a month published its status a month ago: no $timeFilter.
STATUS: Final = _select(
    'last("online") AS "online", "reason", "model", "context", "exemption", "notice_acknowledged", "muted", '
    '"muted_by", "capture", "problem", "clock_synced", "sottovoce"',
    '"status"',
    _CHOSEN,
    _BY_NODE,
)
# A node reports when its state changes, which may be months ago; only for as long is it looked for.
UPDATES: Final = _select(
    'last("state") AS "state", "release", "reason", "progress", "agreed", "classified"',
    '"update"',
    f"{_YEAR} AND {_CHOSEN}",
    _BY_NODE,
)
# Of each node; Grafana counts them, because InfluxQL groups by tags only and a model is none.
MODELS: Final = _select('last("model") AS "model"', '"status"', f"{_YEAR} AND {_CHOSEN}", _BY_NODE)
HEARD: Final = _over(
    "count", _select('last("emitted") AS "n"', '"telemetry"', f"time > now() - 30s AND {_CHOSEN}", _BY_NODE)
)
CPU: Final = _most("cpu_share")
MEMORY: Final = _most("rss_bytes")
TEMPERATURE: Final = _most("temperature_c")
THROTTLED: Final = _last("throttled")


class Target(Dataquery, Builder[Dataquery]):
    """One InfluxQL query of a panel; the SDK has no type for InfluxDB."""

    def __init__(
        self, query: str, *, alias: str = _NODE, shape: Literal["time_series", "table"] = "time_series"
    ) -> None:
        """Make a query.

        Args:
            query: InfluxQL with Grafana's macros.
            alias: name of a series, `$tag_<tag>` and `$col` being replaced.
            shape: what Grafana makes of the answer.
        """
        self._query = query
        self._alias = alias
        self._shape = shape

    def build(self) -> Self:
        """Return itself: it is its own builder."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the form in the dashboard's file."""
        named = {"alias": self._alias} if self._shape == "time_series" else {}
        return named | {
            "datasource": SOURCE,
            "query": self._query,
            "rawQuery": True,
            "refId": "A",
            "resultFormat": self._shape,
        }

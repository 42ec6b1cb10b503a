"""InfluxDB 1.8, 2.x and 3 Core, by InfluxQL over `/query`, which all three answer.

Fields and tags are those of `dashboard/collector/points.py`. There is no `received_us` on events and telemetry: what
was heard when is reckoned from the nodes' own clocks here. Timestamps are asked for in µs.
"""

# ruff: noqa: S608 -- the queries are made of words of ours, integers and names of nodes, which hold a-z, 0-9 and - only

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import httpx

from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.messages import Stage
from broker.contract.topics import NodeId
from dashboard.console.condition import (
    HEALTH_COLUMNS,
    STATUS_COLUMNS,
    Figures,
    read_health,
    read_status,
)
from dashboard.console.readings import (
    CLOCKS_APART_US,
    EVENTS_SHOWN,
    LAST_SPEECH_US,
    LATENCY_SPAN_US,
    LETTERS_SHOWN,
    Emotion,
    History,
    Letter,
    Live,
    Node,
    NoStoreYetError,
    Span,
    StageLatency,
    Totals,
    WindowCount,
)
from dashboard.console.stored import known, node_id
from dashboard.console.updates import UPDATE_COLUMNS, read_update

__all__ = ["InfluxReader"]

_WEEK_US: Final = 604_800_000_000
_MOST_EVENTS: Final = 20_000
_TIMEOUT_S: Final = 5.0
_EVENT: Final = "boot_id, seq, clock_synced, label, confidence, model, total_us, site, node"
_OVER_TIME: Final = {
    "sum": (*(label.value for label in Label), "silent", "gated", "clipped"),
    "mean": ("level_dbfs", "mean_confidence", "mean_entropy", "divergence"),
    "max": ("outbox_depth", "outbox_age_us", "dropped_blocks", "reconnects", "temperature_c"),
}
"""What a bucket of time says of each field of telemetry; of a flag there is no maximum here."""
_BY_NODE: Final = "GROUP BY site, node"
_LAST: Final = "ORDER BY time DESC LIMIT 1"
Row = dict[str, Any]


class InfluxReader:
    """The store of a fleet."""

    def __init__(self, url: str, bucket: str, token: str | None = None) -> None:
        """Name the server.

        Args:
            url: of the server.
            bucket: `<database>` or `<database>/<retention policy>`.
            token: one that may read; `<user>:<password>` on InfluxDB 1.8; None: the server asks for none.
        """
        database, _, policy = bucket.partition("/")
        self._database = {"db": database, "epoch": "u"} | ({"rp": policy} if policy else {})
        self._url = url
        self._bucket = bucket
        headers = {} if token is None else {"Authorization": f"Token {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)

    @property
    def place(self) -> str:
        """Return the server and the bucket."""
        return f"{self._url}, bucket {self._bucket}"

    def live(self, now_us: int) -> Live:
        """Return the present.

        Raises:
            StoreError: the server does not answer as it should.
        """
        statuses, emotions, healths, updates, totals, events, letters = self._ask(
            f"SELECT {STATUS_COLUMNS} FROM status {_BY_NODE} {_LAST}",
            f"SELECT {_EVENT} FROM emotion {_within(now_us, _WEEK_US)} {_BY_NODE} {_LAST}",
            f"SELECT {HEALTH_COLUMNS} FROM telemetry {_within(now_us, _WEEK_US)} {_BY_NODE} {_LAST}",
            f'SELECT {UPDATE_COLUMNS} FROM "update" {_BY_NODE} {_LAST}',
            f"SELECT p50_us, p95_us FROM stage_latency {_within(now_us, LAST_SPEECH_US)} "
            f"AND stage = '{Stage.TOTAL.value}' {_BY_NODE} {_LAST}",
            f"SELECT {_EVENT} FROM emotion {_within(now_us, _WEEK_US)} ORDER BY time DESC LIMIT {EVENTS_SHOWN}",
            f"SELECT topic, reason, size_bytes FROM dead_letter ORDER BY time DESC LIMIT {LETTERS_SHOWN}",
        )
        said = (statuses, emotions, healths, updates)
        by_node = [{node_id((row["site"], row["node"])): row for row in part} for part in said]
        total = {node_id((row["site"], row["node"])): row for row in totals}
        return Live(
            nodes=tuple(_node(each, *(part.get(each) for part in (*by_node, total))) for each in _sorted(by_node)),
            events=tuple(_event(row) for row in events),
            letters=tuple(
                Letter(received_us=row["time"], topic=row["topic"], reason=row["reason"], size_bytes=row["size_bytes"])
                for row in letters
            ),
        )

    def history(self, span: Span, now_us: int) -> History:
        """Return the past of a span that ends now.

        Raises:
            StoreError: the server does not answer as it should.
        """
        sums = ", ".join(f"sum({label.value}) AS {label.value}" for label in Label)
        within = _within(now_us, span.length_us)
        events_of_the_span = f"SELECT {_EVENT} FROM emotion {within} ORDER BY time DESC LIMIT {_MOST_EVENTS}"
        windows, stages, *events = self._ask(
            f"SELECT {sums} FROM telemetry {within} GROUP BY time({span.bucket_us}u), site, node fill(none)",
            f"SELECT mean(p50_us) AS p50_us, mean(p95_us) AS p95_us FROM stage_latency "
            f"{_within(now_us, LATENCY_SPAN_US)} GROUP BY site, node, stage",
            *([events_of_the_span] if span is Span.MINUTES else []),
        )
        return History(
            span=span,
            until_us=now_us,
            events=tuple(_event(row) for part in events for row in reversed(part)),
            windows=tuple(
                WindowCount(
                    node=node_id((row["site"], row["node"])),
                    from_us=row["time"],
                    counts={label: int(row[label.value] or 0) for label in Label},
                )
                for row in windows
            ),
            stages=tuple(
                StageLatency(
                    node=node_id((row["site"], row["node"])),
                    stage=known(Stage, row["stage"]),
                    p50_us=row["p50_us"],
                    p95_us=row["p95_us"],
                )
                for row in stages
            ),
        )

    def figures(self, node: NodeId, span: Span, now_us: int) -> tuple[Figures, ...]:
        """Return what one node's telemetry came to in each bucket of a span that ends now, oldest first.

        Raises:
            StoreError: the server does not answer as it should.
        """
        asked = ", ".join(f"{how}({name}) AS {name}" for how, names in _OVER_TIME.items() for name in names)
        of_the_node = f"{_within(now_us, span.length_us)} AND site = '{node.site}' AND node = '{node.node}'"
        by_bucket = f"GROUP BY time({span.bucket_us}u) fill(none)"
        rows, throttled = self._ask(
            f"SELECT {asked} FROM telemetry {of_the_node} {by_bucket}",
            f"SELECT count(seq) AS n FROM telemetry {of_the_node} AND throttled = true {by_bucket}",
        )
        slowed = {row["time"] for row in throttled if row["n"]}
        return tuple(_figures(row, is_throttled=row["time"] in slowed) for row in rows)

    def totals(self) -> Totals:
        """Return the counts since the store was made, or since its retention begins.

        Raises:
            StoreError: the server does not answer as it should.
        """
        events, outboxes, letters = self._ask(
            f"SELECT count(seq) AS stored, min(seq) AS oldest, max(seq) AS newest FROM emotion {_BY_NODE}",
            "SELECT max(emitted) AS emitted, max(outbox_dropped) AS dropped, min(outbox_dropped) AS dropped_before "
            "FROM telemetry GROUP BY site, node, outbox_id",
            "SELECT count(topic) AS letters FROM dead_letter",
        )
        sent: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in outboxes:
            sent[row["site"], row["node"]].append(row)
        here = {(row["site"], row["node"]): row for row in events}
        deliveries = [_delivery(here.get(key), sent.get(key, [])) for key in here.keys() | sent.keys()]
        return Totals(
            stored=sum(row["stored"] for row in events),
            lost=sum(lost for lost, _ in deliveries),
            duplicates=sum(twice for _, twice in deliveries),
            redelivered=None,
            dead_letters=sum(row["letters"] for row in letters),
        )

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    def _ask(self, *statements: str) -> list[list[Row]]:
        """Return the rows of each statement; tags and the time are columns like the others."""
        try:
            answer = self._http.get("/query", params=self._database | {"q": ";".join(statements)})
            body = answer.json()
        except httpx.HTTPError as error:
            msg = f"InfluxDB at {self._url} does not answer: {error or type(error).__name__}"
            raise StoreError(msg) from error
        except ValueError as error:
            msg = f"{self._url} answers {answer.status_code} and no JSON; is it an InfluxDB?"
            raise StoreError(msg) from error
        if not isinstance(body, dict) or not isinstance(results := body.get("results"), list):
            said = body.get("error") or body.get("message") if isinstance(body, dict) else body
            msg = f"InfluxDB at {self.place} answers {answer.status_code}: {str(said)[:300]}"
            raise StoreError(msg)
        for result in results:
            if said := result.get("error"):
                if "database not found" in said:
                    msg = f"InfluxDB at {self._url} has no bucket {self._bucket!r} yet; create it"
                    raise NoStoreYetError(msg)
                msg = f"InfluxDB at {self._url}: {said}"
                raise StoreError(msg)
        return [list(_rows(result)) for result in results]


def _within(now_us: int, length_us: int) -> str:
    return f"WHERE time >= {now_us - length_us}u AND time <= {now_us + CLOCKS_APART_US}u"


def _rows(result: dict[str, Any]) -> Iterator[Row]:
    for series in result.get("series", ()):
        tags = series.get("tags", {})
        for values in series.get("values", ()):
            yield dict(zip(series["columns"], values, strict=True)) | tags


def _sorted(parts: list[dict[NodeId, Row]]) -> list[NodeId]:
    return sorted({node for part in parts for node in part})


def _node(
    node: NodeId, status: Row | None, emotion: Row | None, health: Row | None, update: Row | None, total: Row | None
) -> Node:
    p50_us, p95_us = (None, None) if total is None else (total["p50_us"], total["p95_us"])
    return Node(
        id=node,
        status=None if status is None else read_status(status, status["time"]),
        emotion=None if emotion is None else _event(emotion),
        health=None if health is None else read_health(health, health["time"], p50_us, p95_us),
        update=None if update is None else read_update(update, update["time"]),
    )


def _figures(row: Row, *, is_throttled: bool) -> Figures:
    names = [name for parts in _OVER_TIME.values() for name in parts]
    said = {name: row[name] for name in names if row[name] is not None}
    classified = sum(int(said.pop(label.value, 0)) for label in Label)
    return Figures(from_us=row["time"], classified=classified, throttled=is_throttled, **said)


def _event(row: Row) -> Emotion:
    return Emotion(
        node=node_id((row["site"], row["node"])),
        boot_id=row["boot_id"],
        seq=row["seq"],
        time_us=row["time"],
        received_us=row["time"],
        clock_synced=row["clock_synced"],
        label=known(Label, row["label"]),
        confidence=row["confidence"],
        model=row["model"],
        total_us=row["total_us"],
    )


def _delivery(here: Row | None, outboxes: list[Row]) -> tuple[int, int]:
    """Return how many of a node's events are lost, and how many are stored twice.

    An outbox numbers its events from 1 without gaps. What is older than the oldest event here is not missed: the
    store's retention may have removed it. With several outboxes in sight the numbers overlap, and all are reckoned.
    """
    emitted = sum(row["emitted"] for row in outboxes)
    dropped = sum(row["dropped"] for row in outboxes)
    if here is None:
        return max(0, emitted - dropped), 0
    if len(outboxes) > 1:
        return max(0, emitted - dropped - here["stored"]), 0
    dropped -= sum(row["dropped_before"] for row in outboxes)
    numbered = max(here["newest"], emitted) - here["oldest"] + 1
    return max(0, numbered - dropped - here["stored"]), max(0, here["stored"] - numbered)

"""What the demo's store says: the live table and the closing figures. Everything is queried, nothing counted here."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.table import Table

from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.database import open_database
from dashboard.sqlite_schema import FORM, SCHEMA

__all__ = ["Figures", "figures", "live_table"]

_STYLES: Final = {"pleasant": "green", "neutral": "white", "unpleasant": "red", "uncertain": "yellow"}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    published: int
    """Events that the nodes say they put into their outboxes."""
    stored: int
    lost: int
    """Published, not dropped by a full outbox, and not stored."""
    duplicates: int
    """Events stored twice."""
    redelivered: int
    """Messages that came again and changed nothing."""
    dead_letters: int
    labels: dict[str, int]
    latency_ms: dict[str, float]
    """From the capture of a window's last sample to the decided label, over the stored events."""
    broker: str


def figures(store: Path, broker: str) -> Figures:
    """Return the store's account of the whole demo.

    Raises:
        StoreError: it cannot be read.
    """
    db = open_database(store, SCHEMA, form=FORM, synchronous="FULL", read_only=True)
    try:
        ((published, stored, lost),) = db.execute(
            "SELECT coalesce(sum(emitted), 0), coalesce(sum(stored), 0), coalesce(sum(lost), 0) FROM delivery"
        )
        ((distinct,),) = db.execute("SELECT count(*) FROM (SELECT DISTINCT site, node, boot_id, seq FROM emotion)")
        counters = dict(db.execute("SELECT name, value FROM counter"))
        counts = dict(db.execute("SELECT label, count(*) FROM emotion GROUP BY label"))
        totals = [row[0] for row in db.execute("SELECT total_us FROM emotion")]
    finally:
        db.close()
    p50, p95 = np.percentile(totals, (50, 95)) / 1000 if totals else (0.0, 0.0)
    return Figures(
        published=published,
        stored=stored,
        lost=lost,
        duplicates=stored - distinct,
        redelivered=counters["redelivered"],
        dead_letters=counters["dead_letters"],
        labels={label.value: counts.get(label.value, 0) for label in Label},
        latency_ms={"p50": round(float(p50), 2), "p95": round(float(p95), 2)},
        broker=broker,
    )


def live_table(store: Path, title: str) -> Table:
    """Return each node's latest event as a table; empty while the store is being made."""
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("node", "listens to", "now", "confidence", "events", "capture to label"):
        table.add_column(name, justify="right" if name in {"confidence", "events", "capture to label"} else "left")
    for row in _latest(store):
        label = row["label"]
        table.add_row(
            f"{row['site']}/{row['node']}",
            row["source"] or "",
            f"[{_STYLES[label]}]{label}[/]",
            f"{row['confidence']:.2f}",
            str(row["events"]),
            f"{row['total_us'] / 1000:.0f} ms",
        )
    return table


def _latest(store: Path) -> list[dict[str, Any]]:
    if not store.exists():
        return []
    try:
        with closing(open_database(store, SCHEMA, form=FORM, synchronous="FULL", read_only=True)) as db:
            db.row_factory = sqlite3.Row
            rows = db.execute(
                "SELECT site, node, label, confidence, total_us, max(time_us), count(*) AS events,"
                " (SELECT source FROM status s WHERE s.site = e.site AND s.node = e.node ORDER BY id DESC LIMIT 1)"
                " AS source"
                " FROM emotion e GROUP BY site, node ORDER BY site, node"
            ).fetchall()
    except (StoreError, sqlite3.OperationalError):  # being made, or locked for a moment
        return []
    return [dict(row) for row in rows]

"""The tables of the SQLite store: written by the collector, read by the console and by anyone with `sqlite3`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["ADDED", "DEAD_LETTERS", "FORM", "GROWN", "SCHEMA"]

FORM: Final = 1
"""Raised when a table changes so that programs of before and after must refuse each other's files; see `GROWN`."""

DEAD_LETTERS: Final = """
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    received_us INTEGER NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    head BLOB NOT NULL
);

CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('redelivered', 0), ('dead_letters', 0);
"""
"""Dead letters and the counters beside them: here, and in the spool before InfluxDB."""

_TABLES: Final = """
CREATE TABLE emotion (          -- this table and the next three have the columns of GROWN, too
    site TEXT NOT NULL,
    node TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,      -- the node's wall clock
    mono_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL,
    label TEXT NOT NULL,
    confidence REAL NOT NULL,
    model TEXT NOT NULL,
    capture_us INTEGER NOT NULL,
    resample_us INTEGER NOT NULL,
    features_us INTEGER NOT NULL,
    inference_us INTEGER NOT NULL,
    decision_us INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,  -- the collector's wall clock
    PRIMARY KEY (site, node, boot_id, seq)
) WITHOUT ROWID;
CREATE INDEX emotion_time ON emotion (time_us);
CREATE INDEX emotion_node_time ON emotion (site, node, time_us);

CREATE TABLE telemetry (
    site TEXT NOT NULL,
    node TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL,
    interval_us INTEGER NOT NULL,
    pleasant INTEGER NOT NULL,     -- windows in this interval
    neutral INTEGER NOT NULL,
    unpleasant INTEGER NOT NULL,
    uncertain INTEGER NOT NULL,
    silent INTEGER NOT NULL,
    outbox_id TEXT NOT NULL,
    emitted INTEGER NOT NULL,
    outbox_dropped INTEGER NOT NULL,
    outbox_depth INTEGER NOT NULL,
    outbox_age_us INTEGER NOT NULL,
    refused_events INTEGER NOT NULL,
    dropped_blocks INTEGER NOT NULL,
    reconnects INTEGER NOT NULL,
    rss_bytes INTEGER NOT NULL,
    cpu_share REAL NOT NULL,
    temperature_c REAL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (site, node, boot_id, seq)
) WITHOUT ROWID;
CREATE INDEX telemetry_node_time ON telemetry (site, node, time_us);

CREATE TABLE stage_latency (
    site TEXT NOT NULL,
    node TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    seq INTEGER NOT NULL,          -- of the telemetry message
    time_us INTEGER NOT NULL,
    stage TEXT NOT NULL,
    count INTEGER NOT NULL,
    p50_us INTEGER NOT NULL,
    p95_us INTEGER NOT NULL,
    p99_us INTEGER NOT NULL,
    PRIMARY KEY (site, node, boot_id, seq, stage)
) WITHOUT ROWID;
CREATE INDEX stage_latency_node_time ON stage_latency (site, node, time_us);

CREATE TABLE status (              -- one row per change
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    node TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    online INTEGER NOT NULL,
    reason TEXT NOT NULL,
    sottovoce TEXT NOT NULL,
    python TEXT NOT NULL,
    litert TEXT NOT NULL,
    model TEXT NOT NULL,
    context TEXT NOT NULL,
    source TEXT NOT NULL,
    muted INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL,
    received_us INTEGER NOT NULL
);
CREATE INDEX status_node ON status (site, node, id);

-- One account per outbox file, as of its last telemetry: what the node had put into it, what it threw out because it
-- was full, and how much of it is here. Later events are in no account yet.
CREATE VIEW account AS
SELECT
    sent.site, sent.node, sent.outbox_id, sent.emitted, sent.dropped,
    (
        SELECT count(*) FROM emotion e
        WHERE e.site = sent.site AND e.node = sent.node AND e.seq <= sent.emitted AND e.boot_id IN (
            SELECT boot_id FROM telemetry t
            WHERE t.site = sent.site AND t.node = sent.node AND t.outbox_id = sent.outbox_id
        )
    ) AS stored
FROM (
    SELECT site, node, outbox_id, max(emitted) AS emitted, max(outbox_dropped) AS dropped
    FROM telemetry GROUP BY site, node, outbox_id
) AS sent;

CREATE VIEW delivery AS
SELECT
    node.site, node.node,
    (SELECT coalesce(sum(emitted), 0) FROM account a WHERE a.site = node.site AND a.node = node.node) AS emitted,
    (SELECT coalesce(sum(dropped), 0) FROM account a WHERE a.site = node.site AND a.node = node.node) AS dropped,
    (SELECT count(*) FROM emotion e WHERE e.site = node.site AND e.node = node.node) AS stored,
    (
        SELECT coalesce(sum(max(0, emitted - dropped - stored)), 0)
        FROM account a WHERE a.site = node.site AND a.node = node.node
    ) AS lost
FROM (SELECT DISTINCT site, node FROM telemetry UNION SELECT DISTINCT site, node FROM emotion) AS node;
"""

SCHEMA: Final = DEAD_LETTERS + _TABLES

ADDED: Final = """
CREATE TABLE IF NOT EXISTS update_report (  -- one row per stay in a state
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    node TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    state TEXT NOT NULL,
    from_us INTEGER NOT NULL,      -- the node's wall clock in the first report of this stay
    time_us INTEGER NOT NULL,      -- and in the last
    release TEXT,
    reason TEXT NOT NULL,
    progress REAL NOT NULL,
    windows INTEGER,               -- of the trial, where there was one
    classified INTEGER,
    agreed INTEGER,
    p50_us INTEGER,
    p95_us INTEGER,
    scores TEXT,                   -- JSON: ten bars
    labels TEXT,                   -- JSON: windows by label
    received_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS update_report_node ON update_report (site, node, id);
CREATE INDEX IF NOT EXISTS update_report_stay ON update_report (site, node, boot_id, state, from_us);
"""
"""What came after the first stores were made: the collector runs it whenever it opens a file, and a file that has it is
left as it is. A table that is only added changes nothing for whoever does not know it, so the form stays: an older file
is kept with its rows, and console and collector need not be upgraded in the same moment.
"""

_COUNT: Final = "INTEGER NOT NULL DEFAULT 0"

GROWN: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "emotion": {"gate_us": _COUNT},
        "telemetry": {
            "gated": _COUNT,  # windows in this interval
            "clipped": _COUNT,
            "level_dbfs": "REAL",
            "mean_confidence": "REAL",
            "mean_entropy": "REAL",
            "divergence": "REAL",
            "capture": "TEXT",
            "problem": "TEXT",
            "restarts": "INTEGER",
            "reopens": "INTEGER",
            "rescans": "INTEGER",
            "throttled": "INTEGER",
        },
        "stage_latency": {"histogram": "TEXT"},  # JSON: counts between LATENCY_BOUNDS_US of the contract
        "status": {
            "employees_present": "INTEGER",
            "exemption": "TEXT",
            "exemption_reference": "TEXT",
            "notice_acknowledged": _COUNT,
            "muted_by": "TEXT NOT NULL DEFAULT ''",
            "capture": "TEXT NOT NULL DEFAULT 'listening'",
            "problem": "TEXT",
            "uncertain_below": "REAL",
            "speech_above": "REAL",
        },
    }
)
"""Columns that came after the first stores were made, by table. The collector adds what is missing whenever it opens a
file, a new one too, so that old and new files come to the same. The form stays, and that holds: a column has the
default that its field has in the contract, so that a row of before, or of an older collector on a grown file, says what
the message said; an older program names the columns that it writes and reads, and never meets these. A console that
meets a file without them reads the defaults.
"""

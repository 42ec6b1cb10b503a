"""The store for a fleet: InfluxDB 1.8, 2.x or 3 Core, behind a spool on the collector's own disk.

    write: batch -> spool, durable -> return (the consumer acknowledges)
    forwarder: oldest rows of the spool -> points -> /api/v2/write -> settled

A row leaves the spool only after the store said that it has it, so a crash between the two repeats the write, and the
same points overwrite themselves. What can go wrong, and what becomes of the rows:

    no answer, 5xx, 429             they wait; tried again after a wait that doubles, with jitter
    wrong token, rights, bucket     they wait; said once with what to do; tried again slowly
    413, 422, partial write         halved until the offenders are alone; those become dead letters, the rest goes on
    older than the retention        likewise, but an update report is left out: it is retained, and may be a year old

What is not understood counts as wrong configuration: nothing is thrown away for an answer that nobody foresaw.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from broker.contract.errors import SettingsError, StoreError
from broker.contract.updates import UpdateReport
from dashboard.collector.points import Point, dead_letter_point, line, points
from dashboard.collector.records import DeadLetter, Record, Written
from dashboard.collector.settings import InfluxSettings
from dashboard.collector.spool import Spool, Spooled

__all__ = ["InfluxStore", "Pace"]

_log = logging.getLogger(__name__)

_BATCH_ROWS: Final = 500
_ABOUT_THE_ROWS: Final = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_ABOUT_A_ROW: Final = ("partial write", "unable to parse")
"""In the words of a 400 that is about lines and not about the request."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the forwarder is, in seconds."""

    retry_first_s: float = 1.0
    """Longest wait after a first failure; doubles with each failure in a row."""
    retry_most_s: float = 60.0
    """Longest wait of all, and the wait when the configuration is wrong."""
    request_s: float = 10.0
    """Longest silence of the server in one request."""
    flush_s: float = 10.0
    """How long `close` goes on emptying the spool."""


class _RefusedError(Exception):
    """The store refuses these rows for what they are."""


class _OutageError(Exception):
    """The store cannot take anything now."""


class _MisconfiguredError(Exception):
    """The store will take nothing until someone changes a setting."""


class InfluxStore:
    """Events, telemetry, stage latencies, statuses and dead letters as points; see `points.py` for their form.

    What comes again while its first copy waits in the spool is ignored and counted as redelivered; what comes again
    later is the same point and overwrites itself. So count events in the store, never by `Written`.
    """

    def __init__(self, settings: InfluxSettings, token: str, *, pace: Pace | None = None) -> None:
        """Open the spool and begin to forward what it holds.

        Args:
            settings: where the store and the spool are.
            token: `<user>:<password>` on InfluxDB 1.8; never logged.
            pace: for tests and unusual networks.

        Raises:
            SettingsError: the token is empty, or nothing that HTTP can carry.
            StoreError: the spool cannot be opened.
        """
        if not (token and token.isascii() and token.isprintable()):
            msg = f"{settings.token_env}: a token is one line of ASCII characters, and is not empty"
            raise SettingsError(msg)
        self._settings = settings
        self._pace = pace or Pace()
        self._spool = Spool(Path(settings.spool_path), settings.spool_most_rows)
        self._client = InfluxDBClient(
            settings.url, token=token, org=settings.org, enable_gzip=True, timeout=int(self._pace.request_s * 1_000)
        )
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stop_at = float("inf")
        self._problem: str | None = None
        self._last_refusal = ""
        self._defect: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="influxdb forwarder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows in the spool."""
        return self._spool.rows

    def write(self, batch: Sequence[Record | DeadLetter]) -> Written:
        """Make a batch durable in the spool; it goes to the store as soon as that takes it.

        Raises:
            StoreError: the spool is full or the disk refused; nothing of the batch was kept.
            RuntimeError: the forwarder ended by a defect of its own, which is the cause.
        """
        if self._defect is not None:
            msg = "the forwarder ended"
            raise RuntimeError(msg) from self._defect
        written = self._spool.put(batch)
        self._wake.set()
        return written

    def close(self) -> None:
        """Forward for a bounded time what waits, then end; the rest stays in the spool for the next start."""
        self._stop_at = time.monotonic() + self._pace.flush_s
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=self._pace.flush_s + 2 * self._pace.request_s)
        if self._thread.is_alive():
            _log.warning("InfluxDB holds a request open; its rows stay in the spool")
            return  # the file stays open for the thread; the process is about to end
        self._client.close()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        if self.waiting:
            _log.warning("%d rows stay in the spool %s for the next start", self.waiting, self._settings.spool_path)
        self._spool.close()

    def _run(self) -> None:
        """Forward until `close`."""
        failures = 0
        try:
            while time.monotonic() < self._stop_at:
                try:
                    if not self._forward():
                        if self._stopping.is_set():
                            return
                        self._wake.wait()
                        self._wake.clear()
                    elif self._problem is not None:
                        self._problem = None
                        _log.info("InfluxDB takes points again; %d rows wait", self.waiting)
                    failures = 0
                except (_OutageError, _MisconfiguredError, StoreError) as error:
                    failures += 1
                    self._say(error)
                    if self._stopping.is_set():
                        return
                    self._stopping.wait(self._wait_s(error, failures))
        except Exception as error:  # noqa: BLE001 -- a defect of ours: the consumer's next `write` raises it
            self._defect = error

    def _forward(self) -> bool:
        """Send the rows that have waited longest; return whether there were any."""
        rows = self._spool.oldest(_BATCH_ROWS)
        if not rows:
            return False
        refused = {
            each.id: each.what.reason for each in rows if isinstance(each.what, DeadLetter) and not each.is_letter
        }
        parts = [[each for each in rows if each.id not in refused]]
        while parts:
            part = parts.pop()
            try:
                self._send(part)
            except _RefusedError as error:
                if len(part) == 1:
                    if not _has_expired(part[0], str(error)):
                        refused[part[0].id] = str(error)
                else:  # the store may have taken the others: to send them again changes nothing
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        self._spool.settle(rows, refused, time.time_ns() // 1_000)
        for reason in refused.values():
            if reason != self._last_refusal:  # the same again is only counted
                _log.warning("a row became a dead letter (%d in all): %s", self._spool.counter("dead_letters"), reason)
                self._last_refusal = reason
        return True

    def _send(self, rows: Sequence[Spooled]) -> None:
        """Write rows and return when the store has them.

        Raises:
            _RefusedError: at least one of them is at fault.
            _OutageError: the store is not there, or busy.
            _MisconfiguredError: the operator has something to mend.
        """
        if not rows:
            return
        lines = [line(point) for row in rows for point in _points(row)]
        try:
            self._writer.write(bucket=self._settings.bucket, org=self._settings.org, record=lines)
        except ApiException as error:
            raise self._judged(error) from error
        except (HTTPError, OSError) as error:
            msg = f"InfluxDB {self._settings.url} does not answer ({type(error).__name__})"
            raise _OutageError(msg) from error

    def _judged(self, error: ApiException) -> Exception:
        """Return what an answer of the server means; of its text only what cannot hold the token."""
        status, bucket, token = int(error.status or 0), self._settings.bucket, self._settings.token_env
        said = _said(error)
        if status in _ABOUT_THE_ROWS or (
            status == HTTPStatus.BAD_REQUEST and any(words in said for words in _ABOUT_A_ROW)
        ):
            return _RefusedError(f"InfluxDB refuses it ({status}): {said}")
        advices: dict[int, str] = {
            HTTPStatus.UNAUTHORIZED: f"does not know the token; put a valid one into {token}",
            HTTPStatus.FORBIDDEN: f"does not let this token write; grant it to write to {bucket!r}",
            HTTPStatus.NOT_FOUND: f"has no bucket {bucket!r}; create it, or correct influxdb.bucket",
        }
        advice = advices.get(status)
        if advice is None and "retention policy not found" in said:  # InfluxDB 1.8 calls it a 500
            advice = f"has no retention policy for {bucket!r}; create it, or correct influxdb.bucket"
        if advice is None and (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS):
            return _OutageError(f"InfluxDB {self._settings.url} cannot write now ({status})")
        if advice is None:
            advice = "does not answer as an InfluxDB does; compare influxdb.url, bucket and org with it"
        return _MisconfiguredError(f"InfluxDB {self._settings.url} {advice} ({status})")

    def _say(self, error: Exception) -> None:
        is_outage = isinstance(error, _OutageError)
        problem = "outage" if is_outage else str(error)  # an outage has many faces
        if problem != self._problem:  # said once; the next word is about success, or another problem
            _log.log(logging.WARNING if is_outage else logging.ERROR, "%s; the spool keeps what arrives", error)
        self._problem = problem

    def _wait_s(self, error: Exception, failures: int) -> float:
        bound = self._pace.retry_most_s
        if isinstance(error, _OutageError):
            bound = min(bound, self._pace.retry_first_s * 2.0 ** min(failures - 1, 16))
        return random.uniform(bound / 2, bound)  # noqa: S311 -- jitter, not a secret


def _points(row: Spooled) -> list[Point]:
    if isinstance(row.what, DeadLetter):
        return [dead_letter_point(row.what, row.id)]
    return points(row.what)


def _has_expired(row: Spooled, said: str) -> bool:
    """Return whether a refused row is an update report that the store would have removed by now, had it taken it."""
    return isinstance(row.what, Record) and isinstance(row.what.message, UpdateReport) and "retention policy" in said


def _said(error: ApiException) -> str:
    """Return the server's own words, at most 300 characters."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        answer = json.loads(body)
    except ValueError:
        return body[:300]
    if isinstance(answer, dict):
        body = str(answer.get("error") or answer.get("message") or body)
    return body[:300]

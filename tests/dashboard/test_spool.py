"""The spool: durable, in order, bounded, and every row once."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import StoreError
from broker.database import open_database
from dashboard.collector.records import DeadLetter, Record, Written, dead_letter
from dashboard.collector.spool import Spool

_TIME_US = 1_700_000_000_000_000

Make = Callable[..., Record]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite"


def test_spool_returns_records_in_the_order_of_arrival_until_they_are_settled(
    path: Path, event: Make, telemetry: Make, status: Make
) -> None:
    batch = [event(2, _TIME_US), telemetry(1, _TIME_US), event(1, _TIME_US - 5), status(_TIME_US, _TIME_US)]
    spool = Spool(path, 100)
    assert spool.put(batch) == Written(stored=3)
    rows = spool.oldest(10)
    assert [row.what for row in rows] == batch
    assert spool.oldest(10) == rows
    spool.settle(rows[:3], {}, _TIME_US)
    assert [row.what for row in spool.oldest(10)] == batch[3:]
    assert spool.rows == 1
    spool.close()


def test_spool_keeps_its_rows_and_their_number_over_a_restart(path: Path, event: Make) -> None:
    spool = Spool(path, 100)
    spool.put([event(seq, _TIME_US) for seq in (1, 2, 3)])
    spool.close()
    spool = Spool(path, 100)
    assert (spool.rows, len(spool.oldest(10))) == (3, 3)
    spool.close()


def test_spool_ignores_and_counts_what_still_waits(path: Path, event: Make, telemetry: Make) -> None:
    spool = Spool(path, 100)
    spool.put([event(1, _TIME_US), telemetry(1, _TIME_US)])
    again = [msgspec.structs.replace(each, received_us=1) for each in (event(1, _TIME_US), telemetry(1, _TIME_US))]
    assert spool.put([*again, event(2, _TIME_US), event(2, _TIME_US)]) == Written(stored=1, redelivered=3)
    assert spool.rows == 3
    assert spool.counter("redelivered") == 3
    spool.close()


def test_spool_keeps_a_status_only_when_it_changes(path: Path, status: Make) -> None:
    spool = Spool(path, 100)
    birth, lost = status(1, 10), status(1, 30, online=False)
    repeated, back, other = msgspec.structs.replace(birth, received_us=20), status(1, 40), status(1, 5, node="lab/b")
    for each in (birth, repeated, lost, back, other):
        assert spool.put([each]) == Written()
    assert [row.what.received_us for row in spool.oldest(10)] == [10, 30, 40, 5]
    spool.close()


def test_spool_that_is_full_refuses_a_batch_whole_and_takes_it_when_there_is_room(path: Path, event: Make) -> None:
    spool = Spool(path, 3)
    spool.put([event(1, _TIME_US), event(2, _TIME_US)])
    spool.put([event(3, _TIME_US), event(4, _TIME_US)])  # the last batch may go beyond the bound
    with pytest.raises(
        StoreError, match=r"is full: 4 rows wait for the store; bring the store back, or raise influxdb"
    ):
        spool.put([event(5, _TIME_US)])
    spool.settle(spool.oldest(2), {}, _TIME_US)
    assert spool.put([event(5, _TIME_US)]) == Written(stored=1)
    assert spool.rows == 3
    spool.close()


def test_spool_keeps_and_counts_dead_letters_and_queues_them_without_their_payload(path: Path) -> None:
    spool = Spool(path, 100)
    letter = dead_letter("a/b", b"not JSON", "no JSON", _TIME_US)
    assert spool.put([letter]) == Written(dead_letters=1)
    assert [row.what for row in spool.oldest(10)] == [msgspec.structs.replace(letter, head=b"")]
    assert spool.counter("dead_letters") == 1
    spool.close()
    db = open_database(path, "", form=101, synchronous="FULL", read_only=True)
    assert db.execute("SELECT topic, reason, size_bytes, head FROM dead_letter").fetchall() == [
        ("a/b", "no JSON", 8, b"not JSON")
    ]
    db.close()


def test_spool_makes_a_refused_row_a_dead_letter_with_the_reason(path: Path, event: Make) -> None:
    spool = Spool(path, 100)
    spool.put([event(1, _TIME_US), event(2, _TIME_US)])
    rows = spool.oldest(10)
    spool.settle(rows, {rows[1].id: "type conflict"}, _TIME_US)
    (row,) = spool.oldest(10)
    assert isinstance(row.what, DeadLetter)
    assert (row.what.topic, row.what.reason) == ("sottovoce/v1/node/lab/pi-1/emotion", "type conflict")
    assert row.what.size_bytes == len(rows[1].payload)
    spool.settle([row], {row.id: "refused again"}, _TIME_US)
    assert (spool.rows, spool.counter("dead_letters")) == (0, 1)
    spool.close()


def test_spool_row_that_breaks_the_contract_comes_out_as_a_dead_letter(path: Path, event: Make) -> None:
    spool = Spool(path, 100)
    spool.put([event(1, _TIME_US, confidence=float("nan"))])  # JSON has no NaN: what is kept is null
    (row,) = spool.oldest(10)
    assert isinstance(row.what, DeadLetter)
    assert "confidence" in row.what.reason
    assert not row.is_letter
    spool.close()


def test_spool_refuses_a_file_of_another_kind(path: Path) -> None:
    open_database(path, "CREATE TABLE emotion (a);", form=1, synchronous="FULL").close()
    with pytest.raises(StoreError, match="is of format 1"):
        Spool(path, 100)

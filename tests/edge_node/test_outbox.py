"""What is in the outbox stays there until it is delivered, whoever is killed and however full the disk is."""

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import MessageError, StoreError
from broker.contract.messages import EmotionEvent
from broker.contract.topics import EMOTION, TELEMETRY, NodeId
from edge_node.outbox import Outbox, OutboxSettings

Draft = Callable[[int], EmotionEvent]
Open = Callable[[OutboxSettings], Outbox]
NODE = NodeId("home", "kitchen")


def _numbers(outbox: Outbox) -> list[int]:
    return [json.loads(row.payload)["seq"] for row in outbox.waiting(1_000_000)]


def test_outbox_numbers_have_no_gap_across_restarts(box: OutboxSettings, draft: Draft) -> None:
    for _ in range(3):
        outbox = Outbox(box)
        for _ in range(4):
            outbox.put(EMOTION, NODE, draft)
        outbox.close()
    outbox = Outbox(box)
    assert _numbers(outbox) == list(range(1, 13))
    outbox.close()


def test_outbox_refused_message_uses_no_number(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(box)

    def broken(seq: int) -> EmotionEvent:
        return msgspec.structs.replace(draft(seq), confidence=float("nan"))

    def failing(_seq: int) -> EmotionEvent:
        raise ZeroDivisionError

    outbox.put(EMOTION, NODE, draft)
    with pytest.raises(MessageError, match="confidence"):
        outbox.put(EMOTION, NODE, broken)
    with pytest.raises(ZeroDivisionError):
        outbox.put(EMOTION, NODE, failing)
    outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == [1, 2]
    assert outbox.counters().emitted == 2


def test_outbox_counts_each_kind_by_itself(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(box)
    for topic in (EMOTION, TELEMETRY, EMOTION, TELEMETRY, TELEMETRY):
        outbox.put(topic, NODE, draft)
    assert _numbers(outbox) == [1, 1, 2, 2, 3]
    assert outbox.counters().emitted == 2
    assert [row.topic for row in outbox.waiting(2)] == [EMOTION.at(NODE), TELEMETRY.at(NODE)]


def test_outbox_waiting_leaves_out_topics(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(box)
    for topic in (EMOTION, TELEMETRY, EMOTION):
        outbox.put(topic, NODE, draft)
    assert [row.id for row in outbox.waiting(9, [EMOTION.at(NODE)])] == [2]
    assert outbox.waiting(9, [EMOTION.at(NODE), TELEMETRY.at(NODE)]) == []


def test_outbox_full_of_rows_drops_the_oldest_and_counts_them(tmp_path: Path, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "o.sqlite"), most_rows=10))
    for _ in range(25):
        outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == list(range(16, 26))
    assert (outbox.counters().emitted, outbox.counters().dropped, outbox.counters().depth) == (25, 15, 10)


def test_outbox_full_of_bytes_drops_the_oldest(tmp_path: Path, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "o.sqlite"), most_bytes=100_000))
    while outbox.counters().dropped < 3:
        outbox.put(EMOTION, NODE, draft)
        size = sum(len(row.payload) for row in outbox.waiting(1_000_000))
        assert size <= 100_000
    assert size > 99_000
    assert _numbers(outbox)[0] == 4


def test_outbox_full_counts_only_events_that_were_never_delivered(
    tmp_path: Path, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "o.sqlite"), most_rows=10))
    done, again = outbox.put(EMOTION, NODE, draft), outbox.put(EMOTION, NODE, draft)
    outbox.put(TELEMETRY, NODE, draft)
    outbox.finish([again])
    outbox.replay()
    outbox.finish([done])
    for _ in range(10):
        outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 0
    outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 1


def test_outbox_delivered_row_waits_again_after_replay_and_goes_when_forgotten(
    box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    first, second = (outbox.put(EMOTION, NODE, draft) for _ in range(2))
    outbox.finish([first])
    assert [row.id for row in outbox.waiting(9)] == [second]
    outbox.replay()
    assert [row.id for row in outbox.waiting(9)] == [first, second]
    outbox.forget([first, second])
    assert [row.id for row in outbox.waiting(9)] == [first, second]
    outbox.finish([first])
    outbox.forget([first])
    outbox.replay()
    assert [row.id for row in outbox.waiting(9)] == [second]
    assert outbox.counters().depth == 1


def test_outbox_payload_never_changes(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    outbox = open_outbox(box)
    row = outbox.put(EMOTION, NODE, draft)
    ((_, _, before),) = [msgspec.structs.astuple(each) for each in outbox.waiting(1)]
    outbox.finish([row])
    outbox.replay()
    assert outbox.waiting(1)[0].payload == before


def test_outbox_two_threads_lose_nothing(box: OutboxSettings, draft: Draft) -> None:
    """As in the node: the pipeline's thread puts while the publisher's finishes and syncs."""
    delivered: list[int] = []
    is_over = threading.Event()

    def publish() -> None:
        mine = Outbox(box)
        while rows := mine.waiting(20) or not is_over.is_set():
            if rows is not True:
                delivered.extend(json.loads(row.payload)["seq"] for row in rows)
                mine.finish([row.id for row in rows])
                mine.sync()
        mine.close()

    outbox = Outbox(box)
    thread = threading.Thread(target=publish)
    thread.start()
    for _ in range(500):
        outbox.put(EMOTION, NODE, draft)
    is_over.set()
    thread.join(30)
    assert not thread.is_alive()
    assert delivered == list(range(1, 501))
    assert outbox.counters().depth == 0
    outbox.close()


WRITER = """
import sys
from broker.contract.topics import EMOTION, NodeId
from broker.contract.errors import StoreError
from broker.contract.messages import EmotionEvent, EventLatency
from edge_node.outbox import Outbox, OutboxSettings
outbox = Outbox(OutboxSettings(path=sys.argv[1]))
latency = EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=1)
def draft(seq):
    return EmotionEvent(boot_id="0123456789abcdef", time_us=1, seq=seq, mono_us=1, clock_synced=False,
                        label="neutral", confidence=0.5, model="m/1", latency_us=latency)
"""


def test_outbox_writer_killed_loses_no_committed_row(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    program = WRITER + "while True: print(outbox.put(EMOTION, NodeId('home', 'kitchen'), draft), flush=True)"
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, box.path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            committed = [process.stdout.readline() for _ in range(100 + 37 * round_)]
            process.send_signal(signal.SIGKILL)
            committed += process.stdout.read().splitlines()
        last = max(int(line) for line in committed if line.strip())
        outbox = open_outbox(box)
        numbers = _numbers(outbox)
        assert numbers == list(range(1, len(numbers) + 1))
        assert last <= len(numbers) <= last + 1  # one may be committed and not yet printed
        outbox.put(EMOTION, NODE, draft)
        assert _numbers(outbox)[-1] == len(numbers) + 1
        outbox.close()


def test_outbox_disk_full_keeps_what_was_there_and_goes_on_when_there_is_room(
    box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    for _ in range(50):
        outbox.put(EMOTION, NODE, draft)
    ((pages,),) = outbox._run("PRAGMA page_count")
    outbox._run(f"PRAGMA max_page_count = {pages}")
    refusals = []
    for _ in range(100):
        try:
            outbox.put(EMOTION, NODE, draft)
        except StoreError as error:
            refusals.append(str(error))
    stored = 150 - len(refusals)
    assert len(refusals) > 50
    assert set(refusals) == {f"outbox {box.path}: database or disk is full; free the disk"}
    assert _numbers(outbox) == list(range(1, stored + 1))
    outbox._run("PRAGMA max_page_count = 100000")
    outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == list(range(1, stored + 2))


def test_outbox_file_that_may_not_grow_keeps_what_was_there(box: OutboxSettings, open_outbox: Open) -> None:
    """The real thing: the kernel refuses the write, in a process with a limit on file size."""
    program = WRITER + (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
        "stored = refused = 0\n"
        "for _ in range(2_000):\n"
        "    try:\n"
        "        outbox.put(EMOTION, NodeId('home', 'kitchen'), draft)\n"
        "        stored += 1\n"
        "    except StoreError:\n"
        "        refused += 1\n"
        "print(stored, refused)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", program, box.path], capture_output=True, text=True, check=True)
    stored, refused = map(int, done.stdout.split())
    assert stored > 10
    assert refused > 10
    assert _numbers(open_outbox(box)) == list(range(1, stored + 1))


def _text(path: Path) -> None:
    path.write_text("this is no database, but it is long enough to look at" * 100)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photo (name)")
    db.close()


def _foreign_with_our_number(path: Path) -> None:
    _foreign(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()


def _newer(path: Path) -> None:
    Outbox(OutboxSettings(path=str(path))).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_text, "not a database"),
        (_foreign, "database of something else"),
        (_foreign_with_our_number, "database of something else"),
        (_newer, "format 2, this version of Sottovoce reads format 1"),
        (Path.mkdir, "unable to open"),
    ],
    ids=["text", "foreign", "foreign with our number", "newer", "folder"],
)
def test_outbox_other_file_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "spoilt.sqlite"
    spoil(path)
    with pytest.raises(StoreError, match=words) as caught:
        Outbox(OutboxSettings(path=str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outbox_in_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "outbox.sqlite", "a\0b"):
        with pytest.raises(StoreError):
            Outbox(OutboxSettings(path=str(path)))


def test_outbox_damaged_inside_is_a_store_error(box: OutboxSettings, draft: Draft) -> None:
    outbox = Outbox(box)
    for _ in range(200):
        outbox.put(EMOTION, NODE, draft)
    outbox.sync()
    outbox.close()
    path = Path(box.path)
    data = bytearray(path.read_bytes())
    data[4_096 * 3 :] = b"\xa5" * (len(data) - 4_096 * 3)
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:  # noqa: PT012 -- any of these may be the first to see it
        outbox = Outbox(box)
        try:
            outbox.waiting(1_000)
            outbox.put(EMOTION, NODE, draft)
        finally:
            outbox.close()
    assert "\n" not in str(caught.value)


def test_outbox_is_readable_by_its_owner_only(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    open_outbox(box).put(EMOTION, NODE, draft)
    files = sorted(Path(box.path).parent.glob("outbox.sqlite*"))
    assert len(files) == 3
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3


def test_outbox_row_that_may_have_arrived_is_not_counted_as_dropped(
    tmp_path: Path, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "outbox.sqlite"), most_rows=10))
    ids = [outbox.put(EMOTION, NODE, draft) for _ in range(10)]
    outbox.doubt(ids[:2])
    for _ in range(3):
        outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 1


def test_outbox_of_another_node_begins_a_new_account_and_keeps_what_waits(
    box: OutboxSettings, open_outbox: Open, draft: Draft
) -> None:
    outbox = open_outbox(box)
    outbox.belong_to(NODE)
    outbox.put(EMOTION, NODE, draft)
    before = outbox.counters()
    outbox.belong_to(NODE)
    assert outbox.counters().outbox_id == before.outbox_id
    outbox.belong_to(NodeId("home", "bedroom"))
    outbox.put(EMOTION, NodeId("home", "bedroom"), draft)
    after = outbox.counters()
    assert after.outbox_id != before.outbox_id
    assert (after.emitted, after.depth) == (1, 2)

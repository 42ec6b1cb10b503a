"""What is in the outbox stays there until it is delivered, whoever is killed and however full the disk is."""

import json
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.decision import Label
from broker.contract.errors import MessageError, SettingsError, StoreError
from broker.contract.messages import EmotionEvent, EventLatency, NodeMessage, Telemetry, decode
from broker.contract.topics import EMOTION, NODE_TOPICS, TELEMETRY, NodeId, NodeTopic
from edge_node.clock import WallClock
from edge_node.delivery import outbox_file
from edge_node.delivery.outbox import Outbox, OutboxSettings

Draft = Callable[[int], EmotionEvent]
DraftTelemetry = Callable[[int], Telemetry]
Open = Callable[[OutboxSettings], Outbox]
NODE = NodeId("home", "kitchen")
CLOCK = WallClock(trusted=True)
S = 1_000_000_000


def _numbers(outbox: Outbox) -> list[int]:
    return [json.loads(row.payload)["seq"] for row in outbox.waiting(1_000_000)]


def test_outbox_numbers_have_no_gap_across_restarts(box: OutboxSettings, draft: Draft) -> None:
    for _ in range(3):
        outbox = Outbox(box, CLOCK)
        for _ in range(4):
            outbox.put(EMOTION, NODE, draft)
        outbox.close()
    outbox = Outbox(box, CLOCK)
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


class _Talkative(EmotionEvent, frozen=True, kw_only=True):
    """An event that says more than the contract knows."""

    transcript: str


def _telling(event: EmotionEvent) -> _Talkative:
    return _Talkative(**msgspec.structs.asdict(event), transcript="what was said")


@pytest.mark.parametrize("topic", [topic for topic in NODE_TOPICS if topic is not EMOTION], ids=lambda each: each.name)
def test_outbox_message_of_another_topic_uses_no_number(
    box: OutboxSettings, open_outbox: Open, draft: Draft, draft_telemetry: DraftTelemetry, topic: NodeTopic
) -> None:
    outbox = open_outbox(box)
    with pytest.raises(MessageError, match=topic.message.__name__):
        outbox.put(topic, NODE, draft)
    with pytest.raises(MessageError, match="EmotionEvent"):
        outbox.put(EMOTION, NODE, draft_telemetry)
    outbox.put(TELEMETRY, NODE, draft_telemetry)
    outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == [1, 1]
    assert outbox.counters().emitted == 1


@pytest.mark.parametrize("trusted", [True, False], ids=["dated", "held"])
def test_outbox_message_with_one_field_more_is_refused_and_not_written(
    box: OutboxSettings, draft: Draft, request: pytest.FixtureRequest, *, trusted: bool
) -> None:
    """What is no field of the topic's struct leaves the node through no other door, the disk's included."""
    outbox = Outbox(box, WallClock(trusted=trusted, ask_kernel=lambda: False))
    request.addfinalizer(outbox.close)
    with pytest.raises(MessageError, match="transcript"):
        outbox.put(EMOTION, NODE, lambda seq: _telling(draft(seq)))
    outbox.put(EMOTION, NODE, draft)
    ((payload,),) = outbox._run("SELECT payload FROM message")
    assert json.loads(payload)["seq"] == 1
    files = list(Path(box.path).parent.glob("outbox.sqlite*"))
    assert not [file for file in files if b"what was said" in file.read_bytes()]


def test_outbox_counts_each_kind_by_itself(
    box: OutboxSettings, open_outbox: Open, draft: Draft, draft_telemetry: DraftTelemetry
) -> None:
    outbox = open_outbox(box)
    for is_event in (True, False, True, False, False):
        if is_event:
            outbox.put(EMOTION, NODE, draft)
        else:
            outbox.put(TELEMETRY, NODE, draft_telemetry)
    assert _numbers(outbox) == [1, 1, 2, 2, 3]
    assert outbox.counters().emitted == 2
    assert [row.topic for row in outbox.waiting(2)] == [EMOTION.at(NODE), TELEMETRY.at(NODE)]


def test_outbox_waiting_leaves_out_topics(
    box: OutboxSettings, open_outbox: Open, draft: Draft, draft_telemetry: DraftTelemetry
) -> None:
    outbox = open_outbox(box)
    outbox.put(EMOTION, NODE, draft)
    outbox.put(TELEMETRY, NODE, draft_telemetry)
    outbox.put(EMOTION, NODE, draft)
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
    tmp_path: Path, open_outbox: Open, draft: Draft, draft_telemetry: DraftTelemetry
) -> None:
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "o.sqlite"), most_rows=10))
    done, again = outbox.put(EMOTION, NODE, draft), outbox.put(EMOTION, NODE, draft)
    outbox.put(TELEMETRY, NODE, draft_telemetry)
    outbox.finish([again])
    outbox.replay()
    outbox.finish([done])
    for _ in range(9):
        outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 0  # what is delivered goes, and telemetry
    assert [row.id for row in outbox.waiting(1)] == [again]  # nobody knows of this one
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
    (before,) = [each.payload for each in outbox.waiting(1)]
    outbox.finish([row])
    outbox.replay()
    assert outbox.waiting(1)[0].payload == before


def test_outbox_two_threads_lose_nothing(box: OutboxSettings, draft: Draft) -> None:
    """As in the node: the pipeline's thread puts while the publisher's finishes and syncs."""
    delivered: list[int] = []
    is_over = threading.Event()

    def publish() -> None:
        mine = Outbox(box, CLOCK)
        while rows := mine.waiting(20) or not is_over.is_set():
            if rows is not True:
                delivered.extend(json.loads(row.payload)["seq"] for row in rows)
                mine.finish([row.id for row in rows])
                mine.sync()
        mine.close()

    outbox = Outbox(box, CLOCK)
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
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
outbox = Outbox(OutboxSettings(path=sys.argv[1]), WallClock(trusted=True))
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
        db.execute("PRAGMA user_version = 2")
    db.close()


def _foreign_with_our_former_number(path: Path) -> None:
    _foreign(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()


def _newer(path: Path) -> None:
    Outbox(OutboxSettings(path=str(path)), CLOCK).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 3")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_text, "not a database"),
        (_foreign, "database of something else"),
        (_foreign_with_our_number, "database of something else"),
        (_foreign_with_our_former_number, "database of something else"),
        (_newer, "format 3, this version of Sottovoce reads format 2"),
        (Path.mkdir, "unable to open"),
    ],
    ids=["text", "foreign", "foreign with our number", "foreign with our former number", "newer", "folder"],
)
def test_outbox_other_file_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "spoilt.sqlite"
    spoil(path)
    with pytest.raises(StoreError, match=words) as caught:
        Outbox(OutboxSettings(path=str(path)), CLOCK)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outbox_in_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "outbox.sqlite", "a\0b"):
        with pytest.raises(StoreError):
            Outbox(OutboxSettings(path=str(path)), CLOCK)


def test_outbox_damaged_inside_is_a_store_error(box: OutboxSettings, draft: Draft) -> None:
    outbox = Outbox(box, CLOCK)
    for _ in range(200):
        outbox.put(EMOTION, NODE, draft)
    outbox.sync()
    outbox.close()
    path = Path(box.path)
    data = bytearray(path.read_bytes())
    data[4_096 * 3 :] = b"\xa5" * (len(data) - 4_096 * 3)
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:  # noqa: PT012 -- any of these may be the first to see it
        outbox = Outbox(box, CLOCK)
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
    assert outbox.doubt([*ids[:2], 99]) == set(ids[:2])
    for _ in range(3):
        outbox.put(EMOTION, NODE, draft)
    assert outbox.doubt(ids[2:4]) == set()  # gone, and counted: not to be sent any more
    assert outbox.counters().dropped == 3  # others: nobody knows of these two, which are sent again
    assert [row.id for row in outbox.waiting(2)] == ids[:2]
    outbox.doubt([row.id for row in outbox.waiting(10)])
    outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 3
    assert [row.id for row in outbox.waiting(1)] == ids[1:2]


def test_outbox_row_that_the_broker_refused_is_dropped_when_it_has_to_go(
    tmp_path: Path, open_outbox: Open, draft: Draft
) -> None:
    """Before it goes, or after: it was on its way when it went. What was delivered before is not dropped, though."""
    outbox = open_outbox(OutboxSettings(path=str(tmp_path / "outbox.sqlite"), most_rows=10))
    for _ in range(10):
        outbox.put(EMOTION, NODE, draft)
    delivered, kept, gone, *others = outbox.waiting(10)
    outbox.finish([delivered.id])
    outbox.replay()
    outbox.doubt([kept.id, gone.id, *(row.id for row in others)])
    (again,) = outbox.waiting(1)
    outbox.refused(again)
    outbox.refused(kept)
    for _ in range(3):
        outbox.put(EMOTION, NODE, draft)
    assert outbox.counters().dropped == 1  # the one that was kept
    outbox.refused(gone)
    assert outbox.counters().dropped == 2
    outbox.refused(again)
    assert outbox.counters().dropped == 2
    assert outbox.depth() == 10


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


# --- the clock


class Board:
    """A board without a clock battery: the kernel's word, the wall clock and the uptime are what a test says."""

    def __init__(self, *, kernel: str = "first") -> None:
        self.synced, self.wall_s, self.up_s, self.kernel = False, 100, 50, kernel

    def clock(self, *, trusted: bool = False) -> WallClock:
        return WallClock(
            trusted=trusted,
            ask_kernel=lambda: self.synced,
            wall_ns=lambda: self.wall_s * S,
            uptime_ns=lambda: self.up_s * S,
            kernel=self.kernel,
        )

    def wait(self, seconds: int) -> None:
        self.wall_s += seconds
        self.up_s += seconds

    def time_server_answers(self, wall_s: int) -> None:
        self.synced, self.wall_s = True, wall_s
        self.up_s += 1


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def boot(
    box: OutboxSettings, request: pytest.FixtureRequest, draft_telemetry: DraftTelemetry
) -> Callable[..., tuple[Outbox, Callable[..., int]]]:
    """Start a program on a board: its outbox, and what puts an event, or telemetry, of this moment into it."""

    def start(on: Board, *, trusted: bool = False, settings: OutboxSettings = box) -> tuple[Outbox, Callable[..., int]]:
        clock = on.clock(trusted=trusted)
        outbox = Outbox(settings, clock)
        request.addfinalizer(outbox.close)

        def put(topic: NodeTopic = EMOTION, model: str = "factory/1") -> int:
            def draft(seq: int) -> NodeMessage:
                now_us, synced = clock.now_us(), clock.is_synced()
                if topic is TELEMETRY:
                    return msgspec.structs.replace(draft_telemetry(seq), time_us=now_us, clock_synced=synced)
                return EmotionEvent(
                    boot_id="0123456789abcdef",
                    seq=seq,
                    time_us=now_us,
                    mono_us=on.up_s * 1_000_000 + 7,
                    clock_synced=synced,
                    label=Label.NEUTRAL,
                    confidence=0.1 + 0.2,
                    model=model,
                    latency_us=EventLatency(capture=1, resample=1, features=1, inference=1, decision=1, total=1),
                )

            return outbox.put(topic, NODE, draft)

        return outbox, put

    return start


def _events(outbox: Outbox) -> list[EmotionEvent]:
    return [decode(row.payload, EmotionEvent, EMOTION.largest_bytes) for row in outbox.waiting(1_000)]


def _dates(outbox: Outbox) -> list[tuple[int, bool]]:
    messages = [json.loads(row.payload) for row in outbox.waiting(1_000)]
    return [(message["time_us"] // 1_000_000, message["clock_synced"]) for message in messages]


def _date_all(outbox: Outbox) -> None:
    while outbox.date():
        pass


def test_outbox_holds_what_cannot_be_dated_and_dates_it_when_it_can(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    for _ in range(3):
        put()
        board.wait(10)
    put(TELEMETRY)
    assert not outbox.date()
    assert outbox.waiting(9) == []
    assert (outbox.counters().depth, outbox.counters().age_us, outbox.counters().emitted) == (4, 30_000_000, 3)
    board.time_server_answers(1_790_000_031)  # one second later
    _date_all(outbox)
    assert _dates(outbox) == [(1_790_000_000 + seconds, True) for seconds in (0, 10, 20, 30)]
    assert (outbox.counters().depth, outbox.counters().age_us) == (4, 31_000_000)


def test_outbox_held_event_keeps_all_but_its_date(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    put()
    ((held,),) = outbox._run("SELECT payload FROM message")
    board.time_server_answers(1_790_000_000)
    _date_all(outbox)
    (row,) = outbox.waiting(9)
    undated = b'"time_us":100000000,', b'"clock_synced":false'
    dated = b'"time_us":1789999999000000,', b'"clock_synced":true'
    for old, new in zip(undated, dated, strict=True):
        assert held.count(old) == 1
        held = held.replace(old, new)
    assert row.payload == held
    outbox.finish([row.id])
    outbox.replay()
    board.wait(1_000)
    _date_all(outbox)
    assert [each.payload for each in outbox.waiting(9)] == [row.payload]  # frozen from then on
    ((bytes_,),) = outbox._run("SELECT byte_count FROM counter")
    assert bytes_ == len(held)


def test_outbox_held_event_that_would_be_too_long_with_a_date_is_refused(board: Board, boot: Any) -> None:
    """Or it would be found out when nobody can do anything about it any more."""
    outbox, put = boot(board)
    put()
    ((length,),) = outbox._run("SELECT length(payload) FROM message")
    tight = msgspec.structs.replace(EMOTION, largest_bytes=length + 3)
    with pytest.raises(MessageError, match="bytes"):
        put(tight)
    assert outbox.counters().depth == 1


def test_outbox_clock_that_is_right_from_the_start_holds_nothing(board: Board, boot: Any) -> None:
    board.time_server_answers(1_790_000_000)
    outbox, put = boot(board)
    put()
    assert _dates(outbox) == [(1_790_000_000, True)]


def test_outbox_time_server_lost_for_hours_holds_nothing_again(board: Board, boot: Any) -> None:
    board.time_server_answers(1_790_000_000)
    outbox, put = boot(board)
    put()
    _date_all(outbox)
    board.synced = False
    board.wait(36_000)
    put()
    board.wall_s -= 60  # somebody sets the clock
    put()
    outbox.close()
    outbox, put = boot(board)  # nor does the next start of the program
    put()
    after = 1_790_036_000
    assert _dates(outbox) == [(1_790_000_000, True), (after, False), (after - 60, False), (after - 60, False)]


def test_outbox_held_by_an_earlier_start_of_the_program_is_dated(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    put()
    outbox.close()
    board.wait(100)
    outbox, put = boot(board)
    put()
    assert outbox.waiting(9) == []
    board.time_server_answers(1_790_000_101)
    _date_all(outbox)
    assert _dates(outbox) == [(1_790_000_000, True), (1_790_000_100, True)]


def test_outbox_clock_that_is_trusted_after_all_dates_what_was_held(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    put()
    outbox.close()
    board.wait(5)
    outbox, put = boot(board, trusted=True)
    put()
    _date_all(outbox)
    assert _dates(outbox) == [(100, True), (105, True)]
    outbox.close()
    outbox, put = boot(board)  # and no longer
    put()
    assert len(outbox.waiting(9)) == 2


def test_outbox_held_by_an_earlier_run_of_the_kernel_goes_out_undated(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    put()
    outbox.close()
    later = Board(kernel="second")
    later.up_s = 3
    outbox, put = boot(later)
    put()
    assert _dates(outbox) == [(100, False)]
    assert outbox.counters().age_us == 3_000_000  # at least: it is older than the kernel runs
    later.time_server_answers(1_790_000_000)
    _date_all(outbox)
    assert _dates(outbox) == [(100, False), (1_789_999_999, True)]


def test_outbox_clock_that_was_right_in_an_earlier_run_of_the_kernel_is_not_known(board: Board, boot: Any) -> None:
    board.time_server_answers(1_790_000_000)
    outbox, put = boot(board)
    put()
    _date_all(outbox)
    for _ in range(2):
        outbox.close()
        outbox, put = boot(Board(kernel="second"))
        put()
    assert _dates(outbox) == [(1_790_000_000, True)]
    assert outbox._run("SELECT count(*) FROM message WHERE state = 3") == [(2,)]


def test_outbox_what_waits_for_the_clock_is_not_overtaken(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    for _ in range(120):
        put()
    board.time_server_answers(1_790_000_000)
    put()
    assert outbox.waiting(200) == []
    assert outbox.date()
    assert [event.seq for event in _events(outbox)] == list(range(1, 51))
    _date_all(outbox)
    assert [event.seq for event in _events(outbox)] == list(range(1, 122))


def test_outbox_full_of_held_events_counts_those_that_go(
    board: Board, boot: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, put = boot(board, settings=OutboxSettings(path=str(tmp_path / "o.sqlite"), most_rows=10))
    for _ in range(25):
        put()
    counters = outbox.counters()
    assert (counters.emitted, counters.dropped, counters.depth) == (25, 15, 10)
    assert caplog.text.count("full; the oldest messages go") == 1
    board.time_server_answers(1_790_000_000)
    _date_all(outbox)
    assert [event.seq for event in _events(outbox)] == list(range(16, 26))


def test_outbox_says_once_that_it_holds_and_once_that_it_is_over(
    board: Board, boot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outbox, put = boot(board)
    for _ in range(60):
        put()
    board.time_server_answers(1_790_000_000)
    _date_all(outbox)
    put()
    _date_all(outbox)
    warning, over = caplog.messages
    assert warning.startswith("the clock is not synchronised")
    assert "timedatectl" in warning
    assert "clock.trust" in warning
    assert over == "the clock is right: 60 messages that waited for it are dated, and go out"


def test_outbox_held_event_that_cannot_be_read_goes_out_as_it_is(board: Board, boot: Any) -> None:
    outbox, put = boot(board)
    put()
    outbox._run("UPDATE message SET payload = ?", b"{broken")
    board.time_server_answers(1_790_000_000)
    _date_all(outbox)
    assert [row.payload for row in outbox.waiting(9)] == [b"{broken"]


# --- the file


_FORM_1 = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    stored_us INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX message_waiting ON message (id) WHERE state <> 1;
CREATE TABLE counter (
    outbox_id TEXT NOT NULL, node TEXT NOT NULL DEFAULT '', emotion INTEGER NOT NULL DEFAULT 0,
    telemetry INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0, row_count INTEGER NOT NULL DEFAULT 0,
    byte_count INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counter VALUES ('0011223344556677', 'home/kitchen', 7, 1, 2, 0, 0);
CREATE TRIGGER message_in AFTER INSERT ON message BEGIN
    UPDATE counter SET row_count = row_count + 1, byte_count = byte_count + length(NEW.payload);
END;
CREATE TRIGGER message_out AFTER DELETE ON message BEGIN
    UPDATE counter SET row_count = row_count - 1, byte_count = byte_count - length(OLD.payload);
END;
PRAGMA user_version = 1;
"""


def test_outbox_of_the_former_form_is_taken_over(box: OutboxSettings, open_outbox: Open, draft: Draft) -> None:
    with sqlite3.connect(box.path) as db:
        db.executescript(_FORM_1)
        for seq, state in ((3, 1), (4, 2), (5, 0), (6, 0)):
            db.execute(
                "INSERT INTO message (kind, topic, payload, stored_us, state) VALUES ('emotion', ?, ?, 1000, ?)",
                (EMOTION.at(NODE), msgspec.json.encode(draft(seq)), state),
            )
    db.close()
    outbox = open_outbox(box)
    outbox.belong_to(NODE)
    counters = outbox.counters()
    assert (counters.outbox_id, counters.emitted, counters.dropped) == ("0011223344556677", 7, 2)
    assert counters.depth == 3
    assert _numbers(outbox) == [4, 5, 6]
    outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == [4, 5, 6, 8]
    outbox.replay()
    assert _numbers(outbox) == [3, 4, 5, 6, 8]
    assert outbox.counters().depth == 5
    outbox.close()
    assert open_outbox(box).counters().depth == 5


def test_outbox_of_the_former_form_on_a_full_disk_stays_as_it_was(box: OutboxSettings) -> None:
    with sqlite3.connect(box.path) as db:
        db.executescript(_FORM_1)
    db.close()
    before = Path(box.path).read_bytes()
    program = WRITER.replace("outbox =", "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\noutbox =")
    program = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + program
    done = subprocess.run([sys.executable, "-c", program, box.path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "StoreError" in done.stderr
    with sqlite3.connect(box.path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert len(before) == Path(box.path).stat().st_size


def _depth_by_counting(outbox: Outbox) -> int:
    ((depth,),) = outbox._run("SELECT count(*) FROM message WHERE state <> 1")
    return int(depth)


@given(st.lists(st.tuples(st.sampled_from("pptdfrgk"), st.integers(1, 12)), max_size=60))
def test_outbox_depth_is_what_counting_would_say(
    draft: Draft, draft_telemetry: DraftTelemetry, moves: list[tuple[str, int]]
) -> None:
    """Whatever happens in whatever order: the figures that triggers keep are those of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        board = Board()
        clock = board.clock()
        outbox = Outbox(OutboxSettings(path=f"{folder}/o.sqlite", most_rows=10), clock)
        for move, row in moves:
            match move:
                case "p":
                    outbox.put(EMOTION, NODE, draft)
                case "t":
                    outbox.put(TELEMETRY, NODE, draft_telemetry)
                case "d":
                    outbox.doubt([row])
                case "f":
                    outbox.finish([row])
                case "r":
                    outbox.replay()
                case "g":
                    outbox.forget([row])
                case "k":
                    board.time_server_answers(1_790_000_000)
                    outbox.date()
            assert outbox.depth() == _depth_by_counting(outbox)
        ((rows, size),) = outbox._run("SELECT count(*), coalesce(sum(length(payload)), 0) FROM message")
        assert outbox._run("SELECT row_count, byte_count FROM counter") == [(rows, size)]
        outbox.close()


def test_outbox_never_looks_at_all_rows(board: Board, boot: Any, tmp_path: Path) -> None:
    """So that 100,000 rows that wait cost no more than one."""
    outbox, put = boot(board, settings=OutboxSettings(path=str(tmp_path / "o.sqlite"), most_rows=10))
    asked: list[str] = []
    outbox._db.set_trace_callback(asked.append)
    for _ in range(12):
        put()
    outbox.counters()
    board.time_server_answers(1_790_000_000)
    _date_all(outbox)
    outbox.counters()
    first, second, *_ = outbox.waiting(9, ["some/topic"])
    outbox.doubt([first.id, second.id])
    outbox.refused(second)
    outbox.finish([first.id])
    outbox.replay()
    outbox.finish([first.id])
    outbox.forget([first.id])
    outbox._db.set_trace_callback(None)
    plans = {
        statement: [step[3] for step in outbox._run(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in asked
        if "message" in statement and not statement.startswith("--")
    }
    assert len(plans) > 12
    for statement, steps in plans.items():
        few = "FROM message ORDER BY id LIMIT 5)" in statement  # the oldest, and not beyond
        scans = [step for step in steps if step.startswith("SCAN message") and " INDEX " not in step]
        assert few or not scans, statement


def test_outbox_file_that_is_removed_is_written_anew_with_all_in_it(
    box: OutboxSettings, request: pytest.FixtureRequest, draft: Draft, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(box.path)
    puts = Outbox(box, CLOCK, alone=True)
    request.addfinalizer(puts.close)
    delivers = Outbox(box, CLOCK)
    request.addfinalizer(delivers.close)
    for round_ in range(3):
        for _ in range(5):
            puts.put(EMOTION, NODE, draft)
        for ending in ("", "-wal", "-shm") if round_ else ("",):
            Path(f"{path}{ending}").unlink()
        delivers.finish([delivers.waiting(1)[0].id])  # in the file that is nowhere any more
        delivers.sync()
        puts.put(EMOTION, NODE, draft)
        delivers.sync()
        assert len(caplog.messages) == round_ + 1
        assert "removed while in use; it is written anew, with all that was in it" in caplog.messages[-1]
    everything = list(range(4, 19))  # three are delivered
    assert _numbers(puts) == _numbers(delivers) == everything
    delivers.finish([row.id for row in delivers.waiting(5)])
    assert _numbers(puts) == everything[5:]
    for outbox in (puts, delivers):
        outbox.close()
    again = Outbox(box, CLOCK)
    assert _numbers(again) == everything[5:]
    assert again.counters().emitted == 18
    assert again._run("PRAGMA integrity_check") == [("ok",)]
    again.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["outbox.sqlite", "outbox.sqlite.lock"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_outbox_folder_that_is_removed_is_made_anew(
    tmp_path: Path, request: pytest.FixtureRequest, draft: Draft
) -> None:
    box = OutboxSettings(path=str(tmp_path / "deep" / "down" / "o.sqlite"))
    outbox = Outbox(box, CLOCK, alone=True)
    request.addfinalizer(outbox.close)
    outbox.put(EMOTION, NODE, draft)
    shutil.rmtree(tmp_path / "deep")
    outbox.put(EMOTION, NODE, draft)
    outbox.close()
    again = Outbox(box, CLOCK)
    assert _numbers(again) == [1, 2]
    again.close()


def test_outbox_file_in_whose_place_is_another_is_told_of_and_left_alone(
    box: OutboxSettings,
    request: pytest.FixtureRequest,
    draft: Draft,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_file, "_AGAIN_S", 0)  # looked at again at each event
    path = Path(box.path)
    puts = Outbox(box, CLOCK, alone=True)
    request.addfinalizer(puts.close)
    delivers = Outbox(box, CLOCK)
    request.addfinalizer(delivers.close)
    puts.put(EMOTION, NODE, draft)
    path.rename(path.with_name("moved"))
    path.write_bytes(b"my holiday diary")
    for _ in range(3):
        puts.put(EMOTION, NODE, draft)
        delivers.sync()
    assert path.read_bytes() == b"my holiday diary"
    assert _numbers(delivers) == [1, 2, 3, 4]
    assert len(caplog.messages) == 1
    assert "another file has taken its place" in caplog.text


def test_outbox_file_that_cannot_be_written_anew_goes_on_as_long_as_it_is_open(
    tmp_path: Path, request: pytest.FixtureRequest, draft: Draft, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    outbox = Outbox(OutboxSettings(path=str(folder / "o.sqlite")), CLOCK, alone=True)
    request.addfinalizer(outbox.close)
    outbox.put(EMOTION, NODE, draft)
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    for _ in range(3):
        outbox.put(EMOTION, NODE, draft)
    assert _numbers(outbox) == [1, 2, 3, 4]
    assert len(caplog.messages) == 1
    assert "cannot be written anew" in caplog.text


def test_outbox_of_another_node_that_runs_is_refused(box: OutboxSettings) -> None:
    mine = Outbox(box, CLOCK, alone=True)
    with pytest.raises(SettingsError, match=r"outbox\.path .*outbox\.sqlite: another node uses it"):
        Outbox(box, CLOCK, alone=True)
    done = subprocess.run(
        [sys.executable, "-c", WRITER.replace("trusted=True)", "trusted=True), alone=True"), box.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InUseError" in done.stderr
    mine.close()
    Outbox(box, CLOCK, alone=True).close()

"""Capture goes on whatever its source does, says so once, and hears nothing while it is muted."""

import logging
import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.contract.condition import CaptureProblem, CaptureReport, CaptureState
from broker.contract.errors import AudioError
from edge_node.sound.capture import Capture
from edge_node.sound.replay import Replay
from edge_node.sound.sources import BLOCK_S, TICK_S, Block, Source, SourceError

SOUND = np.full(1_600, 0.1, np.float32)
LOST, BUSY, STALLED = CaptureProblem.LOST, CaptureProblem.BUSY, CaptureProblem.STALLED

Deed = tuple[str, int] | CaptureProblem | AudioError
"""What a simulated room does next: so many blocks, zeros, ticks or drops; or it fails."""


class Room:
    """A simulated microphone: what it does next, and a clock that its sound moves on."""

    def __init__(self, *deeds: Deed, rates_hz: tuple[int, ...] = (16_000,)) -> None:
        self.now_s = 0.0
        self.is_muted = False
        self.mutings = 0
        self.is_open = False
        self.story: list[str] = []
        self.deeds = list(deeds)
        self.rates_hz = list(rates_hz)
        self.missing: list[AudioError] = []
        """Raised, one after the other, by attempts to find the microphone."""

    def open_source(self) -> Source:
        self.story.append("open")
        if self.missing:
            raise self.missing.pop(0)
        return Microphone(self)

    def rescan(self) -> None:
        assert not self.is_open, "a scan would close the stream"
        self.story.append("rescan")

    def wait(self, _stop: threading.Event, seconds: float) -> None:
        assert 0 < seconds <= TICK_S
        self.now_s += seconds

    def capture(self) -> Capture:
        return Capture(
            self.open_source,
            is_muted=lambda: self.is_muted,
            mutings=lambda: self.mutings,
            rescan=self.rescan,
            clock_s=lambda: self.now_s,
            wait=self.wait,
            chance=lambda: 1.0,
        )


class Microphone:
    """A source of a room."""

    description = "microphone: simulated"

    def __init__(self, room: Room) -> None:
        self._room = room
        self._rate_hz = room.rates_hz.pop(0) if len(room.rates_hz) > 1 else room.rates_hz[0]
        self.dropped_blocks = 0

    def blocks(self, stop: threading.Event) -> Generator[Block | None, None, None]:
        room = self._room
        room.story.append("listen")
        room.is_open = True
        try:
            while room.deeds:
                deed = room.deeds.pop(0)
                if isinstance(deed, AudioError):
                    raise deed
                if isinstance(deed, CaptureProblem):
                    raise SourceError(deed, self.description, "as the test wants it; do this")
                kind, count = deed
                if count > 1:  # what is left when the stream is closed in between
                    room.deeds.insert(0, (kind, count - 1))
                yield self._one(kind)
                if stop.is_set():
                    return
        finally:
            room.is_open = False

    def _one(self, kind: str) -> Block | None:
        self._room.now_s += TICK_S if kind == "nothing" else BLOCK_S
        if kind == "nothing":
            return None
        self.dropped_blocks += kind == "drop"
        samples = SOUND * 0 if kind == "zeros" else SOUND
        ns = int(self._room.now_s * 1e9)
        return Block(samples=samples, rate_hz=self._rate_hz, captured_ns=ns, gap=kind == "drop", zeros=kind == "zeros")


def _run(room: Room, most: int = 100_000) -> tuple[Capture, list[Block | None]]:
    """Listen until the room has nothing left to do: its source ends."""
    capture, heard = room.capture(), []
    last_s = room.now_s
    for block, _ in zip(capture.blocks(threading.Event()), range(most), strict=False):
        assert room.now_s - last_s <= 0.5, "a tick at least twice a second"
        last_s = room.now_s
        heard.append(block)
    return capture, heard


def _lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.message for each in caplog.records if each.levelno == level and each.name == "edge_node.sound.capture"]


def test_capture_hands_on_what_it_hears_and_ends_with_its_source() -> None:
    capture, heard = _run(Room(("sound", 30)))
    assert len(heard) == 30
    assert not any(block is None or block.gap for block in heard)
    assert capture.report() == CaptureReport(state=CaptureState.LISTENING)


def test_capture_device_lost_is_found_again_and_said_in_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 20), LOST, LOST, LOST, LOST, LOST, ("sound", 200))
    with caplog.at_level(logging.INFO):
        capture, heard = _run(room)
    blocks = [block for block in heard if block is not None]
    assert [k for k, block in enumerate(blocks) if block.gap] == [20]
    assert capture.report() == CaptureReport(state=CaptureState.LISTENING, restarts=1, reopens=1, rescans=3)
    assert room.story == [
        *("open", "listen"),
        "listen",
        *("open", "listen"),
        *(["rescan", "open", "listen"] * 3),
    ]
    (begin,) = _lines(caplog, logging.WARNING)
    assert begin.startswith("device lost: microphone: simulated: as the test wants it; do this")
    (end,) = _lines(caplog, logging.INFO)
    assert end == "microphone: simulated is heard again after 18.1 s without sound (device lost; attempts: 5)"


def test_capture_is_recovering_as_long_as_there_is_no_sound() -> None:
    room = Room(("sound", 1), LOST, LOST, ("nothing", 8), ("sound", 120))
    capture = room.capture()
    reports = ((block is not None, capture.report()) for block in capture.blocks(threading.Event()))
    states = [(is_block, report.state, report.problem) for is_block, report in reports]
    without = {each[1:] for each in states[1:] if not each[0]}
    assert without == {(CaptureState.RECOVERING, LOST)}
    assert {state for is_block, state, _ in states if is_block} == {CaptureState.LISTENING}
    assert states[-1][2] is None


def test_capture_each_problem_on_the_way_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 1), *([LOST, BUSY, STALLED] * 50), ("sound", 150))
    with caplog.at_level(logging.INFO):
        capture, _ = _run(room)
    assert [line.split(":")[0] for line in _lines(caplog, logging.WARNING)] == [LOST, BUSY, STALLED]
    assert len(_lines(caplog, logging.INFO)) == 1
    report = capture.report()
    assert report.restarts + report.reopens + report.rescans == 150


def test_capture_second_loss_after_a_while_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _run(Room(("sound", 1), LOST, ("sound", 150), LOST, ("sound", 150)))
    assert len(_lines(caplog, logging.WARNING)) == len(_lines(caplog, logging.INFO)) == 2


def test_capture_missing_device_at_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 150))
    room.missing = [SourceError(LOST, "microphone 'USB'", "not found; see `sottovoce-node devices`")] * 20
    with caplog.at_level(logging.INFO):
        capture = room.capture()
        assert (capture.description, capture.report().state) == ("microphone 'USB'", CaptureState.RECOVERING)
        heard = list(capture.blocks(threading.Event()))
    assert sum(block is not None for block in heard) == 150
    assert capture.description == "microphone: simulated"
    (line,) = _lines(caplog, logging.WARNING)
    assert line.startswith("device lost: microphone 'USB': not found; see `sottovoce-node devices`")
    assert capture.report().restarts == 0  # there was nothing to restart


def test_capture_what_can_never_work_is_an_error_at_once() -> None:
    room = Room()
    room.missing = [AudioError("microphone 'USB' has 1 channels, not 2")]
    with pytest.raises(AudioError, match="not 2"):
        room.capture()


def test_capture_what_cannot_be_used_when_it_is_back_is_tried_again() -> None:
    room = Room(("sound", 1), LOST, LOST, ("sound", 150))
    capture = room.capture()
    blocks = capture.blocks(threading.Event())
    next(blocks)
    room.missing = [AudioError("another device of this name, with 1 channel")] * 3
    problems = {capture.report().problem for _ in blocks}
    assert CaptureProblem.UNUSABLE in problems
    assert capture.report().state is CaptureState.LISTENING


def test_capture_recording_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    capture = Capture(lambda: Replay([tmp_path], real_time=False), is_muted=lambda: False)
    with pytest.raises(AudioError, match=r"a\.wav"):
        list(capture.blocks(threading.Event()))
    with pytest.raises(AudioError, match="no such file"):
        Capture(lambda: Replay([tmp_path / "none"]), is_muted=lambda: False)


def test_capture_rate_that_changed_is_said_and_followed(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 5), CaptureProblem.RATE, ("sound", 150), rates_hz=(44_100, 48_000))
    with caplog.at_level(logging.INFO):
        _, heard = _run(room)
    rates = [block.rate_hz for block in heard if block is not None]
    assert rates == [44_100] * 5 + [48_000] * 150
    assert room.story.count("rescan") == 1
    assert _lines(caplog, logging.WARNING)[0].startswith("sample rate changed: ")
    assert _lines(caplog, logging.INFO)[0].endswith("now at 48000 Hz instead of 44100 Hz")


def test_capture_zeros_are_said_once_and_begun_anew_seldom(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 10), ("zeros", 36_000), ("sound", 10))  # an hour
    with caplog.at_level(logging.INFO):
        capture, heard = _run(room)
    assert sum(block is not None for block in heard) == 36_020  # it went on listening
    assert capture.report() == CaptureReport(state=CaptureState.LISTENING, restarts=1, reopens=1, rescans=6)
    (begin,) = _lines(caplog, logging.WARNING)
    assert begin.startswith("only zeros: microphone: simulated: nothing but zeros for 60 s; is its mute switch on")
    (end,) = _lines(caplog, logging.INFO)
    assert "nothing but zeros for 3600 s" in end


def test_capture_zeros_are_a_problem_while_it_listens() -> None:
    room = Room(("zeros", 700))
    capture = room.capture()
    reports = [capture.report() for _ in capture.blocks(threading.Event())]
    assert {each.state for each in reports} == {CaptureState.LISTENING}
    assert reports[-1].problem is CaptureProblem.STUCK


def test_capture_overload_is_said_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 100), ("drop", 300), ("sound", 300))
    with caplog.at_level(logging.INFO):
        capture, _ = _run(room)
    (begin,) = _lines(caplog, logging.WARNING)
    assert begin.startswith("cannot keep up: microphone: simulated: ")
    assert "a longer hop, a smaller model or fewer programs" in begin
    (end,) = _lines(caplog, logging.INFO)
    assert " 29." in end or " 30." in end  # but for what was lost before it was too much
    assert capture.dropped_blocks == 300
    assert capture.report() == CaptureReport(state=CaptureState.LISTENING)


def test_capture_dropped_blocks_add_up_over_what_was_opened_again() -> None:
    capture, _ = _run(Room(("drop", 3), LOST, LOST, LOST, ("drop", 4), STALLED, ("drop", 5)))
    assert capture.dropped_blocks == 12  # and nothing for the time when nothing was heard


def test_capture_muted_closes_the_stream_and_opens_it_again(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(("sound", 1_000))
    capture, since_s = room.capture(), 0.0
    heard: list[Block | None] = []
    with caplog.at_level(logging.INFO):
        for block in capture.blocks(threading.Event()):
            heard.append(block)
            if len(heard) == 50:
                room.is_muted, since_s = True, room.now_s
            elif len(heard) == 100:
                assert (room.is_open, capture.report().state) == (False, CaptureState.MUTED)
                room.is_muted = False
            elif room.is_muted:
                assert block is None
                assert not room.is_open
                assert capture.report().problem is None
            elif len(heard) == 101:
                assert block is not None
                assert block.gap
            assert not room.is_muted or room.is_open <= (room.now_s - since_s < 0.5)
    assert room.story == ["open", "listen", "open", "listen"]  # found anew: it may have been plugged in elsewhere
    assert sum(block is None for block in heard) == 50
    assert capture.report() == CaptureReport(state=CaptureState.LISTENING)
    assert _lines(caplog, logging.INFO) == [
        "microphone: simulated is closed: muted",
        "microphone: simulated is opened again: no longer muted",
    ]


def test_capture_muted_and_no_longer_between_two_looks_throws_away_what_came(caplog: pytest.LogCaptureFixture) -> None:
    """The loop was busy, and the queue between the sound card and it holds what was said meanwhile."""
    room = Room(("sound", 100))
    heard: list[Block | None] = []
    with caplog.at_level(logging.INFO):
        for block in room.capture().blocks(threading.Event()):
            heard.append(block)
            if len(heard) == 50:
                room.mutings += 1
    assert room.story == ["open", "listen", "listen"]
    assert [index for index, block in enumerate(heard) if block is not None and block.gap] == [50]
    assert _lines(caplog, logging.INFO) == [
        "microphone: simulated was muted meanwhile; what came since the last look is thrown away"
    ]


def test_capture_muted_from_the_start_never_opens_a_stream() -> None:
    room = Room(("sound", 10))
    room.is_muted = True
    capture = room.capture()
    blocks = capture.blocks(threading.Event())
    assert [next(blocks) for _ in range(20)] == [None] * 20
    assert room.story == ["open"]  # found, not listened to
    assert capture.report().state is CaptureState.MUTED


def test_capture_muted_while_it_looks_for_a_device_stops_looking() -> None:
    room = Room(("sound", 1), *[LOST] * 50)
    capture = room.capture()
    blocks = capture.blocks(threading.Event())
    for _ in range(10):
        next(blocks)
    room.is_muted = True
    before = list(room.story)
    assert [next(blocks) for _ in range(1_000)] == [None] * 1_000
    assert room.story == before
    assert capture.report().problem is None


def test_capture_unmuted_does_not_wait_for_what_was_due_before() -> None:
    room = Room(("sound", 1), *[LOST] * 10, ("sound", 9))
    capture = room.capture()
    blocks = capture.blocks(threading.Event())
    while capture.report().rescans < 7:
        next(blocks)
    next(blocks)  # the first tick of a minute
    room.is_muted = True
    next(blocks)
    room.is_muted = False
    before_s = room.now_s
    while next(blocks) is None:
        pass
    assert room.now_s - before_s < 10


@pytest.mark.parametrize("deeds", [[("sound", 100)], [LOST] * 50, [("nothing", 100)]])
def test_capture_stops_when_told_to(deeds: list[Deed]) -> None:
    room, stop = Room(*deeds), threading.Event()
    blocks = room.capture().blocks(stop)
    for _ in range(5):
        next(blocks)
    stop.set()
    assert list(blocks) == []
    assert not room.is_open


def test_capture_given_up_half_way_closes_the_stream() -> None:
    room = Room(("sound", 100))
    blocks = room.capture().blocks(threading.Event())
    next(blocks)
    assert room.is_open
    blocks.close()
    assert not room.is_open


DEEDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["sound", "zeros", "drop", "nothing"]), st.integers(1, 700)),
        st.sampled_from([LOST, BUSY, STALLED, CaptureProblem.RATE, CaptureProblem.UNUSABLE]),
        st.sampled_from(["mute", "unmute"]),
    ),
    max_size=25,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEEDS)
def test_capture_any_story(caplog: pytest.LogCaptureFixture, deeds: list[Deed | str]) -> None:
    """Whatever happens: ticks go on, gaps are marked, nothing is heard while muted, the log is short."""
    room = Room(*(each for each in deeds if not isinstance(each, str)))
    toggles = {k * 37 + 20: each for k, each in enumerate(each for each in deeds if isinstance(each, str))}
    caplog.clear()
    capture, last_s, sound_s = room.capture(), 0.0, None
    with caplog.at_level(logging.INFO):
        for count, block in enumerate(capture.blocks(threading.Event())):
            assert room.now_s - last_s <= 0.5
            last_s = room.now_s
            if block is not None:
                assert not room.is_muted
                assert block.gap or sound_s is None or room.now_s - sound_s < BLOCK_S + 1e-6 or "nothing" in str(deeds)
                sound_s = room.now_s
            elif room.is_muted:
                assert not room.is_open
            if count in toggles:
                room.is_muted = toggles[count] == "mute"
            if count > max(toggles, default=0):
                room.is_muted = False
    troubles = sum(isinstance(each, CaptureProblem) for each in deeds)
    zeros = sum(isinstance(each, tuple) and each[0] == "zeros" for each in deeds)
    drops = sum(isinstance(each, tuple) and each[0] == "drop" for each in deeds)
    assert len(_lines(caplog, logging.WARNING)) <= troubles + zeros + drops + len(toggles)  # mute, and it begins anew
    report = capture.report()
    attempts = report.restarts + report.reopens + report.rescans
    assert troubles <= attempts + len(toggles) <= troubles + 2 * len(toggles) + 12 * zeros + 1
    assert capture.dropped_blocks == sum(each[1] for each in deeds if isinstance(each, tuple) and each[0] == "drop")

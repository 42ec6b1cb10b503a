"""Any file is audio or one AudioError; replay is a microphone whose past is in a folder."""

import itertools
import logging
import queue
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from broker.contract.condition import CaptureProblem
from broker.contract.errors import AudioError
from edge_node.sound.block_queue import BlockQueue, listen
from edge_node.sound.replay import Replay, read_recording
from edge_node.sound.sources import Block, SourceError

WriteAudio = Callable[..., Path]
RATE_HZ = 16_000
TONE = (0.25 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


def _blocks(replay: Replay, most: int = 10_000) -> list[Block]:
    return [block for block, _ in zip(replay.blocks(threading.Event()), range(most), strict=False)]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "A.WAV"])
def test_recording_mono_is_read_as_it_is(write_audio: WriteAudio, name: str) -> None:
    samples, rate_hz = read_recording(write_audio(name, TONE))
    np.testing.assert_allclose(samples, TONE, atol=1e-4)
    assert (rate_hz, str(samples.dtype), samples.ndim) == (RATE_HZ, "float32", 1)


def test_recording_stereo_is_mixed_down_or_one_channel(write_audio: WriteAudio) -> None:
    path = write_audio("stereo.wav", np.stack((TONE, -0.5 * TONE), axis=1))
    np.testing.assert_allclose(read_recording(path)[0], 0.25 * TONE, atol=1e-4)
    np.testing.assert_allclose(read_recording(path, 1)[0], TONE, atol=1e-4)
    np.testing.assert_allclose(read_recording(path, 2)[0], -0.5 * TONE, atol=1e-4)
    with pytest.raises(AudioError, match="has 2 channels, not 3"):
        read_recording(path, 3)


def test_recording_of_an_array_needs_a_channel(write_audio: WriteAudio) -> None:
    path = write_audio("array.wav", np.stack([TONE * k / 8 for k in range(8)], axis=1))
    with pytest.raises(AudioError, match="has 8 channels; choose one with --channel"):
        read_recording(path)
    np.testing.assert_allclose(read_recording(path, 8)[0], TONE * 7 / 8, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 192_000])
def test_recording_rate_in_range_is_read(write_audio: WriteAudio, rate_hz: int) -> None:
    assert read_recording(write_audio("a.wav", TONE, rate_hz))[1] == rate_hz


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 15_999, 384_000, 400_000])
def test_recording_rate_out_of_range_is_refused(write_audio: WriteAudio, rate_hz: int) -> None:
    with pytest.raises(AudioError, match=f"{rate_hz} Hz; rates from 16000 to 192000 Hz"):
        read_recording(write_audio("a.wav", TONE, rate_hz))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_recording_not_finite_or_absurd_is_refused(write_audio: WriteAudio, bad: float) -> None:
    samples = TONE.copy()
    samples[99] = bad
    with pytest.raises(AudioError, match="NaN, infinite or absurdly large"):
        read_recording(write_audio("a.wav", samples, subtype="FLOAT"))


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_recording_truncated_anywhere_is_refused(write_audio: WriteAudio, tmp_path: Path, ending: str) -> None:
    data = write_audio(f"whole.{ending}", 0.1 * np.random.default_rng(0).standard_normal(4_000)).read_bytes()
    cut = tmp_path / f"cut.{ending}"
    for length in [*range(0, 128, 3), len(data) // 2, len(data) - 1_000, len(data) - 2]:
        cut.write_bytes(data[:length])
        with pytest.raises(AudioError, match=r"cut\.") as caught:
            read_recording(cut)
        assert "\n" not in str(caught.value)


def _header_only() -> bytes:
    return (
        b"RIFF"
        + struct.pack("<I", 36)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
        + (b"data" + struct.pack("<I", 0))
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"dear diary, ...", "Format not recognised"),
        (bytes(range(256)) * 10, "give a WAV or FLAC recording"),
        (_header_only(), "empty or cut short"),
        (b"fLaC" + bytes(60), "give a WAV or FLAC recording"),
    ],
    ids=["zero length", "text", "binary", "header only", "flac header"],
)
def test_recording_no_audio_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=words) as caught:
        read_recording(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_recording_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_recording(tmp_path / "none.wav")
    with pytest.raises(AudioError):
        read_recording(tmp_path)


def test_recording_whose_header_was_never_finished_is_read(write_audio: WriteAudio) -> None:
    """As `arecord | tee a.wav` leaves it: sizes unknown when the header was written."""
    path = write_audio("a.wav", TONE)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(read_recording(path)[0]) == RATE_HZ


def test_replay_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file or folder"):
        Replay([tmp_path / "none"])
    with pytest.raises(AudioError, match="no WAV or FLAC recording in this folder"):
        Replay([tmp_path])


def test_replay_folder_skips_bad_files_and_plays_the_others(
    write_audio: WriteAudio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_audio("talk/b.wav", TONE)
    write_audio("talk/deep/d.FLAC", TONE[:8_000])
    (tmp_path / "talk/a.wav").write_text("no audio")
    (tmp_path / "talk/c.wav").mkdir()
    (tmp_path / "talk/notes.txt").write_text("not listened to")
    with caplog.at_level(logging.WARNING):
        blocks = _blocks(Replay([tmp_path / "talk"], real_time=False))
    assert (
        sum(len(block.samples) for block in blocks) == RATE_HZ + 8_000 + 2 * RATE_HZ
    )  # a second of silence after each
    assert [record.message.split(": ")[0] for record in caplog.records] == [
        str(tmp_path / "talk/a.wav"),
        str(tmp_path / "talk/c.wav"),
    ]


def test_replay_of_nothing_usable_ends_with_the_error(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no audio")
    with pytest.raises(AudioError, match=r"b\.wav"):
        _blocks(Replay([tmp_path], real_time=False))


def test_replay_blocks_say_when_a_microphone_would_have_captured_them(write_audio: WriteAudio) -> None:
    path = write_audio("a.wav", np.tile(TONE, 2)[: RATE_HZ + 800])
    blocks = _blocks(Replay([path], real_time=False, repeat=True), 30)
    assert [len(block.samples) for block in blocks[:12]] == [1_600] * 12  # whole blocks only, as from a microphone
    for before, block in itertools.pairwise(blocks):
        assert block.captured_ns - before.captured_ns == len(block.samples) * 1_000_000_000 // RATE_HZ
    assert not any(block.gap for block in blocks)


@pytest.mark.parametrize("real_time", [True, False])
def test_replay_stops_within_a_recording(write_audio: WriteAudio, *, real_time: bool) -> None:
    stop = threading.Event()
    blocks = Replay([write_audio("a.wav", TONE)], real_time=real_time).blocks(stop)
    next(blocks)
    stop.set()
    assert list(blocks) == []


@pytest.mark.parametrize("name", ["line\nbreak", "bad \udcff byte", "x" * 300, "\N{MICROPHONE}" * 200])
def test_replay_description_fits_a_message(write_audio: WriteAudio, name: str) -> None:
    description = Replay([write_audio("a.wav", TONE)], name=name).description
    assert len(description) <= 128
    assert description.isprintable()
    assert len(description.encode()) <= 512


def _numbered(k: int) -> Block:
    return Block(samples=np.full(4, k, np.float32), rate_hz=RATE_HZ, captured_ns=k)


def test_block_queue_full_drops_the_oldest_and_marks_the_gap_where_it_is() -> None:
    blocks = BlockQueue(3)
    for k in (1, 2, 3):
        blocks.put(_numbered(k))
    assert (blocks.get(0).captured_ns, blocks.dropped_blocks) == (1, 0)
    for k in (4, 5, 6):
        blocks.put(_numbered(k))
    assert blocks.dropped_blocks == 2
    heard = [blocks.get(0) for _ in range(3)]
    assert [(block.captured_ns, block.gap) for block in heard] == [(4, True), (5, False), (6, False)]
    with pytest.raises(queue.Empty):
        blocks.get(0)


def test_block_queue_loss_in_the_device_is_a_gap_and_counted() -> None:
    blocks = BlockQueue(3)
    blocks.put(_numbered(1))
    blocks.put(_numbered(2), lost_before=True)
    blocks.put(_numbered(3))
    assert [blocks.get(0).gap for _ in range(3)] == [False, True, False]
    assert blocks.dropped_blocks == 1


def test_block_queue_loss_before_the_first_block_is_none() -> None:
    blocks = BlockQueue(3, dropped_blocks=7)
    blocks.put(_numbered(1), lost_before=True)
    assert (blocks.get(0).gap, blocks.dropped_blocks) == (False, 7)


class Hurry:
    """A clock that passes a second each time it is read."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.mark.parametrize(
    ("is_active", "is_broken", "problem"),
    [
        (False, False, CaptureProblem.LOST),
        (True, False, CaptureProblem.STALLED),
        (True, True, CaptureProblem.UNUSABLE),
    ],
)
def test_device_that_delivers_nothing_of_use_is_given_up(
    *, is_active: bool, is_broken: bool, problem: CaptureProblem
) -> None:
    blocks = BlockQueue(9)
    for k in (1, 2):
        blocks.put(_numbered(k))
    if is_broken:
        for k in range(3, 10):
            blocks.put(msgspec.structs.replace(_numbered(k), samples=np.array([0, np.nan], np.float32)))
    heard: list[Block | None] = []
    with pytest.raises(SourceError, match="microphone: simulated: ") as caught:
        heard.extend(listen(blocks, "microphone: simulated", lambda: is_active, threading.Event(), Hurry()))
    assert caught.value.problem is problem
    assert [block.captured_ns for block in heard if block is not None] == [1, 2]  # what there was is heard first
    assert (None in heard) == is_active
    assert (blocks.dropped_blocks > 0) == is_broken


def test_device_with_a_broken_block_in_between_leaves_a_gap() -> None:
    blocks, stop = BlockQueue(9), threading.Event()
    for k in (1, 2, 3):
        bad = np.array([np.inf, 0, -np.inf], np.float32)
        blocks.put(msgspec.structs.replace(_numbered(k), samples=bad) if k == 2 else _numbered(k))
    heard = listen(blocks, "microphone: simulated", lambda: True, stop)
    assert [(each.captured_ns, each.gap) for each in (next(heard), next(heard), next(heard)) if each is not None] == [
        (1, False),
        (3, True),
    ]
    stop.set()
    assert list(heard) == []


def test_block_queue_two_threads_every_block_is_got_or_counted() -> None:
    blocks, got = BlockQueue(5), []
    is_over = threading.Event()

    def take() -> None:
        while True:
            try:
                got.append(blocks.get(0.01))
            except queue.Empty:
                if is_over.is_set():
                    return

    thread = threading.Thread(target=take)
    thread.start()
    for k in range(1, 3_001):
        blocks.put(_numbered(k))
    is_over.set()
    thread.join(30)
    assert len(got) + blocks.dropped_blocks == 3_000
    gaps = [
        block.captured_ns
        for before, block in zip([_numbered(0), *got], got, strict=False)
        if block.captured_ns != before.captured_ns + 1
    ]
    assert gaps == [block.captured_ns for block in got if block.gap]


def test_recording_written_as_float_16_bit_range_is_read(write_audio: WriteAudio) -> None:
    path = write_audio("a.wav", TONE * 32_768, subtype="FLOAT")
    assert np.abs(read_recording(path)[0]).max() > 8_000
    assert soundfile.info(path).subtype == "FLOAT"

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from broker.contract.errors import DataError
from broker.contract.features import PAPER_FEATURES, extract
from training.__main__ import main
from training.data.clips import INDEX_NAME, RATE_HZ, digest, open_cache
from training.data.paper_csv import write_paper_csv
from training.data.prepare import open_collection, prepare

Write = Callable[..., Path]

RAVDESS = "Actor_01/03-01-03-01-01-01-01.wav"


def test_prepare_reads_every_official_layout(write: Write, tmp_path: Path) -> None:
    write(RAVDESS, rate=48_000)
    write("TESS/YAF_pleasant_surprised/YAF_back_ps.wav", rate=24_414)
    write("SAVEE/ALL/DC_h01.wav", rate=44_100)
    write("SAVEE/AudioData/KL/su01.wav", rate=44_100)
    write("emodb/03a01Fa.flac")
    prepared = prepare(tmp_path / "data", tmp_path / "cache")
    collection = open_cache(tmp_path / "cache")
    assert {clip.speaker for clip in collection.clips} == {"ravdess_01", "tess_YAF", "savee_DC", "savee_KL", "emodb_03"}
    assert prepared.corrupt == ()
    for clip in collection.clips:
        samples = collection.read(clip)
        assert samples.dtype == np.float32
        assert len(samples) == pytest.approx(0.3 * RATE_HZ, abs=2)
        assert np.abs(samples).max() > 0.01


def test_prepare_mixes_stereo_down(write: Write, tmp_path: Path) -> None:
    path = write(RAVDESS, channels=2)
    prepare(tmp_path / "data", tmp_path / "cache")
    collection = open_cache(tmp_path / "cache")
    left, _ = soundfile.read(path, always_2d=True)
    np.testing.assert_allclose(collection.read(collection.clips[0]), left[:, 0] / 2, atol=1e-4)


def test_prepare_reads_aiff_inside_wav(write: Write, tmp_path: Path) -> None:
    write("OAF_sad/OAF_germ_sad.wav", container="AIFF")
    assert prepare(tmp_path / "data", tmp_path / "cache").decoded == 1


def test_prepare_lists_corrupt_files_with_reason(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    (tmp_path / "data/Actor_01/03-01-04-01-01-01-01.wav").write_bytes(b"RIFF and then nothing")
    write("Actor_01/03-01-05-01-01-01-01.wav", seconds=0.05)
    soundfile.write(tmp_path / "data/Actor_01/03-01-06-01-01-01-01.wav", np.zeros(8000), 16_000)
    prepared = prepare(tmp_path / "data", tmp_path / "cache")
    reasons = {item.path: item.reason for item in prepared.corrupt}
    assert len(reasons) == 3
    assert "0.05 s" in reasons["Actor_01/03-01-05-01-01-01-01.wav"]
    assert "silence" in reasons["Actor_01/03-01-06-01-01-01-01.wav"]
    assert str(tmp_path) not in "".join(reasons.values())
    assert prepared.coverage[0].corrupt == 3
    assert prepared.coverage[0].clips == 1


def test_prepare_says_what_is_missing(write: Write, tmp_path: Path) -> None:
    for emotion in ("a", "d", "f"):
        write(f"ALL/JE_{emotion}01.wav")
    savee = next(item for item in prepare(tmp_path / "data", tmp_path / "cache").coverage if item.corpus == "savee")
    assert savee.absent_speakers == ("savee_DC", "savee_JK", "savee_KL")
    assert savee.incomplete_speakers == {"savee_JE": 117}


def test_prepare_counts_boredom_apart(write: Write, tmp_path: Path) -> None:
    write("03a01Fa.wav")
    write("03a01La.wav")
    emodb = prepare(tmp_path / "data", tmp_path / "cache").coverage[-1]
    assert (emodb.clips, emodb.excluded) == (1, 1)


def test_prepare_takes_a_recording_once(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    write(f"nested/again/{RAVDESS}")
    prepared = prepare(tmp_path / "data", tmp_path / "cache")
    assert (prepared.decoded, prepared.repeated) == (1, 1)


def test_prepare_skips_what_is_done(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    write("ALL/JE_a01.wav")
    prepare(tmp_path / "data", tmp_path / "cache")
    before = (tmp_path / "cache" / INDEX_NAME).stat().st_mtime_ns
    again = prepare(tmp_path / "data", tmp_path / "cache")
    assert (again.decoded, again.skipped) == (0, 2)
    assert (tmp_path / "cache" / INDEX_NAME).stat().st_mtime_ns == before
    write("ALL/JE_a01.wav")  # another recording under the same name
    changed = prepare(tmp_path / "data", tmp_path / "cache")
    assert (changed.decoded, changed.skipped) == (1, 1)
    fresh = open_collection(tmp_path / "data")[0]
    cached = open_cache(tmp_path / "cache")
    for clip, other in zip(cached.clips, fresh.clips, strict=True):
        np.testing.assert_array_equal(cached.read(clip), fresh.read(other))


def test_prepare_keeps_every_sample(write: Write, tmp_path: Path) -> None:
    lengths = (4_801, 4_803, 4_805, 4_807, 5_001)
    for take, length in enumerate(lengths, 1):
        write(f"ALL/JE_a0{take}.wav", seconds=length / RATE_HZ)
    for decoded in (5, 0):
        assert prepare(tmp_path / "data", tmp_path / "cache").decoded == decoded
        collection = open_cache(tmp_path / "cache")
        assert tuple(len(collection.read(clip)) for clip in collection.clips) == lengths
        assert len({clip.sha256 for clip in collection.clips}) == 5


def test_prepare_refuses_a_folder_without_corpora(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no recording of RAVDESS, TESS, SAVEE, CREMA-D, EMO-DB"):
        prepare(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match="no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "cache")


def test_prepare_refuses_if_all_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "03a01Fa.wav").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of its 1 recordings can be used; the first: "):
        prepare(tmp_path, tmp_path / "cache")


def test_prepare_refuses_if_no_recording_shows_one_of_the_emotions(write: Write, tmp_path: Path) -> None:
    write("03a01La.wav")
    with pytest.raises(DataError, match="none shows one of the seven emotions"):
        prepare(tmp_path / "data", tmp_path / "cache")


def test_prepare_lists_a_recording_that_it_may_not_read(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    write("Actor_01/03-01-04-01-01-01-01.wav").chmod(0)
    if os.access(tmp_path / "data/Actor_01/03-01-04-01-01-01-01.wav", os.R_OK):
        pytest.skip("root reads everything")
    corrupt = prepare(tmp_path / "data", tmp_path / "cache").corrupt
    assert [item.reason for item in corrupt] == ["cannot be read (Permission denied)"]


def test_prepare_makes_a_damaged_cache_again(write: Write, tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    write(RAVDESS)
    write("ALL/JE_a01.wav")
    prepare(data, cache)
    good = {path.name: path.read_bytes() for path in cache.iterdir()}
    samples = good["ravdess.npz"]
    flipped = bytearray(samples)
    flipped[len(samples) // 2] ^= 1
    for damaged in (b"", b"PK\x03\x04 nothing", samples[: len(samples) // 2], bytes(flipped)):
        (cache / "ravdess.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="prepared samples cannot be read"):
            [open_cache(cache).read(clip) for clip in open_cache(cache).clips]
        again = prepare(data, cache)
        assert (again.decoded, again.skipped) == (1, 1)
        assert (cache / "ravdess.npz").read_bytes()[-200:] == samples[-200:]
    (cache / "savee.npz").unlink()
    (cache / INDEX_NAME).write_bytes(good[INDEX_NAME][:-100])
    assert prepare(data, cache).decoded == 2
    assert (cache / INDEX_NAME).read_bytes() == good[INDEX_NAME]


SHORT_OF_SPACE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_prepare_without_space_says_so_and_leaves_the_earlier_cache(write: Write, tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    write(RAVDESS)
    prepare(data, cache)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    for take in range(1, 4):
        write(f"ALL/JE_a0{take}.wav")
    code = ["-c", SHORT_OF_SPACE, "prepare", "--data", str(data), "--out", str(cache)]
    ran = subprocess.run([sys.executable, *code], capture_output=True, text=True, check=False)
    assert ran.returncode == DataError.exit_code
    assert "the cache cannot be written (File too large); free space or choose another --out" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
    assert prepare(data, cache).decoded == 3


CUT = """
import os, sys
left = int(sys.argv.pop(1))
def cut(event, arguments):
    global left
    if event in ("os.rename", "os.remove"):
        left -= 1
        if left < 0:
            os._exit(9)
from training.__main__ import main
sys.addaudithook(cut)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("step", range(5))
def test_prepare_cut_at_any_step_leaves_no_index_that_lies(step: int, write: Write, tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    write(RAVDESS)
    write("ALL/JE_a01.wav")
    prepare(data, cache)
    write(RAVDESS, seconds=0.4)  # another recording under the same name
    code = ["-c", CUT, str(step), "prepare", "--data", str(data), "--out", str(cache)]
    ran = subprocess.run([sys.executable, *code], check=False, stdout=subprocess.DEVNULL)
    assert ran.returncode == 9
    try:
        collection = open_cache(cache)
    except DataError:
        assert step in {1, 2, 3}
    else:
        for clip in collection.clips:
            assert digest(np.round(collection.read(clip) * 32_768).astype(np.int16).tobytes()) == clip.sha256
    prepare(data, cache)
    assert [clip.duration_s for clip in open_cache(cache).clips] == pytest.approx([0.4, 0.3], abs=0.01)
    assert not [path for path in cache.iterdir() if "part" in path.name]


def test_prepare_whose_cache_is_a_file_says_so(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(DataError, match="cache: the cache cannot be written"):
        prepare(tmp_path / "data", tmp_path / "cache")


def test_paper_csv_holds_the_features_and_the_encoded_label(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("ALL/JE_a01.wav", seconds=2.5)
    write("ALL/JE_h01.wav", seconds=1.0)  # ends within the crop
    write("ALL/JE_n01.wav", seconds=0.3)  # ends before it
    path = tmp_path / "paper.csv"
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "cache"), "--paper-csv", str(path)]
    assert main(["prepare", *options]) == 0
    assert "paper.csv: 3 clips, 47 frames of 13 MFCC each" in capsys.readouterr().out
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["clip"], row["label"], row["code"]) for row in rows] == [
        ("savee/JE_a01", "unpleasant", "2"),
        ("savee/JE_h01", "pleasant", "1"),
        ("savee/JE_n01", "neutral", "0"),
    ]
    collection = open_cache(tmp_path / "cache")
    crop = collection.read(collection.clips[0])[6_400:30_400]
    features = np.array([float(value) for name, value in rows[0].items() if name.startswith("mfcc_")])
    np.testing.assert_allclose(features.reshape(47, 13), extract(crop, PAPER_FEATURES, None), atol=1e-4)
    assert rows[0]["mfcc_46_12"] == f"{features[-1]:.4f}"
    assert len({rows[2][f"mfcc_{frame}_0"] for frame in range(47)}) == 1  # silence


def test_paper_csv_that_cannot_be_written_leaves_nothing(write: Write, tmp_path: Path) -> None:
    write("ALL/JE_a01.wav")
    prepare(tmp_path / "data", tmp_path / "cache")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="taken: cannot be written"):
        write_paper_csv(open_cache(tmp_path / "cache"), tmp_path / "taken")
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "data", "taken"}


def test_cache_of_another_version_is_refused(write: Write, tmp_path: Path) -> None:
    write(RAVDESS)
    prepare(tmp_path / "data", tmp_path / "cache")
    index = tmp_path / "cache" / INDEX_NAME
    index.write_text(index.read_text().replace('"format": 1', '"format": 999'))
    with pytest.raises(DataError, match="run `sottovoce-train prepare"):
        open_cache(tmp_path / "cache")


def test_prepare_command_prints_the_closing_table(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("ALL/JE_a01.wav")
    assert main(["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert "SAVEE" in out
    assert "decoded 1, unchanged 0" in out
    assert main(["prepare", "--data", str(tmp_path / "empty")]) == DataError.exit_code
    assert capsys.readouterr().err.startswith("sottovoce-train: error: ")

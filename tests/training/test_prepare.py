from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from broker.contract.errors import DataError
from training.__main__ import main
from training.clips import INDEX_NAME, RATE_HZ, open_cache
from training.prepare import open_collection, prepare

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


def test_prepare_refuses_a_folder_without_corpora(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no recording of RAVDESS, TESS, SAVEE, EMO-DB"):
        prepare(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match="no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "cache")


def test_prepare_refuses_if_all_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "03a01Fa.wav").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of its 1 recordings can be read"):
        prepare(tmp_path, tmp_path / "cache")


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

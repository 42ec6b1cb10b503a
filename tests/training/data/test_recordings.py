from collections.abc import Callable
from pathlib import Path

import pytest

from broker.contract.decision import Label
from broker.contract.errors import DataError
from training.__main__ import main
from training.data.clips import open_cache
from training.data.corpora import EMOTION_WORDS, Emotion
from training.data.prepare import open_collection, prepare
from training.data.recordings import Found, find_recordings, usable

Write = Callable[..., Path]
Table = Callable[..., Path]

RAVDESS = "Actor_01/03-01-03-01-01-01-01.wav"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Write a table under tmp_path/data."""

    def make(
        *rows: str, folder: str = "", columns: str = "path,speaker,emotion", encoding: str = "utf-8", end: str = "\n"
    ) -> Path:
        path = tmp_path / "data" / folder / "recordings.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(end.join([*([columns] if columns else []), *rows, ""]).encode(encoding))
        return path

    return make


def _problems(found: Found) -> dict[str, str]:
    return {item.path: item.reason for item in found.unused}


def test_table_names_own_recordings_relative_to_itself(write: Write, table: Table, tmp_path: Path) -> None:
    write("office/takes/one.wav")
    write("car/takes/one.wav")
    table("takes/one.wav,s1,happy", folder="office")
    table("takes/one.wav,s1,Anger,F,car-2", folder="car", columns="Path, Speaker ,emotion,SEX,corpus")
    found = find_recordings(tmp_path / "data")
    assert [(name.corpus, name.speaker, name.sex, name.emotion, name.stem) for _, name, _ in usable(found)] == [
        ("car-2", "car-2_s1", "female", Emotion.ANGRY, "car/takes/one.wav"),
        ("own", "own_s1", None, Emotion.HAPPY, "office/takes/one.wav"),
    ]
    assert found.unused == ()


def test_table_of_own_recordings_becomes_a_cache(
    write: Write, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one.wav", rate=44_100, channels=2)
    write("two.mp3")
    path = table("one.wav,s1,calm", "two.mp3,s2,fear", "three.wav,s2,sad")
    assert main(["prepare", "--data", str(path), "--out", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert "not used: recordings.csv, line 4: three.wav: no such file beside the table" in out
    collection = open_cache(tmp_path / "cache")
    assert [(clip.key, clip.speaker, clip.label) for clip in collection.clips] == [
        ("own/one.wav", "own_s1", Label.NEUTRAL),
        ("own/two.mp3", "own_s2", Label.UNPLEASANT),
    ]
    assert all(len(collection.read(clip)) > 4_000 for clip in collection.clips)
    again = prepare(path, tmp_path / "cache")
    assert (again.decoded, again.skipped) == (0, 2)
    own = again.coverage[-1]
    assert (own.corpus, own.clips, own.official, own.absent_speakers) == ("own", 2, None, ())


def test_table_may_call_an_emotion_by_another_word(write: Write, table: Table, tmp_path: Path) -> None:
    for word in EMOTION_WORDS:
        write(f"{word}.wav")
    table(*(f"{word}.wav,s1,{word.upper()}" for word in EMOTION_WORDS))
    found = find_recordings(tmp_path / "data")
    assert {name.stem: name.emotion for name in found.recordings.values()} == {
        f"{word}.wav": emotion for word, emotion in EMOTION_WORDS.items()
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("two.wav,s1,boredom,", "emotion 'boredom' is none of neutral, happy,"),
        ("two.wav,s1,,", "no emotion"),
        ("two.wav", "no speaker"),
        (",s1,sad,", "no path"),
        ("missing.wav,s1,sad,", "missing.wav: no such file beside the table"),
        (".,s1,sad,", "no such file"),
        (f"{'x' * 5000},s1,sad,", "no such file"),
        ("two.wav,s1,sad,My Corpus", "corpus 'My Corpus': allowed are up to 32 lower-case letters"),
        ("two.wav,s1,sad,a_b", "corpus 'a_b': allowed are"),
        ("two.wav,s1,sad,ravdess", "corpus 'ravdess' is the name of an official set"),
        ("two.wav,s\x07,sad,", "printable characters"),
        (f"two.wav,{'s' * 65},sad,", "up to 64 printable characters"),
    ],
)
def test_row_that_cannot_be_used_is_listed_with_its_line(
    row: str, reason: str, write: Write, table: Table, tmp_path: Path
) -> None:
    write("one.wav")
    write("two.wav")
    table("one.wav,s1,happy,", "", row, columns="path,speaker,emotion,corpus")
    found = find_recordings(tmp_path / "data")
    assert [name.stem for name in found.recordings.values()] == ["one.wav"]
    assert reason in _problems(found)["recordings.csv, line 4"]


def test_recording_with_two_labels_is_not_used(write: Write, table: Table, tmp_path: Path) -> None:
    write("one.wav")
    write("sub/two.wav")
    table("one.wav,s1,happy", "sub/two.wav,s1,happy", "sub/../sub/two.wav,s1,sad")
    table("two.wav,s9,happy", folder="sub")
    found = find_recordings(tmp_path / "data")
    assert [name.stem for name in found.recordings.values()] == ["one.wav"]
    assert _problems(found) == {
        "recordings.csv, line 4": "sub/../sub/two.wav has another speaker or label at recordings.csv, line 3; "
        "neither row is used",
        "sub/recordings.csv, line 2": "two.wav has another speaker or label at recordings.csv, line 3; "
        "neither row is used",
    }


def test_recording_listed_twice_alike_is_taken_once(write: Write, table: Table, tmp_path: Path) -> None:
    write("one.wav")
    table("one.wav,s1,happy", "./one.wav,s1,happiness")
    found = find_recordings(tmp_path / "data")
    assert (len(found.recordings), found.repeated, found.unused) == (1, 1, ())


BROKEN = {
    "no column emotion": (("one.wav,s1",), {"columns": "path,speaker"}, "line 1: no column emotion"),
    "semicolons": (("one.wav;s1;sad",), {"columns": "path;speaker;emotion"}, "line 1: no column path; it must name"),
    "empty": ((), {"columns": ""}, "is empty"),
    "no rows": (("", " , , "), {}, "has no row below its column names"),
    "latin-1": (("one.wav,s1,sad", "zwei.wav,männlich-1,sad"), {"encoding": "latin-1"}, "line 3: is not UTF-8"),
    "utf-16": (("one.wav,s1,sad",), {"encoding": "utf-16"}, "line 1: is not UTF-8"),
    "endless": (("x" * 200_000,), {}, "line 2: field larger than field limit"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_table_that_cannot_be_read_is_named_and_the_rest_is_used(
    case: str, write: Write, table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, form, reason = BROKEN[case]
    write("mine/one.wav")
    path = table(*rows, folder="mine", **form)
    for data in (path, tmp_path / "data"):
        with pytest.raises(DataError, match=r"recordings\.csv: ") as refused:
            find_recordings(data)
        assert reason in str(refused.value)
    write(RAVDESS)
    assert reason in _problems(find_recordings(tmp_path / "data"))["mine/recordings.csv"]
    assert main(["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "cache")]) == 0
    assert f"not used: mine/recordings.csv: {reason}" in capsys.readouterr().out


def test_table_saved_by_a_spreadsheet_is_read(write: Write, table: Table, tmp_path: Path) -> None:
    write("eins, zwei.wav")
    table('"eins, zwei.wav",männlich-1,sad,,', encoding="utf-8-sig", end="\r\n", columns="path,speaker,emotion,,")
    assert [name.speaker for name in find_recordings(tmp_path / "data").recordings.values()] == ["own_männlich-1"]


def test_own_recordings_that_cannot_be_decoded_are_corrupt(write: Write, table: Table, tmp_path: Path) -> None:
    write("one.wav")
    (tmp_path / "data/notes.wav").write_text("no audio")
    write("short.wav", seconds=0.01)
    write("slow.wav", rate=100, seconds=2)
    table(*(f"{name}.wav,s1,sad" for name in ("one", "notes", "short", "slow")))
    prepared = prepare(tmp_path / "data", tmp_path / "cache")
    assert {item.path for item in prepared.corrupt} == {"notes.wav", "short.wav", "slow.wav"}
    assert (prepared.coverage[-1].clips, prepared.coverage[-1].corrupt) == (1, 3)
    collection, unusable = open_collection(tmp_path / "data/recordings.csv")
    assert [clip.key for clip in collection.clips] == ["own/one.wav"]
    assert len(unusable) == 3


def test_file_that_a_table_names_is_what_the_table_says(write: Write, table: Table, tmp_path: Path) -> None:
    write(RAVDESS)
    write("Actor_02/03-01-03-01-01-01-02.wav")
    table(f"{RAVDESS},s1,sad")
    names = find_recordings(tmp_path / "data").recordings.values()
    assert [(name.speaker, name.emotion) for name in names] == [
        ("own_s1", Emotion.SAD),
        ("ravdess_02", Emotion.HAPPY),
    ]


def test_cremad_speakers_have_a_sex_where_the_table_of_actors_is(write: Write, tmp_path: Path) -> None:
    write("CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav")
    write("CREMA-D/AudioWAV/1002_DFA_ANG_XX.wav")
    sexes = {name.speaker: name.sex for name in find_recordings(tmp_path / "data").recordings.values()}
    assert sexes == {"cremad_1001": None, "cremad_1002": None}
    actors = tmp_path / "data/CREMA-D/VideoDemographics.csv"
    actors.write_text('"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","",""\n1002,21,"Female","",""\n')
    prepare(tmp_path / "data", tmp_path / "cache")
    sexes = {clip.speaker: clip.sex for clip in open_cache(tmp_path / "cache").clips}
    assert sexes == {"cremad_1001": "male", "cremad_1002": "female"}
    actors.write_text("nothing\n")
    assert "no column actorid" in _problems(find_recordings(tmp_path / "data"))["CREMA-D/VideoDemographics.csv"]


def test_recordings_that_git_lfs_has_not_fetched_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    path.parent.mkdir()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 72934\n")
    with pytest.raises(DataError, match="run `git lfs pull` in its folder"):
        prepare(tmp_path, tmp_path / "cache")

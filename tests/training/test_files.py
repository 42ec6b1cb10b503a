import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.contract.errors import DataError, SettingsError
from broker.files import write_whole
from training.files import writing


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # write() fails midway, as on a full disk
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_that_fails_midway_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_whole(path, b"old")
    with files_of_at_most(4_096), pytest.raises(OSError, match="too large"):
        write_whole(path, bytes(10_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_written_by_many_at_once_is_one_of_theirs(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda data: write_whole(tmp_path / "same", data), contents))
    assert (tmp_path / "same").read_bytes() in contents
    assert list(tmp_path.iterdir()) == [tmp_path / "same"]


def test_what_cannot_be_written_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(SettingsError) as raised, writing(folder, "choose another --out"):
        write_whole(folder / "file", b"")
    assert str(raised.value) == f"{folder}: cannot be written (No such file or directory); choose another --out"
    with pytest.raises(DataError) as told, writing("--out x", "free space", what="the cache", failure=DataError):
        write_whole(folder / "file", b"")
    assert str(told.value) == "--out x: the cache cannot be written (No such file or directory); free space"


def test_writing_lets_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), writing("anywhere", "do something"):
        _ = 1 / 0

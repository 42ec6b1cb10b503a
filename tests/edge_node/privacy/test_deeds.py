"""Programs under the real strace: what they write is noted to the byte, and what cannot be noted is told of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_node.privacy.deeds import Deeds, deeds_of
from edge_node.privacy.trace import read_calls

Watched = Callable[[str], Deeds]

WRITES = """
import os, socket, threading
with open("plain", "wb") as file:
    file.write(bytes(range(256)) * 40)
fd = os.open("placed", os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"tail", 100); os.pwrite(fd, b"head", 0); os.writev(fd, []) if False else None
os.ftruncate(fd, 102)
os.rename("plain", "renamed")
def many():
    for number in range(50):
        os.pwrite(fd, number.to_bytes(2, "big"), 200 + 2 * number)
threads = [threading.Thread(target=many) for _ in range(4)]
[each.start() for each in threads]; [each.join() for each in threads]
with open("gathered", "wb", buffering=0) as file:
    os.writev(file.fileno(), [b"one, ", b"two"])
here, there = socket.socketpair()
here.sendmsg([b"by ", b"socket"]); here.send(b"; again")
"""


def test_what_a_program_writes_is_noted_to_the_byte(watched: Watched, tmp_path: Path) -> None:
    deeds = watched(WRITES)

    folder = tmp_path / "folder"
    assert deeds.unknown == []
    for name in ("renamed", "placed", "gathered"):
        assert bytes(deeds.files[str(folder / name)]) == (folder / name).read_bytes()
    by_socket = b"".join(each.data for each in deeds.writes if each.where.startswith("socket:"))
    assert by_socket == b"by socket; again"
    assert deeds.shared == []


def test_a_file_that_is_written_by_memory_is_told_of(watched: Watched, tmp_path: Path) -> None:
    deeds = watched(
        "import mmap\nfile = open('mapped', 'w+b'); file.truncate(4096)\n"
        "memory = mmap.mmap(file.fileno(), 4096); memory[:5] = b'voice'; memory.flush()"
    )

    mapped = str(tmp_path / "folder" / "mapped")
    assert mapped in deeds.shared
    assert bytes(deeds.files[mapped]) != (tmp_path / "folder" / "mapped").read_bytes()


@pytest.mark.parametrize(
    "way",
    [
        "os.memfd_create('hidden')",
        "os.sendfile(os.open('out', os.O_RDWR | os.O_CREAT), os.open('/etc/hostname', os.O_RDONLY), 0, 4)",
        "os.copy_file_range(os.open('/etc/hostname', 0), os.open('out', os.O_RDWR | os.O_CREAT), 4)",
        "os.symlink('UklGRg', 'link')",
        "os.utime('.', (7, 7))",
        "os.mkfifo('pipe')",
    ],
)
def test_a_way_out_that_nobody_understands_is_told_of(watched: Watched, way: str) -> None:
    assert watched(f"import os\n{way}").unknown


def test_programs_that_are_started_and_connections_are_noted(watched: Watched) -> None:
    deeds = watched(
        "import socket, subprocess\nsubprocess.run(['true'])\n"
        "listener = socket.create_server(('127.0.0.1', 0)); socket.create_connection(listener.getsockname())"
    )

    assert sum("true" in each for each in deeds.programs) >= 1
    (address,) = deeds.connected.values()
    assert address.startswith("127.0.0.1:")
    assert address in deeds.own


def test_a_note_that_cannot_be_read_is_told_of() -> None:
    assert deeds_of(read_calls(["12 strace is broken\n", "no number\n"])).unknown


def test_a_string_that_was_cut_is_told_of() -> None:
    line = '12 write(1</tmp/x>, "\\x61"..., 5000) = 5000\n'
    assert deeds_of(read_calls([line])).unknown

"""From calls of the system to what a program did with them: bytes written, and where to.

Beside the bytes, a model of the files is kept: what should be on the disk if nothing was missed. Compared with what is
there, it shows whether the notes are whole.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from edge_node.privacy.trace import Call, bytes_of, plain

__all__ = ["Deeds", "Write", "deeds_of"]

_MOST_WORDS: Final = 160
_FD: Final = re.compile(r"(\d+|AT_FDCWD)<([^>]*)>(?:, )?(.*)", re.DOTALL)
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_OFFSET: Final = re.compile(r", (\d+)$")
_PORT: Final = re.compile(r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, |sin6_addr=)\"([^\"]*)\"")
_UNIX: Final = re.compile(r'sun_path=@?"([^"]*)"')
_QUESTIONS: Final = ("TCGETS", "TCGETS2", "TIOCGWINSZ", "TIOCGPGRP", "FIONBIO", "FIONREAD", "FIOCLEX", "FIONCLEX")
_WRITING: Final = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")


class Write(msgspec.Struct, frozen=True):
    """Bytes that the kernel took."""

    where: str
    """A file's path, or `socket:[...]`, `pipe:[...]`."""
    data: bytes


class Deeds:
    """What was done, in order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.writes: list[Write] = []
        self.files: dict[str, bytearray] = {}
        """What should be on the disk, by path."""
        self.made: list[str] = []
        """Paths of files, folders and sockets that were made, or opened to write, in order."""
        self.connected: dict[str, str] = {}
        """Address by socket: `host:port`, or the path of a Unix socket."""
        self.own: set[str] = set()
        """Addresses that the program listens at itself."""
        self.accepted: dict[str, str] = {}
        """Sockets that others opened, by socket: which one of the program's own they came to."""
        self.programs: list[str] = []
        """What was started."""
        self.shared: list[str] = []
        """Files that are in memory, to be written by writing there: no call tells what."""
        self.unknown: list[str] = []
        """Calls that nothing here understands."""
        self.calls = 0


def deeds_of(calls: Iterable[Call]) -> Deeds:
    """Return what was done by calls."""
    deeds = Deeds()
    for call in calls:
        deeds.calls += 1
        step = None if call.raw else _STEPS.get(call.name)
        failed = call.result is not None and call.result < 0 and call.name != "connect"
        if failed and not call.raw:
            continue
        if step is None or not step(deeds, call):
            deeds.unknown.append(plain(f"{call.name}({call.arguments})")[:_MOST_WORDS])
    return deeds


def _write(deeds: Deeds, call: Call) -> bool:
    """Note what was written: of several buffers, and of what the kernel took a part only, no more than it took."""
    if not (match := _FD.fullmatch(call.arguments)):
        return False
    where, rest = plain(match.group(2)), match.group(3)
    strings = _STRING.findall(rest if call.name in {"write", "pwrite64", "sendto"} else _buffers(rest))
    if not strings and call.result:
        return False
    data = b"".join(bytes_of(text) for text, _ in strings[: 1 if call.name == "sendto" else None])
    data = data if call.result is None else data[: call.result]
    if call.result is not None and len(data) < call.result:  # longer than strace was told to note
        return False
    deeds.writes.append(Write(where, data))
    if where.startswith("/"):
        file = deeds.files.setdefault(where, bytearray())
        offset = len(file)
        if call.name.startswith("pwrite"):
            if not (found := _OFFSET.search(rest)):
                return False
            offset = int(found.group(1))
        file.extend(bytes(max(0, offset - len(file))))
        file[offset : offset + len(data)] = data
    return True


def _buffers(rest: str) -> str:
    """Return what follows each `iov_base=`; a socket's address is none of the data."""
    return " ".join(re.findall(r'iov_base=("(?:\\x[0-9a-f]{2})*"(?:\.\.\.)?)', rest))


def _open(deeds: Deeds, call: Call) -> bool:
    flags = plain(_STRING.sub("", call.arguments))
    if not call.path or not _WRITING.search(flags):
        return True
    deeds.made.append(call.path)
    if "O_TRUNC" in flags or call.path not in deeds.files:
        deeds.files[call.path] = bytearray()
    return "O_TMPFILE" not in flags


def _shorten(deeds: Deeds, call: Call) -> bool:
    if not (match := _FD.fullmatch(call.arguments)):
        return False
    file, length = deeds.files.setdefault(plain(match.group(2)), bytearray()), int(match.group(3))
    file.extend(bytes(max(0, length - len(file))))
    del file[length:]
    return True


def _named(deeds: Deeds, call: Call) -> bool:
    """Note that something was made, removed or renamed."""
    names = [bytes_of(text).decode(errors="backslashreplace") for text, _ in _STRING.findall(call.arguments)]
    if call.name.startswith("mkdir"):
        deeds.made.append(names[0])
        return True
    if call.name.startswith("rename"):
        deeds.made.append(names[1])
    for known in [each for each in deeds.files if each == names[0] or each.endswith(f"/{names[0]}")]:
        content = deeds.files.pop(known)
        if call.name.startswith("rename"):
            deeds.files[known.removesuffix(names[0]) + names[1]] = content
    return True


def _address(text: str) -> str | None:
    if match := _PORT.search(text):
        return f"{plain(match.group(2))}:{match.group(1)}"
    if match := _UNIX.search(text):
        return plain(match.group(1))
    return None


def _network(deeds: Deeds, call: Call) -> bool:
    """Note where sockets are, and where they go."""
    match, address = _FD.match(call.arguments), _address(call.arguments)
    if match is None:
        return False
    one = plain(match.group(2))
    if call.name == "connect":
        deeds.connected[one] = address or plain(call.arguments)
    elif call.name in {"accept", "accept4"}:
        deeds.accepted[call.path] = one
    elif call.name == "bind" and address is not None and _UNIX.search(call.arguments):
        deeds.made.append(address)
    elif call.name == "getsockname" and address is not None:
        deeds.own.add(address)
    return True


def _map(deeds: Deeds, call: Call) -> bool:
    """Note a file that is mapped so that writing to memory writes to it; one that was opened to be read cannot be."""
    if "MAP_SHARED" not in call.arguments:
        return True
    found = re.search(r"MAP_SHARED[^,]*, \d+<([^>]*)>", call.arguments)
    path = plain(found.group(1)) if found else "memory"
    if found is None or path in deeds.made or "PROT_WRITE" in call.arguments:
        deeds.shared.append(path)
    return True


def _start(deeds: Deeds, call: Call) -> bool:
    deeds.programs.append(plain(call.arguments))
    return True


def _ask(_deeds: Deeds, call: Call) -> bool:
    return any(f", {each}" in call.arguments for each in _QUESTIONS)


def _touch(_deeds: Deeds, call: Call) -> bool:
    return ", NULL, " in call.arguments  # to now: another time could be a message


def _nothing(_deeds: Deeds, _call: Call) -> bool:
    return True


_STEPS: Final[dict[str, Callable[[Deeds, Call], bool]]] = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "sendto", "sendmsg"), _write),
    **dict.fromkeys(("open", "openat", "creat"), _open),
    **dict.fromkeys(("unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat"), _named),
    **dict.fromkeys(("connect", "accept", "accept4", "bind", "getsockname"), _network),
    **dict.fromkeys(("socket", "listen", "rmdir"), _nothing),
    "ftruncate": _shorten,
    "mmap": _map,
    "execve": _start,
    "ioctl": _ask,
    "utimensat": _touch,
}

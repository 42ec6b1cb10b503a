"""What strace noted, line by line, as calls of the system: a program does nothing to the world but by these.

The list below is the one of calls that can neither write nor send. Everything else is noted, and what `deeds` does not
know is a reason to fail: a call that nobody thought of cannot pass unseen.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Call", "command", "read_calls"]

_LONGEST_STRING: Final = 1 << 24

_SILENT: Final = (
    # reading and looking
    *("read", "pread64", "readv", "preadv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"),
    *("access", "faccessat", "faccessat2", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs"),
    *("readlink", "readlinkat", "getdents64", "getcwd", "lseek", "fadvise64", "readahead"),
    # waiting
    *("futex", "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait"),
    *("nanosleep", "clock_nanosleep", "wait4", "waitid", "sched_yield", "restart_syscall", "pause"),
    # memory of its own; mmap, which can be a file's, is noted
    *("brk", "munmap", "mprotect", "mremap", "madvise", "mlock", "munlock", "mbind", "membarrier", "get_mempolicy"),
    # the process itself
    *("getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups"),
    *("uname", "sysinfo", "getrandom", "getrusage", "times", "time", "gettimeofday", "clock_gettime", "clock_getres"),
    *("adjtimex", "clock_adjtime", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "prlimit64"),
    *("getrlimit", "setrlimit", "sched_getaffinity", "sched_setaffinity", "sched_getscheduler", "sched_getparam"),
    *("getpriority", "setpriority", "set_tid_address", "set_robust_list", "rseq", "arch_prctl", "prctl", "capget"),
    *("clone", "clone3", "fork", "vfork", "exit", "exit_group", "kill", "tgkill", "setsid", "umask", "getpgrp"),
    *("riscv_flush_icache", "riscv_hwprobe", "getcpu", "alarm", "setitimer"),
    # descriptors and locks
    *("close", "close_range", "dup", "dup2", "dup3", "fcntl", "flock", "pipe", "pipe2", "fsync", "fdatasync", "sync"),
    *("sync_file_range", "shutdown", "getsockopt", "setsockopt", "getpeername", "socketpair"),
    # rights
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "lchown"),
)

_LINE: Final = re.compile(r"(\d+) +(.*)")
_CALL: Final = re.compile(r"(\w+)\((.*)\) += (\?|-?\d+|0x[0-9a-f]+)(?:<([^>]*)>)?(?: .*)?", re.DOTALL)
_RESUMED: Final = re.compile(r"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_UNFINISHED: Final = " <unfinished ...>"
_HEX: Final = re.compile(r"(?:\\x[0-9a-f]{2})+")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the system that has returned."""

    name: str
    arguments: str
    """As strace prints them, every string in hexadecimal."""
    result: int | None
    """None: it has not returned: the process was ended in it."""
    path: str
    """Of the descriptor that it returned; empty: it returned none."""
    raw: bool = False
    """Whether the line could not be read; `arguments` is all of it."""


def command(strace: str, notes: Path, program: Sequence[str]) -> list[str]:
    """Return the command that runs a program, and all that it starts, under strace."""
    silent = ",".join(f"?{name}" for name in _SILENT)  # "?": not every processor has each of them
    options = ["-f", "-q", "-q", "-y", "-xx", "-s", str(_LONGEST_STRING), "--seccomp-bpf"]
    return [strace, *options, "-e", f"trace=!{silent}", "-e", "signal=none", "-o", str(notes), "--", *program]


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield what strace noted, each call when it returned."""
    begun: dict[str, str] = {}
    for line in lines:
        if not (match := _LINE.fullmatch(line.rstrip("\n"))):
            yield _unread(line)
            continue
        thread, text = match.groups()
        if text.startswith(("+++", "---")):  # a process ended, a signal came
            continue
        if text.endswith(_UNFINISHED):
            begun[thread] = text.removesuffix(_UNFINISHED)
            continue
        if resumed := _RESUMED.fullmatch(text):
            text = begun.pop(thread, "") + resumed.group(1)
        yield _read(text)
    for text in begun.values():  # the process was ended within the call; it may have written all the same
        yield _read(f"{text}) = ?")


def plain(text: str) -> str:
    """Return a text in which strace's hexadecimal strings can be read."""
    return _HEX.sub(lambda match: bytes_of(match.group()).decode(errors="backslashreplace"), text)


def bytes_of(hexadecimal: str) -> bytes:
    r"""Return the bytes of a string of `\x00`."""
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _read(text: str) -> Call:
    if not (match := _CALL.fullmatch(text)):
        return _unread(text)
    name, arguments, result, path = match.groups()
    value = None if result == "?" else int(result, 0)
    return Call(name=name, arguments=arguments, result=value, path=plain(path or ""))


def _unread(line: str) -> Call:
    return Call(name="", arguments=line, result=None, path="", raw=True)

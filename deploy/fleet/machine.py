"""What machine this is, and what a process on it has used."""

import os
import platform
from pathlib import Path

import msgspec

__all__ = ["Usage", "machine", "usage"]

_MIB = 1 << 20


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has used since it started."""

    cpu_s: float
    """Of all its threads, user and system."""
    rss_mb: float
    """The most memory that it held, in MiB."""


def machine() -> str:
    """Return the processor, the number of cores, the system and Python's version, in words."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def usage(pid: int) -> Usage:
    """Return what a process has used; zeros where the system does not tell, or there is no such process."""
    folder = Path("/proc") / str(pid)
    try:
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Usage(cpu_s=0.0, rss_mb=0.0)
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5), counted from after the name
    most = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return Usage(cpu_s=round(ticks / os.sysconf("SC_CLK_TCK"), 2), rss_mb=round(most * 1024 / _MIB, 1))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("Model", "model name"):  # the first is a Raspberry Pi's, and says more
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()

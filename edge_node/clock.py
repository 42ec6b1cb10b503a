"""What time it is, and whether that can be believed.

A board without a clock battery wakes up at some moment of its past, and stays there until a time server answers. The
kernel knows which it is. What happens before can be dated afterwards by a clock that only goes forward: how long ago
it was, from when the time is known (docs/adr/0020).
"""

import ctypes
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["ClockSettings", "WallClock", "kernel_id", "kernel_synced", "uptime_ns"]

_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_ASK_AGAIN_NS: Final = 1_000_000_000


class ClockSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[clock]`."""

    trust: bool = False
    """The clock is right although the kernel does not say so: a battery, a virtual machine, a container."""


def kernel_synced() -> bool:
    """Return whether the kernel says that a time server disciplines the wall clock; False where it cannot tell.

    When nothing does so any more, the kernel says so after some 9 hours: it reckons with an error that grows by 500
    ppm, and gives up at 16 s.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state: int = libc.adjtimex(ctypes.create_string_buffer(256))  # struct timex with modes = 0: read only
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR


def kernel_id() -> str:
    """Return a name of this run of the kernel; of this program, where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return secrets.token_hex(16)


def uptime_ns() -> int:
    """Return how long the kernel has been running, suspended or not, in ns."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WallClock:
    """The time of day, µs since 1970, UTC. Any thread may ask."""

    def __init__(
        self,
        *,
        trusted: bool,
        ask_kernel: Callable[[], bool] = kernel_synced,
        wall_ns: Callable[[], int] = time.time_ns,
        uptime_ns: Callable[[], int] = uptime_ns,
        kernel: str | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            trusted: whether the settings say that the clock is right.
            ask_kernel: whether the kernel says so.
            wall_ns: the wall clock, ns since 1970.
            uptime_ns: a clock that only goes forward, and that stands still for nothing, in ns.
            kernel: name of this run of the kernel; None: ask for it.
        """
        self._trusted, self._ask_kernel = trusted, ask_kernel
        self._wall_ns, self._uptime_ns = wall_ns, uptime_ns
        self._synced = False
        self._asked_ns: int | None = None
        self.kernel = kernel_id() if kernel is None else kernel
        """Name of this run of the kernel; the uptime of another one cannot be compared."""
        self.was_synced = False
        """Whether the kernel has called the clock right since it runs; set by whoever remembers it from before."""

    def now_us(self) -> int:
        """Return the wall clock, right or not, µs since 1970, UTC."""
        return self._wall_ns() // 1000

    def uptime_us(self) -> int:
        """Return how long the kernel has been running, suspended or not, in µs."""
        return self._uptime_ns() // 1000

    def at(self, uptime_us: int) -> int:
        """Return the wall clock of a moment, had it been as right as it is now, in µs since 1970, UTC.

        Args:
            uptime_us: the moment, by `uptime_us`.
        """
        return max(0, self.now_us() - (self.uptime_us() - uptime_us))

    def is_synced(self) -> bool:
        """Return whether the kernel, as of a second ago at most, or the settings say that the wall clock is right."""
        if self._trusted:
            return True
        now_ns = self._uptime_ns()
        if self._asked_ns is None or now_ns - self._asked_ns >= _ASK_AGAIN_NS:
            self._synced, self._asked_ns = self._ask_kernel(), now_ns
            self.was_synced = self.was_synced or self._synced
        return self._synced

    def is_known(self) -> bool:
        """Return whether the wall clock is right, or was since the kernel's start.

        It stays known when the time server is lost: it goes on at the rate that it was taught, and to wait for better
        would be silence for as long as the server is away.
        """
        return self.is_synced() or self.was_synced

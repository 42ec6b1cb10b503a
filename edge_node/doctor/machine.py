"""The machine: its clock, its memory, its heat."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_node.clock import WallClock
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, warn
from edge_node.local.messages import Report
from edge_node.telemetry import is_throttled, temperature_c

__all__ = ["of_clock", "of_machine"]

_OLDEST_PLAUSIBLE: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Before this version was written."""
_LEAST_MEMORY: Final = 60_000_000
_HOT_C: Final = 80.0
_BUSY: Final = 1.5


def of_clock(clock: WallClock, now_s: float) -> Finding:
    """Return whether the wall clock can be right.

    Args:
        clock: as the node would ask it.
        now_s: wall clock, s since 1970, UTC.
    """
    shown = f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    is_synced = clock.is_synced()
    facts: dict[str, Fact] = {"synchronised": is_synced, "time_s": round(now_s)}
    if now_s < _OLDEST_PLAUSIBLE:
        advice = "let a time server set it: `timedatectl set-ntp true`, and open UDP port 123 in the firewall"
        return fail(Stage.CLOCK, f"{shown}: in the past; no certificate is valid yet", advice, **facts)
    if not is_synced:
        advice = (
            "`timedatectl set-ntp true`; where the clock is right without a time server (a battery, a container), "
            "set [clock] trust = true"
        )
        return fail(Stage.CLOCK, f"{shown}, but no time server sets it: events wait until one has", advice, **facts)
    return ok(Stage.CLOCK, f"{shown}, synchronised or trusted", **facts)


def of_machine(report: Report | None) -> Finding:
    """Return whether memory, processor and heat leave room for the node."""
    available, total = _memory()
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    heat, throttled = temperature_c(), is_throttled()
    facts: dict[str, Fact] = {
        "memory_available_bytes": available,
        "memory_total_bytes": total,
        "load": round(load, 2),
        "cpus": cpus,
        "temperature_c": heat,
        "throttled": throttled,
    }
    if report is not None and report.telemetry is not None:
        facts |= {"node_rss_bytes": report.telemetry.rss_bytes, "node_cpu_share": report.telemetry.cpu_share}
        facts |= {"dropped_blocks": report.telemetry.dropped_blocks}
    memory = "" if available is None else f"{available / 1e6:,.0f} MB of memory available, "
    words = f"{memory}load {load:.1f} on {cpus} processors" + ("" if heat is None else f", {heat:.0f} °C")
    if throttled:
        advice = "use a stronger power supply or a heat sink: the processor is slowed down for heat or low voltage"
        return warn(Stage.MACHINE, f"{words}, throttled", advice, **facts)
    if heat is not None and heat >= _HOT_C:
        return warn(Stage.MACHINE, f"{words}: hot", "cool it: a heat sink, a fan, a place out of the sun", **facts)
    if available is not None and available < _LEAST_MEMORY and report is None:
        return warn(Stage.MACHINE, f"{words}: little", "end other programs: a node takes about 80 MB", **facts)
    if load > _BUSY * cpus:
        return warn(
            Stage.MACHINE, f"{words}: busy", "see with `top` what it does; blocks of sound may be lost", **facts
        )
    return ok(Stage.MACHINE, words, **facts)


def _memory() -> tuple[int | None, int | None]:
    """Return the memory that is available and that there is, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    except (OSError, ValueError, IndexError):
        return None, None
    return found.get("MemAvailable"), found.get("MemTotal")

"""Who runs: the node's service, a node that does not answer, or nobody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.topics import NodeId
from edge_node.doctor.finding import Finding, Stage, fail, ok, warn
from edge_node.local.client import Absence, UnansweredError, ask, likely_places
from edge_node.local.messages import Report, ReportRequest
from edge_node.settings import NodeSettings

__all__ = ["Presence", "holder", "look_for_node", "of_service"]

_LOCKS: Final = Path("/proc/locks")
_LONG_S: Final = 300.0


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a node of this name runs on this machine."""

    report: Report | None = None
    """What it says; None: nobody has answered."""
    may_run: bool = False
    """Whether one runs, or may: then the doctor leaves its name alone."""
    problem: str | None = None
    """Why it has not answered, where it should have."""


def look_for_node(settings: NodeSettings, environ: Mapping[str, str]) -> Presence:
    """Return who runs, by asking at the likely sockets, and by who holds the outbox."""
    problem = None
    for place in likely_places(settings.socket, settings.identity, environ):
        try:
            answer = ask(place, ReportRequest())
        except UnansweredError as error:
            if error.absence is not Absence.NOBODY:
                problem = problem or str(error)
            continue
        if isinstance(answer, Report) and answer.node == str(settings.identity):
            return Presence(report=answer, may_run=True)
        problem = problem or _other(place, answer, settings.identity)
    outbox = Path(settings.outbox.path)
    if (pid := holder(outbox.with_name(f"{outbox.name}.lock"))) is not None:
        who = f"process {pid}" if pid > 0 else "a process of another container"
        why = f" ({problem})" if problem else "; it has no socket, or another one than these settings say"
        return Presence(may_run=True, problem=f"{who} has the outbox, and does not answer{why}")
    return Presence(may_run=problem is not None, problem=problem)


def of_service(presence: Presence) -> Finding:
    """Return what can be said of the service itself."""
    report = presence.report
    if report is None and presence.problem is None:
        return ok(Stage.SERVICE, "no node runs here; all that follows was looked at by the doctor", running=False)
    if report is None:
        advice = (
            "ask as root: sudo sottovoce-node doctor ...; if that fails too, look at "
            "`systemctl status sottovoce-node`, and restart it"
        )
        return fail(Stage.SERVICE, f"a node may run, but cannot be asked: {presence.problem}", advice, running=True)
    words = f"runs as process {report.pid} since {_long(report.uptime_s)}, version {report.status.versions.sottovoce}"
    facts: dict[str, str | int | float | bool | None] = {
        "running": True,
        "pid": report.pid,
        "uptime_s": round(report.uptime_s, 1),
        "version": report.status.versions.sottovoce,
        "remarks": len(report.remarks),
    }
    if report.remarks:
        last = report.remarks[-1]
        what = f"{words}; its last warning of {len(report.remarks)}: {last.words}"
        if report.status.time_us - last.time_us < _LONG_S * 1e6:
            return warn(Stage.SERVICE, what, "read on: `journalctl --unit sottovoce-node`", **facts)
        return ok(Stage.SERVICE, what, **facts)
    return ok(Stage.SERVICE, words, **facts)


def holder(path: Path, locks: Path = _LOCKS) -> int | None:
    """Return the process that holds a lock on a file; None: nobody does, or it cannot be told. Nothing is touched."""
    try:
        inode = path.stat().st_ino
        lines = locks.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:  # `1: FLOCK  ADVISORY  WRITE 8407 fe:00:10265634 0 EOF`
        words = line.split()
        if "FLOCK" in words and "->" not in words and (at := words.index("FLOCK") + 4) < len(words):
            _device, _, number = words[at].rpartition(":")
            if number == str(inode):
                return max(0, int(words[at - 1]))
    return None


def _other(place: Path, answer: object, identity: NodeId) -> str | None:
    if isinstance(answer, Report):
        return None  # another node of this machine
    return f"{place}: {identity} refuses to report"


def _long(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

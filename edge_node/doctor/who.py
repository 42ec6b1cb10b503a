"""Who runs: the node's service, a node that does not answer, or nobody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.topics import NodeId
from edge_node.doctor.finding import Finding, Stage, fail, ok, warn
from edge_node.exclusive import UNREACHED, holder, unseen
from edge_node.local.client import Absence, UnansweredError, ask, likely_places
from edge_node.local.messages import Report, ReportRequest
from edge_node.settings import NodeSettings

__all__ = ["Presence", "look_for_node", "of_service"]

_LONG_S: Final = 300.0


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a node of this name runs on this machine."""

    report: Report | None = None
    """What it says; None: nobody has answered."""
    may_run: bool = False
    """Whether one runs, or may: then the doctor leaves its name alone."""
    problem: str | None = None
    """Why it has not answered, where it should have."""
    unseen: str | None = None
    """Why nobody can tell from here; None: it can be told."""


def look_for_node(settings: NodeSettings, environ: Mapping[str, str]) -> Presence:
    """Return who runs, by asking at the likely sockets, and by who holds the outbox."""
    problem, outbox = None, Path(settings.outbox.path)
    for place in likely_places(settings.socket, settings.identity, environ, outbox):
        try:
            answer = ask(place, ReportRequest())
        except UnansweredError as error:
            if error.absence is not Absence.NOBODY:
                problem = problem or str(error)
            continue
        if isinstance(answer, Report) and answer.node == str(settings.identity):
            return Presence(report=answer, may_run=True)
        problem = problem or _other(place, answer, settings.identity)
    lock = outbox.with_name(f"{outbox.name}.lock")
    if (pid := holder(lock)) is not None:
        who = f"process {pid}" if pid > 0 else "a process of another container"
        why = f"does not answer ({problem})" if problem else f"answers nowhere: {UNREACHED}"
        return Presence(may_run=True, problem=f"{who} has the outbox, and {why}")
    return Presence(may_run=problem is not None, problem=problem, unseen=unseen(outbox, lock))


def of_service(presence: Presence) -> Finding:
    """Return what can be said of the service itself."""
    report = presence.report
    if report is None and presence.problem is None:
        if presence.unseen is not None:
            words = f"no node is seen, but {presence.unseen}"
            advice = "if it was started before, call the doctor from the folder that it was started in"
            return warn(Stage.SERVICE, words, advice, running=False)
        return ok(Stage.SERVICE, "no node runs here; all that follows was looked at by the doctor", running=False)
    if report is None:
        advice = (
            "where it does not say otherwise, ask as root, and if that fails too, look at "
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


def _other(place: Path, answer: object, identity: NodeId) -> str | None:
    if isinstance(answer, Report):
        return None  # another node of this machine
    return f"{place}: {identity} refuses to report"


def _long(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

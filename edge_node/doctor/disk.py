"""The disk: whether the outbox can be written, and for how long; and what the node remembers."""

import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from edge_node.control.state import State
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, warn
from edge_node.local.messages import Report
from edge_node.settings import NodeSettings

__all__ = ["of_disk", "read_counters"]

_LEAST_FREE: Final = 20_000_000
_FREE_SHARE: Final = 1.5
"""Of [outbox] most_bytes: its file is larger by about a third."""
_FREE_IT: Final = "free the disk: the outbox cannot grow"


def of_disk(settings: NodeSettings, report: Report | None, *, may_write: bool) -> Finding:
    """Return whether the outbox can be written, and for how long.

    Args:
        settings: the node's.
        report: what the running node says; None: nobody has answered.
        may_write: whether to try it, with a file of the doctor's own, which is removed at once.
    """
    begins = Path() if report is None else Path(report.folder)
    path = begins / settings.outbox.path
    folder = _existing(path)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return fail(Stage.DISK, f"outbox.path {path}: {error.strerror}", "name a file on a disk that is there")
    facts: dict[str, Fact] = {"free_bytes": free, "path": str(path), **(_told(report) or read_counters(path) or {})}
    words = f"outbox {path}: {free / 1e6:,.0f} MB free"
    problem = (
        (_unwritable(path, folder) if may_write else None)
        or _refused(facts)
        or _forgotten(begins / settings.state_path)
    )
    if problem is not None:
        return fail(Stage.DISK, f"{words}; {problem[0]}", problem[1], **facts)
    if free < _LEAST_FREE:
        return fail(Stage.DISK, words, _FREE_IT, **facts)
    return _with_room(words, settings.outbox.most_bytes, facts)


def read_counters(path: Path) -> dict[str, Fact] | None:
    """Return the outbox's counters, never what it holds; None: they cannot be read without leaving something behind.

    Who reads a file that is being written to makes files beside it, which the node could not write: then nobody reads.
    """
    if not path.exists() or path.with_name(f"{path.name}-wal").exists():
        return None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            ((emitted, dropped),) = db.execute("SELECT emotion, dropped FROM counter").fetchall()
            ((waiting,),) = db.execute("SELECT count(*) FROM message WHERE state <> 1").fetchall()
    except (sqlite3.Error, ValueError):
        return None
    return {"emitted_events": emitted, "dropped_events": dropped, "waiting": waiting}


def _told(report: Report | None) -> dict[str, Fact] | None:
    if report is None or (telemetry := report.telemetry) is None:
        return None
    return {
        "emitted_events": telemetry.emitted,
        "dropped_events": telemetry.outbox_dropped,
        "waiting": telemetry.outbox_depth,
        "refused_events": telemetry.refused_events,
    }


def _with_room(words: str, most_bytes: int, facts: dict[str, Fact]) -> Finding:
    """Return what the room that there is, and what waits in it, mean."""
    free, waiting, dropped = (int(facts.get(name) or 0) for name in ("free_bytes", "waiting", "dropped_events"))
    if waiting:
        words = f"{words}, {waiting:,} messages wait"
    if free < _FREE_SHARE * most_bytes:
        advice = f"free the disk to {_FREE_SHARE * most_bytes / 1e6:,.0f} MB, or lower outbox.most_bytes"
        return warn(Stage.DISK, f"{words}, less than a full outbox takes", advice, **facts)
    if dropped:
        advice = "raise outbox.most_bytes and outbox.most_rows, or mend the way to the broker"
        return warn(Stage.DISK, f"{words}; {dropped:,} events were dropped because it was full", advice, **facts)
    return ok(Stage.DISK, words, **facts)


def _refused(facts: dict[str, Fact]) -> tuple[str, str] | None:
    if refused := facts.get("refused_events"):
        advice = "free the disk, or mount it for writing; then restart the node"
        return f"the disk refused {refused:,} events since the node began", advice
    return None


def _forgotten(path: Path) -> tuple[str, str] | None:
    """Return what is wrong with the file that says whether the node is muted; None: nothing, or it is not there."""
    try:
        msgspec.json.decode(path.read_bytes(), type=State)
    except (OSError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        return f"state_file {path}: {error.strerror}", "run the doctor as the node's user: sudo -u sottovoce ..."
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        advice = "mute the node or let it listen (`sottovoce-node mute`): that writes the file anew"
        return f"state_file {path}: {error}; the node is muted until somebody decides", advice
    return None


def _existing(path: Path) -> Path:
    """Return the folder of a file, or the nearest one above it that exists: the node makes the others."""
    return next((each for each in path.absolute().parents if each.exists()), Path("/"))


def _unwritable(path: Path, folder: Path) -> tuple[str, str] | None:
    """Return why this user cannot write the outbox, and what to do; None: it can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(bytes(4_096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = {
            errno.EROFS: "mount the disk for writing; one that became read-only by itself may be failing",
            errno.ENOSPC: "free the disk",
        }.get(
            error.errno or 0, "run the doctor as the node's user: sudo -u sottovoce ..., or change the folder's owner"
        )
        return error.strerror or str(error), advice
    if path.exists() and not os.access(path, os.W_OK):
        return "this user cannot write it", "run the doctor as the node's user: sudo -u sottovoce ..."
    return None

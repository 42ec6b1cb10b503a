"""`sottovoce-node retire`: takes back what the broker keeps of a node that is to be no more.

Its name stays free for another; what collectors have stored of it stays stored.
"""

import os
import queue
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from broker.connection import Acknowledged, Connection, Event, Failed, Lost, Opened
from broker.contract.errors import LinkError, SettingsError
from broker.contract.home_assistant import discovery_topic
from broker.contract.topics import STATUS, UPDATE
from broker.link import Link
from edge_node.doctor.who import look_for_node
from edge_node.exclusive import unseen
from edge_node.home_assistant import announced, forget_announced
from edge_node.settings import NodeSettings

__all__ = ["retire"]

_WAIT_S: Final = 15.0
_REFUSED: Final = 0x80


def retire(settings: NodeSettings, wait_s: float = _WAIT_S, *, unseen_too: bool = False) -> Iterator[str]:
    """Empty a node's retained topics, and yield what was done, a line for each.

    Args:
        settings: the node's.
        wait_s: how long to wait for the broker's answer to each, in s.
        unseen_too: whether to do it although nobody can tell from here if the node runs.

    Raises:
        SettingsError: the node runs, or may, or the broker's settings cannot be used.
        LinkError: the broker cannot be reached, or refuses what every node may do.
    """
    node, where = settings.identity, f"{settings.broker.host}:{settings.broker.port}"
    _check_stopped(settings, unseen_too=unseen_too)
    prefixes = announced(settings.outbox) | {settings.home_assistant.prefix}
    discovery = [discovery_topic(prefix).at(node) for prefix in sorted(prefixes)]
    # first Home Assistant's: it would complain of a status that its templates cannot read
    for topic, reason in _empty(settings, [*discovery, STATUS.at(node), UPDATE.at(node)], wait_s):
        if reason < _REFUSED:
            yield f"{topic}: nothing is retained there any more"
        elif topic in discovery:
            yield f"{topic}: the broker lets this node write nothing there (0x{reason:02x}), so it had told nobody"
        else:
            msg = f"broker {where}: refuses {topic} (0x{reason:02x}); is {str(node)!r} the name in its access rules?"
            raise LinkError(msg)
    forget_announced(settings.outbox)
    yield f"{node} is retired. Collectors keep what they have stored of it, and its certificate stays valid"


def _empty(settings: NodeSettings, topics: Sequence[str], wait_s: float) -> Iterator[tuple[str, int]]:
    """Publish nothing, retained, to each topic, and yield the reason in the broker's answer."""
    node = settings.identity
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    link = Link(settings.broker, f"{node.site}.{node.node}", events=events, session_expiry_s=0)
    link.start()
    try:
        connection: Connection | None = None
        for topic in topics:
            until_s, sent, reason = time.monotonic() + wait_s, None, None
            while reason is None:
                if connection is not None and sent is None:
                    sent = connection.publish(topic, b"", retain=True)
                match _next(events, until_s, settings):
                    case Opened(connection=connection):
                        sent = None
                    case Lost():
                        connection, sent = None, None
                    case Failed(error):
                        raise error
                    case Acknowledged(packet_id=packet_id, reason=answer) if packet_id == sent:
                        reason = answer
                    case _:
                        pass
            yield topic, reason
    finally:
        link.stop()


def _next(events: "queue.SimpleQueue[Event | None]", until_s: float, settings: NodeSettings) -> Event | None:
    try:
        return events.get(timeout=max(0.0, until_s - time.monotonic()))
    except queue.Empty:
        where = f"{settings.broker.host}:{settings.broker.port}"
        msg = f"broker {where}: no answer; nothing more was taken back, and it can be tried again at any time"
        raise LinkError(msg) from None


def _check_stopped(settings: NodeSettings, *, unseen_too: bool) -> None:
    """Refuse a node that runs: it would be thrown out, and say everything again.

    Raises:
        SettingsError: it does, or nobody can tell.
    """
    node, outbox = settings.identity, Path(settings.outbox.path)
    report = look_for_node(settings, os.environ).report
    if report is not None or _is_in_use(outbox):
        where = outbox if report is None else f"process {report.pid}"
        msg = f"{where}: the node {node} is running; stop it first, or it would say everything again"
        raise SettingsError(msg)
    if not unseen_too and (why := unseen(outbox, outbox.with_name(f"{outbox.name}.lock"))) is not None:
        msg = (
            f"node {node}: {why}, so it may be running; call this from the folder that it was started in, "
            "or see at the console that it is offline, and add --force"
        )
        raise SettingsError(msg)


def _is_in_use(outbox: Path) -> bool:
    """Return whether another program has the outbox open: SQLite gives it to nobody else alone."""
    if not outbox.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{outbox.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.rollback()
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    except (sqlite3.Error, ValueError):
        return False
    return False

"""The running node: its parts put together, from settings to goodbye.

capture -> model -> telling -> outbox -> publisher        this file's loop; the publisher has a thread of its own
broker  -> publisher -> announcement, orders, updates     on the publisher's thread
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from broker.connection import Event
from broker.contract.errors import SottovoceError
from broker.contract.home_assistant import describe
from broker.contract.messages import StatusReason
from edge_node.clock import WallClock
from edge_node.control.answers import Answers
from edge_node.control.mute import Mute
from edge_node.control.orders import Orders
from edge_node.control.state import StateFile
from edge_node.delivery.outbox import Outbox
from edge_node.delivery.publisher import Publisher
from edge_node.drafts import Drafts
from edge_node.home_assistant import Announcement
from edge_node.local.messages import Report
from edge_node.local.report import RecentWarnings, report_of_link
from edge_node.local.socket import open_local_socket
from edge_node.model import Model
from edge_node.parts import capture_of
from edge_node.settings import NodeSettings, UpdateSettings
from edge_node.supervisor import Supervisor, words_of
from edge_node.telemetry import Meter
from edge_node.telling import Telling

if TYPE_CHECKING:
    from edge_node.ota.service import Updates

__all__ = ["Node"]

P = TypeVar("P", bound="_Part")

_log = logging.getLogger(__name__)


class _Part(Protocol):
    def close(self) -> object: ...


class Node:
    """One node, from its settings to its goodbye."""

    def __init__(self, settings: NodeSettings) -> None:
        """Build the parts.

        Raises:
            SottovoceError: a part cannot be built; the message says which and why.
        """
        self._settings = settings
        self._began_s = time.monotonic()
        self._clock = WallClock(trusted=settings.clock.trust)
        self._drafts = Drafts(os.urandom(8).hex(), settings.deployment, self._clock)
        self._supervisor = Supervisor(os.environ)
        self._warnings = RecentWarnings()
        self._closing: list[Callable[[], object]] = []  # what is open, the last opened last
        try:
            self._build(settings)
        except SottovoceError:  # a microphone, a disk, a certificate: no model is to blame
            self._close()
            raise

    def _build(self, settings: NodeSettings) -> None:
        """Open what it takes to hear and to publish."""
        node, meter = settings.identity, Meter()
        outbox = self._opened(Outbox(settings.outbox, self._clock, alone=True))  # first: makes the folder for the rest
        outbox.belong_to(node)
        file = self._opened(StateFile(settings.state_path))
        self._mute = self._opened(Mute(settings.mute, file, self._clock))
        # early: what PortAudio lets go of memory, others use
        self._capture = capture_of(settings.source, self._mute.is_muted, self._mute.mutings)
        self._model = Model(settings, file)
        self._updates = None if settings.update is None else self._open_updates(settings.update)
        self._telling = Telling(
            node,
            self._drafts,
            meter,
            outbox=outbox,
            model=self._model,
            capture=self._capture,
            mute=self._mute,
        )
        self._orders = Orders(
            node,
            file=file,
            mute=self._mute,
            tuning=self._model.tuning,
            answers=Answers(self._drafts.boot_id, self._clock),
            clock=self._clock,
            others=None if self._updates is None else self._updates.hear,
        )
        document = describe(
            node,
            self._drafts.versions,
            takes_updates=self._updates is not None,
            telemetry_s=settings.telemetry.interval_s,
        )
        self._announcement = Announcement(settings.home_assistant, settings.outbox, document)
        reads = () if self._updates is None else self._updates.subscribe_to
        self._publisher = Publisher(
            node,
            settings.broker,
            Outbox(settings.outbox, self._clock),
            status=self._telling.status,
            meter=meter,
            subscribe_to=tuple(dict.fromkeys((*self._orders.subscribe_to, *self._announcement.subscribe_to, *reads))),
            hand_on=self._hear,
        )
        local = open_local_socket(
            settings.socket,
            node,
            os.environ,
            outbox=Path(settings.outbox.path),
            report=self._report,
            set_muted=lambda muted: self._mute.set(muted=muted),
        )
        if local is not None:
            self._opened(local)

    def run(self, stop: threading.Event) -> bool:
        """Listen until `stop` is set or the source ends; return whether everything was delivered.

        Raises:
            AudioError: the source cannot be used, and that will not mend itself.
            RuntimeError: the publisher or the updates have failed by a defect of their own.
        """
        logging.getLogger().addHandler(self._warnings)
        self._orders.start(self._publisher.say)
        self._announcement.start(self._publisher.say)
        self._publisher.start()
        if self._updates is not None:
            self._updates.start(self._publisher.say)
        self._supervisor.watch(self._publisher.thread, *(() if self._updates is None else (self._updates.thread,)))
        model = self._model.manifest.identity
        _log.info("%s listens to %s with model %s", self._settings.identity, self._capture.description, model)
        ended_well = False
        try:
            self._listen(stop)
            ended_well = True
        except SottovoceError:
            ended_well = True  # as far as the model is concerned
            raise
        finally:
            delivered = self._stop(ended_well=ended_well)
        return delivered

    def _listen(self, stop: threading.Event) -> None:
        """Take what capture yields, a block or a tick, until it ends or is to end."""
        self._tell()  # the first says where the counters stand
        due_ns = time.monotonic_ns()
        for block in self._capture.blocks(stop):
            for heard in () if block is None else self._model.hear(block):
                self._telling.events(heard, self._publisher.stored)
            if time.monotonic_ns() - due_ns >= self._settings.telemetry.interval_s * 1e9:
                due_ns = time.monotonic_ns()
                self._tell()
            self._supervisor.fed(block, self._capture.report())
        self._tell()

    def _tell(self) -> None:
        """Say how the node fares, to the broker and to systemd."""
        self._telling.telemetry(self._publisher.reconnects, self._publisher.stored)
        is_connected = self._publisher.link.connected_s is not None
        self._supervisor.say(words_of(self._telling.status(StatusReason.CHANGE), is_connected=is_connected))

    def _hear(self, event: Event) -> None:
        """Take what happens on the connection, on the publisher's thread."""
        if not self._announcement.hear(event):
            self._orders.hear(event)

    def _stop(self, *, ended_well: bool) -> bool:
        """End in order, and return whether everything was delivered."""
        self._supervisor.stopping()
        self._announcement.stop()
        if self._updates is not None:
            self._closing.remove(self._updates.stop)
            self._updates.stop(ended_well=ended_well)
        delivered = self._publisher.stop(self._settings.drain_s)
        logging.getLogger().removeHandler(self._warnings)
        self._close()
        return delivered

    def _open_updates(self, settings: UpdateSettings) -> "Updates":
        from edge_node.ota.service import Updates  # noqa: PLC0415 -- a node without updates holds none of it in memory
        from edge_node.ota.updater import Me  # noqa: PLC0415 -- likewise

        me = Me(
            node=self._settings.identity,
            boot_id=self._drafts.boot_id,
            floor=self._model.floor,
            litert=self._drafts.versions.litert,
            channel=settings.channel,
        )
        updates = Updates(settings, me, self._clock)
        self._closing.append(updates.stop)
        self._model.follow(updates)
        return updates

    def _report(self) -> Report:
        """Return how the node stands, for the doctor, on the socket's thread."""
        manifest = self._model.manifest
        return Report(
            node=str(self._settings.identity),
            pid=os.getpid(),
            folder=str(Path.cwd()),
            uptime_s=time.monotonic() - self._began_s,
            status=self._telling.status(StatusReason.CHANGE),
            capture=self._capture.report(),
            broker=report_of_link(self._publisher.link),
            hop_us=manifest.window.hop_samples * 1_000_000 // manifest.features.sample_rate_hz,
            telemetry=self._telling.last,
            update=None if self._updates is None else self._updates.report,
            remarks=self._warnings.remarks,
        )

    def _opened(self, part: P) -> P:
        self._closing.append(part.close)
        return part

    def _close(self) -> None:
        while self._closing:
            self._closing.pop()()

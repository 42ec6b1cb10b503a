"""Updates on a real node: a thread of its own for the `Updater`, child processes for what may go wrong.

    broker -> publisher's thread -> inbox -> updater's thread -> (children, disk)
    audio  -> pipeline's thread  -> trial, and `take` for the model that is to run from the next block on

The pipeline's thread never waits for anything in here.
"""

import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from broker.connection import Arrived, Event, Lost, Opened
from broker.contract.commands import Command
from broker.contract.errors import BundleError, MessageError
from broker.contract.messages import decode
from broker.contract.topics import CHUNK, METADATA, ROLLBACK, NodeTopic, every_command
from broker.contract.updates import UpdateReport
from edge_node.clock import WallClock
from edge_node.exclusive import hold
from edge_node.ota.device import Change, Device
from edge_node.ota.folder import Folder
from edge_node.ota.premises import check_paths
from edge_node.ota.record import Held
from edge_node.ota.updater import Me, Updater
from edge_node.pipeline import Heard
from edge_node.settings import UpdateSettings
from edge_node.sound.sources import Block
from edge_node.sparing import Sparing

__all__ = ["Updates"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_S: Final = 0.5
_MOST_WAITING: Final = 256
"""Of arrivals: a broker that keeps to the link's receive maximum never comes near it."""


class Updates:
    """A node's updates, and the model that follows from them."""

    def __init__(self, settings: UpdateSettings, me: Me, clock: WallClock) -> None:
        """Take up where the program left off; nothing is done before `start`.

        Raises:
            SettingsError: the anchor cannot be read, a path is none, a package is missing, or another node has the
                folder.
            StoreError: the folder cannot be used.
        """
        check_paths(settings)
        self._settings, self._node = settings, me.node
        self._folder = Folder(Path(settings.folder))
        self._lock = hold(Path(settings.folder) / ".lock", f"update.folder {settings.folder}")
        self._inbox: queue.SimpleQueue[Callable[[Updater], None] | None] = queue.SimpleQueue()
        self._waiting: dict[int, Arrived] = {}  # by the number of the arrival
        self._numbers = itertools.count()
        self._sparing = Sparing()
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._device = Device(settings, self._folder, clock, self._inbox.put, self._changes.put)
        self._updater = Updater(me, self._folder, self._device, self._device, self._device)
        self._runs: Held | None = None
        self._windows = 0
        self._ended_well = True
        self._defect: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    # --- for the pipeline's thread

    def choose(self, load: Callable[[bytes, str], T]) -> T | None:
        """Return the model to begin with, loaded; None: the one that the settings name.

        A slot whose model cannot be loaded is given up, and the one before is tried.
        """
        loaded = None
        while (held := self._updater.record.active) is not None:
            try:
                loaded = load(self._folder.read(held), held.release)
                break
            except BundleError as error:
                self._updater.unusable(held, str(error))
        self._runs = held
        self._updater.running(None if held is None else held.sha256)
        return loaded

    def heard(self, block: Block, heard: Sequence[Heard]) -> None:
        """Take a block, and what the model in use made of it.

        Raises:
            RuntimeError: the updates' thread ended by a defect of its own, which is the cause: nothing stops silently.
        """
        if self._defect is not None:
            msg = "the updates ended"
            raise RuntimeError(msg) from self._defect
        if (trial := self._device.trial) is not None:
            trial.feed(block, heard)
        if self._windows < self._settings.lasting_windows:
            self._windows += len(heard)
            if self._windows >= self._settings.lasting_windows:
                sha256 = None if self._runs is None else self._runs.sha256
                self._inbox.put(lambda updater: updater.lasted(sha256))

    def take(self) -> Change | None:
        """Return the model that is to run from the next block on; None: the one that runs."""
        try:
            return self._changes.get_nowait()
        except queue.Empty:
            return None

    def changed(self, held: Held | None) -> None:
        """Hear that the change was made."""
        self._runs, self._windows = held, 0
        self._inbox.put(lambda updater: updater.running(None if held is None else held.sha256))

    def unusable(self, held: Held, why: str) -> None:
        """Hear that the change could not be made."""
        self._inbox.put(lambda updater: updater.unusable(held, why))

    # --- for the publisher's thread, and whoever starts and stops

    @property
    def subscribe_to(self) -> tuple[str, ...]:
        """What this node reads."""
        return (METADATA.every, every_command(self._node))

    def hear(self, event: Event) -> None:
        """Take what happens on the node's connection; what cannot wait here is not acknowledged."""
        if not isinstance(event, Arrived):
            if isinstance(event, Lost):  # the broker sends again what was not acknowledged
                self._waiting.clear()
            self._inbox.put(lambda updater: self._take(updater, event))
        elif len(self._waiting) < _MOST_WAITING:
            number = next(self._numbers)
            self._waiting[number] = event
            self._inbox.put(lambda updater: self._take_arrival(updater, number))

    @property
    def thread(self) -> threading.Thread:
        """The updates' own: while the program runs, it does not end."""
        return self._thread

    @property
    def report(self) -> UpdateReport | None:
        """What was said last; None: nothing yet."""
        return self._device.reported

    def start(self, publish: Callable[[NodeTopic, msgspec.Struct], None]) -> None:
        """Begin; `publish` takes what is to be said."""
        self._device.publish = publish
        self._thread.start()

    def stop(self, *, ended_well: bool = True) -> None:
        """End: what is under way goes on at the next start.

        Args:
            ended_well: whether this start of the program is held against no model.
        """
        self._ended_well = ended_well
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        elif ended_well:
            self._updater.stop()
        if self._lock is not None:
            os.close(self._lock)

    # --- the updates' own thread

    def _run(self) -> None:
        updater = self._updater
        try:
            updater.begin()
            while True:
                due_s = updater.due_s
                wait_s = _TICK_S if due_s is None else min(_TICK_S, max(0.0, due_s - time.monotonic()))
                with contextlib.suppress(queue.Empty):
                    if (told := self._inbox.get(timeout=wait_s)) is None:
                        break
                    told(updater)
                updater.tick()
                self._device.look_at_trial()
            if self._ended_well:
                updater.stop()
        except Exception as error:  # noqa: BLE001 -- a defect of ours: the pipeline's next `heard` raises it
            self._defect = error
        finally:
            self._device.cancel()

    def _take(self, updater: Updater, event: Event) -> None:
        match event:
            case Opened(connection):
                self._device.connection = connection
                updater.opened()
            case Lost():
                self._device.connection = None
            case _:
                pass

    def _take_arrival(self, updater: Updater, number: int) -> None:
        if (event := self._waiting.get(number)) is not None:
            self._arrived(updater, event)
            event.connection.acknowledge(event.packet_id)
            self._waiting.pop(number, None)

    def _arrived(self, updater: Updater, event: Arrived) -> None:
        if (name := METADATA.name_in(event.topic)) is not None:
            updater.metadata(name, event.payload)
        elif (digest := CHUNK.name_in(event.topic)) is not None:
            updater.chunk(digest, event.payload)
        elif event.topic == ROLLBACK.at(self._node):
            try:
                updater.command(decode(event.payload, Command, ROLLBACK.largest_bytes))
            except MessageError as error:
                self._sparing.warn("command", f"{event.topic}: {error}")

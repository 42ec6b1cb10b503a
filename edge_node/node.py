"""The running node: source, pipeline, outbox and publisher put together."""

import importlib.metadata
import logging
import os
import platform
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from broker.contract.bundle import Manifest, read_bundle
from broker.contract.errors import BundleError, SottovoceError, StoreError
from broker.contract.messages import (
    EmotionEvent,
    NodeStatus,
    Stage,
    StatusReason,
    Telemetry,
    Versions,
)
from broker.contract.topics import EMOTION, TELEMETRY
from edge_node.classifier import litert_version, verify
from edge_node.microphone import Microphone
from edge_node.models import factory_bundle
from edge_node.outbox import Outbox
from edge_node.pipeline import Heard, Pipeline
from edge_node.publisher import Publisher
from edge_node.replay import Replay
from edge_node.settings import NodeSettings, SourceSettings, UpdateSettings
from edge_node.sources import Block, Source
from edge_node.telemetry import Meter, clock_synced, rss_bytes, temperature_c

if TYPE_CHECKING:
    from edge_node.ota.service import Updates

__all__ = ["Node", "load_pipeline", "open_source"]

_log = logging.getLogger(__name__)

Loaded = tuple[Manifest, Pipeline]


class Node:
    """One node, from its settings to its goodbye."""

    def __init__(self, settings: NodeSettings) -> None:
        """Build the parts.

        Raises:
            SottovoceError: a part cannot be built; the message says which and why.
        """
        self._settings = settings
        self._boot_id = os.urandom(8).hex()
        self._versions = Versions(  # of what runs, read once: an upgrade may replace the files below us
            sottovoce=importlib.metadata.version("sottovoce"),
            python=platform.python_version(),
            litert=litert_version(),
        )
        self._floor = load_pipeline(settings.bundle)
        self._updates = None if settings.update is None else self._open_updates(settings.update)
        self._meter = Meter()
        try:
            self._build(settings)
        except SottovoceError:  # a microphone, a disk, a certificate: the model has no part in it
            if self._updates is not None:
                self._updates.stop()
            raise
        self._told_of_refusal = False

    def _build(self, settings: NodeSettings) -> None:
        """Choose the model, and open what it takes to hear and to publish."""
        chosen = None if self._updates is None else self._updates.choose(_pipeline_of)
        self._manifest, self._pipeline = chosen or self._floor
        self._source = open_source(settings.source)
        self._outbox = Outbox(settings.outbox)
        self._outbox.belong_to(settings.identity)
        self._publisher = Publisher(
            settings.identity,
            settings.broker,
            settings.outbox,
            status=self._status,
            meter=self._meter,
            subscribe_to=() if self._updates is None else self._updates.subscribe_to,
            hand_on=None if self._updates is None else self._updates.hear,
        )

    def run(self, stop: threading.Event) -> bool:
        """Listen until `stop` is set or the source ends; return whether everything was delivered.

        Raises:
            AudioError: the source has failed.
            RuntimeError: the publisher has failed by a defect of its own.
        """
        self._publisher.start()
        if self._updates is not None:
            self._updates.start(self._publisher.say)
        _log.info("%s listens to %s with model %s", self._settings.identity, self._source.description, self._model)
        ended_well = False
        try:
            self._report()  # the first says where the counters stand
            due_ns = time.monotonic_ns()
            for block in self._source.blocks(stop):
                heard = list(self._pipeline.hear(block))
                for each in heard:
                    self._note(each)
                if self._updates is not None:
                    self._update(self._updates, block, heard)
                if time.monotonic_ns() - due_ns >= self._settings.telemetry.interval_s * 1e9:
                    due_ns = time.monotonic_ns()
                    self._report()
            self._report()
            ended_well = True
        except SottovoceError:
            ended_well = True  # as far as the model is concerned
            raise
        finally:
            if self._updates is not None:
                self._updates.stop(ended_well=ended_well)
            delivered = self._publisher.stop(self._settings.drain_s)
            self._outbox.close()
        return delivered

    def _open_updates(self, settings: UpdateSettings) -> "Updates":
        from edge_node.ota.service import Updates  # noqa: PLC0415 -- a node without updates holds none of it in memory
        from edge_node.ota.updater import Me  # noqa: PLC0415 -- likewise

        me = Me(
            node=self._settings.identity,
            boot_id=self._boot_id,
            floor=self._floor[0].identity,
            litert=self._versions.litert,
            channel=settings.channel,
        )
        return Updates(settings, me)

    def _update(self, updates: "Updates", block: Block, heard: list[Heard]) -> None:
        """Let updates hear what the model in use made of a block, and change to another model if one is to run."""
        updates.heard(block, heard)
        if (change := updates.take()) is None:
            return
        if change.held is None or change.data is None:
            self._manifest, self._pipeline = self._floor
            self._pipeline.forget()
        else:
            try:
                self._manifest, self._pipeline = _pipeline_of(change.data, change.held.release)
            except BundleError as error:
                updates.unusable(change.held, str(error))
                return
        updates.changed(change.held)
        _log.info("model %s runs from now on", self._model)

    @property
    def _model(self) -> str:
        return self._manifest.identity

    def _note(self, heard: Heard) -> None:
        """Count a window, and put its event into the outbox if it is worth one."""
        if heard.decision is None or heard.latency_us is None:
            self._meter.decided(None)
            return
        decision, latency = heard.decision, heard.latency_us
        self._meter.decided(decision.label)
        for stage in (Stage.CAPTURE, Stage.RESAMPLE, Stage.FEATURES, Stage.INFERENCE, Stage.DECISION, Stage.TOTAL):
            self._meter.took(stage, getattr(latency, stage.value))
        _log.debug("%.1f s: %s %.2f", heard.end_s, decision.label, decision.confidence)
        if heard.is_event and not self._put_event(heard):
            self._meter.refused_events += 1

    def _put_event(self, heard: Heard) -> bool:
        def draft(seq: int) -> EmotionEvent:
            assert heard.decision is not None  # noqa: S101 -- an event has a decision; for the type checker
            assert heard.latency_us is not None  # noqa: S101 -- likewise
            return EmotionEvent(
                boot_id=self._boot_id,
                seq=seq,
                time_us=time.time_ns() // 1000,
                mono_us=heard.decided_ns // 1000,
                clock_synced=clock_synced(),
                label=heard.decision.label,
                confidence=heard.decision.confidence,
                model=self._model,
                latency_us=heard.latency_us,
            )

        try:
            self._publisher.stored(self._outbox.put(EMOTION, self._settings.identity, draft))
        except StoreError as error:
            self._tell_of_refusal(error)
            return False
        self._told_of_refusal = False
        return True

    def _report(self) -> None:
        """Put a telemetry message into the outbox."""

        def draft(seq: int) -> Telemetry:
            return Telemetry(
                boot_id=self._boot_id,
                seq=seq,
                time_us=time.time_ns() // 1000,
                outbox_id=counters.outbox_id,
                mono_us=time.monotonic_ns() // 1000,
                clock_synced=clock_synced(),
                interval_us=reading.interval_us,
                windows=reading.windows,
                silent_windows=reading.silent_windows,
                latency_us=reading.latency_us,
                emitted=counters.emitted,
                outbox_dropped=counters.dropped,
                outbox_depth=counters.depth,
                outbox_age_us=counters.age_us,
                refused_events=self._meter.refused_events,
                dropped_blocks=self._source.dropped_blocks,
                reconnects=self._publisher.reconnects,
                rss_bytes=rss_bytes(),
                cpu_share=reading.cpu_share,
                temperature_c=temperature_c(),
            )

        try:
            counters = self._outbox.counters()
            reading = self._meter.read()
            self._publisher.stored(self._outbox.put(TELEMETRY, self._settings.identity, draft))
        except StoreError as error:
            self._tell_of_refusal(error)

    def _tell_of_refusal(self, error: StoreError) -> None:
        if not self._told_of_refusal:  # said once; telemetry counts the rest
            self._told_of_refusal = True
            _log.error("%s; events are lost until then", error)

    def _status(self, reason: StatusReason) -> NodeStatus:
        return NodeStatus(
            boot_id=self._boot_id,
            time_us=time.time_ns() // 1000,
            online=reason in {StatusReason.BIRTH, StatusReason.CHANGE},
            reason=reason,
            versions=self._versions,
            model=self._model,
            context=self._settings.deployment.context,
            employees_present=self._settings.deployment.employees_present,
            exemption=self._settings.deployment.exempted,
            notice_acknowledged=self._settings.deployment.notice_acknowledged,
            source=self._source.description,
            muted=False,
            clock_synced=clock_synced(),
        )


def load_pipeline(bundle_path: str | None) -> Loaded:
    """Return a pipeline around a model that has proved itself on its golden vectors.

    Raises:
        BundleError: the file cannot be read, or is no bundle, or does not run rightly here.
    """
    where = bundle_path or "the factory model"
    try:
        data = factory_bundle() if bundle_path is None else Path(bundle_path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        msg = f"{where}: {getattr(error, 'strerror', error)}; name a model bundle"
        raise BundleError(msg) from error
    return _pipeline_of(data, where)


def _pipeline_of(data: bytes, where: str) -> Loaded:
    bundle = read_bundle(data, where)
    return bundle.manifest, Pipeline(bundle.manifest, verify(bundle, where))


def open_source(settings: SourceSettings) -> Source:
    """Return the source that the settings name.

    Raises:
        AudioError: there is no such microphone or recording.
    """
    if settings.kind == "microphone":
        return Microphone(settings.device, settings.channel or 1)
    paths = [Path(each) for each in settings.paths]
    return Replay(
        paths,
        name=settings.name,
        repeat=settings.repeat,
        real_time=settings.real_time,
        channel=settings.channel,
    )

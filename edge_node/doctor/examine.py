"""The whole examination: whoever knows best is asked, stage by stage."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge_node.clock import WallClock
from edge_node.doctor import broker, certificates, disk, machine, running, sound, statement
from edge_node.doctor.finding import Diagnosis, Finding, Stage, diagnose, skip
from edge_node.doctor.gate import try_gate
from edge_node.doctor.model import try_model
from edge_node.doctor.stillness import muted_by
from edge_node.doctor.who import Presence, look_for_node, of_service
from edge_node.local.messages import Report
from edge_node.settings import NodeSettings

__all__ = ["Examined", "examine"]

_UNASKED = "a node runs, and does not answer: it is left alone"


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and from what."""

    diagnosis: Diagnosis
    settings: NodeSettings | None
    report: Report | None


def examine(config: Path, environ: Mapping[str, str]) -> Examined:
    """Return what is to be said of a node.

    Args:
        config: its settings file.
        environ: the environment, as the node would have it.
    """
    settings, findings = statement.read(config)
    now_us = time.time_ns() // 1000
    if settings is None:
        return Examined(diagnosis=diagnose(None, now_us, findings), settings=None, report=None)
    presence = look_for_node(settings, environ)
    findings += [statement.of_law(settings), of_service(presence)]
    findings += _of_node(settings, presence)
    findings.append(disk.of_disk(settings, presence.report, may_write=not presence.may_run))
    findings.append(machine.of_machine(presence.report))
    findings.append(certificates.examine(settings.broker, str(settings.identity), datetime.now(UTC)))
    findings += broker.reach(settings.broker)
    findings += _of_connection(settings, presence, findings)
    diagnosis = diagnose(str(settings.identity), now_us, findings)
    return Examined(diagnosis=diagnosis, settings=settings, report=presence.report)


def _of_node(settings: NodeSettings, presence: Presence) -> list[Finding]:
    """Return what concerns sound, model and clock."""
    if (report := presence.report) is not None:
        told = (running.sound_told, running.model_told, running.gate_told, running.clock_told)
        return [each(report) for each in told]
    clock = WallClock(trusted=settings.clock.trust)
    heard = skip(Stage.SOUND, _UNASKED) if presence.may_run else sound.listen(settings, muted_by(settings, clock))
    return [heard, try_model(settings), try_gate(settings), machine.of_clock(clock, time.time())]


def _of_connection(settings: NodeSettings, presence: Presence, so_far: list[Finding]) -> list[Finding]:
    """Return how MQTT goes, by whoever has the name."""
    if (report := presence.report) is not None:
        return [running.mqtt_told(report), running.publish_told(report)]
    if presence.may_run:
        return [skip(stage, _UNASKED) for stage in (Stage.MQTT, Stage.PUBLISH)]
    failed = {each.stage for each in so_far if each.verdict == "fail"}
    if failed & {Stage.NAME, Stage.TCP, Stage.TLS}:
        return [skip(stage, "not tried: the stage before failed") for stage in (Stage.MQTT, Stage.PUBLISH)]
    return broker.connect_as_node(settings.broker, settings.identity)

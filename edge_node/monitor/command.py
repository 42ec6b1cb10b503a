"""`sottovoce-node monitor` on the command line."""

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import msgspec

from broker.contract.bundle import Manifest
from broker.contract.condition import MuteSource, Thresholds
from broker.contract.errors import AudioError
from broker.contract.topics import NodeId
from broker.settings import read_settings
from edge_node.clock import WallClock
from edge_node.doctor.stillness import muted_by, read_state
from edge_node.doctor.who import look_for_node
from edge_node.local.client import UnansweredError, ask, likely_places
from edge_node.local.messages import Report, ReportRequest
from edge_node.monitor.lines import line_of
from edge_node.monitor.view import View, after_block, after_tick
from edge_node.noise import without_noise
from edge_node.parts import Loaded, load_pipeline
from edge_node.pipeline import Heard, Pipeline
from edge_node.settings import NodeSettings, SourceSettings
from edge_node.sound.gate import Gate, GateSettings
from edge_node.sound.once import open_once
from edge_node.sound.sources import Source, SourceError

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["run", "watch"]

_FRAME_S: Final = 0.1
_LITTLE_S: Final = 1e-6
"""Sums of blocks are not exact."""
_WAYS_OUT: Final = {
    MuteSource.COMMAND: "`sottovoce-node mute --config ... --off` opens it",
    MuteSource.BUTTON: "turn its switch, or push its button",
    MuteSource.QUIET_HOURS: "it opens when they end",
    MuteSource.UNREADABLE: "`sottovoce-node doctor --config ...` says what to do",
}
Show = Callable[[View, list[Heard]], None]


def run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    """Show what is heard until `stop` is set, the source ends, or the time is over.

    Raises:
        AudioError: the source cannot be used, or is muted.
        BundleError: the model cannot be used.
        SettingsError: the settings cannot be used.
    """
    config: Path | None = arguments.config
    settings = None if config is None else read_settings(config, NodeSettings)
    report = _running(settings)
    chosen = _source_settings(arguments, settings)
    if chosen.kind == "microphone":
        _refuse_muted(settings, report)
    manifest, pipeline = _load(arguments.bundle, settings, report)
    try:
        source = open_once(chosen)
        with _shown(source, manifest, is_plain=arguments.plain or not sys.stdout.isatty()) as show:
            watch(source, pipeline, stop, arguments.seconds, show)
    except SourceError as error:
        if report is None:
            raise
        msg = (
            f"{error}. The node's service runs (process {report.pid}) and listens to {report.status.source}: "
            "stop it for as long (sudo systemctl stop sottovoce-node), or see what it says: sottovoce-node doctor"
        )
        raise AudioError(msg) from error
    return 0


def watch(source: Source, pipeline: Pipeline, stop: threading.Event, seconds: float | None, show: Show) -> View:
    """Hear until `stop` is set, the source ends or the time is over; return the last view.

    Args:
        source: what is listened to.
        pipeline: what makes something of it.
        stop: ends it.
        seconds: of sound, or of waiting for it; None: no end.
        show: is given each view, and the windows that are new in it.

    Raises:
        AudioError: the source has failed.
    """
    view, began_s = View(), time.monotonic()
    with contextlib.closing(source.blocks(stop)) as blocks:
        for block in blocks:
            if block is None:
                view, heard = after_tick(view, time.monotonic()), []
            else:
                heard = list(pipeline.hear(block))
                view = after_block(view, block, heard)
            show(view, heard)
            past_s = time.monotonic() - began_s if block is None else view.audio_s
            if seconds is not None and past_s >= seconds - _LITTLE_S:
                break
    return view


@contextlib.contextmanager
def _shown(source: Source, manifest: Manifest, *, is_plain: bool) -> Iterator[Show]:
    """Give what shows a view: on the screen, ten times a second at most, or as lines."""
    if not is_plain:
        with contextlib.suppress(ImportError):
            from rich.console import Console  # noqa: PLC0415 -- for people only
            from rich.live import Live  # noqa: PLC0415 -- likewise

            with Live(console=Console(), auto_refresh=False) as live:
                yield _screen(live, source, manifest)
            return
    yield lambda view, heard: _print(sys.stdout, source, view, heard)


def _screen(live: "Live", source: Source, manifest: Manifest) -> Show:
    from edge_node.monitor.screen import Scene, draw  # noqa: PLC0415 -- likewise

    rate_hz = manifest.features.sample_rate_hz
    scene = Scene(
        source=source.description,
        model=manifest.identity,
        window_s=manifest.window.length_samples / rate_hz,
        hop_s=manifest.window.hop_samples / rate_hz,
    )
    drawn_s = 0.0

    def show(view: View, heard: list[Heard]) -> None:
        nonlocal drawn_s
        del heard
        now_s = time.monotonic()
        if now_s - drawn_s >= _FRAME_S:
            drawn_s = now_s
            live.update(draw(scene, view, source.dropped_blocks, now_s), refresh=True)

    return show


def _print(out: TextIO, source: Source, view: View, heard: list[Heard]) -> None:
    out.writelines(f"{line_of(view, each, source.dropped_blocks)}\n" for each in heard)
    if heard:
        out.flush()


def _load(bundle: str | None, settings: NodeSettings | None, report: Report | None) -> Loaded:
    """Return the pipeline, with the gate and the thresholds of the node, where there is one."""
    gating = GateSettings() if settings is None else settings.gate
    gate = Gate(gating) if gating.enabled else None
    with without_noise():
        manifest, pipeline = load_pipeline(bundle or (None if settings is None else settings.bundle), gate)
    if report is not None and report.status.thresholds is not None:
        pipeline.tune(report.status.thresholds)
    elif settings is not None:
        said = settings.decision.uncertain_below
        uncertain_below = manifest.decision.uncertain_below if said is None else said
        ground = Thresholds(uncertain_below=uncertain_below, speech_above=gating.speech_above)
        state = read_state(settings.state_path)
        pipeline.tune(ground if state is None else state.thresholds(ground))
    return manifest, pipeline


def _source_settings(arguments: argparse.Namespace, settings: NodeSettings | None) -> SourceSettings:
    """Return the settings' source, with what the arguments change in it."""
    chosen = SourceSettings() if settings is None else settings.source
    device: str | None = arguments.device
    if device is not None:
        number = int(device) if device.isdecimal() else device
        chosen = msgspec.structs.replace(chosen, kind="microphone", device=number)
    if arguments.channel is not None:
        chosen = msgspec.structs.replace(chosen, channel=arguments.channel)
    return chosen


def _running(settings: NodeSettings | None) -> Report | None:
    """Return what the node of this machine says, if one runs and answers."""
    if settings is not None:
        return look_for_node(settings, os.environ).report
    for place in likely_places(None, NodeId("any", "any"), {}):
        with contextlib.suppress(UnansweredError):
            answer = ask(place, ReportRequest())
            return answer if isinstance(answer, Report) else None
    return None


def _refuse_muted(settings: NodeSettings | None, report: Report | None) -> None:
    """Refuse to open a microphone that somebody has closed.

    Raises:
        AudioError: somebody has.
    """
    if report is not None:
        muted = " and ".join(report.status.muted_by) if report.status.muted else None
    else:
        muted = None if settings is None else muted_by(settings, WallClock(trusted=settings.clock.trust))
    if muted is not None:
        ways = "; ".join(_WAYS_OUT[MuteSource(each)] for each in muted.split(" and "))
        msg = f"the node is muted by {muted}, so its microphone stays closed; {ways}"
        raise AudioError(msg)

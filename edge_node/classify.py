"""A recording to a timeline of labels, through the very pipeline that a node runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from broker.contract.condition import Quantiles
from broker.contract.decision import CLASSES, Label
from broker.contract.messages import Stage
from edge_node.noise import without_noise
from edge_node.parts import load_pipeline
from edge_node.pipeline import Heard
from edge_node.sound.gate import Gate, GateSettings
from edge_node.sound.replay import read_recording
from edge_node.sound.sources import Block
from edge_node.telemetry import quantiles

__all__ = ["Timeline", "as_json", "as_text", "classify"]

_STAGES = (Stage.RESAMPLE, Stage.GATE, Stage.FEATURES, Stage.INFERENCE, Stage.DECISION)
_BLOCK_S = 0.1


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a node would have made of a recording."""

    file: str
    model: str
    window_s: float
    hop_s: float
    heard: tuple[Heard, ...]
    """One per window; at least one."""

    def latency_us(self) -> dict[Stage, Quantiles]:
        """Return what each stage took, in µs; empty when all was silence."""
        spoken = [each.latency_us for each in self.heard if each.latency_us is not None]
        return {stage: quantiles([getattr(each, stage.value) for each in spoken]) for stage in _STAGES if spoken}

    def shares(self) -> dict[str, float]:
        """Return the share of the windows that each label has, and `silence` and `no speech`."""
        labels = [_words(each) for each in self.heard]
        return {name: labels.count(name) / len(labels) for name in (*Label, "silence", "no speech")}


def classify(file: Path, bundle_path: str | None, channel: int | None) -> Timeline:
    """Return the timeline of one recording. One shorter than a window is padded with silence to one window.

    Raises:
        AudioError: the recording cannot be used.
        BundleError: the model cannot be used.
        SettingsError: the speech gate cannot be used.
    """
    samples, rate_hz = read_recording(file, channel)
    with without_noise():
        manifest, pipeline = load_pipeline(bundle_path, Gate(GateSettings()))
    length_s = manifest.window.length_samples / manifest.features.sample_rate_hz
    wanted_s = max(length_s, len(samples) / rate_hz)
    # a resampler holds a little back at the end: half a second of silence pushes the last window out of it
    padded = np.pad(samples, (0, int((wanted_s + 0.5) * rate_hz) - len(samples)))
    everything = (each for block in _blocks(padded, rate_hz) for each in pipeline.hear(block))
    heard = [each for each in everything if each.end_s <= wanted_s + 1e-6]
    return Timeline(
        file=str(file),
        model=manifest.identity,
        window_s=length_s,
        hop_s=manifest.window.hop_samples / manifest.features.sample_rate_hz,
        heard=tuple(heard),
    )


def as_json(timeline: Timeline) -> dict[str, Any]:
    """Return the timeline as one JSON object."""
    return {
        "file": timeline.file,
        "model": timeline.model,
        "window_s": timeline.window_s,
        "hop_s": timeline.hop_s,
        "windows": [
            {
                "start_s": round(each.end_s - timeline.window_s, 3),
                "end_s": round(each.end_s, 3),
                "label": None if each.decision is None else each.decision.label.value,
                "confidence": None if each.decision is None else round(each.decision.confidence, 4),
                "probabilities": None
                if each.probabilities is None
                else {name.value: round(p, 4) for name, p in zip(CLASSES, each.probabilities, strict=True)},
                "speech": None if each.speech is None else round(each.speech, 4),
                "level_dbfs": round(each.level_dbfs, 1) if np.isfinite(each.level_dbfs) else None,
                "latency_us": None
                if each.latency_us is None
                else {stage.value: getattr(each.latency_us, stage.value) for stage in _STAGES},
            }
            for each in timeline.heard
        ],
        "shares": {name: round(share, 4) for name, share in timeline.shares().items()},
        "latency_us": {stage.value: msgspec.to_builtins(each) for stage, each in timeline.latency_us().items()},
    }


def as_text(timeline: Timeline) -> str:
    """Return the timeline as a table for people."""
    lines = [f"{timeline.file}: model {timeline.model}, {timeline.window_s:g} s windows every {timeline.hop_s:g} s", ""]
    lines.append(f"{'window':>15}  {'label':<10}  {'confidence':<17}  {'gate':>8}  {'features':>8}  {'inference':>9}")
    for each in timeline.heard:
        window = f"{each.end_s - timeline.window_s:6.1f} - {each.end_s:5.1f} s"
        if each.decision is None or each.latency_us is None:
            speech = "" if each.speech is None else f", speech {each.speech:.2f}"
            lines.append(f"{window:>15}  {_words(each):<10}  {each.level_dbfs:.0f} dBFS{speech}")
            continue
        bar = "█" * round(each.decision.confidence * 12)
        parts = each.latency_us
        times = f"{parts.gate:5d} µs  {parts.features:5d} µs  {parts.inference:6d} µs"
        lines.append(f"{window:>15}  {each.decision.label:<10}  {bar:<12} {each.decision.confidence:.2f}  {times}")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in timeline.shares().items() if share)
    lines += ["", f"labels: {shares}"]
    for stage, took in timeline.latency_us().items():
        lines.append(f"{stage:>10}: median {took.p50} µs, 95 % within {took.p95} µs")
    return "\n".join(lines) + "\n"


def _words(heard: Heard) -> str:
    """Return what became of a window: its label, or why it has none."""
    if heard.decision is None:
        return "no speech" if heard.gated else "silence"
    return heard.decision.label.value


def _blocks(samples: np.ndarray, rate_hz: int) -> Iterator[Block]:
    length = int(_BLOCK_S * rate_hz)
    for start in range(0, len(samples), length):
        part = samples[start : start + length]
        end_ns = (start + len(part)) * 1_000_000_000 // rate_hz
        yield Block(samples=part, rate_hz=rate_hz, captured_ns=end_ns)

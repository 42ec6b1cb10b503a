"""Whether the model runs here: its golden vectors, and what a window takes against the time there is for it."""

import statistics
import time
from pathlib import Path
from typing import Final

import numpy as np

from broker.contract.bundle import read_bundle
from broker.contract.errors import BundleError, SettingsError
from broker.contract.features import extract
from broker.contract.windows import Window
from edge_node.classifier import verify
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, warn
from edge_node.models import factory_bundle
from edge_node.noise import without_noise
from edge_node.settings import NodeSettings
from edge_node.sound.gate import Gate

__all__ = ["try_model", "weigh"]

_RUNS: Final = 7
_NOISE_DBFS: Final = -20.0
_TOO_MUCH: Final = 0.8
_MUCH: Final = 0.4
_FASTER: Final = "choose a model with a longer hop or a smaller one, or end other programs"


def try_model(settings: NodeSettings) -> Finding:
    """Return how the model that the settings name does; a released one is examined by the update itself."""
    where = settings.bundle or "the factory model"
    began_s = time.monotonic()
    try:
        data = factory_bundle() if settings.bundle is None else Path(settings.bundle).read_bytes()
        bundle = read_bundle(data, where)
        with without_noise():
            classifier = verify(bundle, where)
    except (OSError, ValueError) as error:
        why = f"{where}: {getattr(error, 'strerror', None) or error}"
        return fail(Stage.MODEL, why, "name a model bundle in the settings (bundle), or leave it out")
    except BundleError as error:
        return fail(
            Stage.MODEL, str(error), "fetch the bundle again, or leave `bundle` out: the factory model then runs"
        )
    load_s = time.monotonic() - began_s
    manifest = bundle.manifest
    noise = (0.1 * np.random.default_rng(0).standard_normal(manifest.window.length_samples)).astype(np.float32)
    took_ms = []
    gate = _gate_of(settings, manifest.features.sample_rate_hz)
    for run in range(_RUNS):
        end_sample = len(noise) + run * manifest.window.hop_samples
        window = Window(samples=noise, end_sample=end_sample, captured_ns=0, level_dbfs=_NOISE_DBFS)
        began_ns = time.perf_counter_ns()
        if gate is not None:
            gate.hear(window)
        classifier.run(extract(noise, manifest.features, manifest.normalisation))
        took_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    hop_ms = manifest.window.hop_samples / manifest.features.sample_rate_hz * 1_000
    words = f"{manifest.identity}: answers its golden vectors"
    return weigh(words, statistics.median(took_ms), hop_ms, load_s=round(load_s, 3))


def _gate_of(settings: NodeSettings, rate_hz: int) -> Gate | None:
    """Return the gate that windows pass; None: there is none, or it cannot be loaded, which another stage says."""
    if not settings.gate.enabled:
        return None
    try:
        gate = Gate(settings.gate)
    except SettingsError:
        return None
    gate.restart(rate_hz)
    return gate


def weigh(words: str, window_ms: float, hop_ms: float, **facts: Fact) -> Finding:
    """Return what a window's time means.

    Args:
        words: what is well so far.
        window_ms: time of one window: gate, features and inference.
        hop_ms: time between two windows.
        facts: more figures.
    """
    facts |= {"window_ms": round(window_ms, 2), "hop_ms": round(hop_ms, 1)}
    words = f"{words}; a window takes {window_ms:.1f} of the {hop_ms:.0f} ms that there are"
    if window_ms > _TOO_MUCH * hop_ms:
        return fail(Stage.MODEL, f"{words}: this machine cannot keep up", _FASTER, **facts)
    if window_ms > _MUCH * hop_ms:
        return warn(Stage.MODEL, f"{words}: that is a lot", _FASTER, **facts)
    return ok(Stage.MODEL, words, **facts)

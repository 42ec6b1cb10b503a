"""Whether the speech gate can be loaded, and what it takes."""

import time

import numpy as np

from broker.contract.errors import SettingsError
from broker.contract.windows import Window
from edge_node.doctor.finding import Finding, Stage, fail, ok
from edge_node.settings import NodeSettings
from edge_node.sound.gate import Gate

__all__ = ["try_gate"]

_RATE_HZ = 16_000


def try_gate(settings: NodeSettings) -> Finding:
    """Return whether the node could tell speech from other sounds."""
    if not settings.gate.enabled:
        return ok(Stage.GATE, "off, by the settings: music and engines are classified, too")
    try:
        gate = Gate(settings.gate)
    except SettingsError as error:
        return fail(Stage.GATE, str(error), "pip install 'sottovoce[node]', or set [gate] enabled = false")
    gate.restart(_RATE_HZ)
    noise = (0.05 * np.random.default_rng(0).standard_normal(_RATE_HZ)).astype(np.float32)
    window = Window(samples=noise, end_sample=len(noise), captured_ns=0, level_dbfs=-26.0)
    began_ns = time.perf_counter_ns()
    speech = gate.hear(window)
    took_ms = (time.perf_counter_ns() - began_ns) / 1e6
    words = f"speech above {settings.gate.speech_above:g}; a second of noise is speech with probability {speech:.2f}"
    return ok(
        Stage.GATE, f"{words}, found out in {took_ms:.0f} ms", second_ms=round(took_ms, 1), noise=round(speech, 3)
    )

"""What a window costs on this machine: our MFCC against librosa's, and MFCC plus inference of the factory model.

    python tests/benchmarks/bench_node.py

Times are of one thread. The minimum is what the code takes, the median what the machine gave; trust the ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: both sides get one thread
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"

import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np

from broker.contract.bundle import read_bundle
from broker.contract.features import PAPER_FEATURES, extract
from edge_node.classifier import verify
from edge_node.models import factory_bundle

BUDGET_S = 12.0
"""For all measurements; they take turns, so that a slow moment of the machine hits each of them."""
WINDOW_S = 1.5


def main() -> int:
    """Measure, print one table, and return 0."""
    bundle = read_bundle(factory_bundle(), "the factory model")
    manifest, classifier = bundle.manifest, verify(bundle, "the factory model")
    rate_hz = manifest.features.sample_rate_hz
    rng = np.random.default_rng(0)
    paper = (0.1 * rng.standard_normal(int(WINDOW_S * PAPER_FEATURES.sample_rate_hz))).astype(np.float32)
    window = (0.1 * rng.standard_normal(manifest.window.length_samples)).astype(np.float32)
    features = extract(window, manifest.features, manifest.normalisation)

    def of_librosa() -> None:
        librosa.feature.mfcc(y=paper, sr=16_000, n_mfcc=13, n_fft=2048, hop_length=512, n_mels=128)

    def window_to_probabilities() -> None:
        classifier.run(extract(window, manifest.features, manifest.normalisation))

    rows: dict[str, Callable[[], object]] = {
        "librosa mfcc, 1.5 s, paper's setting": of_librosa,
        "numpy mfcc, 1.5 s, paper's setting": lambda: extract(paper, PAPER_FEATURES, None),
        "factory model: features of a window": lambda: extract(window, manifest.features, manifest.normalisation),
        "factory model: inference": lambda: classifier.run(features),
        "factory model: features + inference": window_to_probabilities,
    }
    taken = _measure(rows)
    baseline = taken["librosa mfcc, 1.5 s, paper's setting"]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "librosa", "ai-edge-litert"))
    lines = [
        f"machine: {_machine()}; 1 thread; Python {platform.python_version()}, {versions}",
        f"baseline: librosa's mfcc at the paper's setting; {len(baseline)} runs of each, taking turns",
        "",
        f"{'':<40} {'min µs':>8} {'median µs':>10} {'x baseline (min)':>17} {'(median)':>9}",
    ]
    for name, times in taken.items():
        low, middle = min(times), statistics.median(times)
        ratios = f"{low / min(baseline):17.2f} {middle / statistics.median(baseline):9.2f}"
        lines.append(f"{name:<40} {low:8.0f} {middle:10.0f} {ratios}")
    whole = taken["factory model: features + inference"]
    per_second = rate_hz / manifest.window.hop_samples
    low, middle = (each * per_second / 1000 for each in (min(whole), statistics.median(whole)))
    window_s = manifest.window.length_samples / rate_hz
    lines += ["", f"{manifest.identity}: {window_s:g} s windows, {per_second:g} per second of audio"]
    lines.append(f"one core per second of audio: {low:.2f} ms (min), {middle:.2f} ms (median)")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _measure(rows: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return what each took, in µs, many times over."""
    for run in rows.values():
        for _ in range(3):  # caches, filters, just-in-time compilers
            run()
    taken: dict[str, list[float]] = {name: [] for name in rows}
    deadline = time.perf_counter() + BUDGET_S
    while time.perf_counter() < deadline:
        for name, run in rows.items():
            began = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - began) * 1e6)
    return taken


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    model = models[0] if models else platform.processor() or "unknown processor"
    return f"{model} ({platform.machine()}), {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())

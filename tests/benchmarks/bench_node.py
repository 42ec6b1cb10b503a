"""What listening costs on this machine, per second of audio: features, inference, and librosa's MFCC beside them.

    python tests/benchmarks/bench_node.py

Ours are measured as a node works: blocks of 0.1 s, a window every hop, each frame analysed once; cutting the windows
and their levels are part of it. A and B are librosa's MFCC alone. Times are of one thread. The minimum is what the
code takes, the median what the machine gave; trust the ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: both sides get one thread
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"

import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import librosa
import msgspec
import numpy as np

from broker.contract.bundle import Manifest, read_bundle
from broker.contract.features import PAPER_FEATURES, FeatureSpec, Normalisation, extract
from broker.contract.stream import FrameStream
from broker.contract.windows import WindowSpec
from deploy.fleet.machine import machine
from edge_node.classifier import Classifier, verify
from edge_node.models import factory_bundle
from edge_node.sound.sources import BLOCK_S

BUDGET_S = 15.0
"""For all measurements; they take turns, so that a slow moment of the machine hits each of them."""
TURN_S = 0.02
RATE_HZ = 16_000
CLIP_S = 10
WINDOW = WindowSpec(length_samples=3 * RATE_HZ, hop_samples=RATE_HZ // 2)
_VOICE = FeatureSpec(
    fft_samples=1024,
    hop_samples=320,
    mel_bands=40,
    coefficients=40,
    low_hz=50.0,
    high_hz=7_600.0,
    pitch=True,
    mean_removed=1.0,
)
OF_LIBROSA = "A librosa mfcc, once over 10 s"
OF_LIBROSA_WINDOW = "  the same, once over 1.5 s"
OF_LIBROSA_WINDOWS = "B librosa mfcc, a whole 3 s window each 0.5 s"
FEATURES = "factory model: features"
INFERENCE = "factory model: inference"

Row = tuple[Callable[[], object], float]
"""What to run, and how much audio that is, in seconds."""


def main() -> int:
    """Measure, print one table, and return 0."""
    bundle = read_bundle(factory_bundle(), "the factory model")
    manifest = bundle.manifest
    taken = _measure(_rows(manifest, verify(bundle, "the factory model")))
    once, windows = taken[OF_LIBROSA], taken[OF_LIBROSA_WINDOWS]
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "librosa", "ai-edge-litert"))
    titles = f"{'min':>7} {'median':>7} {'of A (min)':>11} {'(median)':>9} {'of B (min)':>11}"
    lines = [
        f"machine: {machine()}; 1 thread, {versions}",
        f"A and B: librosa's mfcc at the paper's setting; {len(once)} or more runs of each row, taking turns",
        "",
        f"{'µs per second of audio':<50} {titles}",
    ]
    for name, times in taken.items():
        low, middle = min(times), statistics.median(times)
        of_a = f"{low / min(once):11.3f} {middle / statistics.median(once):9.3f}"
        lines.append(f"{name:<50} {low:7.0f} {middle:7.0f} {of_a} {low / min(windows):11.3f}")
    theirs = (
        (OF_LIBROSA_WINDOWS, "of every 3 s window"),
        (OF_LIBROSA_WINDOW, "once per 1.5 s"),
        (OF_LIBROSA, "once per 10 s"),
    )
    parts = [f"{min(taken[FEATURES]) / min(taken[name]):.2f} of librosa's mfcc {how}" for name, how in theirs]
    low, middle = (sum(pick(taken[name]) for name in (FEATURES, INFERENCE)) / 1000 for pick in (min, statistics.median))
    window_s, hop_s = (each / RATE_HZ for each in (manifest.window.length_samples, manifest.window.hop_samples))
    lines += ["", f"{manifest.identity}: {window_s:g} s windows every {hop_s:g} s; features: {_words(manifest)}"]
    lines.append(f"factory model's features (min): {', '.join(parts)}")
    lines.append(f"one core per second of audio, features and inference: {low:.2f} ms (min), {middle:.2f} ms (median)")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _rows(manifest: Manifest, classifier: Classifier) -> dict[str, Row]:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal(CLIP_S * RATE_HZ)).astype(np.float32)
    whole = audio[: WINDOW.length_samples]
    features = extract(audio[: manifest.window.length_samples], manifest.features, manifest.normalisation)

    def of_librosa(samples: np.ndarray) -> object:
        return librosa.feature.mfcc(y=samples, sr=RATE_HZ, n_mfcc=13, n_fft=2048, hop_length=512, n_mels=128)

    bands = msgspec.structs.replace(_VOICE, kind="log-mel")
    columns = _VOICE.columns
    scale = Normalisation(mean=(0.5,) * columns, deviation=(2.0,) * columns)
    hop_s, model_hop_s = WINDOW.hop_samples / RATE_HZ, manifest.window.hop_samples / RATE_HZ
    model = (manifest.features, manifest.normalisation, manifest.window)
    return {
        OF_LIBROSA: (lambda: of_librosa(audio), CLIP_S),
        OF_LIBROSA_WINDOW: (lambda: of_librosa(audio[: 3 * RATE_HZ // 2]), 1.5),
        OF_LIBROSA_WINDOWS: (lambda: of_librosa(whole), hop_s),
        "ours at the paper's setting, once over 10 s": (lambda: extract(audio, PAPER_FEATURES, None), CLIP_S),
        "40 bands + pitch, each frame once": (_listener(FrameStream(bands, scale, WINDOW), audio, hop_s), hop_s),
        "40 bands + pitch, whole windows": (lambda: extract(whole, bands, scale), hop_s),
        "40 MFCC + pitch, each frame once": (_listener(FrameStream(_VOICE, scale, WINDOW), audio, hop_s), hop_s),
        FEATURES: (_listener(FrameStream(*model), audio, model_hop_s), model_hop_s),
        "factory model: silence (windows, levels)": (
            _listener(FrameStream(*model), audio, model_hop_s, silent=True),
            model_hop_s,
        ),
        INFERENCE: (lambda: classifier.run(features), model_hop_s),
    }


def _listener(stream: FrameStream, audio: np.ndarray, hop_s: float, *, silent: bool = False) -> Callable[[], object]:
    """Return what pushes one hop in blocks and takes the features of the window that it completes."""
    blocks = np.split(
        audio[: round(hop_s * RATE_HZ)],
        range(round(BLOCK_S * RATE_HZ), round(hop_s * RATE_HZ), round(BLOCK_S * RATE_HZ)),
    )

    def hear() -> None:
        for block in blocks:
            for window in stream.push(block, 0):
                if not silent:
                    stream.features(window)

    list(stream.push(audio, 0))
    return hear


def _words(manifest: Manifest) -> str:
    """Return the front-end's settings that differ from the defaults."""
    settings, plain = manifest.features, FeatureSpec()
    return ", ".join(
        f"{name}={getattr(settings, name)}"
        for name in settings.__struct_fields__
        if getattr(settings, name) != getattr(plain, name)
    )


def _measure(rows: dict[str, Row]) -> dict[str, list[float]]:
    """Return what each took per second of audio, in µs, many times over."""
    for run, _ in rows.values():
        for _ in range(3):  # caches, filters, just-in-time compilers
            run()
    taken: dict[str, list[float]] = {name: [] for name in rows}
    deadline = time.perf_counter() + BUDGET_S
    while time.perf_counter() < deadline:
        for name, (run, audio_s) in rows.items():
            turn = time.process_time()
            while (began := time.process_time()) < turn + TURN_S:
                run()
                taken[name].append((time.process_time() - began) * 1e6 / audio_s)
    return taken


if __name__ == "__main__":
    sys.exit(main())

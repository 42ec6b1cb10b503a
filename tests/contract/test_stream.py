"""A stream's windows have the features that `extract` gives their samples, however it is cut and whoever asks."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.contract import stream as under_test
from broker.contract.decision import level_dbfs
from broker.contract.features import PAPER_FEATURES, FeatureSpec, Normalisation, analyse, extract, frame_count
from broker.contract.stream import FrameStream, windows_of
from broker.contract.windows import Window, WindowSpec
from training.data.synthetic import voiced

RATE_HZ = 16_000
PRODUCT = FeatureSpec(
    kind="log-mel",
    coefficients=40,
    mel_bands=40,
    fft_samples=1024,
    hop_samples=320,
    low_hz=50.0,
    high_hz=7_600.0,
    floor_db=-60.0,
    pitch=True,
    mean_removed=1.0,
    delta_frames=2,
)
WINDOW = WindowSpec(length_samples=24_000, hop_samples=8_000)
VOICE = voiced(6 * RATE_HZ, RATE_HZ, 170.0, -20.0, np.random.default_rng(0))
SMALL = FeatureSpec(
    sample_rate_hz=4_000, high_hz=2_000.0, fft_samples=138, hop_samples=40, mel_bands=6, coefficients=5, pitch=True
)
SMALL_VOICE = voiced(3_000, 4_000, 170.0, -20.0, np.random.default_rng(1))


def _pushed(stream: FrameStream, samples: np.ndarray, lengths: list[int]) -> Iterator[Window]:
    """Push blocks of these lengths, and then the rest."""
    start = 0
    for length in [*lengths, len(samples)]:
        yield from stream.push(samples[start : start + length], 0)
        start += length


@st.composite
def specs(draw: st.DrawFn) -> tuple[FeatureSpec, WindowSpec]:
    """Front-ends that share frames between windows, and others that cannot."""
    centred, top_db = draw(st.sampled_from([(False, None), (False, None), (True, 80.0), (False, 60.0)]))
    frame_hop = draw(st.integers(20, 200))
    spec = msgspec.structs.replace(
        SMALL,
        hop_samples=frame_hop,
        fft_samples=draw(st.sampled_from([138, 200])),
        kind="mfcc",
        mean_removed=draw(st.sampled_from([0.0, 0.4, 1.0])),
        delta_frames=draw(st.integers(0, 3)),
        pitch=draw(st.booleans()),
        centred=centred,
        top_db=top_db,
    )
    hop = draw(st.one_of(st.integers(1, 5).map(lambda frames: frames * frame_hop), st.integers(50, 900)))
    return spec, WindowSpec(length_samples=hop + draw(st.integers(0, 900)), hop_samples=hop)


@given(
    spec_and_window=specs(),
    lengths=st.lists(st.integers(0, 1_500), max_size=8),
    gap=st.integers(0, 3_000),
    asked=st.lists(st.booleans(), min_size=1, max_size=7),
)
@settings(max_examples=100)
def test_stream_any_cut_gap_and_silence_gives_what_extract_gives(
    spec_and_window: tuple[FeatureSpec, WindowSpec], lengths: list[int], gap: int, asked: list[bool]
) -> None:
    spec, window = spec_and_window
    columns = spec.columns
    normalisation = Normalisation(mean=(-1.5,) * columns, deviation=(3.0,) * columns)
    stream, seen = FrameStream(spec, normalisation, window), 0
    for part in (SMALL_VOICE[:gap], SMALL_VOICE[gap:]):
        stream.reset()
        for k, heard in enumerate(_pushed(stream, part, lengths)):
            expected = part[k * window.hop_samples :][: window.length_samples]
            np.testing.assert_array_equal(heard.samples, expected)
            assert heard.level_dbfs == pytest.approx(level_dbfs(expected), abs=1e-6)
            if asked[seen % len(asked)]:
                features = stream.features(heard)
                assert features.dtype == np.float32
                np.testing.assert_allclose(features, extract(expected, spec, normalisation), atol=1e-4, rtol=0)
            seen += 1


def test_stream_analyses_each_frame_once_and_none_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    analysed = []

    def counted(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
        frames = analyse(samples, spec)
        analysed.append(len(frames))
        return frames

    monkeypatch.setattr(under_test, "analyse", counted)
    stream, asked = FrameStream(PRODUCT, None, WINDOW), {0, 2, 3, 7, 8}  # 2 shares frames with 0, 7 with none before
    for k, heard in enumerate(stream.push(VOICE, 0)):
        if k in asked:
            stream.features(heard)
    frames = np.arange(frame_count(WINDOW.length_samples, PRODUCT))
    assert sum(analysed) == len(np.unique([k * WINDOW.hop_samples // PRODUCT.hop_samples + frames for k in asked]))


@pytest.mark.parametrize(
    ("spec", "window"),
    [
        (PRODUCT, WindowSpec(length_samples=24_000, hop_samples=8_001)),
        (PAPER_FEATURES, WindowSpec(length_samples=24_000, hop_samples=8_192)),
        (msgspec.structs.replace(PRODUCT, top_db=40.0), WINDOW),
    ],
    ids=["odd hop", "centred", "loudest"],
)
def test_stream_that_cannot_share_frames_gives_exactly_what_extract_gives(
    spec: FeatureSpec, window: WindowSpec
) -> None:
    windows = list(windows_of(VOICE, spec, None, window))
    assert len(windows) > 3
    for heard, features in windows:
        np.testing.assert_array_equal(features, extract(heard.samples, spec, None))


def test_stream_reset_keeps_no_frame_from_before() -> None:
    stream = FrameStream(PRODUCT, None, WINDOW)
    for heard in stream.push(VOICE[:24_000], 0):
        stream.features(heard)
    stream.reset()
    (fresh,) = stream.push(VOICE[40_000:64_000], 7)
    np.testing.assert_array_equal(stream.features(fresh), extract(VOICE[40_000:64_000], PRODUCT, None))
    assert (fresh.end_sample, fresh.captured_ns) == (24_000, 7)


def test_stream_features_of_another_window_than_the_newest_are_refused() -> None:
    stream = FrameStream(PRODUCT, None, WINDOW)
    old, *_, newest = stream.push(VOICE, 0)
    assert len(stream.features(newest)) == frame_count(24_000, PRODUCT)
    with pytest.raises(ValueError, match="newest window only"):
        stream.features(old)
    stream.reset()
    with pytest.raises(ValueError, match="newest window only"):
        stream.features(newest)


def test_stream_features_asked_for_twice_are_the_same() -> None:
    stream = FrameStream(PRODUCT, None, WINDOW)
    for heard in stream.push(VOICE, 0):
        np.testing.assert_array_equal(stream.features(heard), stream.features(heard))


def test_stream_features_cannot_be_altered_behind_its_back() -> None:
    """Where nothing is to be done with a window, what is returned are the very frames that the next one needs."""
    plain = FeatureSpec(kind="log-mel", coefficients=40, mel_bands=40, fft_samples=1024, hop_samples=320)
    stream = FrameStream(plain, None, WINDOW)
    for heard in stream.push(VOICE, 0):
        features = stream.features(heard)
        np.testing.assert_allclose(features, extract(heard.samples, plain, None), atol=1e-4)
        with pytest.raises(ValueError, match="read-only"):
            features += 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_stream_refuses_what_is_not_finite_until_it_is_past(bad: float) -> None:
    stream, refused = FrameStream(PRODUCT, None, WINDOW), []
    samples = VOICE.copy()
    samples[30_000] = bad
    with np.errstate(invalid="ignore"):
        for k, heard in enumerate(stream.push(samples, 0)):
            try:
                features = stream.features(heard)
            except ValueError:
                refused.append(k)
            else:
                np.testing.assert_allclose(features, extract(heard.samples, PRODUCT, None), atol=1e-4)
    assert refused == [1, 2, 3]


def test_windows_of_a_clip_are_its_whole_windows() -> None:
    windows = list(windows_of(VOICE[:41_000], PRODUCT, None, WINDOW))
    assert [heard.end_sample for heard, _ in windows] == [24_000, 32_000, 40_000]
    assert {features.shape for _, features in windows} == {(frame_count(24_000, PRODUCT), PRODUCT.columns)}


@pytest.mark.parametrize("length", [0, 1, 23_999])
def test_windows_of_a_short_clip_are_one_padded_with_silence(length: int) -> None:
    ((heard, features),) = windows_of(VOICE[:length], PRODUCT, None, WINDOW)
    padded = np.pad(VOICE[:length], (0, 24_000 - length))
    np.testing.assert_array_equal(heard.samples, padded)
    np.testing.assert_array_equal(features, extract(padded, PRODUCT, None))

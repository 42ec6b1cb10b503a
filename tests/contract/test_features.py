"""The numpy front-end computes what librosa computes, for every setting, from any finite input."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from broker.contract.errors import SettingsError
from broker.contract.features import (
    PAPER_FEATURES,
    FeatureSpec,
    Normalisation,
    analyse,
    assemble,
    extract,
    frame_count,
)
from broker.contract.mel import mel_filters, mel_power

Reference = Callable[[np.ndarray, FeatureSpec], np.ndarray]

RATE_HZ = 16_000
TOLERANCE = 5e-3
"""librosa transforms in float64, a node in float32."""
ROUNDING = 0.1
"""Beside a pure tone bands are empty, as in no recording: what is 130 dB below the tone is rounding."""
TIME = np.arange(3 * RATE_HZ // 2) / RATE_HZ
RNG = np.random.default_rng(0)
SIGNALS = {
    "noise": 0.1 * RNG.standard_normal(len(TIME)),
    "loud noise": np.clip(RNG.standard_normal(len(TIME)), -1, 1),
    "tone": 0.5 * np.sin(2 * np.pi * 440 * TIME),
    "tones": sum(np.sin(2 * np.pi * hz * TIME) for hz in (97, 1_003, 3_999, 7_800)) / 4,
    "silence": np.zeros(len(TIME)),
    "clicks": np.where(np.arange(len(TIME)) % 2_000 == 0, 1.0, 0.0),
    "full scale": np.where(np.sin(2 * np.pi * 150 * TIME) > 0, 1.0, -1.0),
    "very quiet": 1e-5 * RNG.standard_normal(len(TIME)),
    "half silent": np.where(TIME < 0.7, 0.0, 0.2 * RNG.standard_normal(len(TIME))),
    "voice-like": np.clip(np.sin(2 * np.pi * 3.7 * TIME), 0, None) * np.sin(2 * np.pi * 180 * TIME) ** 3,
}
CAUSAL = (
    FeatureSpec(),
    FeatureSpec(coefficients=20, fft_samples=1024, hop_samples=256),
    FeatureSpec(coefficients=40, fft_samples=1024, hop_samples=320, floor_db=-80.0),
    FeatureSpec(coefficients=26, mel_bands=40, hop_samples=320, low_hz=60.0, high_hz=7_600.0),
    FeatureSpec(mel_bands=64, hop_samples=512, low_hz=1_200.0, high_hz=4_000.0, floor_db=-60.0),
)
CENTRED = (
    PAPER_FEATURES,
    FeatureSpec(centred=True, top_db=80.0, coefficients=40, fft_samples=1024, hop_samples=320),
    FeatureSpec(
        centred=True, top_db=80.0, coefficients=20, mel_bands=64, hop_samples=256, low_hz=50.0, high_hz=7_000.0
    ),
)
SMALL = FeatureSpec(fft_samples=64, hop_samples=16, mel_bands=13, coefficients=13)


@pytest.mark.parametrize("spec", CENTRED, ids=["paper", "40 coefficients", "band"])
@pytest.mark.parametrize("name", SIGNALS)
def test_mfcc_centred_agrees_with_librosa(reference: Reference, name: str, spec: FeatureSpec) -> None:
    samples = SIGNALS[name].astype(np.float32)
    np.testing.assert_allclose(extract(samples, spec, None), reference(samples, spec), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("spec", CAUSAL, ids=["product", "1024/256", "40 coefficients", "band", "narrow"])
@pytest.mark.parametrize("name", SIGNALS)
def test_mfcc_causal_agrees_with_librosas_pieces(reference: Reference, name: str, spec: FeatureSpec) -> None:
    samples = SIGNALS[name].astype(np.float32)
    expected = reference(samples, spec)
    assert len(expected) == frame_count(len(samples), spec)
    tolerance = ROUNDING if name in {"tone", "tones", "voice-like"} else TOLERANCE
    np.testing.assert_allclose(extract(samples, spec, None), expected, atol=tolerance, rtol=0)


def test_mfcc_golden_vectors_are_reproduced_without_librosa(golden_folder: Path) -> None:
    program = f"""
import sys
import numpy as np
from broker.contract.features import PAPER_FEATURES, FeatureSpec, extract
specs = {{
    "paper": PAPER_FEATURES,
    "causal": FeatureSpec(),
    "short": FeatureSpec(coefficients=20, fft_samples=1024, hop_samples=320),
    "band": FeatureSpec(coefficients=40, mel_bands=64, hop_samples=256, low_hz=80.0, high_hz=7_000.0, floor_db=-80.0),
}}
golden = np.load({str(golden_folder / "features.npz")!r})
for key in golden.files:
    spec, name = key.split("/")
    if spec != "samples":
        made = extract(golden["samples/" + name].astype(np.float32) / 32_768, specs[spec], None)
        assert made.shape == golden[key].shape, key
        np.testing.assert_allclose(made, golden[key], atol={TOLERANCE}, rtol=0, err_msg=key)
assert len(golden.files) == 5 + 5 * len(specs), golden.files
assert not {{"librosa", "scipy", "numba"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_golden_vectors_are_what_the_script_makes(golden_folder: Path, reference: Reference) -> None:
    script = runpy.run_path(str(golden_folder / "make.py"))
    stored = np.load(golden_folder / "features.npz")
    for name, samples in script["signals"]().items():
        np.testing.assert_array_equal(stored[f"samples/{name}"], samples)
        for spec_name, spec in script["SPECS"].items():
            made = reference(samples.astype(np.float32) / 32_768, spec)
            np.testing.assert_allclose(stored[f"{spec_name}/{name}"], made, atol=TOLERANCE, rtol=0)


@given(hnp.arrays(np.float32, st.integers(0, 400), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@pytest.mark.parametrize(
    "spec", [SMALL, msgspec.structs.replace(SMALL, centred=True, top_db=80.0)], ids=["causal", "centred"]
)
def test_mfcc_any_finite_input_gives_finite_features(spec: FeatureSpec, samples: np.ndarray) -> None:
    features = extract(samples, spec, None)
    assert features.shape == (frame_count(len(samples), spec), spec.coefficients)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1.0, -1.0, 3.4e38, -3.4e38])
@pytest.mark.parametrize(
    "spec", [FeatureSpec(floor_db=-300.0), FeatureSpec(), PAPER_FEATURES], ids=["low", "product", "paper"]
)
def test_mfcc_constant_gives_finite_features(spec: FeatureSpec, value: float) -> None:
    assert np.isfinite(extract(np.full(4_096, value, dtype=np.float32), spec, None)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_mfcc_not_finite_is_refused(bad: float) -> None:
    samples = np.zeros(4_096, dtype=np.float32)
    samples[1_234] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        extract(samples, FeatureSpec(), None)


def test_mfcc_stereo_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4096, 2\)"):
        extract(np.zeros((4_096, 2), dtype=np.float32), FeatureSpec(), None)


@given(
    samples=st.integers(0, 3_000),
    fft=st.integers(1, 300).map(lambda half: 2 * half),
    hop=st.integers(1, 700),
    centred=st.booleans(),
)
def test_frame_count_any_length_agrees_with_mfcc(samples: int, fft: int, hop: int, *, centred: bool) -> None:
    spec = FeatureSpec(fft_samples=fft, hop_samples=hop, mel_bands=4, coefficients=4, centred=centred)
    assert len(extract(np.zeros(samples, dtype=np.float32), spec, None)) == frame_count(samples, spec)


def test_mfcc_causal_frame_depends_on_its_own_samples_only() -> None:
    spec = FeatureSpec()
    quiet = (0.01 * np.random.default_rng(3).standard_normal(RATE_HZ)).astype(np.float32)
    before_a_shout = np.concatenate((quiet, np.ones(RATE_HZ, dtype=np.float32)))
    count = frame_count(len(quiet), spec)
    np.testing.assert_allclose(extract(before_a_shout, spec, None)[:count], extract(quiet, spec, None), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low_hz": 8_000.0}, "low_hz 8000 and high_hz 8000"),
        ({"low_hz": 5_000.0, "high_hz": 4_000.0}, "low_hz 5000 and high_hz 4000"),
        ({"high_hz": 8_001.0}, "half the sample rate"),
        ({"sample_rate_hz": 8_000}, "half the sample rate"),
        ({"coefficients": 129}, "coefficients 129 cannot exceed mel_bands 128"),
    ],
)
def test_feature_spec_contradiction_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        FeatureSpec(**change)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fft_samples": 1_023}, "fft_samples"),
        ({"fft_samples": 10**12}, "fft_samples"),
        ({"fft_samples": 0}, "fft_samples"),
        ({"hop_samples": 0}, "hop_samples"),
        ({"mel_bands": 10**9}, "mel_bands"),
        ({"floor_db": 5_000.0}, "floor_db"),
        ({"floor_db": -5_000.0}, "floor_db"),
        ({"floor_db": float("nan")}, "floor_db"),
        ({"low_hz": -1.0}, "low_hz"),
        ({"top_db": 0.0}, "top_db"),
        ({"centered": True}, "centered"),
        ({"sample_rate_hz": 0}, "sample_rate_hz"),
    ],
)
def test_feature_spec_out_of_range_is_refused_in_a_manifest(change: dict[str, float], field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(change, FeatureSpec)


@pytest.mark.parametrize(
    ("fft", "bands", "low_hz"),
    [(1024, 40, 50.0), (2048, 128, 0.0), (1024, 16, 0.0), (1024, 17, 4_000.0), (64, 300, 0.0)],
)
def test_mel_power_is_the_spectra_times_the_filters(fft: int, bands: int, low_hz: float) -> None:
    """Also where none of many narrow filters hears a bin."""
    power = np.random.default_rng(5).random((7, fft // 2 + 1)).astype(np.float32)
    filters = mel_filters(RATE_HZ, fft, bands, low_hz, 7_600.0)
    made = mel_power(power, RATE_HZ, fft, bands, low_hz, 7_600.0)
    np.testing.assert_allclose(made, power.astype(np.float64) @ filters, rtol=1e-5, atol=0)


def test_extract_normalised_is_mfcc_less_mean_over_deviation() -> None:
    spec = SMALL
    samples = np.random.default_rng(4).standard_normal(1_000).astype(np.float32)
    mean, deviation = tuple(np.linspace(-5, 5, 13).tolist()), tuple(np.linspace(1, 9, 13).tolist())
    made = extract(samples, spec, Normalisation(mean=mean, deviation=deviation))
    np.testing.assert_allclose(
        made, (extract(samples, spec, None) - np.array(mean)) / np.array(deviation), rtol=1e-5, atol=1e-5
    )
    assert made.dtype == np.float32
    np.testing.assert_array_equal(extract(samples, spec, None), extract(samples, spec, None))


def test_extract_statistics_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"12 means.*12 deviations.*13"):
        extract(np.zeros(100, dtype=np.float32), SMALL, Normalisation(mean=(0.0,) * 12, deviation=(1.0,) * 12))


@pytest.mark.parametrize("deviation", [0.0, 1e-300, -1.0])
def test_normalisation_deviation_too_small_is_refused(deviation: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="deviation"):
        msgspec.convert({"mean": [0.0], "deviation": [deviation]}, Normalisation)


def _slope(columns: np.ndarray) -> np.ndarray:
    spec = msgspec.structs.replace(SMALL, kind="log-mel", delta_frames=2)
    return assemble(columns.astype(np.float32), spec)[..., 13:]


def test_assemble_many_windows_is_each_of_them() -> None:
    spec = msgspec.structs.replace(
        SMALL,
        sample_rate_hz=16_000,
        fft_samples=1024,
        pitch=True,
        window_range_db=20.0,
        mean_removed=0.7,
        delta_frames=3,
    )
    frames = np.stack([analyse(SIGNALS["voice-like"][start:][:2_000].astype(np.float32), spec) for start in (0, 5_000)])
    made = assemble(frames, spec)
    assert made.shape == (2, frame_count(2_000, spec), spec.columns)
    for window, expected in zip(frames, made, strict=True):
        np.testing.assert_allclose(assemble(window, spec), expected, atol=1e-4)


def test_assemble_mean_removed_leaves_what_a_gain_cannot_change() -> None:
    spec = msgspec.structs.replace(SMALL, mean_removed=1.0, floor_db=-200.0)
    loud = SIGNALS["loud noise"].astype(np.float32)
    features = extract(loud, spec, None)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(extract(loud / 50, spec, None), features, atol=1e-3)


def test_assemble_window_range_hides_what_is_far_below_the_loudest_band() -> None:
    spec = msgspec.structs.replace(SMALL, kind="log-mel", window_range_db=30.0)
    bands = np.array([[-80.0, -20.0] + [-60.0] * 11, [-49.0, -51.0] + [-60.0] * 11], np.float32)
    made = assemble(bands, spec)
    np.testing.assert_array_equal(made[:, :2], [[-50, -20], [-49, -50]])
    assert (made[:, 2:] == -50).all()


def test_assemble_slope_of_a_line_is_its_rise_per_frame() -> None:
    rises = np.linspace(-3, 3, 13)
    slopes = _slope(np.arange(20)[:, None] * rises)
    np.testing.assert_allclose(slopes[2:-2], np.broadcast_to(rises, (16, 13)), atol=1e-5)
    assert (np.abs(slopes[0]) < np.abs(rises) + 1e-6).all()  # the end repeats its outermost frame
    assert not _slope(np.ones((1, 13))).any()


def test_assemble_no_frames_are_no_features() -> None:
    spec = msgspec.structs.replace(SMALL, delta_frames=1, mean_removed=1.0, window_range_db=9.0)
    assert extract(np.zeros(63, np.float32), spec, None).shape == (0, 26)


def test_analyse_samples_with_a_stride_are_those_samples() -> None:
    """An array may skip: one channel of two, say."""
    both = np.stack([SIGNALS["noise"], SIGNALS["tone"]], axis=1).astype(np.float32)
    np.testing.assert_array_equal(analyse(both[:, 0], SMALL), analyse(both[:, 0].copy(), SMALL))

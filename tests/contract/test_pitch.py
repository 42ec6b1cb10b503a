"""Pitch and voicing: an independent reference agrees, tones are heard at their pitch, what has none is unvoiced."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from broker.contract.errors import SettingsError
from broker.contract.features import FeatureSpec, analyse, assemble, frame_count
from broker.contract.pitch import PITCH_COLUMNS, smooth_pitch
from training.data.synthetic import noise, voiced

RATE_HZ = 16_000
SPEC = FeatureSpec(
    kind="log-mel",
    coefficients=40,
    mel_bands=40,
    fft_samples=1024,
    hop_samples=320,
    low_hz=50.0,
    high_hz=7_600.0,
    floor_db=-60.0,
    pitch=True,
)
TIME = np.arange(RATE_HZ) / RATE_HZ
RNG = np.random.default_rng(5)


def _hear(samples: np.ndarray, spec: FeatureSpec = SPEC) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each frame's pitch in Hz, its strength, and whether it is voiced."""
    octaves, strength, is_voiced = assemble(analyse(samples.astype(np.float32), spec), spec)[:, spec.coefficients :].T
    return 180 * 2**octaves, strength, is_voiced == 1


def _harmonics(hertz: float | np.ndarray, numbers: range) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, TIME.shape)) / RATE_HZ
    tones: np.ndarray = 0.1 * np.sin(np.outer(numbers, phase))
    return np.asarray(tones.sum(axis=0))


def test_window_golden_vectors_are_reproduced_without_librosa(golden_folder: Path) -> None:
    program = f"""
import runpy, sys
import numpy as np
from broker.contract.features import FeatureSpec, analyse, assemble
voice = {{"fft_samples": 1024, "hop_samples": 320, "mel_bands": 40, "low_hz": 50.0, "high_hz": 7_600.0, "pitch": True}}
specs = {{
    "bands": FeatureSpec(kind="log-mel", coefficients=40, floor_db=-60.0, mean_removed=1.0, **voice),
    "slopes": FeatureSpec(
        coefficients=13, floor_db=-60.0, window_range_db=40.0, mean_removed=0.5, delta_frames=2, **voice
    ),
}}
golden = np.load({str(golden_folder / "windows.npz")!r})
for key in golden.files:
    spec, name = key.split("/")
    if spec != "samples":
        samples = golden["samples/" + name].astype(np.float32) / 32_768
        made = assemble(analyse(samples, specs[spec]), specs[spec])
        assert made.shape == golden[key].shape, key
        np.testing.assert_allclose(made, golden[key], atol=1e-3, rtol=0, err_msg=key)
assert len(golden.files) == 9 + 9 * len(specs), golden.files
assert not {{"librosa", "scipy", "numba"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_window_golden_vectors_are_what_the_script_makes(golden_folder: Path) -> None:
    script = runpy.run_path(str(golden_folder / "make.py"))
    stored = np.load(golden_folder / "windows.npz")
    for name, samples in script["voices"]().items():
        np.testing.assert_array_equal(stored[f"samples/{name}"], samples)
        for spec_name, spec in script["WINDOW_SPECS"].items():
            made = script["reference_window"](samples.astype(np.float32) / 32_768, spec)
            np.testing.assert_allclose(stored[f"{spec_name}/{name}"], made, atol=1e-4, rtol=0)


@pytest.mark.parametrize("hertz", [60, 61, 65, 77, 90, 123, 180, 251, 333, 440, 499, 500])
def test_pitch_tone_is_heard_at_its_frequency(hertz: float) -> None:
    heard, strength, is_voiced = _hear(0.3 * np.sin(2 * np.pi * hertz * TIME))
    assert is_voiced.all()
    assert strength.min() > 0.98
    np.testing.assert_allclose(heard, hertz, rtol=0.005)


@pytest.mark.parametrize("rate_hz", [4_000, 8_000, 22_050, 24_000, 48_000])
def test_pitch_other_rate_hears_the_same_tone(rate_hz: int) -> None:
    samples = 2 * (rate_hz // 30)
    spec = FeatureSpec(
        sample_rate_hz=rate_hz, high_hz=rate_hz / 2, fft_samples=samples, hop_samples=samples // 4, pitch=True
    )
    for hertz in (90.0, 210.0):
        heard, _, is_voiced = _hear(0.3 * np.sin(2 * np.pi * hertz * np.arange(rate_hz) / rate_hz), spec)
        assert is_voiced.all()
        np.testing.assert_allclose(heard, hertz, rtol=0.01)


@pytest.mark.parametrize("octaves_per_s", [-1.5, 1.5])
def test_pitch_glide_is_followed(octaves_per_s: float) -> None:
    track = 170 * 2 ** (octaves_per_s * (TIME - 0.5))
    heard, _, is_voiced = _hear(_harmonics(track, range(1, 8)))
    centres = np.arange(len(heard)) * SPEC.hop_samples + SPEC.fft_samples // 2
    assert is_voiced.all()
    np.testing.assert_allclose(heard, track[centres], rtol=0.02)


@pytest.mark.parametrize("hertz", [100, 150, 200])
def test_pitch_is_that_of_a_missing_fundamental(hertz: float) -> None:
    heard, _, is_voiced = _hear(_harmonics(hertz, range(2, 8)))
    assert is_voiced.all()
    np.testing.assert_allclose(heard, hertz, rtol=0.005)


def test_pitch_white_noise_and_whispers_are_unvoiced() -> None:
    hiss = noise(10 * RATE_HZ, "white", RNG)
    spectrum, hertz = np.fft.rfft(hiss), np.fft.rfftfreq(len(hiss), 1 / RATE_HZ)
    whisper = np.fft.irfft(spectrum * sum(1 / (1 + ((hertz - f) / (60 + f / 10)) ** 2) for f in (600, 1_500, 2_600)))
    assert not _hear(0.1 * hiss)[2].any()
    assert _hear(0.02 * whisper / whisper.std())[2].mean() < 0.02


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-7, 1.0, -1.0, 3e38])
def test_pitch_constant_is_unvoiced(level: float) -> None:
    heard, strength, is_voiced = _hear(np.full(RATE_HZ, level))
    assert (heard == 180).all()
    assert not strength.any()
    assert not is_voiced.any()


@pytest.mark.parametrize("pitch_hz", [90, 130, 180, 240, 280, 330])
def test_pitch_of_something_like_a_voice_is_seldom_an_octave_off(pitch_hz: float) -> None:
    """It wanders by 0.2 octaves, in syllables over noise: where it is louder than that, it is voiced."""
    slips, shares = [], []
    for seed in range(5):
        heard, _, is_voiced = _hear(voiced(3 * RATE_HZ, RATE_HZ, pitch_hz, -20.0, np.random.default_rng(seed)))
        slips.append(np.abs(np.log2(heard[is_voiced] / pitch_hz)) > 0.5)
        shares.append(is_voiced.mean())
    assert np.concatenate(slips).mean() < 0.01
    assert 0.5 < np.mean(shares) < 0.8


@pytest.mark.parametrize(("hum", "most"), [("brown", 0.15), ("pink", 0.25), (8.0, 0.02), (30.0, 0.02), (50.0, 0.02)])
def test_pitch_rumble_and_hum_below_a_voice_are_unvoiced(hum: Literal["brown", "pink"] | float, most: float) -> None:
    low = noise(RATE_HZ, hum, RNG) if isinstance(hum, str) else np.sin(2 * np.pi * hum * TIME)
    assert _hear(0.1 + 0.1 * low + 1e-4 * RNG.standard_normal(len(TIME)))[2].mean() < most


def test_pitch_does_not_depend_on_loudness() -> None:
    voice = voiced(RATE_HZ, RATE_HZ, 150.0, -10.0, np.random.default_rng(3))
    for loud, quiet in zip(_hear(voice), _hear(voice / 100), strict=True):
        np.testing.assert_allclose(quiet, loud, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pitch_of_what_is_not_finite_is_refused(bad: float) -> None:
    samples = np.zeros(RATE_HZ)
    samples[9_999] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        _hear(samples)


@given(hnp.arrays(np.float32, st.integers(0, 500), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_pitch_any_finite_input_gives_finite_columns_in_range(samples: np.ndarray) -> None:
    spec = FeatureSpec(
        sample_rate_hz=4_000, high_hz=2_000.0, fft_samples=138, hop_samples=40, mel_bands=4, coefficients=4, pitch=True
    )
    columns = assemble(analyse(samples, spec), spec)
    assert columns.shape == (frame_count(len(samples), spec), 4 + PITCH_COLUMNS)
    octaves, strength, is_voiced = columns[:, 4:].T
    assert ((octaves >= np.log2(55 / 180)) & (octaves <= np.log2(600 / 180))).all()
    assert ((strength >= 0) & (strength <= 1)).all()
    np.testing.assert_array_equal(is_voiced, strength >= np.float32(0.45))
    assert not octaves[is_voiced == 0].any()


def test_smooth_pitch_mends_the_slip_of_a_single_frame_between_voiced_ones() -> None:
    octaves = np.array([0.1, 0.1, 1.1, 0.2, 0.0, 0.3, 1.3])
    is_voiced = np.array([1, 1, 1, 1, 0, 1, 1])
    columns = np.stack([octaves, 0.9 * is_voiced, is_voiced], axis=1).astype(np.float32)
    smoothed = smooth_pitch(columns)
    np.testing.assert_allclose(smoothed[:, 0], [0.1, 0.1, 0.2, 0.2, 0.0, 0.3, 1.3], rtol=1e-6)
    np.testing.assert_array_equal(smoothed[:, 1:], columns[:, 1:])
    np.testing.assert_array_equal(smooth_pitch(columns[None])[0], smoothed)


def test_pitch_of_frames_too_short_is_refused() -> None:
    with pytest.raises(SettingsError, match="fft_samples of 537 or more"):
        msgspec.structs.replace(SPEC, fft_samples=536)


def test_pitch_of_a_rate_too_low_is_refused() -> None:
    with pytest.raises(SettingsError, match="sample_rate_hz of 4000 or more, got 3998"):
        FeatureSpec(sample_rate_hz=3_998, high_hz=1_900.0, pitch=True)

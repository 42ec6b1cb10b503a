"""An offset goes and speech stays, however the stream is cut; what is clipped stays clipped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.sound.conditioning import CORNER_HZ, FULL_SCALE, Conditioning

RATE_HZ = 16_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)).astype(np.float32)


def _tone(frequency_hz: float, rate_hz: int = RATE_HZ, seconds: float = 4) -> np.ndarray:
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    return (0.2 * tone).astype(np.float32)


def _whole(samples: np.ndarray, cuts: list[int], rate_hz: int = RATE_HZ, gain_db: float = 0.0) -> np.ndarray:
    condition = Conditioning(gain_db)
    return np.concatenate([condition(part, rate_hz) for part in np.split(samples, cuts)])


@given(st.lists(st.integers(1_600, len(NOISE)), max_size=12))
def test_offset_filter_does_not_depend_on_the_blocks_after_the_first(cuts: list[int]) -> None:
    blocks = _whole(NOISE + np.float32(0.3), sorted([1_600, *cuts]))
    once = _whole(NOISE + np.float32(0.3), [1_600])
    np.testing.assert_allclose(blocks, once, atol=2e-6)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000, 192_000])
def test_offset_filter_is_the_recursion_that_it_says(rate_hz: int) -> None:
    samples = 0.2 + 0.1 * np.random.default_rng(1).standard_normal(rate_hz // 2)
    keep = np.exp(-2 * np.pi * CORNER_HZ / rate_hz)
    mean, expected = samples[: rate_hz // 10].mean(), []
    for each in samples:
        mean = keep * mean + (1 - keep) * each
        expected.append(each - mean)
    found = _whole(samples.astype(np.float32), [k * rate_hz // 10 for k in range(1, 5)], rate_hz)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_offset_is_gone_from_the_first_block_on_without_a_thump() -> None:
    found = _whole(np.full(RATE_HZ, 0.4, np.float32), [1_600 * k for k in range(1, 10)])
    assert np.abs(found).max() < 1e-6


@pytest.mark.parametrize(("frequency_hz", "least", "most"), [(50, 0.98, 1.01), (300, 0.99, 1.01), (0.2, 0, 0.06)])
def test_offset_filter_lets_speech_through(frequency_hz: float, least: float, most: float) -> None:
    tone = _tone(frequency_hz, seconds=10)
    found = _whole(tone, [1_600 * k for k in range(1, 100)])
    half = len(tone) // 2
    assert least < np.std(found[half:]) / np.std(tone[half:]) < most


def test_offset_that_drifts_is_followed() -> None:
    drift = np.linspace(-0.5, 0.5, 60 * RATE_HZ).astype(np.float32)
    found = _whole(drift, [1_600 * k for k in range(1, 600)])
    assert np.abs(found[RATE_HZ:]).max() < 0.002


def test_gain_amplifies_and_what_exceeds_full_scale_is_clipped() -> None:
    tone = _tone(300)
    blocks = [1_600 * k for k in range(1, 40)]
    np.testing.assert_allclose(_whole(tone, blocks, gain_db=6.0206), 2 * _whole(tone, blocks), atol=1e-5)
    loud = _whole(tone, blocks, gain_db=40)
    assert np.abs(loud).max() == 1
    assert np.mean(np.abs(loud) == 1) > 0.9
    assert loud.dtype == np.float32


def test_clipping_of_the_converter_is_still_seen_when_the_offset_is_gone() -> None:
    clipped = np.clip(2 * _tone(300) * 5 + np.float32(0.3), -1, 32_767 / 32_768)
    found = _whole(clipped, [1_600 * k for k in range(1, 40)])
    assert (np.abs(found) >= FULL_SCALE).sum() >= (np.abs(clipped) >= FULL_SCALE).sum() > 1_000
    quieter = _whole(clipped, [1_600 * k for k in range(1, 40)], gain_db=-20)
    assert np.abs(quieter).max() < 0.2  # nothing sticks out of what was attenuated


def test_conditioning_switched_off_changes_nothing() -> None:
    condition = Conditioning(remove_dc=False)
    np.testing.assert_array_equal(condition(NOISE, RATE_HZ), np.clip(NOISE, -1, 1))
    assert len(condition(NOISE[:0], RATE_HZ)) == 0


def test_long_block_is_filtered_as_short_ones_are() -> None:
    samples = np.tile(NOISE, 20) + np.float32(0.2)  # 40 s: its powers would overflow at once
    np.testing.assert_allclose(
        _whole(samples, [1_600]), _whole(samples, list(range(1_600, len(samples), 1_600))), atol=2e-6
    )

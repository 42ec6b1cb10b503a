from typing import Literal

import numpy as np
import pytest

from broker.contract.decision import level_dbfs
from training.data.synthetic import noise, voiced


@pytest.mark.parametrize(("colour", "slope"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_noise_falls_by_its_colours_slope(colour: Literal["white", "pink", "brown"], slope: float) -> None:
    signal = noise(1 << 16, colour, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(signal)) ** 2
    octaves = [10 * np.log10(power[1 << k : 2 << k].mean()) for k in range(8, 15)]
    assert np.polyfit(range(7), octaves, 1)[0] == pytest.approx(slope, abs=0.3)
    assert np.mean(signal**2) == pytest.approx(1, rel=1e-3)


def test_voiced_signal_has_its_level_and_is_seeded() -> None:
    first, again = (voiced(16_000, 16_000, 120.0, -20.0, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert level_dbfs(first) == pytest.approx(-20, abs=0.1)
    assert first.dtype == np.float32

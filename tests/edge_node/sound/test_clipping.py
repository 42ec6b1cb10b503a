"""What counts as clipped: a wave that stands still at full scale, not one that touches it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.bundle import Bundle
from edge_node.classifier import verify
from edge_node.pipeline import Pipeline
from edge_node.sound.clipping import Clipping
from edge_node.sound.sources import Block

RATE_HZ = 16_000


def _is_clipped(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bool:
    clipping = Clipping()
    clipping.restart(rate_hz)
    clipping.push(samples.astype(np.float32))
    return clipping.within(0, len(samples) / rate_hz)


def _tone(amplitude: float, hertz: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """One second, as a 16-bit converter gives it."""
    wave = np.clip(amplitude * np.sin(2 * np.pi * hertz * np.arange(rate_hz) / rate_hz), -1, 32_767 / 32_768)
    converted: np.ndarray = np.floor(wave * 32_768) / 32_768
    return converted


@pytest.mark.parametrize("hertz", [110, 440, 1_000])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_clipping_is_found_in_a_tone_that_is_too_loud_and_not_in_one_that_just_fits(hertz: float, rate_hz: int) -> None:
    assert _is_clipped(_tone(2.0, hertz, rate_hz), rate_hz)
    assert not _is_clipped(_tone(1.0, hertz, rate_hz), rate_hz)
    assert not _is_clipped(_tone(0.5, hertz, rate_hz), rate_hz)


@pytest.mark.parametrize(
    ("samples", "clipped"),
    [
        ([0, 1, 1, 1, 0], True),
        ([0, -1, -1, -1, 0], True),
        ([0, 1, 1, 0, 1, 1], False),
        ([1, -1, 1, -1, 1], False),
        ([0.9, 0.9, 0.9, 0.9], False),
        ([1, 1, 1], True),
        ([1, 1], False),
        ([], False),
    ],
)
def test_clipping_is_three_equal_samples_at_full_scale(samples: list[float], *, clipped: bool) -> None:
    assert _is_clipped(np.array(samples)) == clipped


@given(cuts=st.lists(st.integers(0, 400), max_size=20), at=st.integers(0, 397))
def test_clipping_is_found_however_the_stream_is_cut(cuts: list[int], at: int) -> None:
    samples = np.zeros(400, dtype=np.float32)
    samples[at : at + 3] = 1
    clipping = Clipping()
    clipping.restart(100)
    for part in np.split(samples, sorted(cuts)):
        clipping.push(part)
    assert not clipping.within(0, (at + 2) / 100)
    assert clipping.within((at + 2) / 100, 4)
    assert not clipping.within((at + 3) / 100, 4)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_pipeline_tells_which_windows_were_clipped(factory: Bundle, rate_hz: int) -> None:
    """Before they are resampled, which would round the corners off; and not after a gap."""
    pipeline = Pipeline(factory.manifest, verify(factory, "the factory model"), clock_ns=lambda: 0)
    samples = (0.01 * np.random.default_rng(0).standard_normal(12 * rate_hz)).astype(np.float32)
    samples[5 * rate_hz : 5 * rate_hz + 3] = 1
    heard = list(pipeline.hear(Block(samples=samples, rate_hz=rate_hz, captured_ns=0)))
    assert [each.end_s for each in heard if each.clipped] == [5.5, 6, 6.5, 7, 7.5, 8]
    pipeline.forget()
    again = list(pipeline.hear(Block(samples=samples[6 * rate_hz :], rate_hz=rate_hz, captured_ns=0)))
    assert again
    assert not any(each.clipped for each in again)

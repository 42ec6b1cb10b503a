"""Windows do not depend on how the stream was cut into blocks."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.errors import SettingsError
from broker.contract.windows import Window, Windower, WindowSpec

RATE_HZ = 1_000
SPEC = WindowSpec(length_samples=50, hop_samples=20)


def _cut(samples: np.ndarray, lengths: list[int], spec: WindowSpec = SPEC) -> list[Window]:
    """Push blocks of these lengths, and then the rest; sample k is captured at (k + 1) ms."""
    windower, start = Windower(spec, RATE_HZ), 0
    windows: list[Window] = []
    for length in [*lengths, len(samples)]:
        block = samples[start : start + length]
        start += len(block)
        windows += windower.push(block, start * 1_000_000)
    return windows


@given(
    count=st.integers(0, 300),
    lengths=st.lists(st.integers(0, 120), max_size=20),
    length=st.integers(1, 90),
    hop=st.integers(1, 90),
)
def test_windower_any_cut_gives_the_same_windows(count: int, lengths: list[int], length: int, hop: int) -> None:
    spec = WindowSpec(length_samples=max(length, hop), hop_samples=hop)
    samples = np.arange(count, dtype=np.float32)
    windows = _cut(samples, lengths, spec)
    assert len(windows) == max(0, 1 + (count - spec.length_samples) // hop)
    for k, window in enumerate(windows):
        np.testing.assert_array_equal(window.samples, samples[k * hop : k * hop + spec.length_samples])
        assert window.end_sample == k * hop + spec.length_samples
        assert window.captured_ns == window.end_sample * 1_000_000


def test_windower_reset_lets_no_window_span_the_gap() -> None:
    windower = Windower(SPEC, RATE_HZ)
    assert not list(windower.push(np.zeros(49, dtype=np.float32), 0))
    windower.reset()
    (window,) = windower.push(np.ones(50, dtype=np.float32), 7_000_000)
    assert window.samples.min() == 1
    assert window.end_sample == 50
    assert window.captured_ns == 7_000_000


def test_windower_window_does_not_change_with_its_block() -> None:
    block = np.ones(50, dtype=np.float32)
    (window,) = Windower(SPEC, RATE_HZ).push(block, 0)
    block[:] = 0
    assert window.samples.min() == 1


def test_window_spec_gap_between_windows_is_refused() -> None:
    with pytest.raises(SettingsError, match="hop_samples 21 cannot exceed length_samples 20"):
        WindowSpec(length_samples=20, hop_samples=21)


@pytest.mark.parametrize("field", ["length_samples", "hop_samples"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 10**12])
def test_window_spec_out_of_range_is_refused(field: str, value: float) -> None:
    other = {"length_samples": 10, "hop_samples": 1}
    with pytest.raises((msgspec.ValidationError, SettingsError), match=field):
        msgspec.convert(other | {field: value}, WindowSpec)

"""Figures about the node itself."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.condition import LATENCY_BOUNDS_US
from broker.contract.decision import Decision, Label, level_dbfs
from broker.contract.messages import Stage
from edge_node.pipeline import Heard
from edge_node.sound.conditioning import Conditioning
from edge_node.telemetry import Meter, is_throttled, quantiles, rss_bytes, temperature_c


def heard(
    label: Label | None,
    *,
    gated: bool = False,
    clipped: bool = False,
    level_dbfs: float = -30.0,
    probabilities: tuple[float, ...] = (0.2, 0.5, 0.3),
) -> Heard:
    """Return what a window came to; None: it is not classified."""
    return Heard(
        end_s=3.0,
        level_dbfs=level_dbfs,
        decided_ns=0,
        gated=gated,
        clipped=clipped,
        probabilities=None if label is None else probabilities,
        decision=None if label is None else Decision(label=label, confidence=0.5),
    )


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_quantiles_are_numpys(samples: list[int]) -> None:
    made = quantiles(samples)
    assert made.count == len(samples)
    assert (made.p50, made.p95, made.p99) == tuple(round(q) for q in np.quantile(samples, (0.5, 0.95, 0.99)))
    assert min(samples) <= made.p50 <= made.p95 <= made.p99 <= max(samples)


def test_quantiles_of_one_figure_are_that_figure() -> None:
    made = quantiles([7])
    assert (made.count, made.p50, made.p95, made.p99) == (1, 7, 7, 7)


def test_meter_counts_each_window_once_and_starts_anew() -> None:
    meter = Meter()
    for label in (Label.NEUTRAL, Label.NEUTRAL, Label.UNCERTAIN, None):
        meter.heard(heard(label))
    meter.heard(heard(None, gated=True))
    meter.heard(heard(None, clipped=True, level_dbfs=float("-inf")))
    meter.took(Stage.FEATURES, 500)
    meter.took(Stage.FEATURES, -3)
    reading = meter.read()
    assert reading.windows == {Label.PLEASANT: 0, Label.NEUTRAL: 2, Label.UNPLEASANT: 0, Label.UNCERTAIN: 1}
    assert (reading.silent_windows, reading.gated_windows, reading.clipped_windows) == (2, 1, 1)
    assert reading.level_dbfs == -30  # digital silence has none
    assert reading.latency_us.keys() == {Stage.FEATURES}
    assert reading.latency_us[Stage.FEATURES].count == 2
    assert reading.latency_us[Stage.FEATURES].p50 == 250  # a clock that went back counts as 0
    empty = meter.read()
    assert sum(empty.windows.values()) == empty.silent_windows == empty.gated_windows == len(empty.latency_us) == 0
    assert (empty.level_dbfs, empty.drift) == (None, None)
    assert empty.interval_us >= 1


def test_meter_level_of_a_device_that_turned_to_zeros_is_digital_silence() -> None:
    condition = Conditioning()
    condition(np.linspace(0, 0.1, 4_800, dtype=np.float32), 48_000)
    for _ in range(15):  # the high-pass forgets by and by what it heard: no window of its own is quite -inf
        left = condition(np.zeros(4_800, dtype=np.float32), 48_000)
    level = level_dbfs(left)
    assert -800 < level < -300  # which no telemetry could carry
    meter = Meter()
    meter.heard(heard(None, level_dbfs=level))
    assert meter.read().level_dbfs is None


def test_quantiles_histogram_has_each_figure_in_one_bin_and_no_empty_end() -> None:
    bounds = LATENCY_BOUNDS_US
    made = quantiles([0, bounds[0], bounds[0] + 1, bounds[3]])
    assert made.histogram == (2, 1, 0, 1)
    beyond = quantiles([bounds[-1] + 1]).histogram
    assert (len(beyond), sum(beyond), beyond[-1]) == (len(bounds) + 1, 1, 1)


def test_meter_drift_tells_how_sure_and_how_one_sided_the_windows_are() -> None:
    meter = Meter()
    for _ in range(3):
        meter.heard(heard(Label.NEUTRAL, probabilities=(0.1, 0.8, 0.1)))
    meter.heard(heard(Label.PLEASANT, probabilities=(0.6, 0.2, 0.2)))
    drift = meter.read((0.25, 0.75, 0.0)).drift
    assert drift is not None
    assert drift.mean_confidence == pytest.approx(0.75)
    assert 0 < drift.mean_entropy < 1
    assert drift.divergence == 0  # the classes are spread as in training
    meter.heard(heard(Label.UNPLEASANT, probabilities=(0.1, 0.1, 0.8)))
    other = meter.read((0.25, 0.75, 0.0)).drift
    assert other is not None
    assert other.divergence == pytest.approx(1)  # nothing in common
    meter.heard(heard(Label.UNCERTAIN, probabilities=(float("nan"),) * 3))
    assert meter.read((0.25, 0.75, 0.0)).drift is None  # a model that overflows says nothing
    meter.heard(heard(Label.NEUTRAL))
    unknown = meter.read().drift
    assert unknown is not None
    assert unknown.divergence is None


def test_throttled_is_what_the_firmware_says_of_now(tmp_path: Path) -> None:
    file = tmp_path / "get_throttled"
    assert is_throttled(file) is None
    for words, told in (("0\n", False), ("50000\n", False), ("50005\n", True), ("4\n", True), ("?", None)):
        file.write_text(words)
        assert is_throttled(file) is told


def test_meter_memory_is_bounded() -> None:
    meter = Meter()
    for k in range(10_000):
        meter.took(Stage.PUBLISH, k)
    assert meter.read().latency_us[Stage.PUBLISH].count == 4_096


def test_meter_two_threads_and_a_reader_lose_no_figure() -> None:
    meter = Meter()
    each = 20_000
    windows = (heard(None), heard(Label.NEUTRAL))

    def count(stage: Stage) -> None:
        for k in range(each):
            meter.heard(windows[k % 2])
            if k % 10 == 0:
                meter.took(stage, k)

    threads = [threading.Thread(target=count, args=(stage,)) for stage in (Stage.TOTAL, Stage.PUBLISH)]
    for thread in threads:
        thread.start()
    readings = []
    while any(thread.is_alive() for thread in threads):
        readings.append(meter.read())
    readings.append(meter.read())
    assert sum(reading.windows[Label.NEUTRAL] for reading in readings) == each
    assert sum(reading.silent_windows for reading in readings) == each
    for stage in (Stage.TOTAL, Stage.PUBLISH):
        assert sum(reading.latency_us[stage].count for reading in readings if stage in reading.latency_us) == each // 10


def test_machine_figures_are_plausible() -> None:
    assert 10_000_000 < rss_bytes() < 10_000_000_000
    assert temperature_c() is None or -50 < (temperature_c() or 0) < 150


def test_meter_cpu_share_of_a_busy_interval_is_positive() -> None:
    meter = Meter()
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass
    assert meter.read().cpu_share > 0
    assert meter.read().cpu_share == pytest.approx(0, abs=5)

"""Figures about the node itself."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.decision import Label
from broker.contract.messages import Stage
from edge_node.telemetry import Meter, clock_synced, quantiles, rss_bytes, temperature_c


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
        meter.decided(label)
    meter.took(Stage.FEATURES, 500)
    meter.took(Stage.FEATURES, -3)
    reading = meter.read()
    assert reading.windows == {Label.PLEASANT: 0, Label.NEUTRAL: 2, Label.UNPLEASANT: 0, Label.UNCERTAIN: 1}
    assert reading.silent_windows == 1
    assert reading.latency_us.keys() == {Stage.FEATURES}
    assert reading.latency_us[Stage.FEATURES].count == 2
    assert reading.latency_us[Stage.FEATURES].p50 == 250  # a clock that went back counts as 0
    empty = meter.read()
    assert sum(empty.windows.values()) == empty.silent_windows == len(empty.latency_us) == 0
    assert empty.interval_us >= 1


def test_meter_memory_is_bounded() -> None:
    meter = Meter()
    for k in range(10_000):
        meter.took(Stage.PUBLISH, k)
    assert meter.read().latency_us[Stage.PUBLISH].count == 4_096


def test_meter_two_threads_and_a_reader_lose_no_figure() -> None:
    meter = Meter()
    each = 20_000

    def count(stage: Stage) -> None:
        for k in range(each):
            meter.decided(Label.NEUTRAL if k % 2 else None)
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
    assert isinstance(clock_synced(), bool)
    assert 10_000_000 < rss_bytes() < 10_000_000_000
    assert temperature_c() is None or -50 < (temperature_c() or 0) < 150


def test_meter_cpu_share_of_a_busy_interval_is_positive() -> None:
    meter = Meter()
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass
    assert meter.read().cpu_share > 0
    assert meter.read().cpu_share == pytest.approx(0, abs=5)

"""From probabilities to labels, and from labels to events."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.decision import (
    CLASSES,
    MIN_INTERVAL_US,
    REPEAT_INTERVAL_US,
    Announced,
    Decision,
    DecisionSpec,
    Label,
    decide,
    is_worth_an_event,
    level_dbfs,
    smooth,
)

SPEC = DecisionSpec(smoothing=0.25, uncertain_below=0.5)


def _p(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_smooth_after_silence_is_the_newest_alone() -> None:
    np.testing.assert_array_equal(smooth(None, _p(0.2, 0.3, 0.5), SPEC), _p(0.2, 0.3, 0.5))


def test_smooth_weighs_the_newest() -> None:
    np.testing.assert_allclose(smooth(_p(1, 0, 0), _p(0, 1, 0), SPEC), _p(0.75, 0.25, 0))
    assert smooth(_p(1, 0, 0), _p(0, 1, 0), SPEC).dtype == np.float32


def test_smooth_without_smoothing_forgets() -> None:
    np.testing.assert_array_equal(smooth(_p(1, 0, 0), _p(0, 1, 0), DecisionSpec(smoothing=1.0)), _p(0, 1, 0))


def test_smooth_recovers_from_a_window_that_was_not_finite() -> None:
    np.testing.assert_array_equal(smooth(_p(np.nan, 0, 0), _p(0, 1, 0), SPEC), _p(0, 1, 0))


@pytest.mark.parametrize("index", range(3))
def test_decide_likeliest_class_wins(index: int) -> None:
    smoothed = np.full(3, 0.2, dtype=np.float32)
    smoothed[index] = 0.6
    assert decide(smoothed, SPEC) == Decision(label=CLASSES[index], confidence=float(np.float32(0.6)))


def test_decide_none_likely_enough_is_uncertain() -> None:
    decision = decide(_p(0.25, 0.4375, 0.3125), SPEC)
    assert decision == Decision(label=Label.UNCERTAIN, confidence=0.4375)


def test_decide_exactly_at_the_threshold_is_certain() -> None:
    assert decide(_p(0.5, 0.25, 0.25), SPEC).label is Label.PLEASANT


def test_decide_confidence_never_exceeds_one() -> None:
    assert decide(_p(1.0000001, 0, 0), SPEC).confidence == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_decide_not_finite_is_uncertain_with_no_confidence(bad: float) -> None:
    assert decide(_p(bad, 0.5, 0.5), SPEC) == Decision(label=Label.UNCERTAIN, confidence=0.0)


@pytest.mark.parametrize(
    ("label", "elapsed_us", "expected"),
    [
        (Label.NEUTRAL, MIN_INTERVAL_US - 1, False),
        (Label.NEUTRAL, MIN_INTERVAL_US, False),
        (Label.NEUTRAL, REPEAT_INTERVAL_US - 1, False),
        (Label.NEUTRAL, REPEAT_INTERVAL_US, True),
        (Label.PLEASANT, 0, False),
        (Label.PLEASANT, MIN_INTERVAL_US - 1, False),
        (Label.PLEASANT, MIN_INTERVAL_US, True),
    ],
)
def test_event_after_neutral(label: Label, elapsed_us: int, *, expected: bool) -> None:
    last = Announced(label=Label.NEUTRAL, at_us=1_000)
    assert is_worth_an_event(Decision(label=label, confidence=0.9), last, 1_000 + elapsed_us) is expected


def test_event_first_is_always_worth_one() -> None:
    assert is_worth_an_event(Decision(label=Label.UNCERTAIN, confidence=0.1), None, 0)


def test_event_after_silence_is_a_change() -> None:
    last = Announced(label=None, at_us=0)
    decision = Decision(label=Label.NEUTRAL, confidence=0.9)
    assert not is_worth_an_event(decision, last, MIN_INTERVAL_US - 1)
    assert is_worth_an_event(decision, last, MIN_INTERVAL_US)


@given(st.lists(st.tuples(st.none() | st.sampled_from(Label), st.integers(1, 3_000_000)), max_size=80))
def test_events_any_labels_are_rare_enough_and_miss_nothing(steps: list[tuple[Label | None, int]]) -> None:
    last: Announced | None = None
    now_us = 0
    events: list[int] = []
    for label, step_us in steps:
        now_us += step_us
        if label is None:
            last = None if last is None else msgspec.structs.replace(last, label=None)
            continue
        if is_worth_an_event(Decision(label=label, confidence=0.5), last, now_us):
            last = Announced(label=label, at_us=now_us)
            events.append(now_us)
        assert last is not None
        since_us = now_us - last.at_us
        assert last.label == label or since_us < MIN_INTERVAL_US  # an unannounced change is less than a second old
        assert since_us < REPEAT_INTERVAL_US
    assert all(later - earlier >= MIN_INTERVAL_US for earlier, later in itertools.pairwise(events))


def test_level_full_scale_square_wave_is_0_dbfs() -> None:
    assert level_dbfs(np.tile(_p(1, -1), 100)) == pytest.approx(0)


def test_level_sine_is_3_db_lower_and_ignores_an_offset() -> None:
    sine = np.sin(2 * np.pi * np.arange(16_000) / 160).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(0.25 * sine + np.float32(0.5)) == pytest.approx(-3.01 - 12.04, abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(10, np.float32), np.full(10, 0.5, np.float32)])
def test_level_nothing_is_minus_infinity(samples: np.ndarray) -> None:
    assert level_dbfs(samples) == float("-inf")


@pytest.mark.parametrize(
    "bad", [{"smoothing": 0}, {"smoothing": 1.1}, {"uncertain_below": -0.1}, {"silent_below_dbfs": 1.0}, {"other": 1}]
)
def test_decision_spec_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(bad))):
        msgspec.convert(bad, DecisionSpec)

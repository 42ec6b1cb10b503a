"""From probabilities to labels, and from labels to events."""

import itertools
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.commands import ThresholdCommand
from broker.contract.decision import (
    CLASSES,
    MIN_INTERVAL_US,
    REPEAT_INTERVAL_US,
    Announced,
    Deciding,
    Decision,
    DecisionSpec,
    Label,
    advance,
    break_off,
    fall_silent,
    level_dbfs,
    with_thresholds,
)
from broker.contract.errors import SettingsError
from broker.contract.scalars import UNCERTAIN_BOUNDS

HOP_US = 500_000
BARE = DecisionSpec(smoothing=1.0, uncertain_below=0.5)
"""As bundles had it before hysteresis: each window by itself."""
P, N, U = (0.75, 0.125, 0.125), (0.125, 0.75, 0.125), (0.125, 0.125, 0.75)
FLAT = (0.375, 0.3125, 0.3125)
NOTHING = (float("nan"), 0.5, 0.5)
COMMAND = {"id": "0" * 16, "issued_us": 0}

probabilities = st.tuples(*[st.floats(0, 1)] * 3).filter(lambda each: sum(each) > 0.01).map(
    lambda each: tuple(value / sum(each) for value in each)
) | st.just(NOTHING)
windows = st.none() | st.just("gap") | probabilities
"""None: silence."""
specs = st.builds(
    DecisionSpec,
    smoothing=st.floats(0.1, 1),
    uncertain_below=st.floats(0, 1),
    margin=st.floats(0, 0.3),
    hold_us=st.integers(0, 3_000_000),
    confirm_windows=st.integers(1, 4),
)


def _run(
    heard: Iterable[Sequence[float] | str | None], spec: DecisionSpec, state: Deciding | None = None, at_us: int = 0
) -> list[Deciding]:
    states = []
    state = state or Deciding()
    for window in heard:
        at_us += HOP_US
        if window is None:
            state = fall_silent(state)
        elif isinstance(window, str):
            state = break_off(state)
        else:
            state = advance(state, window, at_us, spec)
        states.append(state)
    return states


def _labels(states: Iterable[Deciding]) -> str:
    """One letter per window: P, N, U for the classes, ? for `uncertain`, - for silence."""
    letters = {Label.PLEASANT: "P", Label.NEUTRAL: "N", Label.UNPLEASANT: "U", Label.UNCERTAIN: "?"}
    return "".join("-" if state.decision is None else letters[state.decision.label] for state in states)


def test_smoothing_after_silence_is_the_newest_alone() -> None:
    assert _run([P, None, N], DecisionSpec(smoothing=0.25))[-1].smoothed == N


def test_smoothing_weighs_the_newest() -> None:
    assert _run([(1, 0, 0), (0, 1, 0)], DecisionSpec(smoothing=0.25))[-1].smoothed == (0.75, 0.25, 0)


def test_smoothing_of_one_forgets() -> None:
    assert _run([P, N], BARE)[-1].smoothed == N


def test_smoothing_recovers_from_a_window_that_was_not_finite() -> None:
    assert _run([P, NOTHING, N], DecisionSpec(smoothing=0.25))[-1].smoothed == N


@pytest.mark.parametrize("index", range(3))
def test_decision_likeliest_class_wins(index: int) -> None:
    heard = [0.25] * 3
    heard[index] = 0.5
    assert _run([heard], BARE)[0].decision == Decision(label=CLASSES[index], confidence=0.5)


def test_decision_none_likely_enough_is_uncertain() -> None:
    assert _run([(0.25, 0.4375, 0.3125)], BARE)[0].decision == Decision(label=Label.UNCERTAIN, confidence=0.4375)


def test_decision_confidence_never_exceeds_one() -> None:
    (state,) = _run([(1.0000001, 0, 0)], BARE)
    assert state.decision == Decision(label=Label.PLEASANT, confidence=1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_decision_not_finite_is_uncertain_with_no_confidence(bad: float) -> None:
    assert _run([P, (bad, 0.5, 0.5)], BARE)[-1].decision == Decision(label=Label.UNCERTAIN, confidence=0.0)


def test_older_spec_decides_every_window_by_its_mean_alone() -> None:
    spec = msgspec.json.decode(
        b'{"smoothing": 1.0, "uncertain_below": 0.5, "silent_below_dbfs": -60.0}', type=DecisionSpec
    )
    assert spec == BARE
    assert _labels(_run([P, N, P, FLAT, U, None, U, N], spec)) == "PNP?U-UN"


def test_margin_keeps_a_class_until_another_is_so_much_likelier() -> None:
    spec = DecisionSpec(smoothing=1.0, uncertain_below=0.3, margin=0.125)
    heard = [P, (0.4375, 0.5, 0.0625), (0.375, 0.5, 0.125), (0.4375, 0.5, 0.0625)]
    states = _run(heard, spec)
    assert _labels(states) == "PPNN"
    assert [state.decision.confidence for state in states if state.decision] == [0.75, 0.4375, 0.5, 0.5]


def test_margin_keeps_a_class_until_it_falls_so_far_below_the_threshold() -> None:
    spec = DecisionSpec(smoothing=1.0, uncertain_below=0.5, margin=0.125)
    heard = [(0.4375, 0.3125, 0.25), P, (0.4375, 0.3125, 0.25), (0.35, 0.33, 0.32), (0.4375, 0.3125, 0.25)]
    assert _labels(_run(heard, spec)) == "?PP??"


def test_margin_does_not_keep_a_class_that_a_rival_is_far_ahead_of() -> None:
    """The rival itself is not likely enough: nobody knows."""
    spec = DecisionSpec(smoothing=1.0, uncertain_below=0.5, margin=0.125)
    assert _labels(_run([P, (0.25, 0.4375, 0.3125)], spec)) == "P?"


def test_confirmation_a_new_label_must_win_in_a_row() -> None:
    spec = msgspec.structs.replace(BARE, confirm_windows=3)
    assert _labels(_run([P, N, N, P, N, N, U, N, N, N, N], spec)) == "PPPPPPPPPNN"


def test_confirmation_uncertain_must_win_like_any_other() -> None:
    spec = msgspec.structs.replace(BARE, confirm_windows=2)
    assert _labels(_run([P, FLAT, P, FLAT, FLAT, NOTHING], spec)) == "PPPP??"
    assert _labels(_run([P, NOTHING, P, NOTHING, NOTHING], spec)) == "PPPP?"


def test_confirmation_the_first_label_after_silence_is_decided_at_once() -> None:
    spec = msgspec.structs.replace(BARE, confirm_windows=3)
    assert _labels(_run([P, None, N, "gap", U], spec)) == "P-N-U"


def test_hold_a_label_stands_for_its_time() -> None:
    spec = msgspec.structs.replace(BARE, hold_us=3 * HOP_US)
    assert _labels(_run([P, N, N, N, U, U, U, N], spec)) == "PPPNNNUU"


def test_hold_ends_with_the_speech() -> None:
    spec = msgspec.structs.replace(BARE, hold_us=10_000_000)
    assert _labels(_run([P, N, None, N, P], spec)) == "PP-NN"


def test_gap_is_as_silence_but_the_same_label_is_no_change() -> None:
    after_gap = _run([P, P, "gap", P], BARE)
    after_silence = _run([P, P, None, P], BARE)
    assert [state.is_event for state in after_gap] == [True, False, False, False]
    assert [state.is_event for state in after_silence] == [True, False, False, True]
    assert after_gap[2] == Deciding(announced=Announced(label=Label.PLEASANT, at_us=HOP_US))


@pytest.mark.parametrize(
    ("heard", "elapsed_us", "expected"),
    [
        (N, MIN_INTERVAL_US - 1, False),
        (N, MIN_INTERVAL_US, False),
        (N, REPEAT_INTERVAL_US - 1, False),
        (N, REPEAT_INTERVAL_US, True),
        (P, 1, False),
        (P, MIN_INTERVAL_US - 1, False),
        (P, MIN_INTERVAL_US, True),
    ],
)
def test_event_after_neutral(heard: Sequence[float], elapsed_us: int, *, expected: bool) -> None:
    first = advance(Deciding(), N, 1_000, BARE)
    assert first.is_event
    assert advance(first, heard, 1_000 + elapsed_us, BARE).is_event is expected


def test_event_a_change_too_soon_is_told_when_its_time_has_come() -> None:
    states = _run([N, P, P], BARE)
    assert [state.is_event for state in states] == [True, False, True]
    assert states[-1].announced == Announced(label=Label.PLEASANT, at_us=3 * HOP_US)


@given(st.lists(windows, max_size=80), specs)
def test_events_any_windows_are_rare_enough_and_miss_nothing(
    heard: list[tuple[float, float, float] | str | None], spec: DecisionSpec
) -> None:
    events = []
    for place, state in enumerate(_run(heard, spec)):
        at_us = (place + 1) * HOP_US
        if state.decision is None:
            assert not state.is_event
            continue
        if state.is_event:
            assert state.announced == Announced(label=state.decision.label, at_us=at_us)
            events.append(at_us)
        assert state.announced is not None
        since_us = at_us - state.announced.at_us
        assert state.announced.label == state.decision.label or since_us < MIN_INTERVAL_US  # untold for a moment
        assert since_us < REPEAT_INTERVAL_US
    assert all(later - earlier >= MIN_INTERVAL_US for earlier, later in itertools.pairwise(events))


@given(st.lists(probabilities, max_size=60), specs)
def test_labels_any_windows_never_change_twice_within_the_hold(
    heard: list[tuple[float, float, float]], spec: DecisionSpec
) -> None:
    labels = [state.decision.label for state in _run(heard, spec) if state.decision]
    decided = [0, *(place for place in range(1, len(labels)) if labels[place] != labels[place - 1])]
    times = [place * HOP_US for place in decided]
    assert all(later - earlier >= spec.hold_us for earlier, later in itertools.pairwise(times))


@given(st.lists(probabilities, max_size=60), specs)
def test_labels_any_windows_are_confirmed(heard: list[tuple[float, float, float]], spec: DecisionSpec) -> None:
    """Whatever is decided was the rival in all windows just before, counted by a second, simpler reckoning."""
    states = _run(heard, spec)
    for place, (old, new) in enumerate(itertools.pairwise(states), 1):
        assert old.decision is not None
        assert new.decision is not None
        if new.decision.label != old.decision.label:
            before = states[max(0, place - spec.confirm_windows + 1) : place]
            assert [state.rival for state in before] == [new.decision.label] * (spec.confirm_windows - 1)


@given(st.lists(windows, max_size=40), specs, st.integers(0, 2**50), st.integers(0, 40))
def test_decisions_depend_on_nothing_but_the_windows(
    heard: list[tuple[float, float, float] | str | None], spec: DecisionSpec, later_us: int, cut: int
) -> None:
    """Not on when the clock began, and not on what is kept of the state between two windows but the state itself."""
    whole = _run(heard, spec)
    first = _run(heard[:cut], spec)
    kept = msgspec.json.decode(msgspec.json.encode(first[-1] if first else Deciding()), type=Deciding)
    assert first + _run(heard[cut:], spec, kept, at_us=len(first) * HOP_US) == whole
    shifted = _run(heard, spec, at_us=later_us)
    assert [(state.decision, state.is_event) for state in shifted] == [
        (state.decision, state.is_event) for state in whole
    ]


@given(st.lists(windows, max_size=40), specs)
def test_confidence_any_windows_is_a_share_and_that_of_the_label(
    heard: list[tuple[float, float, float] | str | None], spec: DecisionSpec
) -> None:
    for state in _run(heard, spec):
        if state.decision is None:
            assert state.smoothed is None
            continue
        label, confidence = state.decision.label, state.decision.confidence
        if state.smoothed is None:
            assert confidence == 0
        elif label is Label.UNCERTAIN:
            assert confidence == pytest.approx(max(state.smoothed))
        else:
            assert confidence == pytest.approx(state.smoothed[CLASSES.index(label)])
        assert 0 <= confidence <= 1


@given(st.lists(probabilities, min_size=8, max_size=40), specs)
def test_labels_of_a_steady_voice_follow_it(heard: list[tuple[float, float, float]], spec: DecisionSpec) -> None:
    """Whatever came before, what stays the same for long enough is what is said, if it is likely enough."""
    spec = msgspec.structs.replace(spec, uncertain_below=min(spec.uncertain_below, 0.7))
    assert _labels(_run([*heard, *[U] * 60], spec))[-1] == "U"


def test_thresholds_are_set_within_bounds() -> None:
    assert with_thresholds(BARE) == BARE
    assert with_thresholds(BARE, uncertain_below=None) == BARE
    for value in UNCERTAIN_BOUNDS:
        assert with_thresholds(BARE, uncertain_below=value) == msgspec.structs.replace(BARE, uncertain_below=value)
        assert msgspec.convert({**COMMAND, "uncertain_below": value}, ThresholdCommand).uncertain_below == value


def test_thresholds_of_the_bundle_may_be_put_back_wherever_they_are() -> None:
    careless = msgspec.structs.replace(BARE, uncertain_below=0.2)
    assert with_thresholds(careless, uncertain_below=0.2) == careless


@pytest.mark.parametrize("bad", [0.33, 0.96, -1.0, float("nan"), float("inf")])
def test_thresholds_out_of_bounds_are_refused_by_contract_and_command_alike(bad: float) -> None:
    with pytest.raises(SettingsError, match=r"uncertain_below = .*: allowed is 0\.34 to 0\.95"):
        with_thresholds(BARE, uncertain_below=bad)
    with pytest.raises(msgspec.ValidationError, match="uncertain_below"):
        msgspec.convert({**COMMAND, "uncertain_below": bad}, ThresholdCommand)


def test_level_full_scale_square_wave_is_0_dbfs() -> None:
    assert level_dbfs(np.tile(np.array([1, -1], dtype=np.float32), 100)) == pytest.approx(0)


def test_level_sine_is_3_db_lower_and_ignores_an_offset() -> None:
    sine = np.sin(2 * np.pi * np.arange(16_000) / 160).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(0.25 * sine + np.float32(0.5)) == pytest.approx(-3.01 - 12.04, abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(10, np.float32), np.full(10, 0.5, np.float32)])
def test_level_nothing_is_minus_infinity(samples: np.ndarray) -> None:
    assert level_dbfs(samples) == float("-inf")


@pytest.mark.parametrize(
    "bad",
    [
        {"smoothing": 0},
        {"smoothing": 1.1},
        {"uncertain_below": -0.1},
        {"silent_below_dbfs": 1.0},
        {"margin": -0.01},
        {"margin": 0.31},
        {"hold_us": -1},
        {"hold_us": 10_000_001},
        {"hold_us": 0.5},
        {"confirm_windows": 0},
        {"confirm_windows": 21},
        {"other": 1},
    ],
)
def test_decision_spec_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(bad))):
        msgspec.convert(bad, DecisionSpec)


def test_break_off_with_a_clock_that_was_ahead_keeps_no_event_back() -> None:
    """Time within a stream is counted in samples: a sound card that runs fast is ahead, until a gap tells time anew."""
    spec = DecisionSpec()
    before = advance(Deciding(), (0.1, 0.8, 0.1), 600_000_000, spec)
    after = advance(break_off(before), (0.1, 0.8, 0.1), 580_000_000, spec)
    assert after.is_event
    assert not advance(after, (0.1, 0.8, 0.1), 580_500_000, spec).is_event

import numpy as np
import pytest

from training.config import DecisionRules
from training.exam.replay import Heard
from training.fitting.thresholds import choose_decision, choose_threshold, fit_bias, fit_temperature, rescale

RANDOM = np.random.default_rng(5)
TRUTH = np.repeat([0, 1, 2], 60)


def _clips(skew: np.ndarray) -> list[np.ndarray]:
    logits = RANDOM.normal(size=(180, 4, 3)) + 1.5 * np.eye(3)[TRUTH][:, None] + skew
    probabilities = np.exp(logits)
    return list((probabilities / probabilities.sum(axis=2, keepdims=True)).astype(np.float32))


def _heard(level: float) -> Heard:
    return Heard(ends_us=(0, 1), levels_dbfs=(level - 10, level), features=np.zeros((2, 1, 1), dtype=np.float32))


def test_bias_undoes_a_skewed_prior() -> None:
    skew = np.array([-1.0, 0.0, 1.0])
    bias = fit_bias(TRUTH, _clips(skew))
    assert bias.sum() == pytest.approx(0)
    np.testing.assert_allclose(bias, -skew, atol=0.35)


def test_rescaled_probabilities_add_the_bias_to_the_logits() -> None:
    got = rescale(np.array([[0.5, 0.25, 0.25]], dtype=np.float32), np.log([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(got, [[0.25, 0.25, 0.5]], rtol=1e-6)


def test_uncertain_share_is_what_was_asked_for() -> None:
    clips = _clips(np.zeros(3))
    spec = choose_decision(TRUTH, [_heard(-30.0)] * 180, clips, DecisionRules(smoothing=(1.0,), uncertain_share=0.2))
    share = np.mean(np.concatenate(clips).max(axis=1) < spec.uncertain_below)
    assert 0.15 < share <= 0.2


@pytest.mark.parametrize("wrong", [0.1, 0.2, 0.3])
def test_threshold_is_the_lowest_that_keeps_to_the_share_that_may_be_wrong(wrong: float) -> None:
    confidence = RANDOM.uniform(1 / 3, 1, 4_000)
    right = RANDOM.random(4_000) < confidence
    rules = DecisionRules(wrong_share=wrong, uncertain_share=0.9)
    threshold = choose_threshold(confidence, right, rules)
    assert np.mean(~right[confidence >= threshold]) <= wrong
    assert np.mean(~right[confidence >= threshold - 0.011]) > wrong
    assert np.mean(confidence < threshold) < 0.9


def test_threshold_calls_no_more_uncertain_than_may_be_however_wrong_the_rest() -> None:
    confidence = RANDOM.uniform(1 / 3, 1, 4_000)
    rules = DecisionRules(wrong_share=0.01, uncertain_share=0.2)
    threshold = choose_threshold(confidence, RANDOM.random(4_000) < 0.5, rules)
    assert 0.18 < np.mean(confidence < threshold) <= 0.2


def test_threshold_is_never_below_a_third_where_next_to_nothing_is_wrong() -> None:
    confidence = RANDOM.uniform(1 / 3, 1, 400)
    rules = DecisionRules(wrong_share=0.25, uncertain_share=0.9)
    assert choose_threshold(confidence, np.ones(400, dtype=np.bool_), rules) == 0.34


def test_margin_hold_and_confirmation_are_the_rules() -> None:
    rules = DecisionRules(margin=0.1, hold_us=1_000_000, confirm_windows=3)
    spec = choose_decision(TRUTH, [_heard(-30.0)] * 180, _clips(np.zeros(3)), rules)
    assert (spec.margin, spec.hold_us, spec.confirm_windows) == (0.1, 1_000_000, 3)


def test_quickest_smoothing_within_a_hundredth_is_taken() -> None:
    steady = [np.tile(np.eye(3, dtype=np.float32)[label], (4, 1)) for label in TRUTH]
    assert choose_decision(TRUTH, [_heard(-30.0)] * 180, steady, DecisionRules()).smoothing == 1.0
    assert choose_decision(TRUTH, [_heard(-30.0)] * 180, _clips(np.zeros(3)), DecisionRules()).smoothing < 1.0


def test_silence_begins_below_the_quietest_clips() -> None:
    levels = [_heard(level) for level in np.linspace(-50, -20, 180)]
    spec = choose_decision(TRUTH, levels, _clips(np.zeros(3)), DecisionRules(silence_margin_db=6))
    assert spec.silent_below_dbfs == pytest.approx(-56, abs=1)


def test_temperature_is_recovered_from_sharpened_probabilities() -> None:
    random = np.random.default_rng(3)
    honest = random.dirichlet((1.0, 1.0, 1.0), 5_000)
    truth = (random.random(len(honest))[:, None] > honest.cumsum(axis=1)).sum(axis=1)

    def told(temperature: float) -> list[np.ndarray]:
        odds = honest ** (2 / temperature)
        return list((odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)[:, None])

    assert fit_temperature(truth, told) == pytest.approx(2, rel=0.1)

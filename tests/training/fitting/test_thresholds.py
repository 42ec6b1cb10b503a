import numpy as np
import pytest

from training.config import DecisionRules
from training.exam.replay import Heard
from training.fitting.thresholds import choose_decision, fit_bias, fit_temperature, rescale

RANDOM = np.random.default_rng(5)
TRUTH = np.repeat([0, 1, 2], 60)


def _clips(skew: np.ndarray) -> list[np.ndarray]:
    logits = RANDOM.normal(size=(180, 4, 3)) + 1.5 * np.eye(3)[TRUTH][:, None] + skew
    probabilities = np.exp(logits)
    return list((probabilities / probabilities.sum(axis=2, keepdims=True)).astype(np.float32))


def _heard(level: float) -> Heard:
    return Heard(levels_dbfs=(level - 10, level), features=np.zeros((2, 1, 1), dtype=np.float32))


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

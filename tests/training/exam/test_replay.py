from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from broker.contract.decision import DecisionSpec, Label, level_dbfs
from broker.contract.features import FeatureSpec, extract
from broker.contract.windows import WindowSpec
from training.exam.metrics import UNHEARD
from training.exam.replay import judge, listen, loudest

FEATURES = FeatureSpec(fft_samples=512, hop_samples=256, mel_bands=32)
WINDOW = WindowSpec(length_samples=8_000, hop_samples=4_000)
Speech = Callable[..., npt.NDArray[np.float32]]


def test_windows_are_those_of_the_device(speech: Speech) -> None:
    samples = speech(1.3)
    heard = listen(samples, FEATURES, None, WINDOW)
    assert len(heard.levels_dbfs) == 1 + (20_800 - 8_000) // 4_000
    np.testing.assert_array_equal(heard.features[2], extract(samples[8_000:16_000], FEATURES, None))
    assert heard.levels_dbfs[2] == level_dbfs(samples[8_000:16_000])


def test_short_clip_is_padded_with_silence(speech: Speech) -> None:
    samples = speech(0.2)
    heard = listen(samples, FEATURES, None, WINDOW)
    np.testing.assert_array_equal(heard.features[0], extract(np.pad(samples, (0, 8_000 - 3_200)), FEATURES, None))
    assert len(heard.features) == 1


def test_clip_label_is_the_likeliest_mean_smoothed_probability(speech: Speech) -> None:
    answers = iter(np.array([[0.2, 0.7, 0.1], [0.2, 0.1, 0.7], [0.5, 0.2, 0.3]], dtype=np.float32))
    heard = listen(speech(1.0), FEATURES, None, WINDOW)
    verdict = judge(heard, lambda _: next(answers), DecisionSpec(smoothing=0.5, uncertain_below=0.41))
    # smoothed: (.2 .7 .1), (.2 .4 .4), (.35 .3 .35)
    np.testing.assert_allclose(verdict.mean, [0.25, 1.4 / 3, 0.85 / 3], rtol=1e-5)
    assert verdict.decided == 1
    assert [decision.label for decision in verdict.decisions] == [Label.NEUTRAL, Label.UNCERTAIN, Label.UNCERTAIN]


def test_silence_is_judged_and_counted(speech: Speech) -> None:
    answers = iter(np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]], dtype=np.float32))
    samples = np.concatenate((speech(0.5), np.zeros(8_000, dtype=np.float32), speech(0.5)))
    heard = listen(samples, FEATURES, None, WindowSpec(length_samples=8_000, hop_samples=8_000))
    verdict = judge(heard, lambda _: next(answers), DecisionSpec(smoothing=1))
    assert (verdict.windows, verdict.silent) == (3, 1)
    np.testing.assert_allclose(verdict.mean, [1 / 3, 1.1 / 3, 0.3], rtol=1e-5)
    assert verdict.decided == 1


def test_clip_that_gets_no_finite_answer_has_no_label(speech: Speech) -> None:
    heard = listen(speech(0.5), FEATURES, None, WINDOW)
    verdict = judge(heard, lambda _: np.full(3, np.nan, dtype=np.float32), DecisionSpec())
    assert verdict.decided == UNHEARD
    np.testing.assert_array_equal(verdict.mean, [0, 0, 0])
    assert [decision.label for decision in verdict.decisions] == [Label.UNCERTAIN]


def test_loudest_stretch_has_the_highest_level_on_the_front_ends_grid(speech: Speech) -> None:
    samples = np.zeros(32_000, dtype=np.float32)
    samples[10_300:18_300] = speech(0.5) / 10
    drifting = samples + np.linspace(0, 0.05, len(samples), dtype=np.float32)  # more power at its end, and no sound
    for heard in (samples, drifting):
        levels = {k: level_dbfs(heard[k : k + 8_000]) for k in range(0, 24_001, FEATURES.hop_samples)}
        start = max(levels, key=lambda each: levels[each])
        assert abs(start - 10_300) < 1_000
        np.testing.assert_array_equal(loudest(heard, FEATURES, WINDOW), heard[start : start + 8_000])


def test_loudest_stretch_of_a_short_clip_is_the_clip(speech: Speech) -> None:
    samples = speech(0.5)
    assert loudest(samples, FEATURES, WINDOW) is samples
    assert len(listen(loudest(samples[:5_000], FEATURES, WINDOW), FEATURES, None, WINDOW).features) == 1

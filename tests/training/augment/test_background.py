from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from training.augment.background import babble, gather
from training.augment.noise import hiss
from training.data.clips import Clip

Samples = npt.NDArray[np.float32]
Make = Callable[..., Clip]
Speech = Callable[..., Samples]

TONES = {f"ravdess_{actor:02d}": 200.0 * actor for actor in range(1, 9)}
"""One tone per speaker, so that a crowd tells who babbles."""


def _tone(clip: Clip) -> Samples:
    return np.sin(2 * np.pi * TONES[clip.speaker] * np.arange(16_000) / 16_000).astype(np.float32)


def _talking(heard: Samples) -> set[str]:
    power = np.abs(np.fft.rfft(heard, 16_000)) ** 2
    return {speaker for speaker, tone in TONES.items() if power[round(tone)] > 0.01 * power.sum()}


def test_six_other_speakers_babble(clip: Make) -> None:
    clips = [*(clip(speaker) for speaker in TONES), *(clip("ravdess_01", stem=str(take)) for take in range(8))]
    heard = [
        _talking(babble(16_000, clips[0], gather(clips, _tone), np.random.default_rng(seed))) for seed in range(20)
    ]
    assert {len(each) for each in heard} == {6}
    assert set.union(*heard) == set(TONES) - {"ravdess_01"}


def test_nobody_outside_the_crowd_is_heard(clip: Make) -> None:
    crowd = gather([clip(speaker) for speaker in ("ravdess_02", "ravdess_03")], _tone)
    for seed in range(5):
        heard = babble(16_000, clip("ravdess_01"), crowd, np.random.default_rng(seed))
        assert _talking(heard) == {"ravdess_02", "ravdess_03"}


def test_babble_is_noise_of_unit_power(clip: Make, speech: Speech) -> None:
    crowd = gather([clip(speaker) for speaker in TONES], lambda each: speech(0.4, seed=int(each.sha256[:8], 16)))
    heard = babble(20_001, crowd.clips[0], crowd, np.random.default_rng(0))
    assert heard.shape == (20_001,)
    assert heard.dtype == np.float32
    assert np.mean(heard.astype(float) ** 2) == pytest.approx(1, rel=1e-4)


def test_crowd_does_not_depend_on_the_order_of_its_clips(clip: Make) -> None:
    clips = [clip(speaker) for speaker in TONES]
    crowd, turned = gather(clips, _tone), gather(clips[::-1], _tone)
    assert crowd.digest == turned.digest
    np.testing.assert_array_equal(
        babble(8_000, clips[0], crowd, np.random.default_rng(0)),
        babble(8_000, clips[0], turned, np.random.default_rng(0)),
    )
    assert gather(clips[1:], _tone).digest != crowd.digest


def test_only_speaker_babbles_with_other_clips_and_a_lone_clip_in_pink_noise(clip: Make) -> None:
    one, other = clip("ravdess_01", stem="a"), clip("ravdess_01", stem="b")
    assert _talking(babble(16_000, one, gather([one, other], _tone), np.random.default_rng(0))) == {"ravdess_01"}
    alone = babble(16_000, one, gather([one], _tone), np.random.default_rng(0))
    np.testing.assert_array_equal(alone, hiss(16_000, "pink", np.random.default_rng(0)))

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.windows import WindowSpec
from training.augment.alterations import Alteration, alter, draw_alteration, pad
from training.augment.background import Crowd, gather
from training.augment.noise import active_rms
from training.augment.view_settings import Copy, Room, Views
from training.data.clips import Clip

WINDOW = WindowSpec(length_samples=16_000, hop_samples=8_000)
Samples = npt.NDArray[np.float32]
Make = Callable[..., Clip]
Speech = Callable[..., Samples]

NOTHING = draw_alteration(Copy(), np.random.default_rng(0))


def _tone(hertz: float, seconds: float = 1.0) -> Samples:
    return 0.1 * np.sin(2 * np.pi * hertz * np.arange(round(16_000 * seconds)) / 16_000).astype(np.float32)


def _loudest_hz(samples: Samples) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(power) * 16_000 / len(samples))


@pytest.fixture
def altered(clip: Make, speech: Speech) -> Callable[..., Samples]:
    """Alter samples by the figures that are named."""
    clips = [clip(f"ravdess_{actor:02d}") for actor in range(1, 9)]
    crowd: Crowd = gather(clips, lambda each: speech(0.5, seed=int(each.sha256[:8], 16)))

    def make(samples: Samples, seed: int = 0, **figures: float | str | tuple[float, float]) -> Samples:
        alteration: Alteration = msgspec.structs.replace(NOTHING, **figures)
        return alter(samples, clips[0], alteration, WINDOW, crowd, np.random.default_rng(seed))

    return make


def test_copy_that_alters_nothing_is_the_clip_itself(altered: Callable[..., Samples], speech: Speech) -> None:
    samples = speech(0.8)
    same = altered(samples)
    np.testing.assert_array_equal(same, pad(samples, WINDOW))
    np.testing.assert_array_equal(same[4_000:16_800], samples)
    assert not same[:4_000].any()
    assert len(same) > WINDOW.length_samples


def test_speed_moves_pitch_along_stretch_and_pitch_do_not(altered: Callable[..., Samples]) -> None:
    """By place of the loudest frequency, and by how long it lasts."""
    for figures, hertz, seconds in (
        ({}, 400, 1.0),
        ({"speed": 1.1}, 440, 1 / 1.1),
        ({"speed": 0.5}, 200, 2.0),
        ({"stretch": 1.25}, 400, 0.8),
        ({"stretch": 0.5}, 400, 2.0),
        ({"pitch_semitones": 12.0}, 800, 1.0),
        ({"stretch": 1.25, "pitch_semitones": -12.0}, 200, 0.8),
    ):
        made = altered(_tone(400), **figures)
        assert _loudest_hz(made) == pytest.approx(hertz, rel=0.02), figures
        loud = np.flatnonzero(np.abs(made) > 0.2 * np.abs(made).max())
        assert (loud[-1] - loud[0]) / 16_000 == pytest.approx(seconds, abs=0.05), figures


def test_clip_shorter_than_the_vocoders_frame_can_be_stretched(altered: Callable[..., Samples]) -> None:
    made = altered(_tone(400, 0.04), stretch=1.25, pitch_semitones=2.0)
    assert np.flatnonzero(made).max() < 4_000 + 0.04 / 1.25 * 16_000 + 1
    assert made.any()


@pytest.mark.parametrize("colour", ["white", "pink", "brown", "babble"])
def test_noise_lies_as_far_below_active_speech_as_drawn(
    altered: Callable[..., Samples], speech: Speech, colour: str
) -> None:
    """However long the silence is that a short clip is padded with."""
    samples = speech(0.4)
    for snr_db in (0.0, 10.0, 25.0):
        added = altered(samples, noise=colour, snr_db=snr_db) - pad(samples, WINDOW)
        assert 20 * np.log10(active_rms(samples) / np.sqrt(np.mean(added**2))) == pytest.approx(snr_db, abs=0.05)
        assert active_rms(added[:3_000]) > 0.1 * active_rms(added)  # around the clip, too


def test_room_adds_an_echo_at_the_same_active_level(altered: Callable[..., Samples], speech: Speech) -> None:
    samples = speech(0.5)
    made = altered(samples, room=(0.4, 3.0))
    assert active_rms(made[4_000:12_000]) == pytest.approx(active_rms(samples), rel=1e-3)
    assert active_rms(made[12_000:14_000]) > 0.01 * active_rms(samples)
    assert len(made) >= 16_000 + 8_000


def test_tilt_is_linear_over_octaves(altered: Callable[..., Samples]) -> None:
    tones = [altered(_tone(hertz), tilt_db=12.0)[4_000:20_000] for hertz in (200, 800, 3_200)]
    levels = [20 * np.log10(active_rms(tone)) for tone in tones]
    assert levels[1] - levels[0] == pytest.approx(12 * 2 / np.log2(80), abs=0.05)
    assert levels[2] - levels[1] == pytest.approx(12 * 2 / np.log2(80), abs=0.05)


def test_gain_changes_the_level_and_never_clips(altered: Callable[..., Samples], speech: Speech) -> None:
    samples = speech(0.5)
    quiet, loud = altered(samples, gain_db=-10.0), altered(samples, gain_db=60.0)
    np.testing.assert_allclose(quiet, pad(samples, WINDOW) * 10**-0.5, rtol=1e-5)
    assert np.abs(loud).max() == pytest.approx(1)
    assert np.abs(loud).max() <= 1
    np.testing.assert_allclose(loud, pad(samples, WINDOW) / np.abs(samples).max(), atol=1e-6)  # the same shape


def test_draws_stay_within_their_ranges_and_reach_all_of_them() -> None:
    copy = Copy(
        speeds=(0.9, 1.1),
        stretch=(0.8, 1.2),
        pitch_semitones=(-2, 2),
        tilt_db=6,
        room=Room(reverberation_s=(0.2, 0.3), direct_db=(3, 4)),
        noise=("white", "babble", "babble"),
        snr_db=(5, 25),
        gain_db=(-10, 6),
    )
    drawn = [draw_alteration(copy, np.random.default_rng(seed)) for seed in range(1_000)]
    assert {each.speed for each in drawn} == {0.9, 1.1}
    assert 0.6 < np.mean([each.noise == "babble" for each in drawn]) < 0.73
    values = np.array(
        [
            (each.stretch, each.pitch_semitones, each.tilt_db, *(each.room or ()), each.snr_db, each.gain_db)
            for each in drawn
        ]
    )
    low, high = np.array([(0.8, 1.2), (-2, 2), (-6, 6), (0.2, 0.3), (3, 4), (5, 25), (-10, 6)]).T
    assert (values >= low).all()
    assert (values <= high).all()
    assert (np.ptp(values, axis=0) > 0.98 * (high - low)).all()
    assert np.abs(np.corrcoef(values.T) - np.eye(7)).max() < 0.15


def test_one_setting_does_not_change_what_another_draws() -> None:
    plain = draw_alteration(Copy(gain_db=(-10, 6)), np.random.default_rng(3))
    noisy = draw_alteration(Copy(gain_db=(-10, 6), room=True, noise=("pink",)), np.random.default_rng(3))
    assert plain.gain_db == noisy.gain_db
    assert noisy.room is not None
    assert plain.room is None


def test_default_copies_are_the_experiments_recipe() -> None:
    drawn = [draw_alteration(copy, np.random.default_rng(1)) for copy in Views().copies]
    assert [each.speed for each in drawn[:2]] == [0.9, 1.1]
    assert [each.noise is not None for each in drawn] == [False, False, True, True, False, True]
    assert [each.room is not None for each in drawn] == [False, False, False, False, True, True]
    assert all(-10 <= each.gain_db <= 6 for each in drawn)

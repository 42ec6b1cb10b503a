from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from training.augment.noise import COLOURS, LEVELS_DB, active_rms, add_noise, describe, hiss, noises, talkers
from training.data.clips import Clip, Collection
from training.data.synthetic import Colour, noise

Samples = npt.NDArray[np.float32]
Make = Callable[..., Clip]
Speech = Callable[..., Samples]


@pytest.fixture
def crowd(clip: Make, speech: Speech) -> Collection:
    """Two clips each of five speakers."""
    clips = [clip(f"ravdess_{actor:02d}", stem=str(take)) for actor in range(1, 6) for take in (1, 2)]
    voices = {each.key: speech(0.4, seed=number) for number, each in enumerate(clips)}
    return Collection(clips=tuple(clips), read=lambda each: voices[each.key])


def _alone(crowd: Collection) -> Collection:
    return Collection(clips=crowd.clips[:1], read=crowd.read)


def test_active_level_does_not_fall_with_pauses(speech: Speech) -> None:
    loud = noise(8_000, "white", np.random.default_rng(0))
    assert active_rms(loud) == pytest.approx(1, abs=0.1)
    assert active_rms(np.pad(loud, 4_000)) == pytest.approx(active_rms(loud), rel=0.15)
    assert active_rms(speech(0.01)) > 0  # shorter than a block


def test_noise_lies_as_far_below_active_speech_as_asked(speech: Speech) -> None:
    samples = np.pad(speech(0.5), 4_000)
    unit = noise(len(samples), "pink", np.random.default_rng(0))
    for level in LEVELS_DB:
        added = add_noise(samples, unit, level) - samples
        assert 20 * np.log10(active_rms(samples) / np.std(added)) == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize(("colour", "falls_db"), [("white", 0), ("pink", 10), ("brown", 20)])
def test_noise_can_be_heard_and_falls_by_its_colour(colour: Colour, falls_db: float) -> None:
    unit = hiss(50_000, colour, np.random.default_rng(0)).astype(float)
    power = np.abs(np.fft.rfft(unit)) ** 2 * 2 / len(unit) ** 2
    hertz = np.fft.rfftfreq(len(unit), 1 / 16_000)
    assert power[hertz > 45].sum() == pytest.approx(1, abs=0.01)
    low, high = (
        10 * np.log10(power[(hertz > centre / 1.3) & (hertz < centre * 1.3)].mean()) for centre in (200, 2_000)
    )
    assert low - high == pytest.approx(falls_db, abs=1)


def test_noise_has_unit_power_and_the_clips_length(crowd: Collection) -> None:
    made = noises(crowd.clips[0], 20_001, crowd)
    assert tuple(made) == COLOURS
    for unit in made.values():
        assert unit.shape == (20_001,)
        assert unit.dtype == np.float32
        assert np.mean(unit.astype(float) ** 2) == pytest.approx(1, rel=1e-4)


def test_noise_depends_on_the_clip_and_babble_alone_on_the_others(crowd: Collection) -> None:
    first, again, alone = (noises(crowd.clips[0], 9_000, each) for each in (crowd, crowd, _alone(crowd)))
    other = noises(crowd.clips[1], 9_000, crowd)
    for colour in COLOURS:
        np.testing.assert_array_equal(first[colour], again[colour])
        assert not np.array_equal(first[colour], other[colour])
        assert np.array_equal(first[colour], alone[colour]) == (colour != "babble")


def test_talkers_are_six_clips_of_others_in_whatever_order(crowd: Collection) -> None:
    chosen = talkers(crowd.clips[0], crowd.clips)
    assert chosen == talkers(crowd.clips[0], crowd.clips[::-1])
    assert len({each.key for each in chosen}) == 6
    assert "ravdess_01" not in {each.speaker for each in chosen}
    assert chosen != talkers(crowd.clips[1], crowd.clips)


def test_talkers_are_who_there_is_and_never_the_clip_itself(crowd: Collection, clip: Make) -> None:
    first, second = crowd.clips[:2]
    assert {each.key for each in talkers(first, crowd.clips[:4])} == {each.key for each in crowd.clips[2:4]}
    assert talkers(first, (first, second)) == (second,)  # its own speaker, for want of others
    same_audio = clip("ravdess_09", sha256=first.sha256)
    assert talkers(first, (first, same_audio)) == ()


def test_babble_is_made_of_the_others(crowd: Collection) -> None:
    first, *others = crowd.clips[:1] + crowd.clips[2:4]
    pair = Collection(clips=(first, *others), read=crowd.read)
    spectrum = np.abs(np.fft.rfft(noises(first, 6_400, pair)["babble"]))
    voices = sum(np.abs(np.fft.rfft(crowd.read(each))) for each in others)
    assert np.corrcoef(spectrum, voices)[0, 1] > 0.5


def test_babble_of_nobody_is_pink_noise_that_swells(crowd: Collection) -> None:
    babble = noises(crowd.clips[0], 16_000, _alone(crowd))["babble"].astype(float)
    envelope = (babble.reshape(-1, 320) ** 2).mean(axis=1)  # 50 a second
    beat = np.abs(np.fft.rfft(envelope - envelope.mean()))
    assert np.argmax(beat) == 4  # times a second
    assert "as there is no other clip" in describe(_alone(crowd).clips)


def test_description_says_what_the_babble_is_made_of(crowd: Collection) -> None:
    assert "babble: 6 other clips at once, of other speakers" in describe(crowd.clips)
    assert "20, 10, 5 dB" in describe(crowd.clips)
    assert "of the same speaker, the only one here" in describe(crowd.clips[:2])
    assert "2 to 6, as there are no more, other clips" in describe(crowd.clips[:4])

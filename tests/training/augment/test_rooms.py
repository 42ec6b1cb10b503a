import numpy as np
import numpy.typing as npt
import pytest

from training.augment.noise import active_rms
from training.augment.rooms import impulse_response, reverberate
from training.data.clips import RATE_HZ
from training.data.synthetic import noise, voiced

Samples = npt.NDArray[np.float32]


def _speech() -> Samples:
    return voiced(RATE_HZ, RATE_HZ, 150.0, -25.0, np.random.default_rng(0))


@pytest.mark.parametrize("reverberation_s", [0.15, 0.4, 0.7])
def test_echo_falls_by_60_db_in_the_time_asked_for(reverberation_s: float) -> None:
    """Measured as acousticians do: Schroeder's backward integral, from -5 to -25 dB."""
    response = impulse_response(reverberation_s, 6.0, np.random.default_rng(0)).astype(np.float64)
    left = np.cumsum(response[:0:-1] ** 2)[::-1]
    decay_db = 10 * np.log10(left / left[0])
    falls_s = (np.argmax(decay_db < -25) - np.argmax(decay_db < -5)) / RATE_HZ
    assert 3 * falls_s == pytest.approx(reverberation_s, rel=0.1)


@pytest.mark.parametrize("direct_db", [-3.0, 2.0, 12.0])
def test_direct_sound_is_as_much_louder_than_the_echo_as_asked(direct_db: float) -> None:
    response = impulse_response(0.3, direct_db, np.random.default_rng(0)).astype(np.float64)
    assert response[0] == 1
    assert not response[1:32].any()
    assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(direct_db, abs=0.01)


def test_shortest_room_still_has_an_echo() -> None:
    response = impulse_response(0.0001, 6.0, np.random.default_rng(0))
    assert np.isfinite(response).all()
    assert response[1:].any()


def test_reverberation_keeps_place_and_active_level() -> None:
    samples = _speech()
    response = impulse_response(0.4, 6.0, np.random.default_rng(0))
    heard = reverberate(samples, response)
    assert len(heard) == len(samples) + len(response) - 1
    assert heard.dtype == np.float32
    assert active_rms(heard[: len(samples)]) == pytest.approx(active_rms(samples), rel=1e-4)
    lag = np.argmax(np.correlate(heard, samples, mode="valid"))
    assert lag == 0
    assert np.abs(heard[len(samples) + 100 :]).max() > 1e-3 * np.abs(heard).max()


def test_reverberation_is_a_convolution() -> None:
    samples, response = (
        noise(700, "white", np.random.default_rng(0)),
        impulse_response(0.05, 0, np.random.default_rng(1)),
    )
    heard, expected = reverberate(samples, response), np.convolve(samples, response)
    np.testing.assert_allclose(heard / heard[0], expected / expected[0], atol=1e-3)


def test_reverberation_of_silence_is_silence() -> None:
    heard = reverberate(np.zeros(1_000, np.float32), impulse_response(0.1, 6.0, np.random.default_rng(0)))
    assert not heard.any()

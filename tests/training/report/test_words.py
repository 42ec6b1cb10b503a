"""An experiment is told in words that follow its settings."""

from pathlib import Path

import msgspec
import pytest

import training
from training.augment.view_settings import Copy, Views
from training.config import Experiment, load_experiment
from training.fitting.results import Energy
from training.fitting.summary import Spread, spread_of
from training.report.words import (
    classes_in_words,
    energy_in_words,
    figure_in_words,
    front_end_in_words,
    network_in_words,
    recipe_in_words,
    spread_in_words,
    views_in_words,
    window_in_words,
)

CONFIGS = Path(training.__file__).parent / "configs"


@pytest.fixture
def factory() -> Experiment:
    return load_experiment(CONFIGS / "factory.toml")


@pytest.fixture
def paper() -> Experiment:
    return load_experiment(CONFIGS / "paper.toml")


def test_front_end_is_told_by_what_it_does(factory: Experiment, paper: Experiment) -> None:
    plain = msgspec.structs.replace(
        factory.features, pitch=False, delta_frames=0, window_range_db=None, mean_removed=0.0
    )
    assert front_end_in_words(plain) == (
        "20 MFCC of 40 mel bands, 50 to 7,600 Hz; frames of 64 ms every 20 ms at 16 kHz; floor of -80 dB; fixed mean "
        "and deviation per column"
    )
    told = front_end_in_words(factory.features)
    assert "pitch and voicing, slopes over 2 frames either way;" in told
    assert "more than 50 dB below the window's loudest band is raised" in told
    assert "50% of each coefficient's mean" in told
    assert "32 ms at 16 kHz, centred; clipped 80 dB below the loudest" in front_end_in_words(paper.features)
    bands = msgspec.structs.replace(plain, kind="log-mel", coefficients=40)
    assert front_end_in_words(bands).startswith("40 log-mel bands, 50 to")
    assert window_in_words(factory.window, 16_000) == "3 s, every 0.5 s"


def test_network_is_told_from_input_to_output(factory: Experiment, paper: Experiment) -> None:
    assert network_in_words(factory) == (
        "Conv1D (32 filters, 5 frames, stride 2), Conv1D (48 filters, 5 frames, stride 2), LSTM (64), mean and "
        "deviation over time, dropout 0.3; softmax over 7 emotions, summed to 3 classes"
    )
    assert network_in_words(paper).endswith("dropout 0.3; softmax over 3 classes")


def test_classes_name_their_emotions(factory: Experiment) -> None:
    assert classes_in_words(factory) == (
        "pleasant: happy, surprised; neutral: neutral; unpleasant: angry, fearful, disgust, sad"
    )


def test_views_are_told_by_what_they_alter(factory: Experiment, paper: Experiment) -> None:
    assert "60% of the sad, angry, fearful and disgusted clips and 25%" in views_in_words(paper)
    quiet = Views(copies=(Copy(tilt_db=3.0),), channel=0.0, time_masks=0, coefficient_masks=0)
    told = views_in_words(msgspec.structs.replace(factory, views=quiet))
    assert told == "the clean clip and 1 altered copy (another spectral tilt)"
    assert "in a room, in noise" in views_in_words(factory)


def test_recipe_leaves_out_what_is_not_done(factory: Experiment, paper: Experiment) -> None:
    assert "falling along a cosine" in recipe_in_words(factory)
    assert "fitted anew with the validation speakers" in recipe_in_words(factory)
    assert recipe_in_words(paper) == "at most 20 epochs; every view once per epoch; batches of 32; learning rate 0.001"


def test_figures_are_told_with_their_spread() -> None:
    assert spread_in_words(None) == "-"
    assert spread_in_words(spread_of([0.5])) == "50.0"
    assert spread_in_words(Spread(mean=0.5, deviation=0.02, low=0.48, high=0.53)) == "50.0 ± 2.0 (48.0 to 53.0)"
    assert figure_in_words("emodb UAR unseen") == "EMO-DB UAR (never trained on)"
    assert figure_in_words("corpus-macro UAR") == "corpus-macro UAR"


def test_energy_is_told_with_its_place() -> None:
    energy = Energy(kilowatt_hours=0.0013, co2_kg=0.0006, country="world", seconds=390.0)
    assert energy_in_words(energy) == (
        "1.3 Wh in 6 minutes, 0.6 g of CO2 equivalents by the world's mean mix (estimated by codecarbon)"
    )
    long = msgspec.structs.replace(energy, country="DEU", seconds=9_000.0)
    assert "in 2.5 h" in energy_in_words(long)
    assert "the mix of DEU" in energy_in_words(long)
    assert energy_in_words(None) == "not measured"

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from training.clips import Clip, Collection
from training.config import Experiment, Views, load_experiment
from training.corpora import Emotion
from training.examples import Examples, draw_weights, epoch_batches, load_examples

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "small.toml"


@pytest.fixture
def experiment() -> Experiment:
    return load_experiment(CONFIG)


@pytest.fixture
def examples(
    experiment: Experiment,
    clip: Callable[..., Clip],
    speech: Callable[..., npt.NDArray[np.float32]],
    tmp_path: Path,
) -> Examples:
    clips = tuple(
        clip(speaker, emotion, str(k))
        for speaker, count in (("tess_OAF", 4), ("ravdess_01", 1))
        for emotion in (Emotion.HAPPY, Emotion.NEUTRAL, Emotion.SAD, Emotion.ANGRY)
        for k in range(count)
    )
    collection = Collection(clips=clips, read=lambda item: speech(1.0, seed=int(item.sha256[:8], 16)))
    first = load_examples(collection, clips, experiment, tmp_path)
    kept = Collection(clips=clips, read=lambda _: pytest.fail("the store was not used"))
    again = load_examples(kept, clips, experiment, tmp_path)
    np.testing.assert_array_equal(first.frames, again.frames)
    return first


def test_draws_balance_classes_and_temper_speakers(examples: Examples) -> None:
    weights = draw_weights(examples, speaker_power=1.0)
    owner = np.array([examples.clips[index].label for index in examples.owner])
    speakers = np.array([examples.clips[index].speaker for index in examples.owner])
    for label in set(owner):
        assert weights[owner == label].sum() == pytest.approx(1 / 3)
        share = weights[(owner == label) & (speakers == "ravdess_01")].sum() * 3
        assert share == pytest.approx(0.5)
    assert len(set(draw_weights(examples, speaker_power=0.0)[owner == owner[0]].round(12))) == 1


def test_statistics_normalise_the_training_windows(examples: Examples, experiment: Experiment) -> None:
    plain = Views(channel=0, time_masks=0, coefficient_masks=0, copies=6)
    recipe = msgspec.structs.replace(experiment.recipe, draws=640, batch=64)
    still = msgspec.structs.replace(experiment, views=plain, recipe=recipe)
    targets = np.arange(len(examples.clips))
    batches = list(epoch_batches(examples, targets, still, examples.normalisation(), np.random.default_rng(1)))
    assert len(batches) == 10
    features, wanted = batches[0]
    frames = 1 + (still.window.length_samples - still.features.fft_samples) // still.features.hop_samples
    assert features.shape == (64, frames, still.features.coefficients)
    assert features.dtype == np.float32
    assert wanted.shape == (64,)
    everything = np.concatenate([batch for batch, _ in batches])
    assert abs(everything.mean()) < 0.3
    assert 0.7 < everything.std() < 1.3


def test_masks_hide_at_most_their_share(examples: Examples, experiment: Experiment) -> None:
    views = Views(channel=0, time_masks=1, time_mask_share=0.25, coefficient_masks=1, coefficient_mask_share=0.5)
    masked = msgspec.structs.replace(experiment, views=views)
    targets = np.zeros(len(examples.clips), dtype=np.int64)
    features, _ = next(epoch_batches(examples, targets, masked, examples.normalisation(), np.random.default_rng(1)))
    hidden = features == 0
    assert hidden.all(axis=2).sum(axis=1).max() <= 0.25 * features.shape[1]
    assert hidden.all(axis=1).sum(axis=1).max() <= 0.5 * features.shape[2]
    assert hidden.any()

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.decision import CLASSES
from broker.contract.features import FeatureSpec, analyse, extract, frame_count
from broker.contract.windows import WindowSpec
from training.augment.examples import Examples, _silence_edges, _vary, draw_weights, epoch_batches, load_examples
from training.augment.view_settings import Copy, Views
from training.config import Experiment, PaperLstm, Recipe
from training.data.clips import Clip, Collection
from training.data.corpora import Emotion

Features = npt.NDArray[np.float32]
Make = Callable[..., Clip]
Speech = Callable[..., npt.NDArray[np.float32]]

STILL = Views(copies=(Copy(speeds=(0.9, 1.1)),), channel=0, time_masks=0, coefficient_masks=0)
"""Nothing varies per draw."""

FEATURES = FeatureSpec(
    coefficients=8, fft_samples=1024, hop_samples=320, mel_bands=20, floor_db=-60, pitch=True, mean_removed=0.5
)


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(
        name="examples",
        features=msgspec.structs.replace(FEATURES, delta_frames=2),
        window=WindowSpec(length_samples=16_000, hop_samples=8_000),
        views=STILL,
        network=PaperLstm(),
        recipe=Recipe(epochs=1, patience=1, draws=640, batch=64),
    )


@pytest.fixture
def examples(experiment: Experiment, clip: Make, speech: Speech, tmp_path: Path) -> Examples:
    clips = tuple(
        clip(speaker, emotion, str(k))
        for speaker, count in (("tess_OAF", 4), ("ravdess_01", 1))
        for emotion in (Emotion.HAPPY, Emotion.NEUTRAL, Emotion.SAD, Emotion.ANGRY)
        for k in range(count)
    )
    collection = Collection(clips=clips, read=lambda item: speech(0.8, seed=int(item.sha256[:8], 16)))
    first = load_examples(collection, clips, experiment, tmp_path)
    kept = Collection(clips=clips, read=lambda _: pytest.fail("the store was not used"))
    again = load_examples(kept, clips, experiment, tmp_path)
    np.testing.assert_array_equal(first.frames, again.frames)
    return first


def _batches(examples: Examples, experiment: Experiment, seed: int = 1) -> list[tuple[Features, Features]]:
    targets = np.eye(len(examples.clips), dtype=np.float32)
    normalisation = examples.normalisation()
    return list(epoch_batches(examples, targets, experiment, normalisation, np.random.default_rng(seed)))


def test_draws_balance_classes_and_temper_speakers(examples: Examples) -> None:
    weights = draw_weights(examples, speaker_power=1.0)
    owner = np.array([examples.clips[index].label for index in examples.owner])
    speakers = np.array([examples.clips[index].speaker for index in examples.owner])
    for label in set(owner):
        assert weights[owner == label].sum() == pytest.approx(1 / 3)
        share = weights[(owner == label) & (speakers == "ravdess_01")].sum() * 3
        assert share == pytest.approx(0.5)
    assert len(set(draw_weights(examples, speaker_power=0.0)[owner == owner[0]].round(12))) == 1


def test_prior_is_what_is_drawn(examples: Examples, experiment: Experiment) -> None:
    recipe = experiment.recipe
    assert recipe.draws
    assert examples.prior(recipe) == pytest.approx([1 / 3] * 3, abs=1e-6)
    labels = [examples.clips[index].label for index in examples.owner]
    shares = [labels.count(label) / len(labels) for label in CLASSES]
    assert max(shares) > 0.4
    assert examples.prior(msgspec.structs.replace(recipe, draws=0)) == pytest.approx(shares, abs=1e-6)


def test_views_of_a_clip_lie_end_to_end(examples: Examples) -> None:
    views = 1 + len(STILL.copies)
    np.testing.assert_array_equal(examples.owner, np.repeat(np.arange(len(examples.clips)), views))
    np.testing.assert_array_equal(examples.starts[1:], examples.starts[:-1] + examples.counts[:-1])
    assert examples.starts[0] == 0
    assert examples.starts[-1] + examples.counts[-1] == len(examples.frames)
    assert examples.frames.shape[1] == FEATURES.raw_columns
    assert examples.counts.min() >= examples.window_frames


def test_statistics_normalise_the_training_windows(examples: Examples, experiment: Experiment) -> None:
    """All columns of them, slopes too; drawn from all views alike, as the statistics are."""
    plain = msgspec.structs.replace(experiment.recipe, draws=0)
    batches = _batches(examples, msgspec.structs.replace(experiment, recipe=plain), 1)
    batches += _batches(examples, msgspec.structs.replace(experiment, recipe=plain), 2)
    everything = np.concatenate([batch for batch, _ in batches])
    frames = frame_count(experiment.window.length_samples, experiment.features)
    assert everything.shape[1:] == (frames, experiment.features.columns) == examples.window_shape
    assert everything.dtype == np.float32
    assert np.abs(everything.mean(axis=(0, 1))).max() < 0.15
    np.testing.assert_allclose(everything.std(axis=(0, 1)), 1, atol=0.15)


def test_window_is_what_a_node_computes_of_the_same_samples(
    examples: Examples, experiment: Experiment, clip: Make, speech: Speech, tmp_path: Path
) -> None:
    """A clip that fills one window and its margins, drawn at every place."""
    clean = msgspec.structs.replace(experiment, views=msgspec.structs.replace(STILL, copies=()))
    samples = speech(1.0)
    collection = Collection(clips=(clip(),), read=lambda _: samples)
    only = load_examples(collection, collection.clips, clean, tmp_path)
    normalisation = examples.normalisation()
    padded, hop = np.pad(samples, 4_000), experiment.features.hop_samples
    heard = [
        extract(padded[start : start + 16_000], experiment.features, normalisation) for start in range(0, 8_001, hop)
    ]
    random = np.random.default_rng(0)
    for _ in range(10):
        batches = epoch_batches(only, np.eye(1, dtype=np.float32), clean, normalisation, random)
        window = next(iter(batches))[0][0]
        assert min(np.abs(window - each).max() for each in heard) < 1e-4


def test_batches_are_full_and_tell_whose_they_are(examples: Examples, experiment: Experiment) -> None:
    batches = _batches(examples, experiment)
    assert len(batches) == 10
    for features, wanted in batches:
        assert features.shape == (64, *examples.window_shape)
        assert wanted.shape == (64, len(examples.clips))
        np.testing.assert_array_equal(wanted.sum(axis=1), 1)


def _ones(spec: FeatureSpec, count: int = 400) -> Features:
    return np.ones((count, 47, spec.columns), dtype=np.float32)


@pytest.mark.parametrize("delta_frames", [0, 2])
def test_channel_colours_coefficients_and_neither_pitch_nor_slopes(delta_frames: int) -> None:
    spec = msgspec.structs.replace(FEATURES, delta_frames=delta_frames)
    batch = _ones(spec)
    _vary(batch, msgspec.structs.replace(STILL, channel=0.4), spec, np.random.default_rng(0))
    colour = batch[:, :, :8] - 1
    assert (np.ptp(colour, axis=1) == 0).all()
    assert colour[:, 0].std() == pytest.approx(0.4, rel=0.05)
    assert (batch[:, :, 8:] == 1).all()


@pytest.mark.parametrize("delta_frames", [0, 2])
def test_coefficient_masks_hide_their_slopes_and_never_pitch(delta_frames: int) -> None:
    spec = msgspec.structs.replace(FEATURES, delta_frames=delta_frames)
    batch = _ones(spec)
    _vary(
        batch,
        msgspec.structs.replace(STILL, coefficient_masks=1, coefficient_mask_share=0.5),
        spec,
        np.random.default_rng(0),
    )
    assert (np.ptp(batch, axis=1) == 0).all()
    hidden = batch[:, 0, :8] == 0
    assert set(hidden.sum(axis=1)) == {0, 1, 2, 3, 4}
    assert (np.abs(np.diff(hidden.astype(int), axis=1)).sum(axis=1) <= 2).all()  # runs
    assert (batch[:, :, 8:11] == 1).all()
    if delta_frames:
        np.testing.assert_array_equal(batch[:, 0, 11:19] == 0, hidden)
        assert (batch[:, :, 19:] == 1).all()


@pytest.mark.parametrize("delta_frames", [0, 2])
def test_pitch_dropout_hides_pitch_in_its_share_of_windows(delta_frames: int) -> None:
    spec = msgspec.structs.replace(FEATURES, delta_frames=delta_frames)
    batch = _ones(spec)
    _vary(batch, msgspec.structs.replace(STILL, pitch_dropout=0.25), spec, np.random.default_rng(0))
    without = batch[:, 0, 8] == 0
    assert without.mean() == pytest.approx(0.25, abs=0.06)
    of_pitch = np.isin(np.arange(spec.columns), (8, 9, 10, 19, 20, 21))
    assert (batch[without][:, :, of_pitch] == 0).all()
    assert (batch[~without] == 1).all()
    assert (batch[:, :, ~of_pitch] == 1).all()


def test_pitch_dropout_without_pitch_changes_nothing() -> None:
    spec = msgspec.structs.replace(FEATURES, pitch=False, delta_frames=1)
    batch = _ones(spec)
    _vary(batch, msgspec.structs.replace(STILL, pitch_dropout=1.0), spec, np.random.default_rng(0))
    assert (batch == 1).all()


def test_time_masks_hide_runs_of_at_most_their_share() -> None:
    batch = _ones(FEATURES)
    _vary(batch, msgspec.structs.replace(STILL, time_masks=1, time_mask_share=0.25), FEATURES, np.random.default_rng(0))
    hidden = (batch == 0).all(axis=2)
    assert ((batch == 1).all(axis=2) | hidden).all()
    assert hidden.sum(axis=1).max() == int(0.25 * 47)
    assert (np.abs(np.diff(hidden.astype(int), axis=1)).sum(axis=1) <= 2).all()


def test_edges_leave_a_third_and_silence_before_features_are_made(speech: Speech) -> None:
    frames = analyse(speech(1.0), FEATURES)
    windows = np.repeat(frames[None], 500, axis=0)
    _silence_edges(windows, 0.5, FEATURES, np.random.default_rng(0))
    kept = (windows == frames).all(axis=2)
    cut = ~kept.all(axis=1)
    assert cut.mean() == pytest.approx(0.5, abs=0.08)
    assert kept.sum(axis=1).min() >= len(frames) / 3
    assert (np.abs(np.diff(kept.astype(int), axis=1)).sum(axis=1) <= 2).all()  # one stretch remains
    assert {(bool(start), bool(end)) for start, end in kept[cut][:, [0, -1]]} >= {(True, False), (False, True)}
    silenced = windows[~kept]
    assert (silenced[:, FEATURES.mel_bands :] == 0).all()  # neither pitch nor voice
    assert (silenced[:, : FEATURES.mel_bands] >= FEATURES.floor_db).all()
    quiet = frames[:, : FEATURES.mel_bands].mean(axis=0) - 20
    assert (silenced[:, : FEATURES.mel_bands] <= np.maximum(quiet, FEATURES.floor_db)).all()


def test_digital_silence_is_among_the_edges_as_a_node_would_hear_it(speech: Speech) -> None:
    frames = analyse(speech(1.0), FEATURES)
    silence = analyse(np.zeros(FEATURES.fft_samples, np.float32), FEATURES)[0]
    windows = np.repeat(frames[None], 200, axis=0)
    _silence_edges(windows, 1.0, FEATURES, np.random.default_rng(0))
    digital = np.isclose(windows, silence, atol=1e-3).all(axis=2).any(axis=1)
    assert 0.3 < digital.mean() < 0.7


def test_no_edges_leave_windows_alone(speech: Speech) -> None:
    frames = analyse(speech(1.0), FEATURES)[None]
    windows = frames.copy()
    _silence_edges(windows, 0.0, FEATURES, np.random.default_rng(0))
    np.testing.assert_array_equal(windows, frames)


def test_draws_are_the_same_by_the_same_seed_and_vary(examples: Examples, experiment: Experiment) -> None:
    everything = msgspec.structs.replace(STILL, channel=0.4, time_masks=2, coefficient_masks=1, edges=0.5)
    varied = msgspec.structs.replace(experiment, views=msgspec.structs.replace(everything, pitch_dropout=0.2))
    before = examples.frames.copy()
    one, same, other = (_batches(examples, varied, seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(examples.frames, before)
    assert np.isfinite(one).all()


def test_silent_edges_count_in_the_mean_that_is_removed(
    experiment: Experiment, clip: Make, speech: Speech, tmp_path: Path
) -> None:
    """As they do on a node: the silence is put into frames, not into features."""
    features = msgspec.structs.replace(FEATURES, mean_removed=1.0)
    views = msgspec.structs.replace(STILL, edges=1.0)
    cut = msgspec.structs.replace(experiment, features=features, views=views)
    collection = Collection(clips=(clip(),), read=lambda _: speech(2.0))
    only = load_examples(collection, collection.clips, cut, tmp_path)
    still = _batches(only, msgspec.structs.replace(cut, views=STILL))[0][0]
    silenced = _batches(only, cut)[0][0]
    assert not np.allclose(silenced, still, atol=1)
    statistics = only.normalisation()
    made = silenced * np.array(statistics.deviation, np.float32) + np.array(statistics.mean, np.float32)
    np.testing.assert_allclose(made[:, :, :8].mean(axis=1), 0, atol=1e-3)


def test_mixed_windows_and_targets_are_mixed_alike(examples: Examples, experiment: Experiment) -> None:
    still = Views(channel=0, time_masks=0, coefficient_masks=0)
    recipe = msgspec.structs.replace(experiment.recipe, mixup=0.3)
    mixed = msgspec.structs.replace(experiment, views=still, recipe=recipe)
    targets = np.eye(len(examples.clips), dtype=np.float32)
    _, wanted = next(epoch_batches(examples, targets, mixed, examples.normalisation(), np.random.default_rng(1)))
    np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-5)
    assert wanted.max(axis=1).min() >= 0.5
    assert (wanted.max(axis=1) < 0.99).any()

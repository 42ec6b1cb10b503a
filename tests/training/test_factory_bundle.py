from pathlib import Path

import numpy as np
import pytest

from broker.contract.bundle import Bundle, read_bundle
from edge_node.models import factory_bundle
from training.data.clips import Collection, find_recordings, make_clip, read_clip, to_float, usable
from training.data.splits import ALL_SPEAKERS
from training.exam.card import read_card
from training.exam.evaluate import evaluate
from training.model.pack import golden_features
from training.model.runtime import prove

MODELS = Path(__file__).parents[2] / "edge_node" / "models"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(factory_bundle(), "factory.bundle")


def test_factory_bundle_fits_its_limits(bundle: Bundle) -> None:
    assert len(factory_bundle()) <= 400_000
    assert len(bundle.model) <= 60_000
    assert bundle.reference is not None


def test_factory_bundle_reproduces_its_golden_vectors(bundle: Bundle) -> None:
    prove(bundle, "factory.bundle")


def test_factory_golden_vectors_are_made_of_synthetic_audio(bundle: Bundle) -> None:
    np.testing.assert_allclose(bundle.golden.features, golden_features(bundle.manifest), atol=1e-3)


def test_factory_weights_are_those_of_all_speakers_and_its_figures_those_of_new_ones(bundle: Bundle) -> None:
    training = bundle.manifest.training
    assert training.split == ALL_SPEAKERS
    assert training.held_out_speakers == ()
    summary = read_card(bundle).cross_validation["factory"]
    assert summary.by == "speaker"
    assert len(summary.seeds) == 3
    assert {scores.fold for scores in summary.folds} == {0, 1, 2, 3}
    assert set(summary.speakers) == {name for name in training.trained_speakers if not name.startswith("emodb")}


def test_factory_licence_is_the_one_beside_it(bundle: Bundle) -> None:
    assert bundle.licence == (MODELS / "LICENSE").read_text(encoding="utf-8")
    assert "non-commercial" in bundle.licence


def test_factory_features_can_be_computed_as_the_audio_comes(bundle: Bundle) -> None:
    assert bundle.manifest.features.is_local


def test_factory_card_is_reproduced_on_a_corpus_it_never_heard(bundle: Bundle, datasets: Path) -> None:
    if not (datasets / "emodb").is_dir():
        pytest.skip(f"no EMO-DB at {datasets}")
    clips, samples = [], {}
    for path, name, emotion in usable(find_recordings(datasets / "emodb")):
        pcm = read_clip(path)
        clips.append(make_clip(name, emotion, "", pcm, 0))
        samples[clips[-1].key] = to_float(pcm)
    (group,) = evaluate(bundle, Collection(clips=tuple(clips), read=lambda clip: samples[clip.key]), seen=False).groups
    (told,) = (each for each in read_card(bundle).speakers if each.standing == "cross-corpus")
    assert group.speakers == told.speakers
    assert group.same_windows == pytest.approx(told.same_windows, abs=0.01)
    for model, figures in group.models.items():
        assert figures.macro_uar == pytest.approx(told.models[model].macro_uar, abs=0.01)
        assert set(figures.decided) == set(told.models[model].decided)

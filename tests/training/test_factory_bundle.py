from pathlib import Path

import numpy as np
import pytest

from broker.contract.bundle import Bundle, read_bundle
from broker.contract.decision import Label
from edge_node.models import factory_bundle
from training.clips import Collection, find_recordings, make_clip, read_clip, to_float, usable
from training.evaluate import evaluate
from training.pack import golden_features
from training.replay import judge, listen
from training.runtime import Runner, prove

MODELS = Path(__file__).parents[2] / "edge_node" / "models"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(factory_bundle(), "factory.bundle")


def test_factory_bundle_fits_its_limits(bundle: Bundle) -> None:
    assert len(factory_bundle()) <= 400_000
    assert len(bundle.model) <= 150_000
    assert bundle.reference is not None


def test_factory_bundle_reproduces_its_golden_vectors(bundle: Bundle) -> None:
    prove(bundle, "factory.bundle")


def test_factory_golden_vectors_are_made_of_synthetic_audio(bundle: Bundle) -> None:
    np.testing.assert_allclose(bundle.golden.features, golden_features(bundle.manifest), atol=1e-3)


def test_factory_weights_are_those_of_a_speaker_disjoint_fold(bundle: Bundle) -> None:
    training = bundle.manifest.training
    assert training.split == "by speaker, fold 0"
    held_out = set(training.held_out_speakers)
    assert held_out == {"ravdess_01", "ravdess_02", "ravdess_03", "ravdess_04", "ravdess_05", "savee_DC"}
    assert not held_out & {*training.trained_speakers, *training.validation_speakers}


def test_factory_licence_is_the_one_beside_it(bundle: Bundle) -> None:
    assert bundle.licence == (MODELS / "LICENSE").read_text(encoding="utf-8")
    assert "non-commercial" in bundle.licence


def test_factory_features_are_causal(bundle: Bundle) -> None:
    assert not bundle.manifest.features.centred
    assert bundle.manifest.features.top_db is None


def test_factory_says_all_three_labels_on_a_speaker_it_never_heard(bundle: Bundle, datasets: Path) -> None:
    infer = Runner(bundle.model, "factory")
    manifest = bundle.manifest
    folder = datasets / "ravdess" / "Actor_01"
    if not folder.is_dir():
        pytest.skip(f"no RAVDESS Actor_01 at {folder}")
    said: set[Label] = set()
    for path in find_recordings(folder).recordings:
        samples = to_float(read_clip(path))
        heard = listen(samples, manifest.features, manifest.normalisation, manifest.window)
        said |= {decision.label for decision in judge(heard, infer, manifest.decision).decisions}
    assert said >= {Label.PLEASANT, Label.NEUTRAL, Label.UNPLEASANT}


def test_factory_card_is_reproduced_on_held_out_speakers(bundle: Bundle, datasets: Path) -> None:
    held_out = bundle.manifest.training.held_out_speakers
    clips, samples = [], {}
    for path, name, emotion in usable(find_recordings(datasets)):
        if name.speaker in held_out:
            pcm = read_clip(path)
            clips.append(make_clip(name, emotion, "", pcm, 0))
            samples[clips[-1].key] = to_float(pcm)
    if {clip.speaker for clip in clips} != set(held_out):
        pytest.skip(f"{datasets} lacks some of the held-out speakers")
    collection = Collection(clips=tuple(clips), read=lambda clip: samples[clip.key])
    (group,) = evaluate(bundle, collection, seen=False).groups
    assert group.standing == "held out"
    assert group.same_windows == pytest.approx(bundle.card["float_and_quantized_decide_alike"], abs=0.01)
    for model, figures in group.models.items():
        card = bundle.card["held_out"][model]
        assert figures.macro_uar == pytest.approx(card["macro_uar"], abs=0.01)
        assert figures.pooled.accuracy == pytest.approx(card["pooled"]["accuracy"], abs=0.01)

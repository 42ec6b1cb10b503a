from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES
from broker.contract.errors import BundleError, DataError, SettingsError
from training.__main__ import main
from training.augment.noise import COLOURS, LEVELS_DB
from training.data.clips import Collection
from training.data.prepare import open_collection
from training.exam.evaluate import Evaluation, evaluate, grade
from training.exam.predictions import read_predictions
from training.exam.replay import CLIP_RULE, RULE, judge, listen, loudest
from training.exam.sitting import Exam, predictions_of, sit
from training.exam.tables import print_evaluation
from training.model.runtime import Runner


@pytest.fixture(scope="module")
def bundle(examined_bundle: Bundle) -> Bundle:
    return examined_bundle


@pytest.fixture(scope="module")
def two(tiny_corpora: Path) -> Collection:
    """A held-out speaker of RAVDESS and one of SAVEE, by the names of the factory model's."""
    opened = [open_collection(tiny_corpora / folder)[0] for folder in ("Actor_01", "AudioData/DC")]
    readers = {clip.key: each.read for each in opened for clip in each.clips}
    clips = tuple(clip for each in opened for clip in each.clips[::3])
    long = {clip.key: np.tile(readers[clip.key](clip), 3) for clip in clips}  # 3.6 s: two windows
    return Collection(clips=clips, read=lambda clip: long[clip.key])


@pytest.fixture(scope="module")
def exam(bundle: Bundle, two: Collection) -> Exam:
    return sit(bundle, two, seen=False, noise=True)


def _some(collection: Collection, *speakers: str) -> Collection:
    clips = tuple(clip for clip in collection.clips if clip.speaker in speakers)
    return msgspec.structs.replace(collection, clips=clips)


def test_evaluation_holds_both_rules_and_both_models_in_quiet_and_noise(exam: Exam) -> None:
    (group,) = grade(exam).groups
    assert group.standing == "held out"
    stages = [(group.models, group.clip, 9), *((each.pooled.models, each.pooled.clip, 27) for each in group.noise)]
    for stream, clip, clips in stages:
        for models in (stream, clip):
            assert list(models) == ["float", "quantized"]
            assert {figures.pooled.clips for figures in models.values()} == {clips}
            assert all(set(figures.corpora) == {"ravdess", "savee"} for figures in models.values())
            assert all(figures.ece is not None for figures in models.values())
    assert [level.below_speech_db for level in group.noise] == list(LEVELS_DB)
    for level in group.noise:
        assert tuple(level.colours) == COLOURS
        hits = [sum(np.diag(each.models["quantized"].pooled.confusion)) for each in level.colours.values()]
        assert sum(np.diag(level.pooled.models["quantized"].pooled.confusion)) == sum(hits)


def test_stream_is_the_nodes_windows_and_clip_its_loudest_one(bundle: Bundle, two: Collection, exam: Exam) -> None:
    manifest = bundle.manifest
    infer = Runner(bundle.model, "factory")
    sitting = exam.sittings[0]
    for clip, stream, one in list(
        zip(
            sitting.clips,
            sitting.verdicts[None, "stream", "quantized"],
            sitting.verdicts[None, "clip", "quantized"],
            strict=True,
        )
    )[:3]:
        samples = two.read(clip)
        for verdict, heard in ((stream, samples), (one, loudest(samples, manifest.features, manifest.window))):
            windows = listen(heard, manifest.features, manifest.normalisation, manifest.window)
            expected = judge(windows, infer, manifest.decision)
            np.testing.assert_array_equal(verdict.mean, expected.mean)
            assert verdict.windows == expected.windows
        assert (stream.windows, one.windows) == (2, 1)


def test_windows_that_a_node_answers_are_counted_right_or_wrong(exam: Exam) -> None:
    sitting = exam.sittings[0]
    told = [
        (decision.label, clip.label)
        for clip, verdict in zip(sitting.clips, sitting.verdicts[None, "stream", "quantized"], strict=True)
        for decision in verdict.decisions
        if decision.label in CLASSES
    ]
    figures = grade(exam).groups[0].models["quantized"]
    assert figures.wrong_share == sum(said != truth for said, truth in told) / len(told)
    assert sum(figures.decided[label] for label in CLASSES) == len(told)


def test_figures_of_a_clip_do_not_depend_on_who_else_is_there_but_for_babble(
    bundle: Bundle, two: Collection, exam: Exam
) -> None:
    alone = sit(bundle, _some(two, "savee_DC"), seen=False, noise=True)
    first = next(index for index, clip in enumerate(exam.sittings[0].clips) if clip.speaker == "savee_DC")
    for (condition, rule, model), verdicts in alone.sittings[0].verdicts.items():
        if condition and condition.colour == "babble":
            continue
        for verdict, among in zip(verdicts, exam.sittings[0].verdicts[condition, rule, model][first:], strict=True):
            np.testing.assert_array_equal(verdict.mean, among.mean)
    assert exam.noise is not None
    assert "of other speakers" in exam.noise
    assert alone.noise is not None
    assert "of the same speaker" in alone.noise


def test_noise_changes_what_is_heard(exam: Exam) -> None:
    verdicts = exam.sittings[0].verdicts
    quiet = np.stack([verdict.mean for verdict in verdicts[None, "stream", "quantized"]])
    shifts = [
        np.abs(np.stack([verdict.mean for verdict in items]) - quiet).mean()
        for (condition, rule, model), items in verdicts.items()
        if condition is not None and (rule, model) == ("stream", "quantized")
    ]
    assert len(shifts) == len(COLOURS) * len(LEVELS_DB)
    assert min(shifts) > 0.001


def test_clip_that_the_gate_would_silence_is_judged_and_counted(bundle: Bundle, two: Collection) -> None:
    first = two.clips[0]
    faint = msgspec.structs.replace(two, read=lambda clip: two.read(clip) * np.float32(1e-4 if clip == first else 1))
    (group,) = evaluate(bundle, _some(faint, "ravdess_01"), seen=False).groups
    assert group.silenced == 1
    assert group.silent_share == pytest.approx(2 / 12)
    assert group.models["quantized"].pooled.clips == 6
    assert sum(group.models["quantized"].pooled.unheard) == 0
    assert sum(group.models["quantized"].decided.values()) == group.windows == 12


def test_speakers_seen_in_training_need_to_be_asked_for(bundle: Bundle, tiny_corpora: Path) -> None:
    known = open_collection(tiny_corpora / "AudioData" / "JK")[0]
    with pytest.raises(DataError, match="--speakers all"):
        evaluate(bundle, known, seen=False)
    (group,) = evaluate(bundle, known, seen=True).groups
    assert (group.standing, group.is_seen) == ("training", True)
    assert "optimistic" in group.note


def test_corpus_of_ones_own_is_held_out_and_counts(bundle: Bundle, two: Collection) -> None:
    own = {
        clip.key: msgspec.structs.replace(clip, corpus="mine", speaker=f"mine_{clip.speaker}", sex=None)
        for clip in two.clips[:4]
    }
    originals = {clip.key: two.clips[number] for number, clip in enumerate(own.values())}
    collection = Collection(clips=tuple(own.values()), read=lambda clip: two.read(originals[clip.key]))
    (group,) = evaluate(bundle, collection, seen=False).groups
    assert group.standing == "held out"
    assert set(group.models["quantized"].corpora) == {"mine"}
    assert group.breakdown is not None
    assert set(group.breakdown.sexes) == {"unknown"}


def test_bundle_of_another_rate_is_refused(bundle: Bundle, two: Collection) -> None:
    features = msgspec.structs.replace(bundle.manifest.features, sample_rate_hz=32_000, fft_samples=2_048)
    manifest = msgspec.structs.replace(bundle.manifest, features=features)
    with pytest.raises(BundleError, match="hears 32000 Hz"):
        evaluate(msgspec.structs.replace(bundle, manifest=manifest), two, seen=False)


def test_predictions_are_those_of_the_figures(exam: Exam) -> None:
    predictions = predictions_of(exam)
    figures = grade(exam).groups[0].models["quantized"]
    assert len(predictions) == figures.pooled.clips
    right = sum(item.decided == item.truth for item in predictions)
    assert right / len(predictions) == pytest.approx(figures.pooled.accuracy)
    for item in predictions:
        assert item.decided == CLASSES[int(np.argmax(item.probabilities))]


def test_tables_say_the_rules_and_every_level(exam: Exam, capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(grade(exam, corrupt=2))
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert RULE in words
    assert CLIP_RULE in words
    assert "9 clips of 2 speakers: RAVDESS 01; SAVEE DC" in words
    assert "would silence 0 clips altogether" in words
    assert "2 recordings could not be read" in words
    for level in LEVELS_DB:
        assert words.count(f"-{level} dB ") == 2  # stream, clip
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 125


def test_tables_of_a_bundle_without_a_float_model_show_one_figure(
    bundle: Bundle, two: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    small = msgspec.structs.replace(bundle, reference=None)
    evaluation = evaluate(small, _some(two, "savee_DC"), seen=False)
    assert evaluation.groups[0].same_windows is None
    print_evaluation(evaluation)
    out = capsys.readouterr().out
    assert "of the quantized model" in out
    assert "agree" not in out
    assert "/" not in out.split("SAVEE", 2)[2].splitlines()[0]


def test_evaluate_command_writes_predictions_and_json(
    examined_path: Path, tiny_corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "said.jsonl"
    asked = ["evaluate", "--bundle", str(examined_path), "--data", str(tiny_corpora / "AudioData" / "DC"), "--no-noise"]
    assert main([*asked, "--json", "--predictions", str(out)]) == 0
    evaluation = msgspec.json.decode(capsys.readouterr().out, type=Evaluation)
    assert evaluation.noise is None
    assert evaluation.groups[0].noise == ()
    assert {item.speaker for item in read_predictions(out)} == {"savee_DC"}


@pytest.mark.parametrize("option", ["--predictions", "--plot"])
def test_evaluate_refuses_a_file_it_cannot_write_before_it_works(
    tiny_corpora: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    asked = ["evaluate", "--bundle", "/nowhere.bundle", "--data", str(tiny_corpora)]
    assert main([*asked, option, "/nowhere/file"]) == SettingsError.exit_code
    assert f"{option} /nowhere/file: cannot be written" in capsys.readouterr().err

"""A decision chosen by speakers new to the weights: who chooses, who tells, what is written, what a bundle takes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import read_bundle
from broker.contract.decision import DecisionSpec
from broker.contract.errors import DataError
from edge_node.models import factory_bundle
from training.__main__ import main
from training.config import DecisionRules
from training.data.clips import Collection
from training.data.prepare import open_collection
from training.exam.card import read_card
from training.exam.turns import flicker
from training.fitting.calibrate import CALIBRATION_NAME, GRID, Calibration, calibrate, read_calibration
from training.fitting.results import RESULTS_NAME, fold_folder, read_run
from training.fitting.strangers import meet
from training.report.calibration_plots import draw_decision
from training.report.canvas import png
from training.report.measured import measure
from training.report.sections import decision

MakeRun = Callable[..., Path]

RULES = DecisionRules(
    smoothing=(0.5,), wrong_share=0.3, uncertain_share=0.6, margin=0.1, hold_us=1_500_000, confirm_windows=2
)


@pytest.fixture(scope="module")
def run(make_run: MakeRun) -> Path:
    """A run whose folds all hold the factory's model: those who are tested count as new to it."""
    bundle = read_bundle(factory_bundle(), "factory.bundle")
    folder = make_run("made")
    whole = read_run(folder)
    settings = msgspec.structs.replace(
        whole.settings, features=bundle.manifest.features, window=bundle.manifest.window, decision=RULES
    )
    folds = tuple(
        msgspec.structs.replace(item, normalisation=bundle.manifest.normalisation, prior=(0.5, 0.25, 0.25))
        for item in whole.folds
    )
    (folder / RESULTS_NAME).write_bytes(
        msgspec.json.encode(msgspec.structs.replace(whole, settings=settings, folds=folds))
    )
    for item in folds:
        place = fold_folder(folder, item.fold, item.seed)
        (place / "model.tflite").write_bytes(bundle.model)
        (place / "reference.tflite").write_bytes(bundle.reference or b"")
    return folder


@pytest.fixture(scope="module")
def collection(tiny_corpora: Path) -> Collection:
    return open_collection(tiny_corpora)[0]


@pytest.fixture(scope="module")
def made(run: Path, tiny_corpora: Path) -> Calibration:
    assert main(["calibrate", "--run", str(run), "--data", str(tiny_corpora)]) == 0
    return read_calibration(run / CALIBRATION_NAME)


def test_who_validated_chooses_and_the_others_tell(made: Calibration, run: Path) -> None:
    validated = {speaker for item in read_run(run).folds for speaker in item.origin.validation_speakers}
    assert validated == {"ravdess_01", "ravdess_03"}
    assert {name: part.speakers for name, part in made.parts.items()} == {
        "choosing": ("ravdess_01",),
        "new": ("ravdess_02", "savee_DC"),
    }
    assert made.seeds == (1, 2)
    assert made.rules == RULES


def test_decision_is_that_of_the_choosing_speakers_alone(made: Calibration, run: Path, collection: Collection) -> None:
    fewer = tuple(clip for clip in collection.clips if clip.speaker == "ravdess_01")
    alone = calibrate(read_run(run), run, msgspec.structs.replace(collection, clips=fewer), RULES)
    assert alone.decision == made.decision
    assert alone.parts == {"choosing": made.parts["choosing"]}
    assert (made.decision.margin, made.decision.hold_us, made.decision.confirm_windows) == (0.1, 1_500_000, 2)


def test_rules_that_allow_more_mistakes_give_a_lower_threshold(
    made: Calibration, run: Path, collection: Collection
) -> None:
    careless = msgspec.structs.replace(RULES, wrong_share=0.9)
    decision = calibrate(read_run(run), run, collection, careless).decision
    assert decision.uncertain_below == 0.34 < made.decision.uncertain_below


def test_curve_ends_with_every_window_answered(made: Calibration) -> None:
    for part in made.parts.values():
        assert len(part.curve) == len(GRID)
        assert GRID[-1] == 1
        assert part.curve[-1].low >= 0
        assert 0 <= part.aurc.mean <= 1
        assert part.said.mean >= part.answered.mean - 0.2
        assert part.steady.changes <= part.plain.changes
        assert part.steady.turns == part.plain.turns > 0


def test_talks_without_rules_are_decided_window_by_window(made: Calibration, run: Path, collection: Collection) -> None:
    _, talks = meet(read_run(run), run, collection)
    heard = [talk.heard for talk in talks if talk.speaker in made.parts["new"].speakers]
    rules = made.decision
    bare = DecisionSpec(smoothing=1.0, uncertain_below=rules.uncertain_below, silent_below_dbfs=rules.silent_below_dbfs)
    assert made.parts["new"].plain == flicker(heard, bare, 0.5)
    assert made.parts["new"].steady == flicker(heard, rules, 0.5)


def test_equal_seeds_leave_no_spread(made: Calibration) -> None:
    """Both seeds are the same model here."""
    part = made.parts["new"]
    assert part.wrong.deviation == part.answered.deviation == 0
    assert made.macro_uar.low == made.macro_uar.high


def test_strangers_are_only_those_whom_no_weight_has_heard(run: Path, collection: Collection) -> None:
    clips, talks = meet(read_run(run), run, collection)
    assert {item.clip.speaker for item in clips} == {"ravdess_01", "ravdess_02", "savee_DC"}
    assert len(talks) == 2 * 3
    assert all(len(item.probabilities) == len(item.heard.ends_us) for item in clips)
    assert len(clips) == 2 * sum(clip.speaker in {"ravdess_01", "ravdess_02", "savee_DC"} for clip in collection.clips)


def test_run_that_is_not_by_speaker_is_refused(make_run: MakeRun, collection: Collection) -> None:
    folder = make_run("mixed", by="clip")
    with pytest.raises(DataError, match="not split by speaker"):
        calibrate(read_run(folder), folder, collection, RULES)


def test_run_without_its_models_is_refused(make_run: MakeRun, collection: Collection) -> None:
    folder = make_run("bare")
    with pytest.raises(DataError, match=r"fold-0/seed-1/model\.tflite: cannot be read .*; train the fold again"):
        calibrate(read_run(folder), folder, collection, RULES)


def test_data_without_anybody_who_chooses_is_refused(run: Path, collection: Collection) -> None:
    others = tuple(clip for clip in collection.clips if clip.speaker == "savee_DC")
    with pytest.raises(DataError, match="run every fold"):
        calibrate(read_run(run), run, msgspec.structs.replace(collection, clips=others), RULES)


@pytest.mark.parametrize("content", [None, b"{}", b"\xff", b'{"experiment": "made"}'])
def test_file_that_is_no_calibration_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / CALIBRATION_NAME
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"no calibration .*; run `sottovoce-train calibrate` first"):
        read_calibration(path)


def test_json_is_what_was_written(
    run: Path, tiny_corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.json"
    assert main(["calibrate", "--run", str(run), "--data", str(tiny_corpora), "--out", str(out), "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=Calibration) == read_calibration(out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_bundle_takes_the_decision_and_tells_of_it(made: Calibration, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.bundle"
    asked = ["bundle", "--run", str(run), "--name", "made", "--version", "1", "--out", str(out)]
    assert main([*asked, "--calibration", str(run / CALIBRATION_NAME)]) == 0
    bundle = read_bundle(out.read_bytes(), "made.bundle")
    assert bundle.manifest.decision == made.decision
    assert bundle.manifest.prior == (0.5, 0.25, 0.25)
    assert read_card(bundle).calibration == made
    assert main(asked) == 0
    plain = read_bundle(out.read_bytes(), "made.bundle")
    assert plain.manifest.decision == read_run(run).folds[0].decision
    assert read_card(plain).calibration is None


def test_prior_of_an_older_run_is_even_where_classes_were_drawn_alike(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(run, folder)
    whole = read_run(folder)
    assert whole.settings.recipe.draws
    for recipe, prior in (
        (whole.settings.recipe, (1 / 3, 1 / 3, 1 / 3)),
        (msgspec.structs.replace(whole.settings.recipe, draws=0), None),
    ):
        older = msgspec.structs.replace(
            whole,
            settings=msgspec.structs.replace(whole.settings, recipe=recipe),
            folds=tuple(msgspec.structs.replace(item, prior=None) for item in whole.folds),
        )
        (folder / RESULTS_NAME).write_bytes(msgspec.json.encode(older))
        out = tmp_path / "older.bundle"
        assert main(["bundle", "--run", str(folder), "--name", "made", "--version", "1", "--out", str(out)]) == 0
        assert read_bundle(out.read_bytes(), "older.bundle").manifest.prior == prior


def test_report_shows_curve_threshold_and_talks(made: Calibration, run: Path, make_run: MakeRun) -> None:
    measured = measure(run)
    assert measured.calibration == made
    words = repr(decision(measured))
    assert f"`uncertain` below {made.decision.uncertain_below:g}" in words
    assert "calibrate` does" in repr(decision(measure(make_run("uncalibrated"))))
    left, right = draw_decision(made, "made").axes
    assert [float(value) for value in np.asarray(left.lines[0].get_ydata())] == [
        each.mean for each in made.parts["choosing"].curve
    ]
    assert left.lines[1].get_xydata().tolist() == [  # type: ignore[union-attr]
        [made.parts["choosing"].answered.mean, made.parts["choosing"].wrong.mean]
    ]
    told = made.parts["new"]
    widths = [bar.get_width() for bar in right.patches]  # type: ignore[attr-defined]
    assert widths[:2] == [told.plain.changes, told.steady.changes]
    assert png(lambda: draw_decision(made, "made"))

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import msgspec
import pytest

from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.config import Experiment, load_experiment
from training.fitting.results import Epoch
from training.tuning.paired import Row, rows_of
from training.tuning.trials import Score
from training.tuning.tune import is_scored_at_end, uar_of
from training.tuning.variant_runs import RUNS_NAME, Plan, VariantRun, compare_variants, ended
from training.tuning.variants import BASELINE, Variant, load_variants, only
from training.tuning.variants_command import TABLE_NAME

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
TINY = """
name = "tiny"
features = { coefficients = 12, fft_samples = 1024, mel_bands = 32, floor_db = -60.0 }
window = { length_samples = 16000, hop_samples = 8000 }
views = { kind = "product", copies = [{ speeds = [1.1] }] }
network = { kind = "conv-lstm", convolutions = [{ filters = 8 }], units = 8 }
recipe = { seeds = [3, 4], epochs = 1, draws = 64, patience = 1 }
"""
TWO = """
["slow | steady"]
why = "small steps"
"recipe.learning_rate" = 1e-4

[narrow]
network.units = 4
network.convolutions = [{ filters = 4 }]
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    path = tmp_path_factory.mktemp("tiny") / "tiny.toml"
    path.write_text(TINY)
    return load_experiment(path)


@pytest.fixture
def two(tiny: Experiment, tmp_path: Path) -> tuple[Variant, ...]:
    """The experiment as it stands, and two variants of it."""
    return _load(tmp_path, TWO, tiny)


def _load(folder: Path, text: str, experiment: Experiment) -> tuple[Variant, ...]:
    path = folder / "variants.toml"
    path.write_text(text)
    return load_variants(path, experiment)


def _plan(
    variants: Sequence[Variant],
    score: Callable[[Experiment, int | None, int], float] = lambda *_: 0.5,
    seeds: Sequence[int] = (3, 4),
    data: str = "clips",
) -> Plan:
    def told(experiment: Experiment, fold: int | None, seed: int, _: str) -> Score:
        return Score(uar=score(experiment, fold, seed), best_epoch=0, epochs=1, parameters=100)

    return Plan(variants, (0, 1), seeds, data, told)


def _run(variant: Variant, fold: int, seed: int, uar: float | None) -> VariantRun:
    score = None if uar is None else Score(uar=uar, best_epoch=0, epochs=1, parameters=100)
    return VariantRun(
        identity=variant.identity,
        variant=variant.name,
        values=variant.values,
        fold=fold,
        seed=seed,
        score=score,
        error="" if score else "out of memory",
        seconds=4.0,
    )


def test_variants_of_the_factory_model_fit_it() -> None:
    factory = load_experiment(CONFIGS / "factory.toml")
    baseline, *variants = load_variants(CONFIGS / "variants" / "factory.toml", factory)
    assert (baseline.name, baseline.experiment) == (BASELINE, factory)
    assert len(variants) == 8
    assert all(variant.why for variant in variants)
    assert len({variant.identity for variant in (baseline, *variants)}) == 9


def test_variants_are_read_in_order_with_quoted_keys_and_nested_ones(
    two: tuple[Variant, ...], tiny: Experiment
) -> None:
    baseline, slow, narrow = two
    assert baseline.experiment == tiny
    assert (slow.name, slow.why, slow.experiment.recipe.learning_rate) == ("slow | steady", "small steps", 1e-4)
    assert narrow.values == {"network.units": 4, "network.convolutions": [{"filters": 4}]}
    assert narrow.experiment.recipe == tiny.recipe
    assert [variant.name for variant in only(two, ["narrow"])] == [BASELINE, "narrow"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no variant; write e.g."),
        ("a = ", "not valid TOML"),
        ("[a]\nrecipe.mixup = 0.2\n[a]\nrecipe.mixup = 0.4", "not valid TOML: Cannot declare ('a',) twice"),
        ("a = 0.2", "'a': 0.2: give a table of settings"),
        ("[a]", "'a': changes nothing"),
        ("[a]\nwhy = 'rest'\nrecipe.mixup = 0", "'a': changes nothing"),
        ("[a]\nwhy = 1\nrecipe.mixup = 0.2", "'a': why = 1: give a text"),
        ("[a]\nrecipe.mixup = 0.2\n[b]\n'recipe.mixup' = 0.2", "'b': changes what a changes"),
        ("[a]\nrecipe.mixup = 0.2\n'recipe.mixup' = 0.4", "'a': recipe.mixup: is written twice"),
        ("['as it stands']\nrecipe.mixup = 0.2", "'as it stands': no name for a variant"),
        ('["a\\nb"]\nrecipe.mixup = 0.2', "no name for a variant; allowed are 1 to 40 printable characters"),
        ("['']\nrecipe.mixup = 0.2", "'': no name for a variant"),
        ("[a]\nrecipe.mix = 0.2", "'a': recipe.mix: no such setting (mix); allowed: seed, seeds, outputs"),
        ("[a]\nrecipe.mixup = -1", "'a': recipe.mixup = -1"),
        ("[a]\nrecipe.mixup = nan", "'a': recipe.mixup = nan: give a finite number"),
        ("[a]\nrecipe.mixup = { low = 0.1, high = 0.4 }", "'a': recipe.mixup = {'low': 0.1, 'high': 0.4}: allowed"),
        ("[a]\nnetwork.pooling = 'max'", "'a': network.pooling = 'max': allowed: 'last', 'mean'"),
        ("[a]\nrecipe.seeds = [7]", "'a': recipe.seeds: cannot be varied: luck is not searched for"),
        ("[a]\nrecipe.refit = true", "'a': recipe.refit: cannot be varied"),
        ("[a]\nsplit.by = 'all'", "'a': split.by: cannot be varied: scores on other speakers do not compare"),
        ("[a]\nfeatures.coefficients = 60", "'a': "),
    ],
)
def test_variants_that_cannot_be_compared_are_refused(text: str, said: str, tiny: Experiment, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, text, tiny)
    assert str(refused.value).startswith(f"--variants {tmp_path / 'variants.toml'}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_comparison_runs_seed_by_seed_the_baseline_first(two: tuple[Variant, ...], tmp_path: Path) -> None:
    told: list[tuple[str, int | None, int]] = []
    runs = compare_variants(_plan(two), tmp_path / "out", lambda run, _: told.append((run.variant, run.fold, run.seed)))
    names = [BASELINE, "slow | steady", "narrow"]
    assert told == [(name, fold, seed) for seed in (3, 4) for name in names for fold in (0, 1)]
    assert [(run.variant, run.fold, run.seed) for run in runs] == told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {RUNS_NAME}


def test_comparison_goes_on_where_ctrl_c_cut_it_short(two: tuple[Variant, ...], tmp_path: Path) -> None:
    ran: list[tuple[Experiment, int | None, int]] = []

    def cut_short(*run: Experiment | int | None) -> float:
        ran.append(run)  # type: ignore[arg-type]  # as `_plan` calls it
        if len(ran) == 5:
            raise KeyboardInterrupt
        return 0.5

    plan = _plan(two, cut_short)
    with pytest.raises(KeyboardInterrupt):
        compare_variants(plan, tmp_path)
    assert len(ended(plan, tmp_path)) == 4
    runs = compare_variants(plan, tmp_path)
    assert len(runs) == plan.total == 12
    assert len(ran) == 13  # the fifth twice
    assert compare_variants(plan, tmp_path) == runs
    assert len(ran) == 13


def test_variant_is_known_by_its_settings(two: tuple[Variant, ...], tiny: Experiment, tmp_path: Path) -> None:
    ran: list[Experiment] = []

    def score(experiment: Experiment, *_: object) -> float:
        ran.append(experiment)
        return 0.5

    compare_variants(_plan(two, score), tmp_path / "out")
    ran.clear()
    more = tiny.recipe
    renamed = _load(tmp_path, TWO.replace("narrow", "thin") + "recipe.mixup = 0.2\n[new]\nrecipe.ema = 0.9", tiny)
    renamed = (*renamed[:2], msgspec.structs.replace(two[2], name="thin"), *renamed[2:])
    runs = compare_variants(_plan(renamed, score), tmp_path / "out")
    assert [experiment.recipe for experiment in ran[:4]] == [msgspec.structs.replace(more, mixup=0.2)] * 2 + [
        msgspec.structs.replace(more, ema=0.9)
    ] * 2
    assert len(ran) == 8
    assert len(runs) == 20
    assert [row.runs for row in rows_of(renamed, runs)] == [4] * 5


def test_comparison_of_something_else_is_refused(two: tuple[Variant, ...], tiny: Experiment, tmp_path: Path) -> None:
    compare_variants(_plan(two), tmp_path)
    recipe = msgspec.structs.replace(tiny.recipe, mixup=0.3)
    other = msgspec.structs.replace(two[0], experiment=msgspec.structs.replace(tiny, recipe=recipe))
    for plan in (_plan((other, *two[1:])), _plan(two, data="other clips")):
        with pytest.raises(SettingsError, match="holds a comparison of another experiment or of other data"):
            compare_variants(plan, tmp_path)
    recipe = msgspec.structs.replace(tiny.recipe, seeds=(3, 4, 5))
    longer = msgspec.structs.replace(two[0], experiment=msgspec.structs.replace(tiny, recipe=recipe))
    assert len(compare_variants(_plan((longer,), seeds=(3, 4, 5)), tmp_path)) == 6  # more seeds: as it was


def test_comparison_in_a_folder_that_cannot_be_used_is_refused(two: tuple[Variant, ...], tmp_path: Path) -> None:
    (tmp_path / RUNS_NAME).write_text("{}")
    with pytest.raises(SettingsError, match=r"variants\.json: holds no comparison that can be read \(.*\); choose"):
        compare_variants(_plan(two), tmp_path)
    with pytest.raises(SettingsError, match=r"/dev/null/out: the folder cannot be written"):
        compare_variants(_plan(two), Path("/dev/null/out"))


def test_run_that_fails_is_noted_and_tried_again(two: tuple[Variant, ...], tmp_path: Path) -> None:
    troubled = [True]

    def score(experiment: Experiment, *_: object) -> float:
        if troubled[0] and experiment == two[1].experiment:
            msg = "out of\nmemory"
            raise ValueError(msg)
        return 0.5

    runs = compare_variants(_plan(two, score), tmp_path)
    assert [run.error for run in runs if run.score is None] == ["out of memory"] * 4
    assert [row.runs for row in rows_of(two, runs)] == [4, 0, 4]
    troubled[0] = False
    runs = compare_variants(_plan(two, score), tmp_path)
    assert [row.runs for row in rows_of(two, runs)] == [4, 4, 4]
    assert not any(run.error for run in runs)


def test_comparison_of_which_nothing_finishes_is_an_error(two: tuple[Variant, ...], tmp_path: Path) -> None:
    def score(*_: object) -> float:
        msg = "no more"
        raise DataError(msg)

    with pytest.raises(DataError, match=r"no run finished: no more$"):
        compare_variants(_plan(two, score), tmp_path)


def test_difference_is_of_the_same_fold_and_seed(two: tuple[Variant, ...]) -> None:
    base, better, _ = two
    random.seed(1)
    of_base = {(fold, seed): random.uniform(0.5, 0.8) for seed in (3, 4) for fold in (0, 1)}
    gains = dict(zip(of_base, (0.01, 0.02, 0.03, 0.02), strict=True))
    runs = [_run(base, *place, uar) for place, uar in of_base.items() if place != (1, 4)]
    runs += [_run(better, *place, of_base[place] + gain) for place, gain in gains.items()]
    first, row, empty = rows_of(two, runs)
    assert (first.runs, first.pairs, first.difference, first.verdict) == (3, 0, None, None)
    assert (row.runs, row.pairs) == (4, 3)
    assert row.difference == pytest.approx(0.02)
    assert row.error == pytest.approx(stdev([0.01, 0.02, 0.03]) / 3**0.5)
    assert row.verdict == "the data cannot tell"  # of three pairs, however alike
    assert empty == Row(variant="narrow", runs=0, uar=None, pairs=0, difference=None, error=None, seconds=None)

    _, row, _ = rows_of(two, [*runs, _run(base, 1, 4, of_base[1, 4])])
    assert (row.pairs, row.verdict) == (4, "better")
    assert row.uar == pytest.approx(fmean(of_base.values()) + 0.02)
    assert row.seconds == 4


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-0.02, -0.03, -0.01, -0.02], "worse"),
        ([0.05, -0.04, 0.03, 0.02], "the data cannot tell"),
        ([0.0, 0.0, 0.0, 0.0], "the data cannot tell"),
    ],
)
def test_verdict_is_no_bolder_than_two_standard_errors(
    differences: list[float], verdict: str, two: tuple[Variant, ...]
) -> None:
    runs = [_run(two[0], fold, 3, 0.5) for fold in range(4)]
    runs += [_run(two[1], fold, 3, 0.5 + difference) for fold, difference in enumerate(differences)]
    assert rows_of(two, runs)[1].verdict == verdict


def test_score_is_of_the_last_epochs_where_nothing_chooses_among_them(tiny: Experiment) -> None:
    epochs = [Epoch(loss=1.0, accuracy=0.5, validation_uar=uar) for uar in (0.9, 0.1, 0.4, 0.5, 0.6, 0.7, 0.8)]
    assert uar_of(epochs, 0, at_end=True) == pytest.approx(0.6)
    assert uar_of(epochs, 0, at_end=False) == 0.9
    with pytest.raises(SettingsError, match="no validation clip"):
        uar_of([Epoch(loss=1.0, accuracy=0.5, validation_uar=None)], 0, at_end=True)
    for changes, at_end in (
        ({"epochs": 9, "patience": 9}, True),
        ({"epochs": 9, "patience": 8}, False),
        ({"epochs": 9, "patience": 8, "refit": True}, True),
    ):
        recipe = msgspec.structs.replace(tiny.recipe, **changes)
        assert is_scored_at_end(msgspec.structs.replace(tiny, recipe=recipe)) is at_end


@pytest.fixture(scope="module")
def work(tiny_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, two variants and prepared data."""
    folder = tmp_path_factory.mktemp("variants")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "by-clip.toml").write_text(TINY + "split = { by = 'clip' }\n")
    (folder / "two.toml").write_text(TWO)
    assert main(["prepare", "--data", str(tiny_corpora), "--out", str(folder / "prepared")]) == 0
    return folder


def _command(folder: Path, *more: str) -> list[str]:
    paths = {"--config": "tiny.toml", "--variants": "two.toml", "--data": "prepared", "--out": "out"}
    return ["variants", *(part for option, name in paths.items() for part in (option, str(folder / name))), *more]


def test_variants_never_hear_the_test_side(work: Path, heard: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--fold", "0", "--seeds", "1", "--only", "slow | steady")
    assert main(_command(work, *options)) == 0
    assert heard == {f"ravdess_{actor:02d}" for actor in (6, 7, 8, 9)} | {"savee_JE", "savee_JK"}  # not 1, 2 and DC
    out = capsys.readouterr().out
    assert "1 of 2: as it stands, fold 0, seed 3: " in out
    assert "the data cannot tell" in out
    assert "of 4 validation speakers (RAVDESS 3, SAVEE 1), mean of the last 5 epochs; fold 0; seed 3; no test" in out
    assert "To choose the best of 1 variant by the speakers who compare them is itself optimistic. They are test" in out
    written = (work / "out" / TABLE_NAME).read_text()
    assert "| variant | runs | UAR | difference | std. error | verdict | s per run |\n| --- | ---: |" in written
    assert "\n| slow \\| steady | 1 | " in written
    assert "\n- slow \\| steady: `recipe.learning_rate = 0.0001`; small steps\n" in written

    heard.clear()
    assert main(_command(work, *options)) == 0  # all is done: nothing is run
    assert not heard
    assert (work / "out" / TABLE_NAME).read_text() == written
    capsys.readouterr()
    assert main(_command(work, *options[:-1], BASELINE)) == 0
    assert "optimistic" not in capsys.readouterr().out  # there is nothing to choose from


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--threads", "0"), "--threads 0: allowed is 1 or more"),
        (("--seeds", "0"), "--seeds 0: allowed are 1 to 2"),
        (("--seeds", "3"), "--seeds 3: allowed are 1 to 2"),
        (("--fold", "7"), "--fold 7: allowed are 0, 1"),
        (("--only", "fast"), "--only 'fast': allowed are 'as it stands', '"),
        (("--variants", "/nowhere.toml"), "--variants /nowhere.toml: No such file"),
        (("--data", "/nowhere"), "/nowhere: no prepared data"),
        (("--config", "by-clip.toml"), "split.by = clip"),
    ],
)
def test_variants_refuse_in_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str], said: str
) -> None:
    option, value = more
    value = str(work / value) if value == "by-clip.toml" else value
    assert main(_command(work, option, value)) in {SettingsError.exit_code, DataError.exit_code}
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error

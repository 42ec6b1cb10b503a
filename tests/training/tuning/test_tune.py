import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.config import Experiment, load_experiment
from training.toml import to_toml
from training.tuning.search import Budget, Target, search
from training.tuning.space import Choices, Range, Space, base_values, default_space, load_space, with_values
from training.tuning.trials import BEST_NAME, TRIALS_NAME, Score, Search

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
SPACE: Space = {
    "recipe.learning_rate": Range(low=5e-4, high=8e-3, log=True),
    "network.units": Range(low=32, high=96, step=16),
    "network.convolutions": Choices(choices=([{"filters": 32}, {"filters": 48}], [{"filters": 64}])),
    "features.mean_removed": Choices(choices=(0.5, 1.0)),
}
TINY = """
name = "tiny"
features = { coefficients = 12, fft_samples = 1024, mel_bands = 32, floor_db = -60.0 }
window = { length_samples = 16000, hop_samples = 8000 }
views = { kind = "product", copies = [{ speeds = [1.1] }] }
network = { kind = "conv-lstm", convolutions = [{ filters = 8 }], units = 8 }
recipe = { epochs = 1, draws = 64, patience = 1 }
"""


@pytest.fixture(scope="module")
def factory() -> Experiment:
    return load_experiment(CONFIGS / "factory.toml")


def _target(score: Callable[[Experiment], float], data: str = "clips") -> Target:
    def told(experiment: Experiment, _: str) -> Score:
        return Score(uar=score(experiment), best_epoch=3, epochs=5, parameters=1000)

    return Target(name="UAR of nobody", note="Made up.", data=data, seed=1, score=told)


def _near_four_thousandths(experiment: Experiment) -> float:
    return 1 - abs(math.log(experiment.recipe.learning_rate / 4e-3)) / 10


def _trials(out: Path) -> Search:
    return msgspec.json.decode((out / TRIALS_NAME).read_bytes(), type=Search)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_toml_that_is_written_is_read_as_the_same_experiment(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(CONFIGS / name)
    (tmp_path / name).write_text(to_toml(msgspec.json.decode(msgspec.json.encode(experiment))))
    assert load_experiment(tmp_path / name) == experiment


def test_toml_holds_whatever_characters_and_numbers_there_are() -> None:
    settings = {
        "text": 'quote " backslash \\ line\nend\x7f\x00 ü',
        "a key": [True, False, 1e-05, 10**20, -0.0, []],
        "table": {"empty": {}, "deep": {"a.b": [{"c": [1]}, {}]}},
    }
    assert tomllib.loads(to_toml(settings)) == settings
    assert tomllib.loads(to_toml({"none": None, "table": {"none": None}})) == {"table": {}}


def test_default_space_fits_every_experiment(factory: Experiment) -> None:
    space = default_space(factory)
    assert "network.dropout" in space
    standing = base_values(factory, space)
    assert standing is not None
    assert with_values(factory, standing) == factory
    paper = default_space(load_experiment(CONFIGS / "paper.toml"))
    assert "recipe.learning_rate" in paper
    assert "network.dropout" not in paper
    for experiment in map(load_experiment, CONFIGS.glob("*.toml")):
        for key, dimension in default_space(experiment).items():
            assert isinstance(dimension, Range)
            with_values(experiment, {key: dimension.low})
            with_values(experiment, {key: dimension.high})


def test_space_is_read_with_quoted_keys_and_with_nested_ones(factory: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        '"recipe.draws" = { low = 1000, high = 4000 }\n'
        '"network.convolutions.1.filters" = { choices = [32, 48] }\n'
        "[recipe]\nmixup = { low = 0, high = 1 }\n"
        "[network]\npooling.choices = ['mean', 'mean-std']\n"
    )
    space = load_space(path, factory)
    assert space == {
        "recipe.draws": Range(low=1000, high=4000),
        "network.convolutions.1.filters": Choices(choices=(32, 48)),
        "recipe.mixup": Range(low=0.0, high=1.0),
        "network.pooling": Choices(choices=("mean", "mean-std")),
    }
    mixup = space["recipe.mixup"]
    assert isinstance(mixup, Range)
    assert isinstance(mixup.low, float)  # or only 0 and 1 would be tried
    tried = with_values(factory, {"network.convolutions.1.filters": 32, "network.pooling": "mean"})
    assert [layer.filters for layer in tried.network.convolutions] == [32, 32]  # type: ignore[union-attr]  # no paper


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nothing"),
        ("a = ", "not valid TOML"),
        ('"recipe.rate" = { low = 1, high = 2 }', "recipe.rate: no such setting (rate); allowed: seed, seeds, outputs"),
        ('"network.convolutions.2.filters" = { choices = [1, 2] }', "no such setting (2); allowed: 0, 1"),
        ('"recipe.batch.size" = { low = 1, high = 2 }', "no such setting (size); allowed: nothing, it is no table"),
        ('"recipe.seeds" = { choices = [[1], [2]] }', "recipe.seeds: cannot be varied: luck is not searched for"),
        ('"split.by" = { choices = ["all", "clip"] }', "split.by: cannot be varied"),
        ('"recipe.ema" = { low = 0.9, high = 1.0 }', "recipe.ema: recipe.ema = 1.0: allowed: 0 or more and below 1"),
        ('"network.pooling" = { choices = ["mean", "max"] }', "network.pooling = 'max': allowed: 'last', 'mean'"),
        ('"network.pooling" = { low = 0, high = 1 }', 'is "mean-std", no number'),
        ('"recipe.cosine" = { low = 0, high = 1 }', "is true, no number"),
        ('"recipe.batch" = { low = 16.0, high = 64.0 }', "is a whole number"),
        ('"recipe.batch" = { low = 64, high = 16 }', "low = 64, high = 16: low must be below high"),
        ('"recipe.mixup" = { low = nan, high = 1.0 }', "low must be below high"),
        ('"recipe.mixup" = { low = 0.0, high = 1.0, log = true }', "must be above 0 where log = true"),
        ('"recipe.mixup" = { low = 0.0, high = 1.0, step = 0.3 }', "no whole number of steps"),
        (
            '"recipe.mixup" = { low = 0.1, high = 1.0, step = 0.1, log = true }',
            "step = 0.1: must be above 0, and does not go with log",
        ),
        ('"recipe.mixup" = { low = 0.0 }', "recipe.mixup: missing key high"),
        ('"recipe.mixup" = { low = 0.0, height = 1.0 }', "unknown key height; allowed: low, high, log, step"),
        ('"recipe.mixup" = { choices = [0.1] }', "choices = [0.1]: allowed: a list of 2 or more"),
        ('"recipe.mixup" = 0.1', "recipe.mixup: 0.1: give { low = ..., high = ... }"),
        ('"features.coefficients" = { low = 20, high = 60 }', "coefficients 60 cannot exceed mel_bands 40"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(text: str, said: str, factory: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_space(path, factory)
    assert str(refused.value).startswith(f"--space {path}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_search_climbs_and_writes_what_train_takes(factory: Experiment, tmp_path: Path) -> None:
    told: list[int] = []
    out = tmp_path / "se?rch 100%"
    found = search(
        factory, SPACE, _target(_near_four_thousandths), out, Budget(12), lambda each: told.append(each.ended)
    )
    assert told == list(range(1, 13))
    assert found == _trials(out)
    first, winner = found.trials[0], found.winner
    assert with_values(factory, first.values) == factory  # as it stands
    assert winner is not None
    assert winner.score is not None
    assert first.score is not None
    assert winner.score.uar == max(trial.score.uar for trial in found.trials if trial.score) > first.score.uar
    assert next(iter(found.importances)) == "recipe.learning_rate"
    best = load_experiment(out / BEST_NAME)
    assert best.name == "factory-tuned"
    assert msgspec.structs.replace(best, name="factory") == with_values(factory, winner.values)
    assert "Made up." in (out / BEST_NAME).read_text()
    assert {path.name for path in out.iterdir()} == {"search.sqlite", TRIALS_NAME, BEST_NAME}
    assert all(trial.values["network.units"] % 16 == 0 for trial in found.trials)
    assert {len(trial.values["network.convolutions"]) for trial in found.trials} == {1, 2}


def test_search_goes_on_where_ctrl_c_cut_it_short(factory: Experiment, tmp_path: Path) -> None:
    tried: list[float] = []

    def cut_short(experiment: Experiment) -> float:
        tried.append(experiment.recipe.learning_rate)
        if len(tried) == 4:
            raise KeyboardInterrupt
        return _near_four_thousandths(experiment)

    with pytest.raises(KeyboardInterrupt):
        search(factory, SPACE, _target(cut_short), tmp_path, Budget(6))
    states = [trial.state for trial in _trials(tmp_path).trials]
    assert states == ["finished", "finished", "finished", "interrupted"]
    assert load_experiment(tmp_path / BEST_NAME).name == "factory-tuned"

    found = search(factory, SPACE, _target(cut_short), tmp_path, Budget(6))
    assert [trial.state for trial in found.trials] == [*states, "finished", "finished", "finished"]
    assert len(set(tried)) == len(tried) == 7  # nothing is tried twice
    assert search(factory, SPACE, _target(cut_short), tmp_path, Budget(6)) == found
    assert len(tried) == 7


def test_search_notes_a_trial_that_fails(factory: Experiment, tmp_path: Path) -> None:
    def score(experiment: Experiment) -> float:
        if experiment == factory:
            msg = "out of\nmemory"
            raise ValueError(msg)
        return 0.5

    found = search(factory, SPACE, _target(score), tmp_path, Budget(3))
    assert [trial.state for trial in found.trials] == ["failed", "finished", "finished"]
    assert found.trials[0].error == "out of memory"
    assert found.best == 1  # of equal ones the first
    assert found.importances == {}

    with pytest.raises(DataError, match=r"no trial finished: no more$"):
        search(factory, SPACE, _target(_failing), tmp_path / "failing", Budget(2))
    assert not (tmp_path / "failing" / BEST_NAME).exists()


def _failing(_: Experiment) -> float:
    msg = "no more"
    raise DataError(msg)


def test_search_stops_when_its_time_is_up(factory: Experiment, tmp_path: Path) -> None:
    target = _target(_near_four_thousandths)
    with pytest.raises(DataError, match="no trial finished: its time was up before"):
        search(factory, SPACE, target, tmp_path, Budget(100, minutes=0.0))
    found = search(factory, SPACE, target, tmp_path, Budget(1))
    assert search(factory, SPACE, target, tmp_path, Budget(100, minutes=0.0)) == found


def test_search_of_something_else_is_refused(factory: Experiment, tmp_path: Path) -> None:
    search(factory, SPACE, _target(_near_four_thousandths), tmp_path, Budget(1))
    other = msgspec.structs.replace(factory, name="other")
    for experiment, space, data in (
        (other, SPACE, "clips"),
        (factory, dict(list(SPACE.items())[:2]), "clips"),
        (factory, SPACE, "more clips"),
    ):
        with pytest.raises(SettingsError, match="holds a search of another experiment"):
            search(experiment, space, _target(_near_four_thousandths, data), tmp_path, Budget(2))


def test_search_in_a_folder_that_cannot_be_used_is_refused(factory: Experiment, tmp_path: Path) -> None:
    (tmp_path / "search.sqlite").write_text("no database at all, but long enough to be taken for a header of one" * 9)
    with pytest.raises(SettingsError, match=r"search\.sqlite: holds no search that can be read \(.*\); choose another"):
        search(factory, SPACE, _target(_near_four_thousandths), tmp_path, Budget(2))
    with pytest.raises(SettingsError, match=r"/dev/null/search: the folder cannot be made"):
        search(factory, SPACE, _target(_near_four_thousandths), Path("/dev/null/search"), Budget(2))


@pytest.fixture(scope="module")
def work(tiny_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, a space and prepared data."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "space.toml").write_text('"recipe.learning_rate" = { low = 1e-3, high = 1e-2 }\n')
    assert main(["prepare", "--data", str(tiny_corpora), "--out", str(folder / "prepared")]) == 0
    return folder


def _tune(folder: Path, *more: str) -> list[str]:
    paths = {"--config": "tiny.toml", "--data": "prepared", "--out": "search", "--space": "space.toml"}
    return ["tune", *(part for option, name in paths.items() for part in (option, str(folder / name))), *more]


def test_tune_never_hears_the_test_side(work: Path, heard: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_tune(work, "--trials", "1", "--fold", "0")) == 0
    assert heard == {f"ravdess_{actor:02d}" for actor in (6, 7, 8, 9)} | {"savee_JE", "savee_JK"}  # not 1, 2 and DC
    found = _trials(work / "search")
    assert [trial.state for trial in found.trials] == ["finished"]
    assert found.target == "corpus-macro UAR of the validation speakers (by speaker, fold 0, seed 1)"
    winner = found.winner
    assert winner is not None
    assert winner.score is not None
    assert winner.score.epochs == 1
    best = load_experiment(work / "search" / BEST_NAME)
    assert best.recipe.learning_rate == winner.values["recipe.learning_rate"]
    out = capsys.readouterr().out
    assert "trial 0 (1 of 1): " in out
    assert "learning_rate" in out
    assert "only this fold's test side is new to them" in out
    assert "next: sottovoce-train train --config" in out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--trials", "0"), "--trials 0: allowed is 1 or more"),
        (("--minutes", "nan"), "--minutes nan: must be more than 0"),
        (("--threads", "0"), "--threads 0"),
        (("--fold", "7"), "--fold 7: allowed are 0, 1"),
        (("--space", "/nowhere.toml"), "--space /nowhere.toml: No such file"),
        (("--data", "/nowhere"), "/nowhere: no prepared data"),
        (("--config", "by-clip.toml"), "split.by = clip"),
    ],
)
def test_tune_refuses_in_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str], said: str
) -> None:
    (work / "by-clip.toml").write_text(TINY + "split = { by = 'clip' }\n")
    option, value = more
    value = str(work / value) if value == "by-clip.toml" else value
    assert main(_tune(work, option, value)) in {SettingsError.exit_code, DataError.exit_code}
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error

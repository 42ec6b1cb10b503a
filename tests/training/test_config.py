from pathlib import Path

import pytest

from broker.contract.errors import SettingsError
from broker.contract.features import PAPER_FEATURES
from training.__main__ import main
from training.config import PaperLstm, PaperViews, load_experiment

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
SMALL = (CONFIGS / "small.toml").read_text()


def test_paper_experiment_is_the_papers() -> None:
    paper = load_experiment(CONFIGS / "paper.toml")
    assert paper.features == PAPER_FEATURES
    assert isinstance(paper.network, PaperLstm)
    assert isinstance(paper.views, PaperViews)
    assert (paper.views.start_s, paper.views.end_s) == (0.4, 1.9)
    assert (paper.recipe.epochs, paper.recipe.batch, paper.recipe.learning_rate) == (20, 32, 1e-3)
    assert paper.split.by == "speaker"


def test_small_experiment_is_causal() -> None:
    small = load_experiment(CONFIGS / "small.toml")
    assert small.features.centred is False
    assert small.features.top_db is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[recipe]", "[recipe]\nepoch = 3", r"unknown key recipe\.epoch; allowed: seed, outputs, epochs"),
        ("[recipe]", "[recipes]\n[recipe]", r"unknown key recipes; allowed: name, features, window"),
        ('kind = "conv-lstm"', 'kind = "conv-lstm"\nunit = 3', r"unknown key network\.unit; allowed: kind, filters"),
        ('kind = "conv-lstm"', 'kind = "paper"', r"unknown key network\.filters; allowed: kind$"),
        ("batch = 64", "batch = 0", r"recipe\.batch = 0: expected `int` >= 1"),
        ("batch = 64", 'batch = "64"', r"recipe\.batch = '64': expected `int`, got `str`"),
        ('pooling = "', 'pooling = "max-', r"network\.pooling = 'max-.*': allowed: 'last', 'mean', "),
        ('kind = "conv-lstm"', 'kind = "transformer"', r"network\.kind = 'transformer': allowed: 'conv-lstm', 'paper'"),
        ("hop_samples = 8000", "hop_samples = 80000", "hop_samples 80000 cannot exceed length_samples"),
        ("sample_rate_hz = 16000", "sample_rate_hz = 22050", r"features\.sample_rate_hz = 22050: allowed is 16000"),
        ("copies = 4", "copies = 4\nspeeds = []", r"views\.speeds = \[\]: expected an array of length >= 1"),
        ("copies = 4", "copies = 4\nspeeds = [1.0, 9.0]", r"views\.speeds\[1\] = 9\.0: expected `float` <= 2"),
        ("copies = 4", "copies = 4\nsnr_db = [1.0, 'x']", r"views\.snr_db\[1\] = 'x': expected `float`, got `str`"),
        ('kind = "conv-lstm"\n', "", r"missing key network\.kind; allowed: 'conv-lstm', 'paper'"),
        (
            "[recipe]",
            "[split.validating]\nemodb = 1\n[recipe]",
            r"split\.validating = {'emodb': 1}: allowed: 'ravdess', ",
        ),
        ("[recipe]", "[split.validating]\ntess = 0\n[recipe]", r"split\.validating = {'tess': 0}: expected `int` >= 1"),
        ("[recipe]", "[recipe", "not valid TOML"),
    ],
)
def test_config_error_names_key_value_and_what_is_allowed(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(SettingsError, match=said) as raised:
        load_experiment(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"settings file {path}: ")


def test_missing_config_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(tmp_path / "none.toml"), "--data", str(tmp_path)]) == SettingsError.exit_code
    assert capsys.readouterr().err.count("\n") == 1

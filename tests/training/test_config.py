from pathlib import Path

import msgspec
import pytest

from broker.contract.decision import CLASSES
from broker.contract.errors import SettingsError
from broker.contract.features import PAPER_FEATURES
from training.__main__ import main
from training.config import PaperLstm, PaperViews, all_speakers, by_clip, load_experiment

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
FACTORY = (CONFIGS / "factory.toml").read_text()


def test_paper_experiment_is_the_papers() -> None:
    paper = load_experiment(CONFIGS / "paper.toml")
    assert paper.features == PAPER_FEATURES
    assert isinstance(paper.network, PaperLstm)
    assert isinstance(paper.views, PaperViews)
    assert (paper.views.start_s, paper.views.end_s) == (0.4, 1.9)
    assert (paper.recipe.epochs, paper.recipe.batch, paper.recipe.learning_rate) == (20, 32, 1e-3)
    assert paper.split.by == "speaker"


def test_factory_experiment_can_be_heard_frame_by_frame() -> None:
    factory = load_experiment(CONFIGS / "factory.toml")
    assert factory.features.is_local
    assert factory.window.hop_samples % factory.features.hop_samples == 0
    assert len(factory.recipe.seeds) == 3
    assert set(factory.merge.values()) == set(CLASSES)


def test_all_speakers_and_by_clip_change_the_split_alone() -> None:
    factory = load_experiment(CONFIGS / "factory.toml")
    assert (all_speakers(factory).name, all_speakers(factory).split.by) == ("factory", "all")
    listed = by_clip(factory, Path("some.csv"))
    assert (listed.name, listed.split.by, listed.split.only_listed) == ("factory-by-clip", "clip", "some.csv")
    assert listed.recipe == factory.recipe


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[recipe]", "[recipe]\nepoch = 3", r"unknown key recipe\.epoch; allowed: seed, seeds, outputs"),
        ("[recipe]", "[recipes]\n[recipe]", r"unknown key recipes; allowed: name, features, window"),
        (
            'kind = "conv-lstm"',
            'kind = "conv-lstm"\nunit = 3',
            r"unknown key network\.unit; allowed: kind, convolutions",
        ),
        ('kind = "conv-lstm"', 'kind = "paper"', r"unknown key network\.convolutions; allowed: kind$"),
        ("batch = 64", "batch = 0", r"recipe\.batch = 0: allowed: above 0"),
        ("batch = 64", 'batch = "64"', r"recipe\.batch = '64': allowed: a whole number, above 0"),
        ('pooling = "', 'pooling = "max-', r"network\.pooling = 'max-.*': allowed: 'last', 'mean', "),
        ('kind = "conv-lstm"', 'kind = "transformer"', r"network\.kind = 'transformer': allowed: 'conv-lstm', 'paper'"),
        ("hop_samples = 8000", "hop_samples = 80000", "hop_samples 80000 cannot exceed length_samples"),
        ("sample_rate_hz = 16000", "sample_rate_hz = 22050", r"features\.sample_rate_hz = 22050: allowed is 16000"),
        ("edges = 0.4", "copies = [{ tilt_db = 61 }]", r"views\.copies\[0\]\.tilt_db = 61: allowed: 0 to 60"),
        (
            "edges = 0.4",
            "copies = [{ stretch = [1, 'x'] }]",
            r"views\.copies\[0\]\.stretch\[1\] = 'x': allowed: a number, 0\.25 to 4",
        ),
        (
            "edges = 0.4",
            "copies = [{ tilt = 6.0 }]",
            r"unknown key views\.copies\[0\]\.tilt; allowed: speeds, stretch, pitch_semit",
        ),
        ('kind = "conv-lstm"\n', "", r"missing key network\.kind; allowed: 'conv-lstm', 'paper'"),
        (
            "[recipe]",
            "[split.validating]\ntess = -1\n[recipe]",
            r"split\.validating = {'tess': -1}: allowed: a whole number, 0 or more",
        ),
        ("[recipe]", "[merge]\nhappy = 'glad'\n[recipe]", r"merge = {'happy': 'glad'}: allowed: 'pleasant', 'neu"),
        ("seeds = [1, 2, 3]", "seeds = [1, 1]", r"recipe\.seeds = \[1, 1\]: the same seed twice"),
        ("{ filters = 48 }", "{ filters = 48, kernel = 99 }", r"window\.length_samples = 48000: holds 147 frames, too"),
        ("[recipe]", "[recipe", "not valid TOML"),
    ],
)
def test_config_error_names_key_value_and_what_is_allowed(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FACTORY
    path = tmp_path / "bad.toml"
    path.write_text(FACTORY.replace(old, new))
    with pytest.raises(SettingsError, match=said) as raised:
        load_experiment(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"settings file {path}: ")


def test_leaving_out_a_pitch_that_there_is_not_is_refused() -> None:
    factory = load_experiment(CONFIGS / "factory.toml")
    views = msgspec.structs.replace(factory.views, pitch_dropout=0.2)
    with_pitch, without = (msgspec.structs.replace(factory.features, pitch=pitch) for pitch in (True, False))
    msgspec.structs.replace(factory, features=with_pitch, views=views)
    msgspec.structs.replace(factory, features=without)
    with pytest.raises(
        SettingsError, match=r"^views\.pitch_dropout = 0\.2: there is no pitch; set features\.pitch, too$"
    ):
        msgspec.structs.replace(factory, features=without, views=views)


def test_missing_config_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(tmp_path / "none.toml"), "--data", str(tmp_path)]) == SettingsError.exit_code
    assert capsys.readouterr().err.count("\n") == 1

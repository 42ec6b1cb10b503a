from pathlib import Path

import pytest

from broker.contract.errors import SettingsError
from training.augment.view_settings import Copy, Room, Views
from training.config import load_experiment

TOML = """
name = "views"
features = {}
window = { length_samples = 16000, hop_samples = 8000 }
network = { kind = "paper" }
recipe = { epochs = 1, patience = 1 }

[views]
kind = "product"
"""


def _views(folder: Path, more: str) -> Views:
    path = folder / "views.toml"
    path.write_text(TOML + more)
    views = load_experiment(path).views
    assert isinstance(views, Views)
    return views


def test_default_copy_alters_nothing() -> None:
    copy = Copy()
    assert (copy.speeds, copy.stretch, copy.pitch_semitones) == ((1.0,), (1.0, 1.0), (0.0, 0.0))
    assert (copy.tilt_db, copy.room, copy.noise, copy.gain_db) == (0.0, False, (), (0.0, 0.0))


def test_copies_are_tables_of_the_file(tmp_path: Path) -> None:
    views = _views(
        tmp_path,
        """
        edges = 0.5
        [[views.copies]]
        speeds = [0.9, 1.1]
        gain_db = [-10, 6]
        [[views.copies]]
        noise = ["pink", "babble"]
        snr_db = [5, 20]
        room = true
        [[views.copies]]
        room = { reverberation_s = [0.2, 0.5] }
        """,
    )
    assert views.edges == 0.5
    assert views.copies == (
        Copy(speeds=(0.9, 1.1), gain_db=(-10, 6)),
        Copy(noise=("pink", "babble"), snr_db=(5, 20), room=True),
        Copy(room=Room(reverberation_s=(0.2, 0.5))),
    )
    assert _views(tmp_path, "copies = []").copies == ()
    assert len(_views(tmp_path, "").copies) == 6


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ("4", r"views\.copies = 4: allowed: a list$"),
        ("[4]", r"views\.copies\[0\] = 4: allowed: a table$"),
        ("[{}]", r"views\.copies\[0\] alters nothing: give it one of speeds, stretch, "),
        ("[{ noisy = 1 }]", r"unknown key views\.copies\[0\]\.noisy; allowed: speeds, stretch, pitch_semitones, "),
        ("[{ speeds = [] }]", r"views\.copies\[0\]\.speeds = \[\]: allowed: a list of 1 or more$"),
        ("[{ speeds = [1.0, 9.0] }]", r"views\.copies\[0\]\.speeds\[1\] = 9\.0: allowed: 0\.5 to 2"),
        ("[{ speeds = [nan] }]", r"views\.copies\[0\]\.speeds\[0\] = nan: allowed: 0\.5 to 2"),
        ("[{ stretch = [1.2, 0.8] }]", r"views\.copies\[0\]\.stretch = \[1\.2, 0\.8\]: the first cannot be above the"),
        ("[{ stretch = [0.8] }]", r"views\.copies\[0\]\.stretch = \[0\.8\]: allowed: a list of 2$"),
        (
            "[{ room = true }, { gain_db = [1, -1] }]",
            r"views\.copies\[1\]\.gain_db = \[1\.0, -1\.0\]: the first cannot",
        ),
        (
            "[{ snr_db = [1, 3] }]",
            r"views\.copies\[0\]\.snr_db = \[1\.0, 3\.0\]: there is no noise; give views\.copies",
        ),
        (
            "[{ noise = ['red'] }]",
            r"views\.copies\[0\]\.noise\[0\] = 'red': allowed: 'babble', 'brown', 'pink', 'white'",
        ),
        ("[{ noise = 'pink' }]", r"views\.copies\[0\]\.noise = 'pink': allowed: a list"),
        ("[{ room = { t60 = 3 } }]", r"unknown key views\.copies\[0\]\.room\.t60; allowed: reverberation_s, direct_db"),
        (
            "[{ room = { reverberation_s = [0.7, 0.2] } }]",
            r"views\.copies\[0\]\.room\.reverberation_s = \[0\.7, 0\.2\]: the first cannot be above",
        ),
        ("[{ room = 'hall' }]", r"views\.copies\[0\]\.room = 'hall': allowed: true or false; or a table"),
    ],
)
def test_wrong_copy_is_one_line_that_names_it(tmp_path: Path, copies: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        _views(tmp_path, f"copies = {copies}\n")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("setting", ["edges", "pitch_dropout", "time_mask_share"])
def test_share_beyond_one_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(SettingsError, match=rf"views\.{setting} = 1\.5: allowed: 0 to 1"):
        _views(tmp_path, f"{setting} = 1.5\n")

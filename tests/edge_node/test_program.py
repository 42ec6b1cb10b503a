"""The real program, as its user meets it: what it prints where, and how it ends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from broker.contract.bundle import Bundle, write_bundle
from broker.contract.decision import CLASSES, Label

Run = Callable[..., subprocess.CompletedProcess[str]]
OneLine = Callable[..., None]
WriteAudio = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def test_classify_text_says_it_on_stdout(program: Run, recording: Path, factory: Bundle) -> None:
    done = program("classify", recording)
    assert done.returncode == 0, done.stderr
    assert factory.manifest.identity in done.stdout
    assert "labels: " in done.stdout
    assert done.stdout.count(" s  ") >= 10
    assert "Traceback" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]


def test_classify_json_is_one_object(program: Run, recording: Path, factory: Bundle) -> None:
    done = program("classify", recording, "--json")
    timeline = json.loads(done.stdout)
    spec = factory.manifest.window
    rate_hz = factory.manifest.features.sample_rate_hz
    assert timeline.keys() == {"file", "model", "window_s", "hop_s", "windows", "shares", "latency_us"}
    assert (timeline["file"], timeline["model"]) == (str(recording), factory.manifest.identity)
    assert len(timeline["windows"]) == 1 + (30 * rate_hz - spec.length_samples) // spec.hop_samples
    assert sum(timeline["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert timeline["shares"].keys() == {*Label, "silence", "no speech"}
    for window in timeline["windows"]:
        assert window["end_s"] - window["start_s"] == pytest.approx(timeline["window_s"])
        assert window["label"] in {*Label, None}
        if window["label"] is not None:
            assert 0 <= window["confidence"] <= 1
            assert window["probabilities"].keys() == set(CLASSES)
            assert sum(window["probabilities"].values()) == pytest.approx(1, abs=0.01)
            assert all(microseconds >= 0 for microseconds in window["latency_us"].values())


def test_classify_plot_is_a_png(program: Run, recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = program("classify", recording, "--plot", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "out.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20]) >= 1_000  # pixels across


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("windows", [0.0001, 0.5, 1, 2.2])
def test_classify_any_length_ends_with_the_window_that_ends_last(
    program: Run, write_audio: WriteAudio, factory: Bundle, rate_hz: int, windows: float
) -> None:
    """Also where a resampler holds the end back, and where there is not one whole window."""
    spec, model_rate_hz = factory.manifest.window, factory.manifest.features.sample_rate_hz
    length = int(windows * spec.length_samples / model_rate_hz * rate_hz)
    samples = 0.2 * np.random.default_rng(0).standard_normal(length)
    done = program("classify", write_audio("a.wav", samples, rate_hz), "--json")
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)["windows"]
    expected = 1 + max(0, int(length / rate_hz * model_rate_hz + 0.01) - spec.length_samples) // spec.hop_samples
    assert len(heard) == expected
    assert heard[0]["start_s"] == 0


def test_classify_silence_is_silence(program: Run, write_audio: WriteAudio) -> None:
    path = write_audio("silence.wav", np.zeros(5 * 16_000))
    assert json.loads(program("classify", path, "--json").stdout)["shares"]["silence"] == 1
    text = program("classify", path)
    assert text.returncode == 0
    assert "labels: silence 100%" in text.stdout


def test_classify_output_that_cannot_show_it_still_ends_well(program: Run, recording: Path) -> None:
    done = program("classify", recording, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert "labels: " in done.stdout


def test_classify_into_a_closed_pipe_ends_without_a_word(recording: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "edge_node", "classify", recording],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(write_end)
    assert done.returncode == 141
    assert not [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]


def test_classify_bad_recording_is_exit_3(program: Run, one_line: OneLine, tmp_path: Path) -> None:
    (tmp_path / "diary.wav").write_text("dear diary")
    one_line(program("classify", tmp_path / "diary.wav"), 3, tmp_path / "diary.wav", "WAV or FLAC")
    one_line(program("classify", tmp_path / "none.wav"), 3, "none.wav", "no such file")


def test_classify_array_recording_asks_for_a_channel(program: Run, one_line: OneLine, write_audio: WriteAudio) -> None:
    path = write_audio("array.wav", 0.1 * np.random.default_rng(0).standard_normal((16_000, 8)))
    one_line(program("classify", path), 3, "--channel")
    assert program("classify", path, "--channel", 8).returncode == 0
    one_line(program("classify", path, "--channel", 9), 3, "has 8 channels, not 9")


def test_classify_bad_bundle_is_exit_4(
    program: Run, one_line: OneLine, recording: Path, tmp_path: Path, factory: Bundle
) -> None:
    (tmp_path / "text").write_text("no bundle")
    one_line(program("classify", recording, "--bundle", tmp_path / "text"), 4, tmp_path / "text")
    one_line(program("classify", recording, "--bundle", tmp_path / "none"), 4, tmp_path / "none", "No such file")
    garbage = {name: getattr(factory, name) for name in factory.__struct_fields__} | {"model": b"garbage" * 500}
    (tmp_path / "garbage").write_bytes(write_bundle(Bundle(**garbage)))
    one_line(program("classify", recording, "--bundle", tmp_path / "garbage"), 4, "cannot run this model")


def test_classify_plot_in_an_impossible_place_is_exit_2(
    program: Run, one_line: OneLine, recording: Path, tmp_path: Path
) -> None:
    one_line(program("classify", recording, "--plot", tmp_path / "none" / "out.png"), 2, "--plot", "existing folder")
    one_line(program("classify", recording, "--plot", tmp_path / "out.txt"), 2, "--plot")


@pytest.mark.parametrize(
    "arguments",
    [[], ["run"], ["dance"], ["classify"], ["classify", "a.wav", "--channel", "0"], ["classify", "a", "--x"]],
)
def test_program_wrong_arguments_are_exit_2(program: Run, arguments: list[str]) -> None:
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: sottovoce-node" in done.stderr
    assert "Traceback" not in done.stderr


def _config(tmp_path: Path, more: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(
        'site = "home"\nnode = "kitchen"\ndeployment = {context = "home", employees_present = false}\ndrain_s = 0\n'
        f'outbox = {{ path = "{tmp_path}/outbox.sqlite" }}\nbroker = {{ tls = false, port = 9 }}\n{more}'
    )
    return path


def test_run_without_settings_is_exit_2(program: Run, one_line: OneLine, tmp_path: Path) -> None:
    one_line(program("run", "--config", tmp_path / "none.toml"), 2, "none.toml", "No such file")
    one_line(program("run", "--config", _config(tmp_path, "typo = 1\n")), 2, "node.toml", "typo")


def test_run_without_recordings_is_exit_3(program: Run, one_line: OneLine, tmp_path: Path) -> None:
    config = _config(tmp_path, f'[source]\nkind = "replay"\npaths = ["{tmp_path}/none"]\n')
    one_line(program("run", "--config", config), 3, tmp_path / "none", "no such file or folder")


def test_run_with_an_outbox_of_something_else_is_exit_6(
    program: Run, one_line: OneLine, tmp_path: Path, recording: Path
) -> None:
    (tmp_path / "outbox.sqlite").write_text("no database " * 100)
    config = _config(tmp_path, f'[source]\nkind = "replay"\npaths = ["{recording}"]\n')
    one_line(program("run", "--config", config), 6, tmp_path / "outbox.sqlite", "not a database")


def test_run_with_a_password_file_that_is_not_there_is_exit_2(
    program: Run, one_line: OneLine, tmp_path: Path, recording: Path
) -> None:
    config = _config(tmp_path, f'[source]\nkind = "replay"\npaths = ["{recording}"]\n')
    config.write_text(config.read_text().replace("port = 9", 'port = 9, username = "home/kitchen"'))
    done = program("run", "--config", config, env={"SOTTOVOCE_BROKER_PASSWORD_FILE": str(tmp_path / "none")})
    one_line(done, 2, "SOTTOVOCE_BROKER_PASSWORD_FILE", tmp_path / "none")


@pytest.fixture
def _no_microphone(program: Run) -> None:
    listed = program("devices", "--json")
    if listed.returncode == 3:
        pytest.skip("PortAudio is not on this machine: other tests show what is said then")
    if json.loads(listed.stdout):
        pytest.skip("this machine has a microphone")


@pytest.mark.usefixtures("_no_microphone")
@pytest.mark.parametrize(("device", "named"), [("", "the default microphone"), ("theremin", "'theremin'")])
def test_run_without_a_microphone_says_so_once_and_waits_for_it(device: str, named: str, tmp_path: Path) -> None:
    config = _config(tmp_path, f'[source]\ndevice = "{device}"\n' if device else "")
    command = [sys.executable, "-m", "edge_node", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        said = next(line for line in node.stderr if "edge_node.sound.capture" in line)
        time.sleep(3)  # three attempts or more
        node.terminate()
        more = [line for line in node.stderr if "edge_node.sound.capture" in line]
    assert "WARNING" in said
    assert named in said
    assert "sottovoce-node devices" in said
    assert more == []
    assert node.returncode == 0


@pytest.mark.usefixtures("_no_microphone")
def test_devices_without_any_says_so(program: Run) -> None:
    done = program("devices")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.startswith("No microphone found.")
    assert json.loads(program("devices", "--json").stdout) == []


def test_program_without_a_usable_portaudio_says_what_to_install(
    program: Run, one_line: OneLine, tmp_path: Path
) -> None:
    """The loader meets this library first, and cannot load it: as absent as it gets where PortAudio is installed."""
    (tmp_path / "libportaudio.so.2").write_bytes(b"")
    env = {"LD_LIBRARY_PATH": str(tmp_path)}
    one_line(program("devices", env=env), 3, "sudo apt install libportaudio2")
    one_line(program("run", "--config", _config(tmp_path, ""), env=env), 3, "sudo apt install libportaudio2")


def test_classify_without_a_usable_portaudio_works(program: Run, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "libportaudio.so.2").write_bytes(b"")
    assert program("classify", recording, env={"LD_LIBRARY_PATH": str(tmp_path)}).returncode == 0

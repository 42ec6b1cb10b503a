"""`sottovoce-release` as a person types it: every answer, and every mistake in one line."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.release.__main__ import main
from training.release.arguments import parse
from training.release.roles import Keep
from training.release.settings import TEMPLATE

MakeBundle = Callable[..., bytes]
ROOT = Path(__file__).parents[3]


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passphrase: Any) -> Run:
    monkeypatch.setenv("OFFLINE_WORD", passphrase(Keep.OFFLINE))
    monkeypatch.setenv("ONLINE_WORD", passphrase(Keep.ONLINE))
    monkeypatch.setenv("SOTTOVOCE_RELEASES", str(tmp_path / "releases"))
    words = ("--offline-passphrase-env", "OFFLINE_WORD", "--online-passphrase-env", "ONLINE_WORD")

    def typed(command: str, *arguments: str | Path, words: tuple[str, ...] = words) -> Said:
        code = main([command, *map(str, arguments), *words])
        return Said(code, *capsys.readouterr())

    return typed


@pytest.fixture
def bundle(tmp_path: Path, bundle_of: MakeBundle) -> Path:
    path = tmp_path / "made.bundle"
    path.write_bytes(bundle_of(1))
    return path


def test_commands_from_a_new_folder_to_a_rollout_that_is_aborted(run: Run, bundle: Path, tmp_path: Path) -> None:
    made = run("init")
    assert (made.code, made.err) == (0, "")
    assert "1.root.json" in made.out
    added = run("add", bundle)
    assert "made/1: " in added.out
    assert "next: sottovoce-release publish made/1 --channel stable" in added.out
    assert "stable: made/1, 0 % of the nodes" in run("publish").out
    begun = run("rollout", "made/1", "--percent", "25,100", "--spread", "5m", "--abort-above", "5%", "--min-nodes", "3")
    told = "stable: made/1, 25 % of the nodes, in phases of 25, 100 %\n"
    limits = "  beginning within 300 s, abort above 5 % failures once 3 have executed\n"
    assert begun.out.startswith(told + limits)
    paused = run("pause", "--reason", "lunch").out
    assert paused == "stable: made/1, paused (lunch); 25 % of the nodes, in phases of 25, 100 %\n"
    assert run("resume").out == told
    aborted = run("abort", "--reason", "it is a try").out.splitlines()
    assert aborted == [
        "stable: made/1, ABORTED (it is a try); 25 % of the nodes, in phases of 25, 100 %",
        "nodes that run it keep it; to send them back: sottovoce-release publish OTHER --downgrade, then rollout",
    ]
    assert limits.strip() in run("status").out
    status = json.loads(run("status", "--json").out)
    assert status["channels"][0] | {"aborted": True, "percent": 25, "release": "made/1"} == status["channels"][0]
    assert status["releases"] == [
        {"release": "made/1", "bytes": bundle.stat().st_size, "chunks": 1, "channels": ["stable"], "forced": None}
    ]
    assert run("status", "--check").code == 0
    again = run("add", bundle)
    assert again.code == 0, "the same bundle again is not an error"
    assert "timestamp" in run("refresh").out
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


def test_commands_rotate_and_renew(run: Run, bundle: Path) -> None:
    run("init")
    run("add", bundle)
    rotated = run("rotate-key", "targets")
    assert "counts instead of" in rotated.out
    assert "destroy" in rotated.out
    assert "for another term" in run("refresh", "--offline").out
    roles = {each["role"]: each for each in json.loads(run("status", "--json").out)["roles"]}
    assert (roles["root"]["version"], roles["targets"]["version"]) == (3, 4)


def test_commands_two_holders_of_root_keys(run: Run, tmp_path: Path) -> None:
    run("init", "--root-keys", "2", "--root-threshold", "2", "--offline-keys", tmp_path / "safe")
    first, second = sorted((tmp_path / "safe").glob("root.*"))
    for key, holder in ((first, "anna"), (second, "ben")):
        (tmp_path / holder).mkdir()
        key.rename(tmp_path / holder / key.name)
    old = second.name.split(".")[1][:8]
    begun = run("rotate-key", "root", "--keys", tmp_path / "anna", "--into", tmp_path / "anna", "--old", old)
    assert "waits: 2.root.json: 1 more signature of root keys" in begun.out
    assert "waits: 2.root.json" in run("status").out
    assert "next: `sottovoce-release sign` by the other holders" in begun.out
    assert "the change is accepted" in run("sign", "--keys", tmp_path / "ben").out
    assert run("sign").err == "sottovoce-release: error: nothing waits for signatures\n"


@pytest.mark.parametrize(
    ("line", "roles"),
    [
        ("add other.bundle", "targets"),
        ("remove made/1", "targets"),
        ("rotate-key root", "root"),
        ("rotate-key targets", "root or targets"),
        ("rotate-key rollout", "targets"),
        ("refresh --offline", "root or targets"),
    ],
)
def test_commands_without_any_key_that_must_sign_change_nothing(
    run: Run, bundle: Path, tmp_path: Path, bundle_of: MakeBundle, monkeypatch: Any, line: str, roles: str
) -> None:
    safe, folder = tmp_path / "safe", tmp_path / "releases"
    run("init", "--offline-keys", safe)
    run("add", bundle, "--keys", safe)
    monkeypatch.chdir(tmp_path)
    Path("other.bundle").write_bytes(bundle_of(2))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = run(*line.split())
    assert (said.code, said.out) == (8, "")
    places = ", ".join(str(folder / "keys" / keep) for keep in Keep)
    assert said.err.startswith(f"sottovoce-release: error: no key of {roles} in {places}")
    assert said.err.endswith("; name its folder with --keys\n")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / "pending").exists()
    assert run(*line.split(), "--keys", safe).code == 0


def test_commands_one_holder_with_some_of_the_keys_is_told_which_are_missing(run: Run, tmp_path: Path) -> None:
    run("init", "--offline-keys", tmp_path / "safe")
    (tmp_path / "away").mkdir()
    key = next((tmp_path / "safe").glob("targets.*"))
    key.rename(tmp_path / "away" / key.name)
    begun = run("refresh", "--offline", "--keys", tmp_path / "safe")
    assert begun.out == (
        "waits: 2.targets.json: 1 more signature of targets keys\n"
        "next: `sottovoce-release sign` with the keys that are missing: name their folder with --keys\n"
    )
    assert "the change is accepted" in run("sign", "--keys", tmp_path / "away").out


def test_commands_abort_without_a_reason_names_the_channel_that_is_not_the_usual_one(run: Run, bundle: Path) -> None:
    for line in (("init",), ("add", bundle), ("publish", "--channel", "beta")):
        assert run(*line).code == 0
    assert run("pause", "--channel", "beta").out == "beta: made/1, paused; 0 % of the nodes\n"
    assert "publish OTHER --downgrade --channel beta, then rollout" in run("abort", "--channel", "beta").out


def test_commands_offline_machine_without_online_keys(run: Run, bundle: Path, tmp_path: Path) -> None:
    run("init", "--online-keys", tmp_path / "elsewhere")
    signed = run("add", bundle)
    assert signed.code == 0
    assert "run `sottovoce-release refresh` where the online keys are" in signed.out
    assert run("refresh", "--keys", tmp_path / "elsewhere").code == 0
    assert run("publish", "--keys", tmp_path / "elsewhere").code == 0


def test_commands_refused_bundle_needs_a_reason(run: Run, tmp_path: Path, bundle_of: MakeBundle) -> None:
    run("init")
    (tmp_path / "large.bundle").write_bytes(bundle_of(1, model=b"x" * 100_001))
    refused = run("add", tmp_path / "large.bundle")
    assert refused.code == 8
    assert refused.err.startswith("sottovoce-release: error: made/1 is refused: size of model.tflite")
    forced = run("add", tmp_path / "large.bundle", "--force", "a test of the network")
    assert forced.code == 0
    assert "forced, for all to read: a test of the network" in forced.out
    assert "a test of the network" in run("status").out


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (
            "status --repository nowhere",
            8,
            "nowhere: no repository of releases; make one with `sottovoce-release init`",
        ),
        ("add nowhere.bundle", 4, "nowhere.bundle: No such file or directory; name a bundle file"),
        ("publish made/7", 8, "made/7: no such release; signed are: none"),
        ("publish", 2, "name the release: signed are none"),
        ("rollout made/1 --percent 5", 8, "channel stable names no release yet"),
        ("remove made/1", 8, "no such release"),
        ("init", 8, "is not empty; name a folder that is not there yet"),
        ("init --repository other --root-threshold 2", 2, "root: 2 of 1 keys"),
        ("rotate-key root --old zz", 8, "name one of them with --old"),
        ("sign", 8, "nothing waits for signatures"),
    ],
)
def test_commands_mistake_is_one_line(run: Run, line: str, code: int, words: str) -> None:
    run("init")
    said = run(*line.split())
    assert said.code == code
    assert said.err.startswith("sottovoce-release: error: ")
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--online-passphrase-env", "NOT_SET"), "neither NOT_SET nor NOT_SET_FILE is set in the environment"),
        (("--online-passphrase-env", "OFFLINE_WORD"), "the passphrase of the online keys is wrong"),
        ((), "no terminal to ask for the passphrase of the online keys"),
    ],
)
def test_commands_passphrase_that_is_not_there_or_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], error: str
) -> None:
    run("init")
    monkeypatch.setattr(sys, "stdin", (ROOT / "README.md").open())  # no terminal
    said = run("refresh", words=words)
    sys.stdin.close()
    assert said.code == 2
    assert error in said.err
    assert run("status", words=()).code == 0, "to look, no key is opened"


def test_commands_passphrase_from_a_file(run: Run, tmp_path: Path, passphrase: Any, monkeypatch: Any) -> None:
    run("init")
    (tmp_path / "word").write_text(f"{passphrase(Keep.ONLINE)}\n")
    monkeypatch.setenv("CREDENTIAL_FILE", str(tmp_path / "word"))
    assert run("refresh", words=("--online-passphrase-env", "CREDENTIAL")).code == 0


@pytest.mark.parametrize(
    "line",
    [
        "rollout made/1 --percent 101",
        "rollout made/1 --percent two",
        "rollout made/1 --percent 5 --spread 1w",
        "rollout made/1 --percent 5 --min-nodes many",
        "rollout made/1",
        "rotate-key janitor",
        "pause --reason \x07",
        "abort --reason \udcff",
        "nonsense",
        "",
    ],
)
def test_arguments_that_make_no_sense_are_told_apart(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split(" ") if line else [])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rollout made/1 --percent 0", "'0' is no whole percentage from 1 to 100"),
        ("rollout made/1 --percent 5 --abort-above 101", "'101' is no whole percentage from 0 to 100"),
        ("rotate-key foo", "'foo' is no role: root, targets, snapshot, timestamp, rollout"),
    ],
)
def test_arguments_say_what_is_allowed(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(line.split(" "))
    assert capsys.readouterr().err.endswith(f"{words}\n")


def test_arguments_help_of_abort_says_who_goes_back(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["abort", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "let no further node begin, and send nodes that are under way back; who has finished keeps it" in told


def test_settings_template_shows_the_port_of_both_sections() -> None:
    assert TEMPLATE.count("# port = 8883\n") == 2
    commented = "".join(
        line.removeprefix("# ") for line in TEMPLATE.partition("nothing is mirrored.\n")[2].splitlines(keepends=True)
    )
    told = tomllib.loads("\n".join(line for line in commented.splitlines() if "=" in line or line.startswith("[")))
    assert {name: section["port"] for name, section in told.items()} == {"broker": 8883, "watch": 8883}


def test_commands_help_needs_no_package_of_the_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tuf', 'securesystemslib', 'cryptography', 'rich')));"
        "from training.release.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    helped, asked = (
        subprocess.run([sys.executable, "-c", code, *line], cwd=ROOT, capture_output=True, text=True, check=False)
        for line in (["--help"], ["status"])
    )
    assert (helped.returncode, helped.stderr) == (0, "")
    assert asked.returncode == 2
    assert asked.stderr.endswith("is missing: pip install 'sottovoce[release]'\n")

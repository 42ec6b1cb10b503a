"""`sottovoce-node notice`, as its user meets it."""

import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
OneLine = Callable[..., None]
GIVEN = ("--operator", "Example Care Home", "--url", "https://care.example/sound", "--date", "2026-11-23")
SETTINGS = """
site = "care"
node = "day-room"

[deployment]
context = "public"
employees_present = false
operator = "Example Library"
information_url = "https://library.example/sound"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(SETTINGS)
    return path


def test_notice_command_writes_both_files_whole(program: Run, tmp_path: Path) -> None:
    page, sheet = tmp_path / "notice.html", tmp_path / "notice.PDF"
    page.write_text("what was there before")
    done = program("notice", *GIVEN, "--language", "de", "--language", "en", "--out", page, "--out", sheet)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{page}\n{sheet}\n", "")
    assert page.read_text().startswith('<!doctype html>\n<html lang="de">')
    assert sheet.read_bytes().startswith(b"%PDF-")
    assert {each.name for each in tmp_path.iterdir()} == {"notice.html", "notice.PDF"}


def test_notice_command_takes_what_is_not_given_from_the_settings(program: Run, settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "notice.html"
    assert program("notice", "--config", settings, "--out", out).returncode == 0
    html = out.read_text()
    for words in ("Example Library", "https://library.example/sound", "Public\u00a0place", "Device care/day-room, 20"):
        assert words in html
    assert program("notice", "--config", settings, "--operator", "Someone else", "--out", out).returncode == 0
    assert "Someone else" in out.read_text()
    assert "Example Library" not in out.read_text()


def test_notice_command_composes_letters_that_come_apart(program: Run, tmp_path: Path) -> None:
    out = tmp_path / "notice.html"
    apart = unicodedata.normalize("NFD", "Phòng tiếp tân")
    assert program("notice", *GIVEN, "--place", apart, "--language", "vi", "--out", out).returncode == 0
    assert "Phòng tiếp tân" in out.read_text()
    assert apart not in out.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "https://a.example/"), ["needs an operator: --operator, or operator in the [deployment]"]),
        ((), ["needs an operator: --operator, ", "; and the operator's page: --url, "]),
        (("--operator", "A"), ["needs the operator's page: --url, or information_url in the [deployment]"]),
        ((*GIVEN, "--url", "a.example"), ["information URL 'a.example'"]),
        ((*GIVEN, "--date", "31.03.2026"), ["--date '31.03.2026': write it as 2026-03-31"]),
        ((*GIVEN, "--out", "notice.txt"), ["--out notice.txt: name a file that ends in .html or .pdf"]),
        ((*GIVEN, "--out", "none/notice.html"), ["--out none/notice.html: No such file or directory"]),
    ],
)
def test_notice_command_says_a_mistake_in_one_line_and_writes_nothing_of_it(
    program: Run, one_line: OneLine, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    options = options if "--out" in options else (*options, "--out", "notice.pdf")
    root = Path(__file__).parents[3]
    done = program("notice", *options, cwd=tmp_path, env={"PYTHONPATH": f"{root}:{':'.join(filter(None, sys.path))}"})
    one_line(done, 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_notice_command_without_its_libraries_names_the_extra(program: Run, one_line: OneLine, tmp_path: Path) -> None:
    for name in ("segno", "fpdf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError('none', name='{name}')")
    for out, name in (("notice.html", "segno"), ("notice.pdf", "fpdf")):
        done = program("notice", *GIVEN, "--out", tmp_path / out, env={"PYTHONPATH": str(tmp_path)})
        one_line(done, 2, f"a notice needs {name}: pip install 'sottovoce[notice]'")
        assert not (tmp_path / out).exists()


def test_notice_libraries_are_not_loaded_by_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, edge_node.__main__ as m; m._parser(); print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    loaded = set(done.stdout.split())
    assert "edge_node.notice.options" in loaded
    assert loaded & {"segno", "fpdf", "fontTools", "edge_node.notice.words", "edge_node.notice.facts"} == set()

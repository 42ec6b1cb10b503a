"""A report says what the runs hold, the same in Markdown and in HTML, and never more than they hold."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markdown_it import MarkdownIt

from broker.contract.errors import DataError, SettingsError
from training.__main__ import main
from training.exam.predictions import PREDICTIONS_NAME
from training.fitting.results import RESULTS_NAME, Run, read_run
from training.report.document import Document, Heading, Note, Picture, Table, Text, literal, to_html, to_markdown
from training.report.measured import measure
from training.report.run_report import HTML_NAME, MARKDOWN_NAME, NOT_FOR_PUBLICATION, compose, measure_all
from training.terminal import share

MakeRun = Callable[..., Path]

NASTY = '<script>|a_b*c`d"$x$ [e](f) & \\ ~g~'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown.append(data)

    def all(self, attribute: str) -> list[str]:
        return [value for _, found in self.elements if (value := found.get(attribute)) is not None]

    @property
    def text(self) -> str:
        return " ".join("".join(self.shown).split())


@pytest.fixture(scope="module")
def runs(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run by speaker, one by clip without noise, and one that tests nobody."""
    folder = tmp_path_factory.mktemp("runs")
    asked: dict[str, dict[str, Any]] = {
        "factory": {"seeds": (1, 2)},
        "factory-by-clip": {"by": "clip", "seeds": (1,), "skill": 0.9, "noise": False},
        "factory-all": {"by": "all", "seeds": (1,)},
    }
    for name, wish in asked.items():
        (folder / name).mkdir()
        make_run(name.removesuffix("-all"), folder=folder / name, **wish)
    return {name: folder / name for name in asked}


@pytest.fixture(scope="module")
def written(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "deep" / "report"
    assert main(["report", *map(str, runs.values()), "--out", str(out)]) == 0
    return out


def _texts(markdown: str) -> list[str]:
    """Return what a reader of the Markdown sees, block by block."""
    shown = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "inline":
            children = token.children or []
            shown.append("".join(child.content for child in children if child.type != "image"))
    return shown


def test_foreign_text_is_shown_as_it_is() -> None:
    blocks = (Heading(text="H"), Table(caption="T", header=("a", "b"), rows=((literal(NASTY), "1"),)))
    document = Document(title=literal(NASTY), blocks=blocks)
    title, *_, name, _ = _texts(to_markdown(document))
    assert title == name == NASTY
    page = Page(to_html(document, {}))
    assert page.text.count(NASTY) == 3  # title, heading, cell
    assert "script" not in {tag for tag, _ in page.elements}


def test_marks_mean_the_same_in_both_forms() -> None:
    document = Document(title="T", blocks=(Text(text="1 < 2, **much _more_** than `a * b`"), Note(text="mind\\*")))
    page = to_html(document, {})
    assert "1 &lt; 2, <strong>much _more_</strong> than <code>a * b</code>" in page
    assert '<p class="note">mind*</p>' in page
    assert "> mind\\*" in to_markdown(document)


def test_table_keeps_every_cell_in_its_column() -> None:
    table = Table(caption="T", header=("a", "b", "c"), rows=(("x|y", "1", "2"),), texts=2)
    escaped = msgspec.structs.replace(table, rows=((literal("x|y"), "1", "2"),))
    lines = to_markdown(Document(title="T", blocks=(escaped,))).splitlines()
    assert lines[-3:] == ["| a | b | c |", "| --- | --- | ---: |", "| x\\|y | 1 | 2 |"]
    assert '<td class="figure">2</td>' in to_html(Document(title="T", blocks=(escaped,)), {})


def test_picture_is_drawn_when_it_is_asked_for() -> None:
    picture = Picture(name="a.png", alt="an \\_a\\_", caption="c", draw=lambda: b"")
    document = Document(title="T", blocks=(picture,))
    assert document.pictures == (picture,)
    assert "![an \\_a\\_](a.png)\n\nc" in to_markdown(document)
    header = bytes(16) + (7).to_bytes(4, "big") + (5).to_bytes(4, "big")
    assert 'src="a.png" alt="an _a_" width="7" height="5"' in to_html(document, {"a.png": header})


def test_page_stands_alone(written: Path) -> None:
    page = Page((written / HTML_NAME).read_text(encoding="utf-8"))
    pictures = {path.name for path in written.glob("*.png")}
    assert set(page.all("src")) == pictures
    assert "://" not in (written / HTML_NAME).read_text(encoding="utf-8")
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    assert {link.removeprefix("#") for link in page.all("href")} <= set(ids)
    assert all(page.all("alt"))
    assert "viewport" in page.all("name")
    assert {path.suffix for path in written.iterdir()} == {".png", ".md", ".html"}


def test_both_forms_say_the_same(written: Path) -> None:
    page = Page((written / HTML_NAME).read_text(encoding="utf-8")).text
    markdown = (written / MARKDOWN_NAME).read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((.+?\.png)\)", markdown)) == {path.name for path in written.glob("*.png")}
    for text in _texts(markdown):
        assert " ".join(text.split()) in page


def test_headline_is_the_mean_of_the_seeds_with_its_spread(runs: dict[str, Path], written: Path) -> None:
    spread = measure(runs["factory"]).summary.figures["corpus-macro UAR"]
    assert spread.deviation > 0
    told = (
        f"corpus-macro UAR {share(spread.mean)} ± {share(spread.deviation)} "
        f"({share(spread.low)} to {share(spread.high)}) over 2 seeds, on speakers who took no part in training."
    )
    page = Page((written / HTML_NAME).read_text(encoding="utf-8")).text
    assert page.count(told) == 2  # side by side, and in its chapter


def test_by_clip_is_optimistic_wherever_it_stands(written: Path, runs: dict[str, Path]) -> None:
    markdown = (written / MARKDOWN_NAME).read_text(encoding="utf-8")
    shown = re.sub(r"\(factory-by-clip-\w+\.png\)", "", markdown)
    for line in shown.splitlines()[1:]:  # but for the title, which names the runs
        for rest in line.split("factory-by-clip")[1:]:
            assert rest.startswith(" (OPTIMISTIC)") or line.startswith("| experiment"), line
    assert "do not compare with the others'" in markdown
    assert "factory-by-clip (OPTIMISTIC): **OPTIMISTIC: corpus-macro UAR" in markdown
    (by_clip,) = measure_all([runs["factory-by-clip"]])
    for picture in compose([by_clip]).pictures[:-1]:  # the last shows voices
        assert "OPTIMISTIC" in str(picture.draw)


def test_parts_that_are_missing_are_left_out_and_named(
    make_run: MakeRun, runs: dict[str, Path], tmp_path: Path
) -> None:
    markdown = to_markdown(compose(measure_all([runs["factory-by-clip"]])))
    assert "Left out: noise was not measured" in markdown
    bare = make_run(seeds=(1,), noise=False, predictions=False, folder=tmp_path)
    text = to_markdown(compose(measure_all([bare])))
    assert "Left out: fold-0/seed-1/predictions.jsonl is missing." in text
    assert "-calibration.png" not in text
    assert "-noise.png" not in text
    nobody = to_markdown(compose(measure_all([runs["factory-all"]])))
    assert "Nobody was tested" in nobody
    assert "factory-all-speakers-confusion.png" in nobody  # of the corpus that never trains
    assert "-speakers.png" not in nobody.replace("all-speakers-", "")


def test_speakers_that_no_result_tells_apart_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(seeds=(1,), folder=tmp_path))
    folds = tuple(
        msgspec.structs.replace(fold, test=msgspec.structs.replace(fold.test, breakdown=None)) if fold.test else fold
        for fold in run.folds
    )
    (tmp_path / RESULTS_NAME).write_bytes(msgspec.json.encode(msgspec.structs.replace(run, folds=folds)))
    assert "Left out: the results tell no speakers apart." in to_markdown(compose(measure_all([tmp_path])))


def test_seed_that_lacks_a_fold_is_left_out_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run(seeds=(1, 2), folder=tmp_path))
    folds = tuple(item for item in run.folds if (item.fold, item.seed) != (1, 2))
    (tmp_path / RESULTS_NAME).write_bytes(msgspec.json.encode(msgspec.structs.replace(run, folds=folds)))
    (measured,) = measure_all([tmp_path])
    assert measured.summary.seeds == (1,)
    assert {item.seed for item in measured.results} == {1}
    assert measured.confusion["ravdess"].clips == 4 * 28  # each clip once
    assert "a fold is missing that another seed has: seed 2" in to_markdown(compose([measured]))


def test_runs_of_one_name_are_told_apart(runs: dict[str, Path]) -> None:
    twice = measure_all([runs["factory"], runs["factory"], runs["factory-all"]])
    assert [run.name for run in twice] == ["factory", "factory-2", "factory-all-speakers"]
    names = [picture.name for picture in compose(twice).pictures]
    assert len(set(names)) == len(names)


def test_report_is_the_same_each_time(runs: dict[str, Path], written: Path) -> None:
    document = compose(measure_all([runs["factory"]]), title="Same $1")
    again = compose(measure_all([runs["factory"]]), title="Same $1")
    assert to_markdown(document) == to_markdown(again)
    assert to_markdown(document).startswith("# Same \\$1\n")
    drawn = {picture.name: picture for picture in document.pictures}["factory-speakers.png"].draw()
    assert drawn == (written / "factory-speakers.png").read_bytes()


def test_real_voices_are_marked_as_not_to_be_published(
    runs: dict[str, Path], tiny_corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], written: Path
) -> None:
    assert "synthetic" in (written / MARKDOWN_NAME).read_text(encoding="utf-8")
    asked = ["report", str(runs["factory-all"]), "--out", str(tmp_path), "--data", str(tiny_corpora / "AudioData")]
    assert main(asked) == 0
    assert NOT_FOR_PUBLICATION in capsys.readouterr().out
    text = (tmp_path / MARKDOWN_NAME).read_text(encoding="utf-8")
    assert text.splitlines()[2] == f"> {NOT_FOR_PUBLICATION}"
    assert (tmp_path / "voices-of-people.png").is_file()
    assert not (tmp_path / "voices.png").exists()


@pytest.mark.parametrize(
    ("where", "said", "code"),
    [
        ("nothing", "no results of a training run", DataError.exit_code),
        ("empty", "without a single fold", DataError.exit_code),
        ("stranger", "not the predictions that", DataError.exit_code),
        ("taken", "the report cannot be written", SettingsError.exit_code),
    ],
)
def test_report_refuses_in_one_line(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, said: str, code: int
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    run.mkdir()
    if where != "nothing":
        make_run(seeds=(1,), by="all" if where == "taken" else "speaker", folder=run)
    if where == "empty":
        none: Run = msgspec.structs.replace(read_run(run), folds=())
        (run / RESULTS_NAME).write_bytes(msgspec.json.encode(none))
    if where == "stranger":
        other = make_run(seeds=(1,), skill=0.1)
        place = Path("fold-0/seed-1") / PREDICTIONS_NAME
        (run / place).write_bytes((other / place).read_bytes())
    if where == "taken":
        out.write_text("a file")
    assert main(["report", str(run), "--out", str(out)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert where == "taken" or not out.exists()

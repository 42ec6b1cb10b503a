"""The card's figures are the bundle's."""

import re
from pathlib import Path

import msgspec
import pytest

from broker.contract.bundle import read_bundle, write_bundle
from broker.contract.errors import BundleError
from edge_node.models import factory_bundle
from training.exam.card import read_card
from training.report.model_card import BLOCKS, main, render
from training.terminal import share

CARD = Path(__file__).parents[3] / "edge_node" / "models" / "MODEL_CARD.md"


@pytest.fixture(scope="module")
def text() -> str:
    return CARD.read_text(encoding="utf-8")


def test_model_card_is_not_stale() -> None:
    assert main(["--check"]) == 0, "run `make generate`"


@pytest.mark.parametrize("name", BLOCKS)
def test_model_card_with_a_wrong_figure_is_stale(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = re.sub(rf"(<!-- {name}: [^>]*>[^<]*?)[1-8]", r"\g<1>9", text, count=1)
    assert wrong != text
    copy = tmp_path / "MODEL_CARD.md"
    copy.write_text(wrong, encoding="utf-8")
    monkeypatch.setattr("training.report.model_card._CARD", copy)
    assert main(["--check"]) == 1
    assert "is stale; run" in capsys.readouterr().err
    assert copy.read_text(encoding="utf-8") == wrong
    assert main([]) == 0
    assert copy.read_text(encoding="utf-8") == text


def test_model_card_of_another_bundle_has_other_figures(text: str) -> None:
    bundle = read_bundle(factory_bundle(), "factory.bundle")
    decision = msgspec.structs.replace(bundle.manifest.decision, smoothing=0.123)
    manifest = msgspec.structs.replace(bundle.manifest, decision=decision)
    other = write_bundle(msgspec.structs.replace(bundle, manifest=manifest))
    assert "0.123" in render(text, other)


@pytest.mark.parametrize("end", ["<!-- /facts -->", "<!-- /machine -->"])
def test_model_card_without_a_block_is_refused(text: str, end: str) -> None:
    with pytest.raises(BundleError, match="expected each of"):
        render(text.replace(end, ""), factory_bundle())


def test_model_card_needs_an_evaluation(text: str) -> None:
    bundle = read_bundle(factory_bundle(), "factory.bundle")
    bare = write_bundle(msgspec.structs.replace(bundle, card={**bundle.card, "speakers": []}))
    with pytest.raises(BundleError, match="again with --data"):
        render(text, bare)


def test_model_card_needs_the_run_by_speaker(text: str) -> None:
    bundle = read_bundle(factory_bundle(), "factory.bundle")
    runs = {name: run for name, run in bundle.card["cross_validation"].items() if run["by"] == "clip"}
    alone = write_bundle(msgspec.structs.replace(bundle, card={**bundle.card, "cross_validation": runs}))
    with pytest.raises(BundleError, match="--compare RUN"):
        render(text, alone)


def test_model_card_quotes_new_speakers_first(text: str) -> None:
    summary = read_card(read_bundle(factory_bundle(), "factory.bundle")).cross_validation["factory"]
    assert summary.by == "speaker"
    spread = summary.figures["corpus-macro UAR"]
    headline = text.split("<!-- headline", 1)[1].split("<!-- /headline", 1)[0]
    assert f"**corpus-macro UAR {share(spread.mean)} ± {share(spread.deviation)} " in headline
    assert all(share(each.mean) in headline for name, each in summary.figures.items() if "unseen" in name)


def test_model_card_calls_known_speakers_optimistic(text: str) -> None:
    card = read_card(read_bundle(factory_bundle(), "factory.bundle"))
    known = [name for name, run in card.cross_validation.items() if run.by == "clip"]
    assert known
    for line in text.splitlines():
        for name in known:
            assert name not in line or "optimistic" in line


def test_model_card_tells_what_known_speakers_are_worth(text: str) -> None:
    runs = read_card(read_bundle(factory_bundle(), "factory.bundle")).cross_validation
    new, known = (runs[name].figures["accuracy"].mean for name in ("paper", "paper-by-clip"))
    assert f"To `paper`, as a node hears it, known speakers are worth {100 * (known - new):.0f} points" in text


def test_model_card_evaluated_the_bundled_files() -> None:
    card = read_card(read_bundle(factory_bundle(), "factory.bundle"))
    assert [group.standing for group in card.speakers] == ["cross-corpus", "training"]
    assert {"factory", "paper"} <= set(card.cross_validation)
    assert card.cross_validation["paper"].by == "speaker"

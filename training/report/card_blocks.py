"""The generated blocks of the factory model's card: each takes the bundle, its card and its size, and returns lines."""

from collections.abc import Callable, Sequence
from typing import Final

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES
from training.data.corpora import CORPORA, Corpus, title_of
from training.exam.card import Card
from training.exam.metrics import Scores
from training.report.card_comparison import corpora, cross_validation, folds, paper, people
from training.report.decision_tables import CLIP_COLUMNS, TALK_COLUMNS, clip_rows, talk_rows
from training.report.document import markdown_table
from training.report.words import (
    decision_in_words,
    energy_in_words,
    figure_in_words,
    front_end_in_words,
    network_in_words,
    recipe_in_words,
    spread_in_words,
    views_in_words,
    window_in_words,
)
from training.terminal import number, share

__all__ = ["BLOCKS"]

_RECALL: Final = f"recall {' / '.join(CLASSES)}"


def _headline(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    run = card.cross_validation[card.experiment]
    told = {name: spread_in_words(run.figures[name]) for name in ("corpus-macro UAR", "pooled UAR", "accuracy")}
    unseen = [
        f"{figure_in_words(name)} {spread_in_words(each)}" for name, each in run.figures.items() if "unseen" in name
    ]
    return [
        f"On speakers that no weight has heard, quantized, over {number(len(run.seeds), 'seed')}, in per cent:",
        "",
        *(
            f"- **{name} {value}**" if name == "corpus-macro UAR" else f"- {name} {value}"
            for name, value in told.items()
        ),
        *(f"- {line}" for line in unseen),
    ]


def _facts(bundle: Bundle, card: Card, size: int) -> list[str]:
    manifest, prior = bundle.manifest, bundle.manifest.prior
    rules = card.calibration.rules if card.calibration else card.settings.decision
    offered = ", ".join(f"{value:g}" for value in rules.smoothing)
    bias = ", ".join(f"{label} {value:+.2f}" for label, value in zip(CLASSES, card.bias, strict=True))
    rows = {
        "model": f"{manifest.identity}, trained {manifest.created}, {card.split}",
        "front-end": front_end_in_words(manifest.features),
        "window": window_in_words(manifest.window, manifest.features.sample_rate_hz),
        "network": f"{network_in_words(card.settings)}; {card.parameters:,} parameters",
        "training clips": views_in_words(card.settings),
        "recipe": recipe_in_words(card.settings),
        "bytes": (
            f"{card.quantized_bytes:,} as dynamic-range int8, which a node runs; {card.float_bytes:,} in float32, to "
            f"compare; {size:,} the whole bundle"
        ),
        "decision": f"{decision_in_words(manifest.decision)} (the weight from {offered})",
        "classes in training, as drawn": "unknown" if prior is None else " / ".join(map(share, prior)),
        "temperature, bias": f"{card.temperature:.2f}; {bias} (on the logits)",
        "LiteRT": f"{manifest.litert_at_least} or newer",
    }
    return markdown_table(("part", "as it is"), list(rows.items()), texts=2)


def _data(bundle: Bundle, card: Card, _size: int) -> list[str]:
    training = bundle.manifest.training
    rows = []
    for corpus in CORPORA:
        here = sum(_clips(group.models["quantized"].corpora, corpus) for group in card.speakers)
        if here:
            trained = str(len(_speakers(training.trained_speakers, corpus)))
            rows.append((corpus.title, trained, f"{here:,} of {sum(corpus.official.values()):,}", corpus.source))
    then = ", before they were trained on as well" if card.refitted else ""
    chosen = "Thresholds, temperature and bias were" if card.calibration is None else "Temperature and bias were"
    decision = "" if card.calibration is None else " Who chose the decision is told below."
    return [
        *markdown_table(
            ("corpus", "speakers trained on", "clips here, of the official set", "source, licence"), rows, texts=4
        ),
        "",
        f"{chosen} chosen by {_listed(training.validation_speakers)}{then}.{decision}",
    ]


def _evaluation(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    scores, shares = [], []
    for group in card.speakers:
        for model, figures in group.models.items():
            if group.is_seen and model == "float":
                continue
            for corpus, each in figures.corpora.items():
                recall = " / ".join("-" if value is None else f"{100 * value:.0f}" for value in each.recall)
                counts = (f"{each.clips:,}", model, share(each.accuracy), share(each.uar), share(each.macro_f1))
                scores.append((group.standing, title_of(corpus), *counts, recall))
        quantized = group.models["quantized"]
        shares.append(
            (
                group.standing,
                f"{group.windows:,}",
                *map(share, (group.same_windows, group.same_clips)),
                *map(share, (quantized.uncertain_share, quantized.wrong_share, quantized.ece)),
            )
        )
    alike = ("the same decision, float and quantized", "the same clip label")
    said = ("`uncertain`", "wrong of the others", "calibration error")
    return [
        *markdown_table(
            ("speakers", "corpus", "clips", "model", "accuracy", "UAR", "macro-F1", _RECALL), scores, texts=2
        ),
        "",
        *markdown_table(("speakers", "windows", *alike, *said), shares),
    ]


def _decision(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    told = card.calibration
    if told is None:
        return ["Chosen by `train`, on the validation speakers alone."]
    rules, seeds = told.rules, number(len(told.seeds), "seed")
    wrong = "" if rules.wrong_share is None else f"at most {share(rules.wrong_share)} % of the answers wrong, "
    return [
        f"Wanted, of the choosing speakers' windows: {wrong}at most {share(rules.uncertain_share)} % `uncertain`.",
        "",
        f"Windows of clips, in per cent, mean of {seeds}:",
        "",
        *markdown_table(CLIP_COLUMNS, clip_rows(told)),
        "",
        "Talks, all seeds taken as one; per minute, windows and missed turns in per cent:",
        "",
        *markdown_table(TALK_COLUMNS, talk_rows(told), texts=2),
        "",
        f"With this smoothing the clips' corpus-macro UAR is {spread_in_words(told.macro_uar)}.",
    ]


def _machine(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    where = card.machine
    return [
        (
            f"Trained and measured on {where.processor}, {where.cores} cores, Python {where.python}, TensorFlow "
            f"{where.tensorflow}, LiteRT {where.litert}. Energy of training the shipped weights: "
            f"{energy_in_words(card.energy)}."
        )
    ]


def _clips(corpora: dict[str, Scores], corpus: Corpus) -> int:
    return corpora[corpus.key].clips if corpus.key in corpora else 0


def _speakers(speakers: Sequence[str], corpus: Corpus) -> list[str]:
    return [name.split("_", 1)[1] for name in speakers if name.startswith(f"{corpus.key}_")]


def _listed(speakers: Sequence[str]) -> str:
    parts = [f"{corpus.title} {', '.join(found)}" for corpus in CORPORA if (found := _speakers(speakers, corpus))]
    return "; ".join(parts)


BLOCKS: Final[dict[str, Callable[[Bundle, Card, int], list[str]]]] = {
    "headline": _headline,
    "facts": _facts,
    "data": _data,
    "cross-validation": cross_validation,
    "folds": folds,
    "corpora": corpora,
    "people": people,
    "decision": _decision,
    "evaluation": _evaluation,
    "paper": paper,
    "machine": _machine,
}
"""Lines of each block, from the bundle, its card and its size in bytes."""

"""Generated blocks of the factory model's card: what its recipe is worth on speakers it never heard."""

from typing import Final

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES, Label
from training.data.corpora import title_of
from training.exam.card import Card
from training.fitting.summary import Summary
from training.report.document import markdown_table
from training.report.words import figure_in_words, speaker_in_words, spread_in_words
from training.terminal import number, share

__all__ = ["corpora", "cross_validation", "folds", "paper", "people", "runs_by"]

_PUBLISHED: Final = ("as published, by clip", "566", "74.9", "-")
"""The paper's own figure, for the table of its network."""


def runs_by(card: Card, by: str) -> dict[str, Summary]:
    """Return the card's runs whose clips were divided this way, by name."""
    return {name: run for name, run in card.cross_validation.items() if run.by == by}


def cross_validation(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    """Return every figure with its spread, a column per experiment."""
    runs = runs_by(card, "speaker").values()
    names = list(dict.fromkeys(name for run in runs for name in run.figures))
    rows = [(figure_in_words(name), *(spread_in_words(run.figures.get(name)) for run in runs)) for name in names]
    rows.append(("bytes", *(f"{run.quantized_bytes:,}" for run in runs)))
    rows.append(("parameters", *(f"{run.parameters:,}" for run in runs)))
    table = markdown_table(("figure", *(f"{run.experiment} ({number(len(run.seeds), 'seed')})" for run in runs)), rows)
    pooled = card.cross_validation[card.experiment].pooled
    if pooled is None:
        return table
    worst = CLASSES.index(Label.UNPLEASANT)
    always = share((sum(pooled.confusion[worst]) + pooled.unheard[worst]) / pooled.clips)
    return [*table, "", f"Always saying `{Label.UNPLEASANT}` would have {always} % accuracy and 33.3 % UAR."]


def folds(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    """Return the UAR per fold and seed."""
    run = card.cross_validation[card.experiment]
    corpora = list(run.corpora)
    rows = [
        (
            f"{'only' if item.fold is None else item.fold}",
            str(item.seed),
            *(share(item.uar.get(corpus)) for corpus in corpora),
            share(item.corpus_macro_uar),
            share(item.accuracy),
        )
        for item in run.folds
    ]
    return markdown_table(("fold", "seed", *map(title_of, corpora), "corpus-macro", "accuracy"), rows, texts=2)


def corpora(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    """Return the scores and the confusion per corpus."""
    run = card.cross_validation[card.experiment]
    rows = [
        (
            title_of(corpus),
            f"{scores.clips:,}",
            share(scores.accuracy),
            share(scores.uar),
            share(scores.macro_f1),
            *(" / ".join(str(count) for count in row) for row in scores.confusion),
        )
        for corpus, scores in run.corpora.items()
    ]
    initials = " / ".join(str(label)[0].upper() for label in CLASSES)
    called = [f"{label} called {initials}" for label in CLASSES]
    told = [
        (recall, title_of(corpus), label)
        for corpus, scores in run.corpora.items()
        for label, recall in zip(CLASSES, scores.recall, strict=True)
        if recall is not None
    ]
    (least, where, what), (most, there, best) = min(told), max(told)
    return [
        *markdown_table(("corpus", "clips", "accuracy", "UAR", "macro-F1", *called), rows),
        "",
        f"Told worst: `{what}` of {where}, {share(least)} % of its clips; best: `{best}` of {there}, {share(most)} %.",
    ]


def people(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    """Return how sexes, emotions and speakers fare."""
    run = card.cross_validation[card.experiment]
    sexes = [(sex, f"{scores.clips:,}", share(scores.uar)) for sex, scores in run.sexes.items()]
    emotions = [(emotion, f"{each.clips:,}", share(each.right)) for emotion, each in run.emotions.items()]
    ranked = sorted(run.speakers.items(), key=lambda item: item[1].uar)
    told = ", ".join(f"{speaker_in_words(name)} {share(scores.uar)}" for name, scores in (*ranked[:3], ranked[-1]))
    return [
        *markdown_table(("speakers", "clips", "UAR"), sexes),
        "",
        *markdown_table(("emotion", "clips", "told as its class"), emotions),
        "",
        f"The three of {len(ranked)} speakers told worst, and the one told best (UAR): {told}.",
    ]


def paper(_bundle: Bundle, card: Card, _size: int) -> list[str]:
    """Return the paper's network beside the factory's, on known and on new speakers."""
    rows: list[tuple[str, ...]] = [_PUBLISHED]
    for run in (*runs_by(card, "clip").values(), *runs_by(card, "speaker").values()):
        name = f"`{run.experiment}`, {'known speakers: optimistic' if run.by == 'clip' else 'new speakers'}"
        if run.cropped:
            crops = (f"{run.cropped.clips:,}", share(run.cropped.accuracy), share(run.cropped.uar))
            rows.append((f"{name}; cropped as in the paper (float)", *crops))
        if run.pooled:
            told = (
                f"{run.pooled.clips:,}",
                *(share(run.figures[figure].mean) for figure in ("accuracy", "pooled UAR")),
            )
            rows.append((f"{name}; windows as on a node (quantized)", *told))
    return [
        *markdown_table(("network, who is tested; what is heard", "clips", "accuracy", "UAR pooled"), rows),
        *(line for name in runs_by(card, "speaker") for line in _worth(card, name)),
    ]


def _worth(card: Card, name: str) -> list[str]:
    """Return what known speakers are worth to an experiment that was run both ways."""
    new, known = card.cross_validation[name], card.cross_validation.get(f"{name}-by-clip")
    if not known or not known.pooled:
        return []
    accuracy, uar = (
        100 * (known.figures[figure].mean - new.figures[figure].mean) for figure in ("accuracy", "pooled UAR")
    )
    right, clips = known.pooled.accuracy, known.pooled.clips
    error = 196 * (right * (1 - right) / clips) ** 0.5
    told = (
        f"To `{name}`, as a node hears it, known speakers are worth {accuracy:.0f} points of accuracy and {uar:.0f} of "
        f"UAR (the accuracy by clip, of {clips:,} clips, is known to ± {error:.0f} points at 95 % confidence)."
    )
    return ["", told]

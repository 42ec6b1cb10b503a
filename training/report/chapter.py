"""A report's chapter on one run: what was trained and how well it does; `sections` has the rest."""

from functools import partial
from typing import Final

from broker.contract.decision import CLASSES
from training.data.corpora import title_of
from training.exam.metrics import Scores
from training.fitting.summary import Spread
from training.report.document import Block, Heading, Note, Table, Text, literal
from training.report.measured import Measured
from training.report.plots import draw_curves
from training.report.score_plots import draw_bars
from training.report.sections import calibration, confusion, decision, noise, over_seeds, people, picture
from training.report.words import (
    classes_in_words,
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

__all__ = ["MACRO", "bars_of", "chapter", "headline", "split_in_words"]

MACRO: Final = "corpus-macro UAR"


def headline(measured: Measured) -> str:
    """Return the one sentence to quote of a run, with its warning."""
    summary = measured.summary
    if not summary.figures:
        return "Nobody was tested: all speakers trained. Quote the run of the same settings that was split by speaker."
    said = f"{MACRO} {spread_in_words(summary.figures[MACRO])} over {number(len(summary.seeds), 'seed')}"
    if measured.is_optimistic:
        return f"**OPTIMISTIC: {said}**, on speakers who stand on both sides of the split. Not a figure to quote."
    return f"**{said}**, on speakers who took no part in training."


def split_in_words(measured: Measured) -> str:
    """Return who was tested."""
    return {
        "speaker": "by speaker: nobody is trained on and tested",
        "fixed": "by speakers named: nobody is trained on and tested",
        "all": "all speakers trained, nobody is tested",
        "clip": "OPTIMISTIC: by clip, the same speakers on both sides",
    }[measured.summary.by]


def bars_of(measured: Measured) -> dict[str, Spread]:
    """Return the UAR per corpus, those never trained on last and marked."""
    foreign = {f"{title_of(corpus)}, unseen": spread for corpus, spread in measured.unseen.items()}
    return {title_of(corpus): spread for corpus, spread in measured.corpora.items()} | foreign


def chapter(measured: Measured) -> list[Block]:
    """Return all that is told of one run."""
    summary = measured.summary
    blocks: list[Block] = [Heading(text=f"Run: {literal(measured.title)}"), Text(text=headline(measured))]
    unfinished = sorted({item.seed for item in measured.run.folds if item.test} - set(summary.seeds))
    if unfinished:
        seeds = ", ".join(map(str, unfinished))
        blocks.append(Note(text=f"Left out, as a fold is missing that another seed has: seed {seeds}."))
    blocks += [*_trained(measured), *_curves(measured)]
    if summary.figures:
        blocks += [*_scores(measured), *confusion(measured), *people(measured)]
        blocks += [*calibration(measured), *decision(measured), *noise(measured)]
    elif measured.unseen_confusion:
        blocks += confusion(measured)
    return blocks


def _trained(measured: Measured) -> list[Block]:
    run, first = measured.run, measured.run.folds[0]
    settings, machine = run.settings, run.machine
    clips: dict[str, list[int]] = {}
    for item in run.folds:
        for corpus, count in item.training_clips.items():
            clips.setdefault(corpus, []).append(count)
    folds = list(dict.fromkeys(str(item.fold) for item in run.folds if item.fold is not None))
    where = f"; folds {', '.join(folds)}" if folds else ""
    rows = {
        "experiment": f"{literal(run.experiment)}, trained {literal(run.created)}",
        "split": f"{split_in_words(measured)}{where}",
        "seeds": ", ".join(map(str, dict.fromkeys(item.seed for item in run.folds))),
        "classes": classes_in_words(settings),
        "front-end": front_end_in_words(settings.features),
        "window": window_in_words(settings.window, settings.features.sample_rate_hz),
        "network": f"{network_in_words(settings)}; {first.parameters:,} parameters",
        "bytes": f"{first.quantized_bytes:,} as int8, which a node runs; {first.float_bytes:,} in float32",
        "training clips": "; ".join(f"{literal(title_of(name))} {_range(counts)}" for name, counts in clips.items()),
        "views of them": views_in_words(settings),
        "recipe": recipe_in_words(settings),
        "machine": literal(
            f"{machine.processor}, {machine.cores} cores, Python {machine.python}, TensorFlow {machine.tensorflow}, "
            f"LiteRT {machine.litert}"
        ),
        "energy": literal(energy_in_words(run.energy)),
    }
    table = Table(caption="Settings", header=("part", "as it was"), rows=tuple(rows.items()), texts=2)
    return [Heading(text="What was trained", level=3), table]


def _curves(measured: Measured) -> list[Block]:
    draw = partial(draw_curves, measured.run.folds, f"{measured.title}: learning curves")
    caption = "A line per fold and seed; the dot is the epoch that the validation speakers found best."
    name = f"{measured.name}-curves.png"
    return [
        Heading(text="Learning curves", level=3),
        picture(name, draw, "Training loss and validation UAR per epoch", caption),
    ]


def _scores(measured: Measured) -> list[Block]:
    summary = measured.summary
    corpora = list(measured.corpora)
    several = len(summary.seeds) > 1
    rows = [
        (
            literal(figure_in_words(name)),
            share(each.mean),
            *((share(each.deviation), share(each.low), share(each.high)) if several else ()),
        )
        for name, each in summary.figures.items()
    ]
    per_fold = [
        (
            f"{'only' if fold.fold is None else f'fold {fold.fold}'}, seed {fold.seed}",
            *(share(fold.uar.get(corpus)) for corpus in corpora),
            share(fold.corpus_macro_uar),
            share(fold.accuracy),
        )
        for fold in summary.folds
    ]
    over = f"all folds taken as one, over {number(len(summary.seeds), 'seed')}"
    title = literal(measured.title)
    draw = partial(draw_bars, [(measured.title, bars_of(measured))], f"{measured.title}: UAR per corpus")
    return [
        Heading(text="Scores", level=3),
        Table(
            caption=f"{title}: {over}",
            header=("figure", "mean", *(("±", "lowest", "highest") if several else ())),
            rows=tuple(rows),
        ),
        *([Text(text=_always(summary.pooled))] if summary.pooled else []),
        picture(f"{measured.name}-corpora.png", draw, "Bars of UAR per corpus", over_seeds(measured)),
        Table(
            caption=f"{title}: UAR per fold and seed",
            header=("fold and seed", *(literal(title_of(corpus)) for corpus in corpora), MACRO, "accuracy"),
            rows=tuple(per_fold),
        ),
    ]


def _always(pooled: Scores) -> str:
    present = [sum(row) + lost for row, lost in zip(pooled.confusion, pooled.unheard, strict=True)]
    most = max(range(len(CLASSES)), key=lambda k: present[k])
    return (
        f"Always saying `{CLASSES[most]}` would have {share(present[most] / pooled.clips)} % accuracy on the "
        f"{pooled.clips:,} clips tested, and 33.3 % UAR."
    )


def _range(counts: list[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"

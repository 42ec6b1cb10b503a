"""Sections of a run's chapter: confusion, the people and emotions behind it, confidence, noise."""

from collections.abc import Callable
from functools import partial
from typing import Final

from matplotlib.figure import Figure

from training.data.corpora import title_of
from training.exam.calibration import expected_calibration_error
from training.exam.predictions import probabilities_of, truth_of
from training.fitting.summary import spread_of
from training.report.calibration_plots import draw_calibration, draw_decision
from training.report.canvas import png
from training.report.decision_tables import CLIP_COLUMNS, TALK_COLUMNS, clip_rows, talk_rows
from training.report.document import Block, Heading, Picture, Table, Text, literal
from training.report.measured import ALL_COLOURS, Measured
from training.report.plots import Panel, draw_confusion
from training.report.score_plots import MOST_SPEAKERS, draw_groups, draw_noise, draw_speakers
from training.report.words import decision_in_words, speaker_in_words
from training.terminal import number, share

__all__ = ["calibration", "confusion", "decision", "noise", "over_seeds", "people", "picture"]


_TALKS: Final = "Talks, all seeds taken as one; per minute, windows and missed turns in per cent"


def over_seeds(measured: Measured) -> str:
    """Return what the thin lines of a picture mean."""
    return "Thin lines: lowest to highest seed." if len(measured.summary.seeds) > 1 else "One seed."


def picture(name: str, draw: Callable[[], Figure], alt: str, caption: str) -> Picture:
    """Return a picture of a report, not drawn yet."""
    return Picture(name=name, alt=literal(alt), caption=caption, draw=partial(png, draw))


def confusion(measured: Measured) -> list[Block]:
    """Return the matrices per corpus, those never trained on last."""
    seeds, everyone = max(1, len(measured.summary.seeds)), len(measured.run.folds)
    panels = [Panel(title_of(corpus), scores, seeds) for corpus, scores in measured.confusion.items()]
    panels += [
        Panel(f"{title_of(corpus)}, unseen", scores, everyone) for corpus, scores in measured.unseen_confusion.items()
    ]
    draw = partial(draw_confusion, panels, f"{measured.title}: confusion, quantized")
    caption = "Shares of each true class, and clips; mean of the seeds."
    if measured.unseen_confusion:
        caption += " Unseen: a corpus that never trains, judged by every fold's model."
    name = f"{measured.name}-confusion.png"
    return [Heading(text="Confusion", level=3), picture(name, draw, "Confusion matrices per corpus", caption)]


def people(measured: Measured) -> list[Block]:
    """Return how unlike speakers, sexes and emotions fare."""
    blocks: list[Block] = [Heading(text="Whom it recognises, and what", level=3)]
    if not measured.speakers:
        return [*blocks, Text(text="Left out: the results tell no speakers apart.")]
    ranked = sorted(measured.speakers.items(), key=lambda item: item[1].mean)
    least, most = (f"{share(each.mean)} ({literal(speaker_in_words(name))})" for name, each in (ranked[0], ranked[-1]))
    text = f"UAR by speaker reaches from {least} to {most}, of {number(len(ranked), 'speaker')}."
    cut = (
        f" Of many speakers the best and the worst {MOST_SPEAKERS} in all are shown."
        if len(ranked) > MOST_SPEAKERS
        else ""
    )
    by_speaker = partial(draw_speakers, measured.speakers, f"{measured.title}: UAR per speaker")
    by_group = partial(
        draw_groups,
        measured.sexes,
        measured.emotions,
        measured.run.settings.merge,
        f"{measured.title}: by sex and emotion",
    )
    return [
        *blocks,
        Text(text=text),
        picture(f"{measured.name}-speakers.png", by_speaker, "A bar of UAR per speaker", over_seeds(measured) + cut),
        picture(
            f"{measured.name}-groups.png",
            by_group,
            "Bars of UAR per sex and of recall per emotion",
            over_seeds(measured),
        ),
    ]


def calibration(measured: Measured) -> list[Block]:
    """Return how much a confidence is worth, or why that cannot be told."""
    blocks: list[Block] = [Heading(text="Whether its confidence can be believed", level=3)]
    if not measured.predictions:
        return [*blocks, Text(text=f"Left out: {literal(measured.lacking)}.")]
    errors = [
        expected_calibration_error(truth_of(items), probabilities_of(items)) for items in measured.predictions.values()
    ]
    alone = measured.summary.figures["calibration error"].mean
    text = (
        f"Calibration error {share(spread_of(errors).mean)} with the clips of all folds in one diagram; {share(alone)} "
        "as the mean of the folds, where one that is too sure cannot make up for one that is too modest."
    )
    draw = partial(
        draw_calibration, [(measured.title, measured.predictions)], f"{measured.title}: confidence and mistakes"
    )
    caption = (
        "Left: a bar on the dotted line means a confidence that is the share that is right. Right: what would still be "
        "wrong if only the surest clips were answered."
    )
    alt = "Reliability diagram and risk-coverage curve"
    return [*blocks, Text(text=text), picture(f"{measured.name}-calibration.png", draw, alt, caption)]


def decision(measured: Measured) -> list[Block]:
    """Return when a node is uncertain and what its rules do, or how to have that measured."""
    blocks: list[Block] = [Heading(text="What a node says, and when it is uncertain", level=3)]
    told = measured.calibration
    if told is None:
        return [*blocks, Text(text="Left out: nothing was chosen; `sottovoce-train calibrate` does.")]
    name = f"{measured.name}-decision.png"
    caption = (
        "Left: smoothed windows of clips, the surest first; the dot is the threshold, the band reaches from the lowest "
        "to the highest seed. Right: talks of new speakers, made of their clips in turns."
    )
    alt = "Risk-coverage curves with the threshold marked, and label changes and events a minute"
    draw = partial(draw_decision, told, f"{measured.title}: when it answers, and how steadily")
    return [
        *blocks,
        Text(text=f"Chosen by the choosing speakers: {decision_in_words(told.decision)}."),
        picture(name, draw, alt, caption),
        Table(caption="Windows of clips, in per cent; mean of the seeds", header=CLIP_COLUMNS, rows=clip_rows(told)),
        Table(caption=_TALKS, header=TALK_COLUMNS, rows=talk_rows(told), texts=2),
    ]


def noise(measured: Measured) -> list[Block]:
    """Return what noise does, or that it was not measured."""
    blocks: list[Block] = [Heading(text="In noise", level=3)]
    if not measured.noise:
        return [*blocks, Text(text="Left out: noise was not measured; `sottovoce-train train --noise` does.")]
    quiet = measured.summary.figures["pooled UAR"]
    levels = sorted(measured.noise[ALL_COLOURS], reverse=True)
    rows = [
        (colour, share(quiet.mean), *(share(curve[level].mean) for level in levels))
        for colour, curve in measured.noise.items()
    ]
    curves = [(colour, curve, quiet) for colour, curve in measured.noise.items()]
    draw = partial(draw_noise, curves, f"{measured.title}: UAR in noise")
    return [
        *blocks,
        Table(
            caption=f"{literal(measured.title)}: UAR of all clips taken as one, noise that far below the speech",
            header=("noise", "quiet", *(f"{level} dB" for level in levels)),
            rows=tuple(rows),
        ),
        picture(
            f"{measured.name}-noise.png",
            draw,
            "Curves of UAR over the level of noise",
            over_seeds(measured).replace("Thin", "Upright"),
        ),
    ]

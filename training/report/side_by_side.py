"""A report's chapter that stands several runs beside each other."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from training.fitting.summary import Spread
from training.report.calibration_plots import draw_calibration
from training.report.chapter import MACRO, bars_of, headline
from training.report.document import Block, Heading, Note, Table, Text, literal
from training.report.measured import ALL_COLOURS, Measured
from training.report.score_plots import draw_bars, draw_noise
from training.report.sections import picture
from training.report.words import figure_in_words
from training.terminal import share

__all__ = ["side_by_side"]

_SPLIT: Final = {
    "speaker": "by speaker",
    "fixed": "by speakers named",
    "all": "nobody tested",
    "clip": "OPTIMISTIC: by clip",
}


def side_by_side(runs: Sequence[Measured]) -> list[Block]:
    """Return the chapter: headlines, table, warnings, pictures."""
    tested = [run for run in runs if run.summary.figures]
    titles = tuple(literal(run.title) for run in runs)
    table = Table(caption="Quantized models; mean of the seeds ± deviation", header=("", *titles), rows=_rows(runs))
    lines = [Text(text=f"{literal(run.title)}: {headline(run)}") for run in runs]
    return [Heading(text="Side by side"), *lines, *_warnings(tested), table, *_pictures(tested)]


def _rows(runs: Sequence[Measured]) -> tuple[tuple[str, ...], ...]:
    names = list(dict.fromkeys(name for run in runs for name in run.summary.figures))
    return (
        ("split", *(_SPLIT[run.summary.by] for run in runs)),
        ("seeds", *(str(len(run.summary.seeds or {item.seed for item in run.run.folds})) for run in runs)),
        ("parameters", *(f"{run.summary.parameters:,}" for run in runs)),
        ("bytes, quantized", *(f"{run.summary.quantized_bytes:,}" for run in runs)),
        *((literal(figure_in_words(name)), *(_cell(run.summary.figures.get(name)) for run in runs)) for name in names),
        ("energy of the training, Wh", *(_watt_hours(run) for run in runs)),
    )


def _warnings(tested: Sequence[Measured]) -> list[Block]:
    blocks: list[Block] = []
    if 0 < sum(run.is_optimistic for run in tested) < len(tested):
        text = (
            "Runs marked OPTIMISTIC were tested on speakers they knew; their figures do not compare with the others'."
        )
        blocks.append(Note(text=text))
    if len({frozenset(run.speakers) for run in tested if not run.is_optimistic}) > 1:
        text = "The runs were not tested on the same speakers: a part of their difference may be those."
        blocks.append(Note(text=text))
    return blocks


def _pictures(tested: Sequence[Measured]) -> list[Block]:
    if len(tested) < 2:  # noqa: PLR2004 -- nothing to compare
        return []
    bars = [(run.title, {MACRO: run.summary.figures[MACRO], **bars_of(run)}) for run in tested]
    blocks: list[Block] = [
        picture(
            "compared-corpora.png",
            partial(draw_bars, bars, "UAR per corpus"),
            "Bars of UAR per corpus, a colour per run",
            "Thin lines: lowest to highest seed.",
        )
    ]
    noisy = [(run.title, run.noise[ALL_COLOURS], run.summary.figures["pooled UAR"]) for run in tested if run.noise]
    if len(noisy) > 1:
        draw = partial(draw_noise, noisy, "UAR in noise")
        caption = "White, pink and babble taken as one; upright lines: lowest to highest seed."
        blocks.append(
            picture("compared-noise.png", draw, "Curves of UAR over the level of noise, one per run", caption)
        )
    said = [(run.title, run.predictions) for run in tested if run.predictions]
    if len(said) > 1:
        calibration = partial(draw_calibration, said, "Confidence and mistakes")
        alt = "Accuracy over confidence, and error over the share answered, a curve per run"
        caption = "Left: on the dotted line a confidence is the share that is right. Right: lower is better."
        blocks.append(picture("compared-calibration.png", calibration, alt, caption))
    told = "Whether the data can tell two runs apart: `sottovoce-train compare`."
    return [*blocks, Text(text=told)]


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{share(spread.mean)} ± {share(spread.deviation)}" if spread.deviation else share(spread.mean)


def _watt_hours(run: Measured) -> str:
    return f"{run.run.energy.kilowatt_hours * 1000:,.1f}" if run.run.energy else "-"

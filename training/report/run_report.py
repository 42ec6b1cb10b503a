"""`report`: run folders to one document in Markdown and HTML, with its pictures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from broker.files import write_whole
from training.data.clips import Collection
from training.data.corpora import relabel
from training.files import writing
from training.fitting.results import read_run
from training.progress import track
from training.report.chapter import chapter
from training.report.document import Block, Document, Heading, Note, Text, literal, to_html, to_markdown
from training.report.meanings import MEANINGS
from training.report.measured import Measured, measure
from training.report.sections import picture
from training.report.side_by_side import side_by_side
from training.report.voice_plots import draw_voices, real_voices, synthetic_voices

__all__ = ["HTML_NAME", "MARKDOWN_NAME", "NOT_FOR_PUBLICATION", "compose", "measure_all", "write_report"]

MARKDOWN_NAME: Final = "report.md"
HTML_NAME: Final = "report.html"
NOT_FOR_PUBLICATION: Final = (
    "The pictures of voices are made of recordings of people, whose licences do not allow to pass such pictures on: "
    "keep this report to yourself, or write it again without --data."
)


def measure_all(folders: Sequence[Path]) -> list[Measured]:
    """Return the runs in these folders, each under a name of its own.

    Raises:
        DataError: a folder holds no finished run, or predictions that do not belong to it.
    """
    runs: list[Measured] = []
    for folder in folders:
        settings = read_run(folder).settings
        wanted = f"{settings.name}-all-speakers" if settings.split.by == "all" else settings.name
        taken = {run.name for run in runs}
        free = (name for name in (wanted, *(f"{wanted}-{n}" for n in range(2, len(folders) + 2))) if name not in taken)
        runs.append(measure(folder, next(free)))
    return runs


def compose(runs: Sequence[Measured], title: str | None = None, collection: Collection | None = None) -> Document:
    """Return the report on some runs, pictures not drawn yet.

    Args:
        runs: at least one, each named differently.
        title: of the report; None: made of the runs' names.
        collection: clips of people to show; None: synthetic voices are shown, which may be published.
    """
    heading = literal(title or f"Training report: {', '.join(run.name for run in runs)}")
    blocks: list[Block] = [Note(text=NOT_FOR_PUBLICATION)] if collection else []
    blocks += side_by_side(runs) if len(runs) > 1 else []
    for run in runs:
        blocks += chapter(run)
    blocks += [*_heard(runs[0], collection), Heading(text="What the figures mean"), MEANINGS]
    return Document(title=heading, blocks=tuple(blocks))


def write_report(document: Document, out: Path) -> None:
    """Write the document as Markdown and HTML, with its pictures, into a folder.

    Everything is made before the first file is written.

    Raises:
        SettingsError: the folder cannot be made, or a file in it cannot be written.
    """
    drawn = {each.name: each.draw() for each in track(document.pictures, "pictures")}
    files = {
        **drawn,
        MARKDOWN_NAME: to_markdown(document).encode(),
        HTML_NAME: to_html(document, drawn).encode(),
    }
    with writing(f"--out {out}", "choose another folder", what="the report"):
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(out / name, data)


def _heard(first: Measured, collection: Collection | None) -> list[Block]:
    settings = first.run.settings
    if collection:
        clips = relabel(collection.clips, settings.merge)
        collection = msgspec.structs.replace(collection, clips=clips)
        voices = real_voices(collection, settings.features, settings.window)
        told = NOT_FOR_PUBLICATION
    else:
        voices = synthetic_voices(settings.features, settings.window)
        told = (
            "Three synthetic voices that nobody has, at three pitches. They show what a model is given, not what an "
            "emotion sounds like: pictures of the corpora's recordings may not be passed on."
        )
    draw = partial(draw_voices, voices, settings.features, "Waveform, mel bands, pitch")
    caption = (
        "Above: the waveform. Below: the mel bands over time, darker is louder, and the pitch that the front-end "
        "tracks where it hears a voice, on the scale to the right."
    )
    alt = "Waveforms above mel spectrograms with the pitch drawn over them"
    name = "voices-of-people.png" if collection else "voices.png"
    return [Heading(text="What the model hears"), Text(text=told), picture(name, draw, alt, caption)]

"""`export`: one trained network as files of every kind, what each costs and loses, and C sources for firmware."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.errors import BundleError, SettingsError
from broker.files import write_whole
from training.exam.evaluate import figures, judge_clips
from training.exam.replay import Verdict
from training.files import writing
from training.fitting.results import this_machine
from training.model.convert import KINDS, convert, convert_apart
from training.model.export_table import Row, Table, as_markdown
from training.model.firmware import Firmware, c_sources
from training.model.microcontroller import Trial, try_on_micro
from training.model.runtime import Runner
from training.model.subject import Subject
from training.progress import track

__all__ = ["export"]

Features = npt.NDArray[np.float32]
Answer = Callable[[Features], Features]

_MOMENTS: Final = "Keras file with the optimizer's moments"
_PREDICT: Final = "Keras file, by predict()"
_COMPILED: Final = "the same, by a compiled function"


def export(subject: Subject, out: Path, rounds: int, licence: str) -> Table:
    """Return the table, after writing it, the LiteRT files and the C sources to a folder.

    Args:
        subject: the network.
        out: the folder.
        rounds: runs that times are taken from.
        licence: SPDX expression of the weights' licence.

    Raises:
        SettingsError: the folder cannot be written.
        BundleError: LiteRT cannot run a file.
    """
    files, notes = _files(subject)
    golden = subject.bundle.golden.features
    runners = {kind: Runner(data, kind) for kind, data in files.items()}
    answers = {kind: np.stack([run(window) for window in golden]) for kind, run in runners.items()}
    trials = {kind: _trial(files[kind], golden, answers[kind]) for kind in track(list(files), "microcontroller")}
    rows, windows = _rows(subject, files, runners, trials, rounds)
    chosen = _for_firmware(files, trials)
    manifest = subject.bundle.manifest
    table = Table(
        model=manifest.identity,
        experiment=manifest.training.experiment,
        split=manifest.training.split,
        parameters=subject.original.parameters if subject.original else None,
        input_shape=manifest.input_shape,
        clips=len(subject.test),
        windows=windows,
        rounds=rounds,
        machine=this_machine(),
        rows=rows,
        notes=tuple(notes),
        firmware=chosen,
    )
    content: dict[str, bytes] = {f"model-{kind}.tflite": data for kind, data in files.items()}
    content |= {"LICENSE": subject.bundle.licence.encode()}
    if chosen:
        trial = trials[chosen]
        firmware = Firmware(
            manifest=manifest,
            model=files[chosen],
            kind=chosen,
            arena_bytes=trial.arena_bytes if trial else None,
            licence=licence,
            features=golden[0],
            probabilities=answers[chosen][0],
        )
        content |= {name: text.encode() for name, text in c_sources(firmware).items()}
    content |= {"table.json": msgspec.json.format(msgspec.json.encode(table), indent=1)}
    content |= {"table.md": as_markdown(table).encode()}
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            write_whole(out / name, data)
    return table


def _files(subject: Subject) -> tuple[dict[str, bytes], list[str]]:
    """Return the LiteRT files by kind, and why some are missing."""
    if subject.original is None:
        reference = {} if subject.bundle.reference is None else {"float32": subject.bundle.reference}
        return {**reference, "dynamic": subject.bundle.model}, [
            "From a bundle: its two LiteRT files as they are; other kinds take the run that trained it."
        ]
    files: dict[str, bytes] = {}
    notes: list[str] = []
    for kind in track(KINDS, "converting"):
        if kind == "dynamic":
            files[kind] = subject.bundle.model  # what ships, its weights rounded as training has done it
        elif kind != "int8":
            files[kind] = convert(subject.original.plain, kind)
        elif subject.examples is None:
            notes.append("int8: not made, for its ranges are measured on validation clips; give --data.")
        else:
            try:
                files[kind] = convert_apart(subject.original.plain, kind, subject.examples)
            except BundleError as error:
                notes.append(f"{error}.")
    return files, notes


def _rows(
    subject: Subject,
    files: Mapping[str, bytes],
    runners: Mapping[str, Runner],
    trials: Mapping[str, Trial | None],
    rounds: int,
) -> tuple[tuple[Row, ...], int]:
    """Return the rows of the table, and how many test windows there are."""
    original = subject.original
    ways: dict[str, Answer] = {_PREDICT: original.predict, _COMPILED: original.compiled} if original else {}
    window = subject.bundle.golden.features[0]
    times = {**_alternate(ways, window, rounds), **_alternate(runners, window, rounds)}  # predict() empties the caches
    judged: dict[str, list[Verdict]] = {}
    if subject.test and subject.hear:
        models: dict[str, Answer] = {_COMPILED: original.compiled} if original else {}
        spec = subject.bundle.manifest.decision
        judged = judge_clips(subject.test, subject.hear, {**models, **runners}, spec, "test clips")
    reference = judged.get(_COMPILED) or judged.get("float32")

    def row(name: str, size: int | None, like: str) -> Row:
        verdicts, timed, trial = judged.get(like), times.get(name), trials.get(name)
        scores = figures(subject.test, verdicts).pooled if verdicts else None
        return Row(
            name=name,
            bytes=size,
            accuracy=scores.accuracy if scores else None,
            uar=scores.uar if scores else None,
            same_windows=_same(verdicts, reference) if verdicts and reference else None,
            fastest_us=timed[0] if timed else None,
            median_us=timed[1] if timed else None,
            micro=str(trial) if trial else None,
        )

    rows = []
    if original:
        rows += [row(_MOMENTS, original.bytes_with_moments, _COMPILED), row(_PREDICT, original.bytes, _COMPILED)]
        rows += [row(_COMPILED, None, _COMPILED)]
    rows += [row(kind, len(data), kind) for kind, data in files.items()]
    windows = sum(verdict.windows for verdict in next(iter(judged.values()), []))
    return tuple(rows), windows


def _alternate(ways: Mapping[str, Answer], window: Features, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the fastest and the median time of each way in µs.

    All are run in turn, so that a busy moment meets all, and each follows each other one as often.
    """
    taken: dict[str, list[int]] = {name: [] for name in ways}
    names = list(ways)
    for name in names:
        ways[name](window)
    for _ in track(range(rounds), "timing"):
        for name in names:
            began = time.perf_counter_ns()
            ways[name](window)
            taken[name].append(time.perf_counter_ns() - began)
        random.shuffle(names)
    return {name: (min(each) / 1e3, statistics.median(each) / 1e3) for name, each in taken.items()}


def _same(first: Sequence[Verdict], second: Sequence[Verdict]) -> float:
    pairs = [
        a.label == b.label
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one.decisions, other.decisions, strict=True)
    ]
    return sum(pairs) / len(pairs)


def _trial(model: bytes, features: Features, wanted: Features) -> Trial | None:
    try:
        return try_on_micro(model, features, wanted)
    except SettingsError:  # the package is missing: it exists for few machines
        return None


def _for_firmware(files: Mapping[str, bytes], trials: Mapping[str, Trial | None]) -> str | None:
    """Return the smallest kind that microcontrollers run; untried, the smallest that was ever seen to."""
    fit = [kind for kind in files if (trial := trials[kind]) is not None and trial.difference is not None]
    if not any(trials.values()):
        fit = [kind for kind in files if kind in {"float32", "int8"}]
    return min(fit, key=lambda kind: len(files[kind])) if fit else None

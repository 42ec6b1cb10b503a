"""`train`: from prepared clips to quantized models with their scores. One fold reads top to bottom."""

import datetime as dt
import os
import platform
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from broker.contract.decision import CLASSES
from broker.contract.errors import DataError, SettingsError
from training.clips import Clip, Collection, open_cache
from training.config import Experiment, PaperViews
from training.evaluate import figures, judge_clips
from training.examples import load_examples
from training.fit import clip_probabilities, fit
from training.network import convert, export_form
from training.plots import plot_confusion, plot_curves
from training.replay import Heard, listen
from training.results import RESULTS_NAME, FoldResult, Machine, Run, fold_folder, read_run, summarise
from training.runtime import Runner
from training.splits import FOLDS, Split, runnable_folds, split_clips, split_speakers
from training.thresholds import choose_decision, fit_bias, rescale
from training.views import crop, drop_at_random

__all__ = ["train", "train_fold"]

_NO_GATE_DBFS: Final = -1000.0


def train(experiment: Experiment, prepared: Path, out: Path, fold: int | None = None) -> Run:
    """Return the results of an experiment, after writing them and the models to `out`.

    Args:
        experiment: what to train.
        prepared: cache that `prepare` wrote.
        out: run folder.
        fold: the one fold to run; None: all whose speakers are at hand.

    Raises:
        SettingsError: the fold has no speaker here, or the run folder cannot be made.
        DataError: there is no usable cache, or a split would leak.
    """
    collection = open_cache(prepared)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{out}: the run folder cannot be made ({error.strerror}); choose another --out"
        raise SettingsError(msg) from error
    splits = _splits(experiment, collection, fold)
    folds = _kept(out, experiment, {split.fold for split in splits})
    for split in splits:
        folds.append(train_fold(experiment, collection, split, out, prepared / "features"))
        folds.sort(key=lambda item: -1 if item.fold is None else item.fold)
        pooled, macro_uar = summarise(tuple(folds))
        run = Run(
            experiment=experiment.name,
            created=dt.datetime.now(tz=dt.UTC).date().isoformat(),
            settings=experiment,
            machine=_machine(),
            folds=tuple(folds),
            pooled=pooled,
            macro_uar=macro_uar,
        )
        (out / RESULTS_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1))
    return run


def train_fold(experiment: Experiment, collection: Collection, split: Split, out: Path, store: Path) -> FoldResult:
    """Return the result of one split, after writing its models and pictures.

    Args:
        experiment: what to train.
        collection: how to hear the clips.
        split: who trains, validates, is tested.
        out: run folder.
        store: folder for features of training views.
    """
    began = time.monotonic()
    fold = split.fold
    paper = experiment.views if isinstance(experiment.views, PaperViews) else None
    training = drop_at_random(split.training, paper, experiment.recipe.seed) if paper else split.training
    examples = load_examples(collection, training, experiment, store)
    normalisation = examples.normalisation()

    def hear(clip: Clip) -> Heard:
        return listen(collection.read(clip), experiment.features, normalisation, experiment.window)

    def hear_crop(clip: Clip) -> Heard:
        samples = crop(collection.read(clip), paper) if paper else collection.read(clip)
        return listen(samples, experiment.features, normalisation, experiment.window)

    # Weights and epoch.
    truth = np.array([CLASSES.index(clip.label) for clip in split.validation])
    validation = [hear(clip) for clip in split.validation]
    chosen_by = [hear_crop(clip) for clip in split.validation] if paper else validation
    title = "by clip" if fold is None else f"fold {fold}"
    fitted = fit(examples, list(zip(split.validation, chosen_by, strict=True)), experiment, title)

    # Prior, smoothing, thresholds: on the validation clips, as a node hears them.
    probabilities = clip_probabilities(fitted.model, validation)
    bias = fit_bias(truth, probabilities) if experiment.decision.correct_prior else np.zeros(len(CLASSES))
    decision = choose_decision(truth, validation, [rescale(item, bias) for item in probabilities], experiment.decision)

    # Files.
    exported = export_form(experiment.network, fitted.model, bias)
    content = {"float": convert(exported, quantize=False), "quantized": convert(exported, quantize=True)}
    folder = fold_folder(out, fold)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reference.tflite").write_bytes(content["float"])
    (folder / "model.tflite").write_bytes(content["quantized"])

    # Exam: by the node's path, on LiteRT.
    runners = {name: Runner(data, f"{title} {name}") for name, data in content.items()}
    quantized = {"quantized": runners["quantized"]}
    judged = judge_clips(split.test, hear, runners, decision, f"{title} test")
    checked = judge_clips(split.validation, hear, quantized, decision, f"{title} validation")
    cropped = None
    if paper:
        ungated = msgspec.structs.replace(decision, silent_below_dbfs=_NO_GATE_DBFS)  # the paper labels every crop
        cropped = judge_clips(split.test, hear_crop, {"float": runners["float"]}, ungated, f"{title} crops")
    labels = {name: [item.label for verdict in items for item in verdict.decisions] for name, items in judged.items()}
    result = FoldResult(
        fold=fold,
        split=split.name,
        training_speakers=_speakers(training),
        validation_speakers=_speakers(split.validation),
        test_speakers=_speakers(split.test),
        training_clips=dict(Counter(clip.corpus for clip in training)),
        epochs=fitted.epochs,
        best_epoch=fitted.best,
        parameters=int(fitted.model.count_params()),
        float_bytes=len(content["float"]),
        quantized_bytes=len(content["quantized"]),
        normalisation=normalisation,
        bias=tuple(round(float(value), 4) for value in bias),
        decision=decision,
        validation=figures(split.validation, checked["quantized"]),
        test={name: figures(split.test, verdicts) for name, verdicts in judged.items()},
        test_cropped=figures(split.test, cropped["float"]) if cropped else None,
        same_windows=float(np.mean([a == b for a, b in zip(labels["float"], labels["quantized"], strict=True)])),
        seconds=round(time.monotonic() - began, 1),
    )
    plot_curves(result, folder / "curves.png")
    plot_confusion(result.test["quantized"], f"{title}, quantized, test speakers", folder / "confusion.png")
    return result


def _splits(experiment: Experiment, collection: Collection, fold: int | None) -> list[Split]:
    if experiment.split.by == "clip":
        if fold is not None:
            msg = f"--fold {fold}: this experiment splits by clip and has no folds; leave --fold out"
            raise SettingsError(msg)
        return [split_clips(collection.clips, experiment.recipe.seed)]
    runnable = runnable_folds(collection.clips)
    if not runnable:
        msg = "no fold can be run: speakers of two folds at least are needed; prepare more of the corpora"
        raise DataError(msg)
    if fold is not None and fold not in runnable:
        msg = (
            f"--fold {fold}: allowed are {', '.join(map(str, runnable))} (of {len(FOLDS)}; others have no speaker here)"
        )
        raise SettingsError(msg)
    validating = {str(corpus): count for corpus, count in experiment.split.validating.items()}
    return [split_speakers(collection.clips, number, validating) for number in (runnable if fold is None else (fold,))]


def _kept(out: Path, experiment: Experiment, running: set[int | None]) -> list[FoldResult]:
    """Return the results of folds that an earlier run of the same experiment left and this one does not repeat."""
    if not (out / RESULTS_NAME).is_file():
        return []
    before = read_run(out)
    return [item for item in before.folds if item.fold not in running] if before.settings == experiment else []


def _speakers(clips: tuple[Clip, ...]) -> tuple[str, ...]:
    return tuple(sorted({clip.speaker for clip in clips}))


def _machine() -> Machine:
    return Machine(
        processor=platform.machine(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        litert=version("ai-edge-litert"),
    )

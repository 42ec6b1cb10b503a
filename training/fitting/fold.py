"""One fold, from top to bottom: examples, weights, calibration, decision, files, exam."""

import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle
from broker.contract.decision import CLASSES, DecisionSpec
from broker.contract.features import Normalisation
from training.augment.examples import load_examples
from training.augment.views import crop, drop_at_random
from training.config import Experiment, PaperViews
from training.data.clips import Clip, Collection
from training.data.corpora import trains
from training.data.splits import Split
from training.exam.evaluate import Figures, figures, grade, judge_clips
from training.exam.predictions import PREDICTIONS_NAME, write_predictions
from training.exam.replay import Heard, listen
from training.exam.sitting import predictions_of, sit
from training.fitting.fit import Fitted, clip_logits, clip_probabilities, fit
from training.fitting.results import FoldResult, fold_folder
from training.fitting.thresholds import choose_decision, fit_bias, fit_temperature, rescale
from training.model.convert import convert
from training.model.network import export_form, save
from training.model.pack import draft, training_of
from training.model.plain import write_out
from training.model.runtime import Runner
from training.report.plots import plot_confusion, plot_curves

__all__ = ["NETWORK_NAME", "Chosen", "choose", "train_fold"]

NETWORK_NAME: Final = "network.keras"


class Chosen(NamedTuple):
    """What the validation speakers chose."""

    fitted: Fitted
    normalisation: Normalisation
    temperature: float
    bias: npt.NDArray[np.float64]
    decision: DecisionSpec


def train_fold(
    experiment: Experiment, collection: Collection, split: Split, seed: int, out: Path, *, store: Path, noise: bool
) -> FoldResult:
    """Return the result of one split and seed, after writing its models, predictions and pictures.

    Args:
        experiment: what to train; its merge has labelled the clips.
        collection: how to hear the clips, and those of corpora that never train.
        split: who trains, validates, is tested.
        seed: of the weights and the draws.
        out: run folder.
        store: folder for features of training views.
        noise: whether to test in noise as well, which takes ten times as long.
    """
    began = time.monotonic()
    title = f"{'by clip' if split.by == 'clip' else 'fold'} {split.fold if split.fold is not None else split.by}"
    folder = fold_folder(out, split.fold, seed)
    folder.mkdir(parents=True, exist_ok=True)

    # Weights, temperature, bias, decision: chosen on the validation speakers.
    chosen = choose(experiment, collection, split, seed, store, f"{title}, seed {seed}")
    fitted, normalisation = chosen.fitted, chosen.normalisation
    if experiment.recipe.refit:
        last = fitted.best + 1 if len(fitted.epochs) < experiment.recipe.epochs else experiment.recipe.epochs
        everyone = (*_kept(split.training, experiment), *_kept(split.validation, experiment))
        examples = load_examples(collection, everyone, experiment, store)
        normalisation = examples.normalisation()
        fitted = fit(examples, [], experiment, seed, f"{title}, seed {seed}, refit", last)

    # Files.
    plain = write_out(experiment, export_form(experiment, fitted.model, chosen.temperature, chosen.bias))
    content = {"reference.tflite": convert(plain, "float32"), "model.tflite": convert(plain, "dynamic")}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    save(fitted.model, folder / NETWORK_NAME)
    models = (content["model.tflite"], content["reference.tflite"])
    bundle = draft(experiment, training_of(experiment, split), normalisation, chosen.decision, models)

    # Exam: by the node's path, on LiteRT, by the code of `evaluate`.
    asked = (*split.test, *(clip for clip in collection.clips if not trains(clip.corpus) and clip not in split.test))
    exam = sit(bundle, msgspec.structs.replace(collection, clips=asked), seen=True, noise=noise) if asked else None
    groups = grade(exam).groups if exam else ()
    result = FoldResult(
        fold=split.fold,
        seed=seed,
        origin=bundle.manifest.training,
        training_clips=dict(Counter(clip.corpus for clip in split.training)),
        epochs=chosen.fitted.epochs,
        best_epoch=chosen.fitted.best,
        parameters=int(fitted.model.count_params()),
        float_bytes=len(content["reference.tflite"]),
        quantized_bytes=len(content["model.tflite"]),
        normalisation=normalisation,
        temperature=round(chosen.temperature, 4),
        bias=tuple(round(float(value), 4) for value in chosen.bias),
        decision=chosen.decision,
        validation=_validation(experiment, collection, split, chosen),
        test=next((group for group in groups if group.standing != "cross-corpus"), None),
        cross_corpus=next((group for group in groups if group.standing == "cross-corpus"), None),
        test_cropped=_cropped(experiment, collection, split, bundle),
        seconds=round(time.monotonic() - began, 1),
    )
    if exam:
        tested = {clip.key for clip in split.test}
        write_predictions([item for item in predictions_of(exam) if item.key in tested], folder / PREDICTIONS_NAME)
    if result.test:
        plot_confusion(result.test.models["quantized"], f"{title}, quantized, test speakers", folder / "confusion.png")
    plot_curves(result, folder / "curves.png")
    return result


def choose(experiment: Experiment, collection: Collection, split: Split, seed: int, store: Path, title: str) -> Chosen:
    """Return weights fitted to the training side, and what the validation side makes of them."""
    rules, paper = experiment.decision, _paper(experiment)
    examples = load_examples(collection, _kept(split.training, experiment), experiment, store)
    normalisation = examples.normalisation()
    heard = [_listen(experiment, collection.read(clip), normalisation) for clip in split.validation]
    cropped = (
        [_listen(experiment, crop(collection.read(clip), paper), normalisation) for clip in split.validation]
        if paper
        else heard
    )
    fitted = fit(examples, list(zip(split.validation, cropped, strict=True)), experiment, seed, title)
    truth = np.array([CLASSES.index(clip.label) for clip in split.validation])
    logits = clip_logits(fitted.model, heard)

    def probabilities(temperature: float) -> list[npt.NDArray[np.float32]]:
        return clip_probabilities([item / np.float32(temperature) for item in logits], experiment)

    bias = fit_bias(truth, probabilities(1)) if rules.correct_prior else np.zeros(len(CLASSES))
    temperature = fit_temperature(truth, lambda value: [rescale(item, bias) for item in probabilities(value)])
    temperature = temperature if rules.calibrate else 1.0
    decision = choose_decision(truth, heard, [rescale(item, bias) for item in probabilities(temperature)], rules)
    return Chosen(fitted, normalisation, temperature, bias, decision)


def _validation(experiment: Experiment, collection: Collection, split: Split, chosen: Chosen) -> Figures:
    plain = write_out(experiment, export_form(experiment, chosen.fitted.model, chosen.temperature, chosen.bias))
    models = {"quantized": Runner(convert(plain, "dynamic"), "validation")}

    def hear(clip: Clip) -> Heard:
        return _listen(experiment, collection.read(clip), chosen.normalisation)

    return figures(
        split.validation, judge_clips(split.validation, hear, models, chosen.decision, "validation")["quantized"]
    )


def _cropped(experiment: Experiment, collection: Collection, split: Split, bundle: Bundle) -> Figures | None:
    """Return how the float model does on the paper's one crop per clip; None for other experiments."""
    paper = _paper(experiment)
    if paper is None or not split.test or bundle.reference is None:
        return None

    def hear(clip: Clip) -> Heard:
        return _listen(experiment, crop(collection.read(clip), paper), bundle.manifest.normalisation)

    models = {"float": Runner(bundle.reference, "crops")}
    return figures(split.test, judge_clips(split.test, hear, models, bundle.manifest.decision, "crops")["float"])


def _listen(experiment: Experiment, samples: npt.NDArray[np.float32], normalisation: Normalisation | None) -> Heard:
    return listen(samples, experiment.features, normalisation, experiment.window)


def _paper(experiment: Experiment) -> PaperViews | None:
    return experiment.views if isinstance(experiment.views, PaperViews) else None


def _kept(clips: tuple[Clip, ...], experiment: Experiment) -> tuple[Clip, ...]:
    paper = _paper(experiment)
    return drop_at_random(clips, paper, experiment.recipe.seed) if paper else clips

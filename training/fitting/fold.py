"""One fold, from top to bottom: weights, calibration and decision, files, exam."""

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
from broker.files import write_whole
from training.augment.examples import load_examples
from training.augment.views import crop, drop_at_random
from training.config import Experiment, PaperViews
from training.data.clips import Clip, Collection
from training.data.corpora import trains
from training.data.splits import Split
from training.exam.evaluate import Figures, figures, grade, judge_clips
from training.exam.predictions import PREDICTIONS_NAME, write_predictions
from training.exam.replay import Heard, listen
from training.exam.sitting import Exam, predictions_of, sit
from training.files import writing
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

_ADVICE: Final = "make room, and run the same command again"


class Chosen(NamedTuple):
    """What the validation speakers chose."""

    fitted: Fitted
    normalisation: Normalisation
    """Of the clips that the weights were fitted to."""
    windows: npt.NDArray[np.float32]
    """Some of their windows, normalised, shape (n, frames, columns): the weights are rounded to suit them."""
    temperature: float
    """Divides the logits; 1 where none is fitted."""
    bias: npt.NDArray[np.float64]
    """Shape (3,), added to the classes' logits, in the order of `CLASSES`; zeros where none is fitted."""
    decision: DecisionSpec
    prior: tuple[float, float, float]
    """Share of each class among the windows that the weights were fitted to."""


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

    Raises:
        SettingsError: a file cannot be written.
    """
    began = time.monotonic()
    title = f"{'by clip' if split.by == 'clip' else 'fold'} {split.fold if split.fold is not None else split.by}"
    folder = fold_folder(out, split.fold, seed)
    with writing(folder, _ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
    chosen = choose(experiment, collection, split, seed, store, f"{title}, seed {seed}")
    kept = chosen
    if experiment.recipe.refit:
        kept = _refit(chosen, experiment, collection, split, seed, store, f"{title}, seed {seed}, refit")
    model, reference = _write_models(experiment, kept, folder)
    bundle = draft(experiment, training_of(experiment, split), kept.normalisation, kept.decision, (model, reference))
    exam = _examine(bundle, collection, split, noise=noise)
    groups = grade(exam).groups if exam else ()
    result = FoldResult(
        fold=split.fold,
        seed=seed,
        origin=bundle.manifest.training,
        training_clips=dict(Counter(clip.corpus for clip in split.training)),
        epochs=chosen.fitted.epochs,
        best_epoch=chosen.fitted.best,
        parameters=int(kept.fitted.model.count_params()),
        float_bytes=len(reference),
        quantized_bytes=len(model),
        normalisation=kept.normalisation,
        temperature=round(kept.temperature, 4),
        bias=tuple(round(float(value), 4) for value in kept.bias),
        decision=kept.decision,
        prior=kept.prior,
        validation=_validation(experiment, collection, split, chosen),
        test=next((group for group in groups if group.standing != "cross-corpus"), None),
        cross_corpus=next((group for group in groups if group.standing == "cross-corpus"), None),
        test_cropped=_cropped(experiment, collection, split, bundle),
        seconds=round(time.monotonic() - began, 1),
    )
    with writing(folder, _ADVICE):
        _write_exam(result, exam, split, title, folder)
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
    windows, prior = examples.calibration(normalisation), examples.prior(experiment.recipe)
    return Chosen(fitted, normalisation, windows, temperature, bias, decision, prior)


def _refit(
    chosen: Chosen, experiment: Experiment, collection: Collection, split: Split, seed: int, store: Path, title: str
) -> Chosen:
    """Return weights fitted anew with the validation side among the training side, for as long as it has chosen."""
    first, epochs = chosen.fitted, experiment.recipe.epochs
    everyone = (*_kept(split.training, experiment), *_kept(split.validation, experiment))
    examples = load_examples(collection, everyone, experiment, store)
    normalisation = examples.normalisation()
    fitted = fit(examples, [], experiment, seed, title, first.best + 1 if len(first.epochs) < epochs else epochs)
    windows = examples.calibration(normalisation)
    prior = examples.prior(experiment.recipe)
    return chosen._replace(fitted=fitted, normalisation=normalisation, windows=windows, prior=prior)


def _write_models(experiment: Experiment, kept: Chosen, folder: Path) -> tuple[bytes, bytes]:
    """Return the quantized and the float LiteRT file, after writing both and the Keras file."""
    plain = write_out(experiment, export_form(experiment, kept.fitted.model, kept.temperature, kept.bias))
    reference, model = convert(plain, "float32"), convert(plain, "dynamic", kept.windows)
    with writing(folder, _ADVICE):
        write_whole(folder / "reference.tflite", reference)
        write_whole(folder / "model.tflite", model)
        save(kept.fitted.model, folder / NETWORK_NAME)
    return model, reference


def _examine(bundle: Bundle, collection: Collection, split: Split, *, noise: bool) -> Exam | None:
    """Return what the files say of test clips and of corpora that never train; None: there are none.

    By the node's path, on LiteRT, by the code of `evaluate`.
    """
    asked = (*split.test, *(clip for clip in collection.clips if not trains(clip.corpus) and clip not in split.test))
    return sit(bundle, msgspec.structs.replace(collection, clips=asked), seen=True, noise=noise) if asked else None


def _write_exam(result: FoldResult, exam: Exam | None, split: Split, title: str, folder: Path) -> None:
    """Write what was said of the test clips, and the pictures of the fold."""
    if exam:
        tested = {clip.key for clip in split.test}
        write_predictions([item for item in predictions_of(exam) if item.key in tested], folder / PREDICTIONS_NAME)
    if result.test:
        plot_confusion(result.test.models["quantized"], f"{title}, quantized, test speakers", folder / "confusion.png")
    plot_curves(result, folder / "curves.png")


def _validation(experiment: Experiment, collection: Collection, split: Split, chosen: Chosen) -> Figures:
    plain = write_out(experiment, export_form(experiment, chosen.fitted.model, chosen.temperature, chosen.bias))
    models = {"quantized": Runner(convert(plain, "dynamic", chosen.windows), "validation")}

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

"""`bundle`: a trained fold becomes the archive that nodes run."""

import datetime as dt
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle, Golden, Manifest, Training, read_bundle, write_bundle
from broker.contract.decision import CLASSES, DecisionSpec
from broker.contract.errors import BundleError, DataError
from broker.contract.features import Normalisation, extract
from broker.files import write_whole
from training.config import Experiment
from training.data.prepare import open_collection
from training.data.splits import Split
from training.data.synthetic import noise, voiced
from training.exam.card import make_card
from training.exam.evaluate import evaluate
from training.files import writing
from training.fitting.calibrate import read_calibration
from training.fitting.results import FoldResult, Run, fold_folder, read_run
from training.model.runtime import Runner, prove

__all__ = ["Order", "draft", "make_bundle", "pack", "training_of"]

_GOLDEN_SEED: Final = 20
_GOLDEN_PITCHES_HZ: Final = (90.0, 180.0, 330.0)
_GOLDEN_NOISES: Final = ("white", "brown")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to put into a bundle."""

    run: Path
    """Run folder that `train` wrote."""
    name: str
    """Of the model."""
    version: int
    """Of the model, from 1."""
    fold: int
    """Whose weights; a run that has but one split has only one."""
    seed: int | None = None
    """Whose weights; None: those of the run's first seed."""
    licence: Path
    """Text that governs the weights."""
    compare: tuple[Path, ...] = ()
    """Other runs, whose cross-validated figures the card shows beside this one's."""
    calibration: Path | None = None
    """What `calibrate` wrote: its decision takes the place of the one that `train` chose."""
    data: Path | None = None
    """Corpora or a prepared cache: the card then tells how the bundled files fare on every speaker there."""


def pack(order: Order, out: Path) -> Bundle:
    """Return a bundle, after proving it on LiteRT and writing it to `out`.

    Raises:
        DataError: a run, the licence or the data is missing, or the file cannot be written.
        BundleError: the parts do not fit, or the model does not do on LiteRT what it should.
    """
    data = write_bundle(make_bundle(order))
    bundle = read_bundle(data, str(out))
    prove(bundle, str(out))
    with writing(out, "choose another --out", failure=DataError):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, data)
    return bundle


def make_bundle(order: Order) -> Bundle:
    """Return a bundle with golden vectors made from synthetic audio and the model's own answers to them.

    Raises:
        DataError: a run, the licence or the data is missing.
        BundleError: the name or the version is not allowed, or LiteRT cannot run the model.
    """
    run = read_run(order.run)
    seed = run.settings.recipe.seeds[0] if order.seed is None else order.seed
    result = next((item for item in run.folds if item.fold in {order.fold, None} and item.seed == seed), None)
    if result is None:
        here = ", ".join(f"{item.fold} with seed {item.seed}" for item in run.folds)
        msg = f"{order.run}: has no fold {order.fold} with seed {seed}; it has folds {here}"
        raise DataError(msg)
    folder = fold_folder(order.run, result.fold, seed)
    try:
        model, reference = (folder / "model.tflite").read_bytes(), (folder / "reference.tflite").read_bytes()
        licence = order.licence.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{error.filename}: cannot be read ({error.strerror}); it is part of the bundle"
        raise DataError(msg) from error
    calibration = None if order.calibration is None else read_calibration(order.calibration)
    bundle = draft(
        run.settings,
        result.origin,
        result.normalisation,
        result.decision if calibration is None else calibration.decision,
        (model, reference),
        name=order.name,
        version=order.version,
    )
    bundle = msgspec.structs.replace(
        bundle, manifest=msgspec.structs.replace(bundle.manifest, prior=_prior(run, result))
    )
    card = make_card(run, result, [read_run(other) for other in order.compare], calibration)
    bundle = msgspec.structs.replace(bundle, card=msgspec.to_builtins(card), licence=licence)
    if order.data is None:
        return bundle
    collection, corrupt = open_collection(order.data)
    groups = evaluate(bundle, collection, seen=True, corrupt=len(corrupt)).groups
    return msgspec.structs.replace(bundle, card={**bundle.card, "speakers": msgspec.to_builtins(groups)})


def training_of(experiment: Experiment, split: Split) -> Training:
    """Return where the weights of a split come from: with a refit, validation speakers trained, too."""
    sides = {name: tuple(sorted({clip.speaker for clip in clips})) for name, clips in split.sides.items()}
    refitted = sides["validation"] if experiment.recipe.refit else ()
    return Training(
        experiment=experiment.name,
        split=split.name,
        trained_speakers=tuple(sorted({*sides["training"], *refitted})),
        validation_speakers=sides["validation"],
        held_out_speakers=() if split.by == "clip" else sides["test"],
        merge={str(emotion): label for emotion, label in experiment.merge.items()},
    )


def draft(
    experiment: Experiment,
    origin: Training,
    normalisation: Normalisation,
    decision: DecisionSpec,
    models: tuple[bytes, bytes],
    *,
    name: str | None = None,
    version: int = 1,
) -> Bundle:
    """Return a bundle without card and licence, with golden vectors of synthetic audio and the model's own answers.

    Args:
        experiment: front-end and window.
        origin: where the weights come from.
        normalisation: fixed statistics.
        decision: gate, smoothing, threshold.
        models: the quantized and the float file.
        name: of the model; None: the experiment's.
        version: of the model.

    Raises:
        BundleError: the name or the version is not allowed, or LiteRT cannot run the model.
    """
    name = experiment.name if name is None else name
    parts = {
        "name": name,
        "version": version,
        "created": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "labels": CLASSES,
        "features": experiment.features,
        "normalisation": normalisation,
        "window": experiment.window,
        "decision": decision,
        "litert_at_least": installed("ai-edge-litert"),
        "training": origin,
        "members": {},
    }
    try:
        manifest = msgspec.convert(parts, Manifest)
    except msgspec.ValidationError as error:
        msg = f"--name {name} --version {version}: {error}; allowed: a-z, 0-9, '.', '-', and 1 or more"
        raise BundleError(msg) from error
    features = golden_features(manifest)
    infer = Runner(models[0], manifest.identity)
    golden = Golden(features=features, probabilities=np.stack([infer(item) for item in features]))
    return Bundle(manifest=manifest, model=models[0], reference=models[1], golden=golden, card={}, licence="")


def _prior(run: Run, result: FoldResult) -> tuple[float, float, float] | None:
    """Return the classes' shares in the training; balanced draws draw all alike, which an older run did not write."""
    even = 1 / len(CLASSES)
    return (even, even, even) if result.prior is None and run.settings.recipe.draws else result.prior


def golden_features(manifest: Manifest) -> npt.NDArray[np.float32]:
    """Return model inputs that no person's voice went into, shape (n, frames, coefficients)."""
    random = np.random.default_rng(_GOLDEN_SEED)
    length, rate = manifest.window.length_samples, manifest.features.sample_rate_hz
    signals = [voiced(length, rate, pitch, random.uniform(-35, -15), random) for pitch in _GOLDEN_PITCHES_HZ]
    signals += [noise(length, colour, random) * np.float32(10 ** (-45 / 20)) for colour in _GOLDEN_NOISES]
    return np.stack([extract(signal, manifest.features, manifest.normalisation) for signal in signals])

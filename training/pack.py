"""`bundle`: a trained fold becomes the archive that nodes run."""

from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import Bundle, Golden, Manifest, Training, read_bundle, write_bundle
from broker.contract.decision import CLASSES
from broker.contract.errors import BundleError, DataError
from broker.contract.features import extract
from training.card import make_card
from training.evaluate import evaluate
from training.prepare import open_collection
from training.results import FoldResult, Run, fold_folder, read_run
from training.runtime import Runner, prove
from training.synthetic import noise, voiced

__all__ = ["Order", "make_bundle", "pack"]

_GOLDEN_SEED: Final = 20
_GOLDEN_PITCHES_HZ: Final = (90.0, 130.0, 180.0, 240.0, 330.0)
_GOLDEN_NOISES: Final = ("white", "pink", "brown")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to put into a bundle."""

    run: Path
    """Run folder that `train` wrote."""
    name: str
    """Of the model."""
    version: int
    """Of the model, from 1."""
    fold: int
    """Whose weights; a run by clip has only one."""
    licence: Path
    """Text that governs the weights."""
    compare: tuple[Path, ...] = ()
    """Other runs, whose cross-validated figures the card shows beside this one's."""
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.part")
        temporary.write_bytes(data)
        temporary.replace(out)
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); choose another --out"
        raise DataError(msg) from error
    return bundle


def make_bundle(order: Order) -> Bundle:
    """Return a bundle with golden vectors made from synthetic audio and the model's own answers to them.

    Raises:
        DataError: a run, the licence or the data is missing.
        BundleError: the name or the version is not allowed, or LiteRT cannot run the model.
    """
    run = read_run(order.run)
    result = next((item for item in run.folds if item.fold in {order.fold, None}), None)
    if result is None:
        msg = f"{order.run}: has no fold {order.fold}; its folds are {', '.join(str(item.fold) for item in run.folds)}"
        raise DataError(msg)
    folder = fold_folder(order.run, result.fold)
    try:
        model, reference = (folder / "model.tflite").read_bytes(), (folder / "reference.tflite").read_bytes()
        licence = order.licence.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{error.filename}: cannot be read ({error.strerror}); it is part of the bundle"
        raise DataError(msg) from error
    manifest = make_manifest(order, run, result)
    features = golden_features(manifest)
    infer = Runner(model, manifest.identity)
    bundle = Bundle(
        manifest=manifest,
        model=model,
        reference=reference,
        golden=Golden(features=features, probabilities=np.stack([infer(item) for item in features])),
        card=msgspec.to_builtins(make_card(run, result, [read_run(other) for other in order.compare])),
        licence=licence,
    )
    if order.data is None:
        return bundle
    collection, corrupt = open_collection(order.data)
    groups = evaluate(bundle, collection, seen=True, corrupt=len(corrupt)).groups
    return msgspec.structs.replace(bundle, card={**bundle.card, "speakers": msgspec.to_builtins(groups)})


def make_manifest(order: Order, run: Run, result: FoldResult) -> Manifest:
    """Return what a node must know about the model; the members are filled in when it is written.

    Raises:
        BundleError: the name or the version is not allowed.
    """
    try:
        return msgspec.convert(
            {
                "name": order.name,
                "version": order.version,
                "created": run.created,
                "labels": CLASSES,
                "features": run.settings.features,
                "normalisation": result.normalisation,
                "window": run.settings.window,
                "decision": result.decision,
                "litert_at_least": version("ai-edge-litert"),
                "training": Training(
                    experiment=run.experiment,
                    split=result.split,
                    trained_speakers=result.training_speakers,
                    validation_speakers=result.validation_speakers,
                    held_out_speakers=() if result.fold is None else result.test_speakers,
                ),
                "members": {},
            },
            Manifest,
        )
    except msgspec.ValidationError as error:
        msg = f"--name {order.name} --version {order.version}: {error}; allowed: a-z, 0-9, '.', '-', and 1 or more"
        raise BundleError(msg) from error


def golden_features(manifest: Manifest) -> npt.NDArray[np.float32]:
    """Return model inputs that no person's voice went into, shape (n, frames, coefficients)."""
    random = np.random.default_rng(_GOLDEN_SEED)
    length, rate = manifest.window.length_samples, manifest.features.sample_rate_hz
    signals = [voiced(length, rate, pitch, random.uniform(-35, -15), random) for pitch in _GOLDEN_PITCHES_HZ]
    signals += [noise(length, colour, random) * np.float32(10 ** (-45 / 20)) for colour in _GOLDEN_NOISES]
    return np.stack([extract(signal, manifest.features, manifest.normalisation) for signal in signals])

"""An exam: what a bundle says of every clip, by both models and both rules, in quiet and in every noise.

Nothing is counted here: `evaluate` makes figures of it. A clip is heard in two ways. STREAM is what a user gets: the
clip played through the node's own windows. CLIP is one decision on its loudest stretch, which owes nothing to where the
windows happen to fall. `replay` holds both rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Bundle, Manifest, read_bundle
from broker.contract.errors import BundleError, DataError
from training.augment.noise import LEVELS_DB, Colour, add_noise, describe, noises
from training.data.clips import RATE_HZ, Clip, Collection
from training.data.corpora import CLASS_OF, Emotion, relabel, trains
from training.data.splits import is_by_clip
from training.exam.predictions import Prediction, predict
from training.exam.replay import Heard, Verdict, judge, listen, loudest
from training.model.runtime import Runner
from training.progress import track

__all__ = ["STANDINGS", "Condition", "Exam", "Rule", "Sitting", "Standing", "open_bundle", "predictions_of", "sit"]

Standing = Literal["held out", "cross-corpus", "validation", "training"]
Rule = Literal["stream", "clip"]
Samples = npt.NDArray[np.float32]

STANDINGS: tuple[Standing, ...] = ("held out", "cross-corpus", "validation", "training")
"""In the order of reports: the figure to quote first."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip is heard in."""

    colour: Colour
    below_speech_db: int
    """How far the noise lies below the active speech level."""


Verdicts = dict[tuple[Condition | None, Rule, str], list[Verdict]]
"""Per condition (None: quiet), rule and model (`quantized`, `float`), in the order of the clips."""


class Sitting(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The clips of speakers who stand alike to the training, and all that was said of them."""

    standing: Standing
    clips: tuple[Clip, ...]
    verdicts: Verdicts


class Exam(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A bundle's answers."""

    manifest: Manifest
    sittings: tuple[Sitting, ...]
    noise: str | None
    """What was added to the clips, in words; None: nothing."""


def open_bundle(path: Path) -> Bundle:
    """Return the bundle in a file.

    Raises:
        BundleError: the file cannot be read, or holds no usable bundle.
    """
    try:
        with path.open("rb") as file:
            return read_bundle(file.read(LARGEST_BUNDLE_BYTES + 1), str(path))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give the path of a bundle"
        raise BundleError(msg) from error


def sit(bundle: Bundle, collection: Collection, *, seen: bool, noise: bool = False) -> Exam:
    """Return what a bundle says of the clips.

    Args:
        bundle: the model with its settings.
        collection: the clips; babble is made of them all, whoever is examined.
        seen: whether to examine on speakers of training and validation too.
        noise: whether to hear every clip in noise as well, which takes ten times as long.

    Raises:
        DataError: no clip is left to examine on.
        BundleError: LiteRT cannot run a model of the bundle, or it hears another sample rate.
    """
    manifest = bundle.manifest
    if manifest.features.sample_rate_hz != RATE_HZ:
        msg = f"{manifest.identity}: hears {manifest.features.sample_rate_hz} Hz, but clips have {RATE_HZ} Hz"
        raise BundleError(msg)
    runners = {"quantized": Runner(bundle.model, f"{manifest.identity} model.tflite")}
    if bundle.reference is not None:
        runners["float"] = Runner(bundle.reference, f"{manifest.identity} reference.tflite")
    by_standing: dict[Standing, list[Clip]] = {standing: [] for standing in STANDINGS}
    merge = {Emotion(emotion): label for emotion, label in manifest.training.merge.items()} or CLASS_OF
    for clip in relabel(collection.clips, merge):
        by_standing[_standing(clip, bundle)].append(clip)
    unwanted = set() if seen else {"validation", "training"}
    wanted = {name: clips for name, clips in by_standing.items() if clips and name not in unwanted}
    if not wanted:
        msg = "no clip of a speaker that took no part in training; add --speakers all, or data of other speakers"
        raise DataError(msg)
    return Exam(
        manifest=manifest,
        sittings=tuple(
            Sitting(
                standing=name,
                clips=tuple(clips),
                verdicts=_verdicts(clips, collection, manifest, runners, f"{name} clips", noise=noise),
            )
            for name, clips in wanted.items()
        ),
        noise=describe(collection.clips) if noise else None,
    )


def predictions_of(exam: Exam) -> tuple[Prediction, ...]:
    """Return what the quantized model says of each clip by the rule `stream`, in quiet."""
    return tuple(
        predict(clip, verdict)
        for sitting in exam.sittings
        for clip, verdict in zip(sitting.clips, sitting.verdicts[None, "stream", "quantized"], strict=True)
    )


def _verdicts(
    clips: Sequence[Clip],
    collection: Collection,
    manifest: Manifest,
    models: Mapping[str, Runner],
    doing: str,
    *,
    noise: bool,
) -> Verdicts:
    """Return all verdicts; the features of a clip are computed once per condition and rule."""
    verdicts: Verdicts = {}
    for clip in track(clips, doing):
        for condition, samples in _conditions(clip, collection, noise=noise):
            stream = _listen(samples, manifest)
            for name, infer in models.items():
                verdict = judge(stream, infer, manifest.decision)
                verdicts.setdefault((condition, "stream", name), []).append(verdict)
            is_one_window = len(samples) <= manifest.window.length_samples
            stretch = (
                stream if is_one_window else _listen(loudest(samples, manifest.features, manifest.window), manifest)
            )
            for name, infer in models.items():
                if not is_one_window:
                    verdict = judge(stretch, infer, manifest.decision)
                else:
                    verdict = verdicts[condition, "stream", name][-1]
                verdicts.setdefault((condition, "clip", name), []).append(verdict)
    return verdicts


def _listen(samples: Samples, manifest: Manifest) -> Heard:
    return listen(samples, manifest.features, manifest.normalisation, manifest.window)


def _conditions(clip: Clip, collection: Collection, *, noise: bool) -> Iterator[tuple[Condition | None, Samples]]:
    samples = collection.read(clip)
    yield None, samples
    if not noise:
        return
    for colour, unit in noises(clip, len(samples), collection).items():
        for level in LEVELS_DB:
            yield Condition(colour=colour, below_speech_db=level), add_noise(samples, unit, level)


def _standing(clip: Clip, bundle: Bundle) -> Standing:
    training = bundle.manifest.training
    if clip.speaker in training.trained_speakers or (is_by_clip(training.split) and trains(clip.corpus)):
        return "training"
    if clip.speaker in training.validation_speakers:
        return "validation"
    return "held out" if trains(clip.corpus) else "cross-corpus"

"""A model bundle: one archive with the model and everything that it takes to use it rightly.

    manifest.json     Manifest: labels, front-end, window, decision, runtime floor, digests of the other members
    model.tflite      what the node runs (dynamic-range int8)
    reference.tflite  the same network in float32, to evaluate against; optional
    golden.npz        features (n, frames, coefficients) and the probabilities (n, 3) that the model gives them
    card.json         the evaluation card
    LICENSE           of the weights

The archive is a zip, always read from bytes already in memory: a file that changes under a running
interpreter would kill the process. A digest proves that a bundle is whole, not who made it.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.errors import BundleError, SottovoceError
from broker.contract.features import FeatureSpec, Normalisation, frame_count
from broker.contract.scalars import Share
from broker.contract.windows import WindowSpec

__all__ = [
    "GOLDEN_TOLERANCE",
    "LARGEST_BUNDLE_BYTES",
    "Bundle",
    "Golden",
    "Manifest",
    "Member",
    "Training",
    "read_bundle",
    "write_bundle",
]

LARGEST_BUNDLE_BYTES: Final = 4_000_000
"""Neither the archive nor any of its members, unpacked, may be larger than this."""

GOLDEN_TOLERANCE: Final = 0.02
"""Largest difference of a probability from its golden one: dynamic-range kernels round differently on each processor.

A wrong front-end, model or order of labels shows as a much larger one.
"""

_ROUNDED: Final = 1e-3
"""By how much shares that add up to 1 may miss it."""

_MEMBERS: Final = ("manifest.json", "model.tflite", "reference.tflite", "golden.npz", "card.json", "LICENSE")
_OPTIONAL: Final = frozenset({"reference.tflite"})
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Every member's time stamp, so that equal content makes equal bytes."""

_NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NOT_ZIP: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What the standard library raises at broken archives, depending on where they are broken."""

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}\Z")]


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size and digest of one file in the bundle."""

    bytes: Annotated[int, Meta(gt=0, le=LARGEST_BUNDLE_BYTES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the weights come from: enough to evaluate them on speakers they have never heard."""

    experiment: str
    """Name of the configuration under training/configs."""
    split: str
    """Name of the split, as reports print it."""
    trained_speakers: tuple[str, ...]
    """Speakers that fitted the weights, as `<corpus>_<speaker>`."""
    validation_speakers: tuple[str, ...]
    """Speakers that chose the epoch and the thresholds."""
    held_out_speakers: tuple[str, ...]
    """Speakers of the corpora at hand that took part in neither."""
    merge: dict[str, Label] = {}
    """Which class each emotion counted as; empty: the trainer's default."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node must know about a model before it runs it."""

    schema: Literal[1] = 1
    name: Name
    version: Annotated[int, Meta(gt=0, le=1_000_000_000)]
    created: str
    """Date of the training run, ISO 8601."""
    labels: tuple[Label, ...]
    """Meaning of the model's outputs, in their order; always `decision.CLASSES`."""
    features: FeatureSpec
    normalisation: Normalisation | None
    window: WindowSpec
    decision: DecisionSpec
    litert_at_least: str
    """Oldest LiteRT release that the model was proved on."""
    training: Training
    prior: tuple[Share, Share, Share] | None = None
    """Share of each class among the windows that the weights were fitted to, as they were drawn, in the order of
    `labels`: what drift is measured against. None: nobody knows."""
    members: dict[str, Member]

    @property
    def identity(self) -> str:
        """Name and version in one word, as messages carry it."""
        return f"{self.name}/{self.version}"

    @property
    def input_shape(self) -> tuple[int, int]:
        """(frames, columns) of one window."""
        return (frame_count(self.window.length_samples, self.features), self.features.columns)


class Golden(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Inputs and outputs that prove a runtime runs this model rightly; made from synthetic audio only."""

    features: npt.NDArray[np.float32]
    """Shape (n, frames, coefficients)."""
    probabilities: npt.NDArray[np.float32]
    """Shape (n, 3), in the order of `manifest.labels`."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A bundle, unpacked and checked."""

    manifest: Manifest
    model: bytes
    reference: bytes | None
    golden: Golden
    card: dict[str, Any]
    licence: str


def write_bundle(bundle: Bundle) -> bytes:
    """Return the archive; `bundle.manifest.members` is computed, whatever it held.

    Raises:
        BundleError: the parts do not fit each other, or are too large.
    """
    arrays = io.BytesIO()
    np.savez_compressed(arrays, features=bundle.golden.features, probabilities=bundle.golden.probabilities)
    content = {
        "model.tflite": bundle.model,
        "golden.npz": arrays.getvalue(),
        "card.json": msgspec.json.format(msgspec.json.encode(bundle.card), indent=1),
        "LICENSE": bundle.licence.encode(),
    }
    if bundle.reference is not None:
        content["reference.tflite"] = bundle.reference
    members = {name: Member(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    manifest = msgspec.structs.replace(bundle.manifest, members=members)
    content["manifest.json"] = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in _MEMBERS:
            if name in content:
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), content[name], zipfile.ZIP_DEFLATED)
    data = packed.getvalue()
    read_bundle(data, "the new bundle")
    return data


def read_bundle(data: bytes, where: str) -> Bundle:
    """Return the bundle in these bytes, every member checked against its digest.

    Args:
        data: the whole archive.
        where: what to call it in errors, such as its path.

    Raises:
        BundleError: it is no bundle, is cut short or altered, or contradicts itself.
    """
    content = _unpack(data, where)
    try:
        manifest = msgspec.json.decode(content.pop("manifest.json"), type=Manifest)
    except (*_NOT_JSON, SottovoceError) as error:
        raise _corrupt(where, f"manifest.json: {error}") from error
    if manifest.members.keys() != content.keys():
        raise _corrupt(where, f"manifest lists {sorted(manifest.members)}, archive holds {sorted(content)}")
    for name, member in manifest.members.items():
        if (len(content[name]), hashlib.sha256(content[name]).hexdigest()) != (member.bytes, member.sha256):
            raise _corrupt(where, f"{name} does not match its digest")
    if manifest.labels != CLASSES:
        raise _corrupt(where, f"labels {list(manifest.labels)} are not {list(CLASSES)}")
    if manifest.normalisation is not None:
        lengths = {len(manifest.normalisation.mean), len(manifest.normalisation.deviation)}
        if lengths != {manifest.features.columns}:
            raise _corrupt(where, f"normalisation is not for {manifest.features.columns} columns")
    if manifest.prior is not None and abs(sum(manifest.prior) - 1) > _ROUNDED:
        raise _corrupt(where, f"prior {list(manifest.prior)} does not add up to 1")
    return Bundle(
        manifest=manifest,
        model=content["model.tflite"],
        reference=content.get("reference.tflite"),
        golden=_golden(content["golden.npz"], manifest, where),
        card=_card(content["card.json"], where),
        licence=content["LICENSE"].decode(errors="replace"),
    )


def _unpack(data: bytes, where: str) -> dict[str, bytes]:
    if len(data) > LARGEST_BUNDLE_BYTES:
        raise _corrupt(where, f"{len(data)} bytes, at most {LARGEST_BUNDLE_BYTES} are read")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            missing = set(_MEMBERS) - _OPTIONAL - set(names)
            if missing or set(names) - set(_MEMBERS) or len(set(names)) != len(names):
                raise _corrupt(where, f"holds {names}, expected {list(_MEMBERS)}")
            return {info.filename: _member(archive, info, where) for info in archive.infolist()}
    except _NOT_ZIP as error:
        raise _corrupt(where, str(error) or type(error).__name__) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> bytes:
    """Return one member; never unpack more than is allowed, whatever size the archive states."""
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise _corrupt(where, f"{info.filename} is packed by method {info.compress_type}")
    with archive.open(info) as opened:
        data = opened.read(LARGEST_BUNDLE_BYTES + 1)
    if len(data) > LARGEST_BUNDLE_BYTES or len(data) != info.file_size:
        raise _corrupt(where, f"{info.filename} unpacks to more than {LARGEST_BUNDLE_BYTES} bytes, or is cut short")
    return data


def _golden(data: bytes, manifest: Manifest, where: str) -> Golden:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            features, probabilities = (
                np.lib.format.read_array(io.BytesIO(_member(archive, archive.getinfo(f"{name}.npy"), where)))
                for name in ("features", "probabilities")
            )
    except (*_NOT_ZIP, KeyError, MemoryError) as error:
        raise _corrupt(where, f"golden.npz: {error}") from error
    if not all(each.dtype == np.float32 and np.isfinite(each).all() for each in (features, probabilities)):
        raise _corrupt(where, "golden.npz: not finite numbers of type float32")
    shapes = (features.shape, probabilities.shape)
    count = max((1, *features.shape[:1]))
    if shapes != ((count, *manifest.input_shape), (count, len(CLASSES))):
        raise _corrupt(where, f"golden.npz: shapes {shapes} do not fit input {manifest.input_shape}")
    return Golden(features=features, probabilities=probabilities)


def _card(data: bytes, where: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except _NOT_JSON as error:
        raise _corrupt(where, f"card.json: {error}") from error


def _corrupt(where: str, why: str) -> BundleError:
    return BundleError(f"{where}: not a usable model bundle: {why}; fetch or build it again")

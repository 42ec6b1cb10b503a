"""A bundle is whole and consistent, or it is a BundleError; there is no third outcome."""

import dataclasses
import hashlib
import io
import json
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Bundle, Golden, Manifest, read_bundle, write_bundle
from broker.contract.errors import BundleError
from broker.contract.features import Normalisation

MEMBERS = ("model.tflite", "golden.npz", "card.json", "LICENSE")


@dataclasses.dataclass
class Parts:
    """An unpacked bundle, to be packed again wrongly."""

    content: dict[str, bytes]
    compression: int = zipfile.ZIP_DEFLATED

    def seal(self, **changes: object) -> None:
        """Make the digests right again, and change the manifest's fields."""
        manifest = json.loads(self.content["manifest.json"]) | changes
        if "members" not in changes:
            manifest["members"] = {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in self.content.items()
                if name != "manifest.json"
            }
        self.content["manifest.json"] = json.dumps(manifest).encode()

    def pack(self, *extra: tuple[str, bytes]) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", self.compression) as archive:
            for name, data in [*self.content.items(), *extra]:
                archive.writestr(name, data)
        return packed.getvalue()


@pytest.fixture
def parts(bundle: Bundle) -> Parts:
    with zipfile.ZipFile(io.BytesIO(write_bundle(bundle))) as archive:
        return Parts({name: archive.read(name) for name in archive.namelist()})


def _same(one: Bundle, other: Bundle) -> bool:
    return (
        (one.manifest, one.model, one.reference, one.card, one.licence)
        == (other.manifest, other.model, other.reference, other.card, other.licence)
        and np.array_equal(one.golden.features, other.golden.features)
        and np.array_equal(one.golden.probabilities, other.golden.probabilities)
    )


def _refused(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        read_bundle(data, "a.bundle")
    assert str(caught.value).startswith("a.bundle: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", [None, b"float32"])
def test_bundle_round_trip(bundle: Bundle, reference: bytes | None) -> None:
    bundle = msgspec.structs.replace(bundle, reference=reference)
    read = read_bundle(write_bundle(bundle), "here")
    assert set(read.manifest.members) == {*MEMBERS, *(["reference.tflite"] if reference else [])}
    assert _same(read, msgspec.structs.replace(bundle, manifest=read.manifest))
    assert msgspec.structs.replace(read.manifest, members={}) == bundle.manifest
    assert read.manifest.identity == "made/3"


def test_bundle_of_before_hysteresis_and_prior_reads_as_it_was(parts: Parts) -> None:
    older = json.loads(parts.content["manifest.json"])
    del older["prior"]
    for name in ("margin", "hold_us", "confirm_windows"):
        del older["decision"][name]
    parts.content["manifest.json"] = json.dumps(older).encode()
    manifest = read_bundle(parts.pack(), "here").manifest
    assert manifest.prior is None
    assert (manifest.decision.margin, manifest.decision.hold_us, manifest.decision.confirm_windows) == (0.0, 0, 1)


def test_bundle_tells_the_classes_shares_in_training(bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, prior=(0.2, 0.3, 0.5))
    data = write_bundle(msgspec.structs.replace(bundle, manifest=manifest))
    assert read_bundle(data, "here").manifest.prior == (0.2, 0.3, 0.5)


def test_bundle_equal_content_makes_equal_bytes(bundle: Bundle) -> None:
    assert write_bundle(bundle) == write_bundle(read_bundle(write_bundle(bundle), "here"))


@pytest.mark.parametrize("name", MEMBERS)
def test_bundle_member_altered_is_refused(parts: Parts, name: str) -> None:
    parts.content[name] = parts.content[name][:-1] + bytes([parts.content[name][-1] ^ 1])
    _refused(parts.pack(), f"{name} does not match its digest")


@pytest.mark.parametrize("name", [*MEMBERS, "manifest.json"])
def test_bundle_member_missing_is_refused(parts: Parts, name: str) -> None:
    del parts.content[name]
    _refused(parts.pack(), "expected")


@pytest.mark.parametrize("name", ["extra.txt", "../../etc/passwd", "/etc/passwd", "model.tflite/", "MODEL.TFLITE"])
def test_bundle_member_extra_is_refused(parts: Parts, name: str) -> None:
    _refused(parts.pack((name, b"x")), "holds")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns while the test makes the archive
@pytest.mark.parametrize("name", [*MEMBERS, "manifest.json"])
def test_bundle_member_twice_is_refused(parts: Parts, name: str) -> None:
    _refused(parts.pack((name, parts.content[name])), "holds")


def test_bundle_reference_not_in_the_manifest_is_refused(parts: Parts) -> None:
    _refused(parts.pack(("reference.tflite", b"x")), "manifest lists")


def test_bundle_truncated_at_any_byte_is_refused(bundle: Bundle) -> None:
    data = write_bundle(bundle)
    for length in range(len(data)):
        with pytest.raises(BundleError):
            read_bundle(data[:length], "cut")


def test_bundle_any_bit_flipped_is_refused_or_harmless(bundle: Bundle) -> None:
    data = write_bundle(bundle)
    whole = read_bundle(data, "whole")
    rng = random.Random(5)
    for position in rng.sample(range(8 * len(data)), 4_000):
        altered = bytearray(data)
        altered[position // 8] ^= 1 << position % 8
        try:
            read = read_bundle(bytes(altered), "flipped")
        except BundleError:
            continue
        assert _same(read, whole), position


def test_bundle_many_bytes_altered_is_refused_or_harmless(bundle: Bundle) -> None:
    data = write_bundle(bundle)
    whole = read_bundle(data, "whole")
    rng = random.Random(6)
    for _ in range(1_500):
        altered = bytearray(data)
        for _ in range(rng.randint(2, 12)):
            start = rng.choice((0, max(0, len(data) - 500)))  # headers and the directory, where zip's structure is
            altered[rng.randrange(start, min(len(data), start + 500))] = rng.randrange(256)
        try:
            read = read_bundle(bytes(altered), "altered")
        except BundleError:
            continue
        assert _same(read, whole)


@pytest.mark.parametrize("data", [b"", b"PK", b"hello", b"\x00" * 1_000, b"PK\x05\x06" + b"\x00" * 18])
def test_bundle_no_archive_is_refused(data: bytes) -> None:
    _refused(data, "not a usable model bundle")


def test_bundle_too_large_is_refused() -> None:
    _refused(b"x" * (LARGEST_BUNDLE_BYTES + 1), "at most 4000000 are read")


def test_bundle_zip_bomb_is_refused(parts: Parts) -> None:
    parts.content["LICENSE"] = b"\x00" * (LARGEST_BUNDLE_BYTES + 1)
    parts.seal()
    _refused(parts.pack(), "LICENSE unpacks to more")


def test_bundle_zip_bomb_that_understates_its_size_is_refused_before_it_unfolds(parts: Parts) -> None:
    bomb = 100_000_000
    parts.content["LICENSE"] = b"\x00" * bomb
    data = bytearray(parts.pack())
    size = bomb.to_bytes(4, "little")
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = (1_000).to_bytes(4, "little")
    tracemalloc.start()
    try:
        _refused(bytes(data), "LICENSE")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bundle_other_compression_is_refused(parts: Parts, method: int) -> None:
    parts.compression = method
    _refused(parts.pack(), f"packed by method {method}")


def _arrays(**arrays: Any) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def _huge_header() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999, 3), }"
    array = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("features.npy", array)
        archive.writestr("probabilities.npy", array)
    return packed.getvalue()


F, P = (2, 14, 13), (2, 3)
GOLDEN: dict[str, Callable[[], bytes]] = {
    "not a zip": lambda: b"hello",
    "no arrays": _arrays,
    "one array": lambda: _arrays(features=np.zeros(F, np.float32)),
    "scalars": lambda: _arrays(features=np.float32(1), probabilities=np.float32(1)),
    "empty": lambda: _arrays(features=np.zeros((0, 14, 13), np.float32), probabilities=np.zeros((0, 3), np.float32)),
    "other count": lambda: _arrays(features=np.zeros(F, np.float32), probabilities=np.zeros((1, 3), np.float32)),
    "other frames": lambda: _arrays(features=np.zeros((2, 15, 13), np.float32), probabilities=np.zeros(P, np.float32)),
    "two classes": lambda: _arrays(features=np.zeros(F, np.float32), probabilities=np.zeros((2, 2), np.float32)),
    "float64": lambda: _arrays(features=np.zeros(F), probabilities=np.zeros(P, np.float32)),
    "text": lambda: _arrays(features=np.full(F, "x"), probabilities=np.zeros(P, np.float32)),
    "objects": lambda: _arrays(features=np.full(F, None), probabilities=np.zeros(P, np.float32)),
    "NaN": lambda: _arrays(features=np.full(F, np.nan, np.float32), probabilities=np.zeros(P, np.float32)),
    "huge header": _huge_header,
    "bomb": lambda: _arrays(features=np.zeros((50_000, 14, 13), np.float32), probabilities=np.zeros(P, np.float32)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bundle_golden_vectors_of_another_kind_are_refused(parts: Parts, name: str) -> None:
    parts.content["golden.npz"] = GOLDEN[name]()
    parts.seal()
    _refused(parts.pack(), "golden.npz|features.npy")


def test_bundle_golden_vectors_of_the_right_kind_are_accepted(parts: Parts) -> None:
    """Or the test above could not fail."""
    parts.content["golden.npz"] = _arrays(features=np.zeros(F, np.float32), probabilities=np.zeros(P, np.float32))
    parts.seal()
    assert read_bundle(parts.pack(), "here").golden.features.shape == F


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"novelty": 1}, "novelty"),
        ({"name": "Made"}, "name"),
        ({"name": "made\n"}, "name"),
        ({"version": 0}, "version"),
        ({"version": 10**40}, "version"),
        ({"labels": ["neutral", "pleasant", "unpleasant"]}, "labels"),
        ({"labels": ["pleasant", "neutral", "unpleasant", "uncertain"]}, "labels"),
        ({"normalisation": {"mean": [0.0] * 12, "deviation": [1.0] * 12}}, "13 columns"),
        ({"normalisation": {"mean": [0.0] * 13, "deviation": [0.0] * 13}}, "deviation"),
        ({"features": {"low_hz": 9_000}}, "low_hz"),
        ({"features": {"floor_db": 9_000}}, "floor_db"),
        ({"window": {"length_samples": 10, "hop_samples": 20}}, "hop_samples"),
        ({"window": {"length_samples": 8_000, "hop_samples": 20}}, "do not fit input"),
        ({"decision": {"smoothing": 0}}, "smoothing"),
        ({"decision": {"a_later_rule": 1}}, "unknown field `a_later_rule`"),
        ({"prior": [0.5, 0.5, 0.5]}, "does not add up to 1"),
        ({"prior": [0.5, 0.5]}, "prior"),
        ({"prior": [1.5, -0.5, 0.0]}, "prior"),
        ({"members": {}}, "manifest lists"),
    ],
)
def test_bundle_manifest_that_contradicts_is_refused(parts: Parts, change: dict[str, object], words: str) -> None:
    parts.seal(**change)
    _refused(parts.pack(), words)


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'{"name":"\xff"}', b'{"x":' + b"[" * 100_000, b"{}"])
@pytest.mark.parametrize("name", ["manifest.json", "card.json"])
def test_bundle_unreadable_json_is_refused(parts: Parts, name: str, text: bytes) -> None:
    parts.content[name] = text
    if name == "card.json":
        if text in {b"{}", b""}:  # an empty card is one; a member without a byte is refused by the manifest
            text = parts.content[name] = b"null"
        parts.seal()
    _refused(parts.pack(), name)


def test_bundle_writer_refuses_parts_that_do_not_fit(bundle: Bundle) -> None:
    short = Golden(features=bundle.golden.features[:, 1:], probabilities=bundle.golden.probabilities)
    with pytest.raises(BundleError, match="do not fit input"):
        write_bundle(msgspec.structs.replace(bundle, golden=short))
    manifest = msgspec.structs.replace(bundle.manifest, normalisation=Normalisation(mean=(0.0,), deviation=(1.0,)))
    with pytest.raises(BundleError, match="normalisation"):
        write_bundle(msgspec.structs.replace(bundle, manifest=manifest))


def test_manifest_input_shape_is_frames_by_coefficients(bundle: Bundle) -> None:
    manifest: Manifest = bundle.manifest
    assert manifest.input_shape == (14, 13)

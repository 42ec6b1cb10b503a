"""A bundle that is not what it should be is refused in words, whatever its model does to the runtime."""

import hashlib
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from broker.contract.bundle import Bundle
from broker.contract.errors import BundleError
from broker.contract.features import FeatureSpec
from broker.contract.windows import WindowSpec
from edge_node.clock import WallClock
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.device import Device
from edge_node.ota.folder import Folder
from edge_node.ota.proof import Proof, prove
from edge_node.settings import UpdateSettings

pytestmark = pytest.mark.usefixtures("nothing_leaks")

Archive = tuple[Path, str]
Archived = Callable[[Bundle], Archive]
BUDGET_US = 10_000_000


def _reason(archive: Archive, budget_us: int = BUDGET_US, limits: Limits | None = None) -> str:
    with pytest.raises(BundleError) as caught:
        prove(*archive, budget_us, limits=limits or Limits())
    reason = str(caught.value)
    assert len(reason) <= 200
    assert reason.isprintable()
    return reason


def test_proof_of_the_factory_model_is_given_with_its_time(factory: Bundle, archived: Archived) -> None:
    """Within 16 MiB: the libraries, which alone are more, do not count."""
    proof = prove(*archived(factory), BUDGET_US, limits=Limits(memory_bytes=16 << 20))
    assert proof.identity == factory.manifest.identity
    assert proof.p50_us == proof.features_us + proof.inference_us
    assert proof.features_us > 0
    assert proof.inference_us > 0


def test_proof_of_a_made_model_is_given(bundle_with: Callable[..., Bundle], archived: Archived) -> None:
    """So that what the others are refused for is what was done to them."""
    assert isinstance(prove(*archived(bundle_with("harmless")), BUDGET_US), Proof)
    assert isinstance(prove(*archived(bundle_with("NaN when loud")), BUDGET_US), Proof)


def test_proof_of_other_bytes_than_were_signed_is_refused(factory: Bundle, archived: Archived, tmp_path: Path) -> None:
    path, digest = archived(factory)
    assert _reason((path, "0" * 64)) == f"digest: {path.stat().st_size} bytes that are not those that were signed"
    path.write_bytes(path.read_bytes()[:-1])
    assert _reason((path, digest)).startswith("digest: ")
    assert _reason((tmp_path / "nowhere", digest)) == f"digest: {tmp_path / 'nowhere'}: No such file or directory"


def test_proof_of_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nonsense.bundle"
    path.write_bytes(b"nonsense")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert _reason((path, digest)) == (
        "bundle: not a usable model bundle: File is not a zip file; fetch or build it again"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"telepathy": True}, "unknown field `telepathy`"),
        ({"labels": ["neutral", "pleasant", "unpleasant"]}, "labels"),
        ({"labels": ["happy", "neutral", "sad"]}, "labels"),
        ({"schema": 2}, "schema"),
    ],
    ids=["unknown field", "labels in another order", "other labels", "later schema"],
)
def test_proof_of_a_manifest_that_this_program_does_not_know_is_refused(
    factory: Bundle, archived: Archived, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """Signed by mistake: what the metadata say may fit, and the bundle may not."""
    path, _ = archived(factory)
    altered = tmp_path / "altered.bundle"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(altered, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(
                name, msgspec.json.encode(msgspec.json.decode(data) | change) if name == "manifest.json" else data
            )
    reason = _reason((altered, hashlib.sha256(altered.read_bytes()).hexdigest()))
    assert reason.startswith("bundle: ")
    assert words in reason


def test_proof_of_another_model_than_the_golden_vectors_is_refused(
    factory: Bundle, bundle_with: Callable[..., Bundle], archived: Archived
) -> None:
    other = msgspec.structs.replace(factory, model=bundle_with("harmless").model)
    assert _reason(archived(other)).startswith("golden vectors: the model answers [0.9 0.06 0.04] where ")


def test_proof_of_what_litert_cannot_run_is_refused(factory: Bundle, archived: Archived) -> None:
    broken = msgspec.structs.replace(factory, model=factory.model[: len(factory.model) // 2])
    assert _reason(archived(broken)).startswith("golden vectors: LiteRT ")


@pytest.mark.parametrize(
    ("kind", "limits", "reason"),
    [
        ("recursive", Limits(), "crashed: the runtime was killed by SIGSEGV"),
        ("endless", Limits(wall_s=2), "hung: no answer within 2 s"),
        ("greedy", Limits(), "memory: needs more than 256 MiB"),
    ],
)
def test_proof_of_a_model_that_breaks_the_runtime_is_refused(
    bundle_with: Callable[..., Bundle], archived: Archived, kind: str, limits: Limits, reason: str
) -> None:
    assert _reason(archived(bundle_with(kind)), limits=limits) == reason


def test_proof_of_a_front_end_that_breaks_the_device_is_refused(
    bundle_with: Callable[..., Bundle], archived: Archived
) -> None:
    """Nothing but the manifest is wrong: ten minutes in one window."""
    window = WindowSpec(length_samples=10_000_000, hop_samples=8_000)
    features = FeatureSpec(hop_samples=1_024)
    archive = archived(bundle_with("harmless", window=window, features=features, normalisation=None))
    assert _reason(archive, limits=Limits(memory_bytes=2**25)) == "memory: needs more than 32 MiB"


def test_proof_of_a_slow_model_is_refused_with_both_times(
    bundle_with: Callable[..., Bundle], archived: Archived
) -> None:
    quick = prove(*archived(bundle_with("harmless")), BUDGET_US)
    archive = archived(bundle_with("slow"))
    slow = prove(*archive, BUDGET_US)
    assert slow.inference_us > 100 * quick.inference_us
    reason = _reason(archive, slow.p50_us // 5)
    assert reason.startswith("latency: one window takes ")
    assert reason.endswith(f" ms, the budget is {slow.p50_us // 5 / 1000:g} ms")


def test_proof_that_is_cancelled_says_nothing_about_the_bundle(factory: Bundle, archived: Archived) -> None:
    with pytest.raises(ChildError) as caught:
        prove(*archived(factory), BUDGET_US, started=Child.cancel)
    assert caught.value.ending is Ending.CANCELLED


# --- what the device answers


@pytest.fixture
def told() -> list[Callable[[Any], None]]:
    return []


@pytest.fixture
def device(tmp_path: Path, told: list[Callable[[Any], None]]) -> Device:
    """One whose children can never be started: there is a defect in what they are asked."""
    settings = UpdateSettings(anchor="no\0path")
    return Device(settings, Folder(tmp_path / "update"), WallClock(trusted=True), told.append, lambda _: None)


def _begin(device: Device, kind: str) -> None:
    offer: Any = SimpleNamespace(sha256="no\0digest")
    device.verify() if kind == "verification" else device.prove(offer)


def _answer(told: list[Callable[[Any], None]]) -> ChildError:
    heard: list[Any] = []
    updater = SimpleNamespace(verified=heard.append, proved=lambda _, outcome: heard.append(outcome))
    for each in told:
        each(updater)
    (answer,) = heard
    assert isinstance(answer, ChildError)
    return answer


@pytest.mark.parametrize("kind", ["verification", "proof"])
def test_defect_of_the_program_is_logged_and_answered(
    device: Device, told: Any, eventually: Any, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    _begin(device, kind)
    eventually(lambda: told)
    answer = _answer(told)
    assert answer.ending is Ending.CRASHED
    assert str(answer) == f"the {kind} ended by a defect of this program: ValueError('embedded null byte')"
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("kind", ["verification", "proof"])
def test_want_of_a_thread_is_answered(device: Device, told: Any, kind: str) -> None:
    before = threading.stack_size(1 << 47)  # more than there are addresses
    try:
        _begin(device, kind)
    finally:
        threading.stack_size(before)
    answer = _answer(told)
    assert answer.ending is Ending.NOT_STARTED
    assert str(answer) == f"the {kind} cannot be started: can't start new thread"

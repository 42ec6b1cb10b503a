"""The check of signatures in a child says what it says in this process, and takes python-tuf away with it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.contract.bundle import Bundle, read_bundle, write_bundle
from broker.contract.errors import Refusal, SettingsError, StoreError, TrustError
from broker.verify import verify
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.trust import ask
from training.release import keys
from training.release.bundles import add, gates_of
from training.release.channels import publish, roll_out
from training.release.keys import KeyRing
from training.release.opening import Owners, init
from training.release.repository import Repository
from training.release.roles import Keep

pytestmark = pytest.mark.usefixtures("nothing_leaks")

Mirror = Callable[..., Path]


@pytest.fixture(scope="module")
def make_mirror(
    tmp_path_factory: pytest.TempPathFactory, bundle_with: Callable[..., Bundle]
) -> Iterator[Callable[[datetime], Path]]:
    """Make a repository, signed at some time, and return its metadata: a release for the channel `stable`."""
    data = write_bundle(bundle_with("harmless"))

    def passphrase(_: Keep) -> str:
        return "correct horse battery"

    def make(now: datetime) -> Path:
        folder = tmp_path_factory.mktemp("release")
        places = {keep: folder / keep for keep in Keep}
        init(folder / "repository", passphrase, now, Owners(), places)
        ring = KeyRing(list(places.values()), passphrase)

        def opened() -> Repository:
            repository = Repository(folder / "repository", ring, now)
            repository.accept()
            return repository

        repository = opened()
        bundle = read_bundle(data, "a bundle")
        release = add(repository, bundle, data, gates_of(repository, bundle, "nobody")).model
        repository.sign()
        repository.settle()
        publish(opened(), "stable", release)
        roll_out(opened(), "stable", release, phases=[100], spread_s=0, abort_above=10, min_nodes=1)
        return folder / "repository" / "metadata"

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keys._SCRYPT, "n", 2**4)  # what makes guessing slow makes tests slow
        yield make


@pytest.fixture(scope="module")
def signed(make_mirror: Callable[[datetime], Path]) -> Path:
    return make_mirror(datetime.now(UTC))


@pytest.fixture
def mirror(signed: Path, tmp_path: Path) -> Path:
    """A copy of the metadata to do harm to."""
    return Path(shutil.copytree(signed, tmp_path / "mirror"))


def _asked(mirror: Path, anchor: Path, folder: Path, channel: str = "stable", **options: Any) -> Any:
    """Return what the child says, an offer or an error."""
    try:
        return ask(mirror, folder / "trusted", anchor, channel, **options)
    except (TrustError, SettingsError, StoreError, ChildError) as error:
        return error


def test_trust_offer_is_that_of_the_verifier(signed: Path, tmp_path: Path) -> None:
    anchor = signed / "1.root.json"
    offer = ask(signed, tmp_path / "by the child", anchor, "stable")
    assert offer == verify(signed, tmp_path / "by us", anchor.read_bytes(), "stable")
    assert offer.release.model == "made/1"
    assert sorted(each.name for each in (tmp_path / "by the child").iterdir()) == sorted(
        each.name for each in (tmp_path / "by us").iterdir()
    )


def _lose(mirror: Path) -> None:
    (mirror / "timestamp.json").unlink()


def _spoil(mirror: Path) -> None:
    (mirror / "timestamp.json").write_bytes(b"{}")


def _grow(mirror: Path) -> None:
    (mirror / "timestamp.json").write_bytes(b" " * 10**6)


@pytest.mark.parametrize(
    ("harm", "channel", "refusal"),
    [
        (_lose, "stable", Refusal.INCOMPLETE),
        (_spoil, "stable", Refusal.MALFORMED),
        (_grow, "stable", Refusal.ENDLESS_DATA),
        (lambda _: None, "nightly", Refusal.UNKNOWN_CHANNEL),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_trust_refusal_is_that_of_the_verifier(
    mirror: Path, tmp_path: Path, harm: Callable[[Path], None], channel: str, refusal: Refusal
) -> None:
    anchor = mirror / "1.root.json"
    harm(mirror)
    error = _asked(mirror, anchor, tmp_path, channel)
    assert isinstance(error, TrustError)
    assert error.refusal is refusal
    with pytest.raises(TrustError, match=f"^{re.escape(str(error))}$"):
        verify(mirror, tmp_path / "by us", anchor.read_bytes(), channel)


def test_trust_of_a_stranger_and_of_old_signatures_is_refused(
    make_mirror: Callable[[datetime], Path], signed: Path, tmp_path: Path
) -> None:
    old = make_mirror(datetime.now(UTC) - timedelta(days=30))
    assert _asked(old, old / "1.root.json", tmp_path).refusal is Refusal.EXPIRED
    assert _asked(old, signed / "1.root.json", tmp_path / "other").refusal is Refusal.WRONG_KEY


def test_trust_anchor_that_cannot_be_read_is_a_setting_to_mend(signed: Path, tmp_path: Path) -> None:
    error = _asked(signed, tmp_path / "nowhere.json", tmp_path)
    assert isinstance(error, SettingsError)
    assert str(error).startswith(f"{tmp_path / 'nowhere.json'}: No such file or directory; ")


def test_trust_folder_that_cannot_be_written_is_a_store_to_mend(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "trusted").write_text("in the way")
    error = _asked(signed, signed / "1.root.json", tmp_path)
    assert isinstance(error, StoreError)
    assert str(error).startswith(f"{tmp_path / 'trusted'}: ")


def test_trust_without_its_package_says_what_to_install(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tuf.py").write_text("raise ModuleNotFoundError('No module named tuf', name='tuf')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = _asked(signed, signed / "1.root.json", tmp_path)
    assert isinstance(error, SettingsError)
    assert str(error) == "the package tuf is missing: pip install 'sottovoce[node]'"


def test_trust_child_that_fails_says_nothing_about_the_metadata(signed: Path, tmp_path: Path) -> None:
    starved = _asked(signed, signed / "1.root.json", tmp_path, limits=Limits(memory_bytes=1 << 16))
    assert (starved.ending, str(starved)) == (Ending.MEMORY, "the check of signatures: needs more than 0.0625 MiB")
    late = _asked(signed, signed / "1.root.json", tmp_path, limits=Limits(wall_s=0.01))
    assert (late.ending, str(late)) == (Ending.HUNG, "the check of signatures: no answer within 0.01 s")
    cancelled = _asked(signed, signed / "1.root.json", tmp_path, started=Child.cancel)
    assert cancelled.ending is Ending.CANCELLED


def test_trust_loads_nothing_of_tuf_into_the_node() -> None:
    program = (
        "import sys, edge_node.ota.trust; print([each for each in sys.modules if 'tuf' in each or 'crypto' in each])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""The repository on disk: whole after every interruption, keys kept to their owner, orders that make sense."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.contract.bundle import read_bundle
from broker.contract.errors import ReleaseError, SettingsError
from training.release import files, keys
from training.release.bundles import add, gates_of, remove
from training.release.channels import abort, pause, publish, resume, roll_out
from training.release.gates import Verdict, check
from training.release.keys import KeyRing, MissingKeyError
from training.release.opening import Owners, init
from training.release.repository import Repository
from training.release.roles import Keep, Role
from training.release.rotation import renew_offline, rotate
from training.release.settings import Gates
from training.release.signed import days_left

MakeBundle = Callable[..., bytes]
MakeSite = Callable[..., Any]


FACTORY = Path(__file__).parents[3] / "edge_node" / "models" / "factory.bundle"


class PowerCutError(Exception):
    """The machine goes dark."""


def _cut_after(writes: int, patch: pytest.MonkeyPatch) -> None:
    """Let this many files get their names, then go dark in the middle of the next."""
    left = [writes]
    real = os.replace  # Path's own is made of it

    def replace(source: Any, target: Any, **folders: int) -> None:
        if left[0] == 0:
            raise PowerCutError
        left[0] -= 1
        real(source, target, **folders)

    patch.setattr(os, "replace", replace)


def _rotate_root(site: Any, repository: Repository, _data: bytes) -> None:
    rotate(repository, Role.ROOT, site.keys / Keep.OFFLINE)
    repository.sign()
    repository.settle()


def _rotate_targets(site: Any, repository: Repository, _data: bytes) -> None:
    rotate(repository, Role.TARGETS, site.keys / Keep.OFFLINE)
    repository.sign()
    repository.settle()


def _rotate_rollout(site: Any, repository: Repository, _data: bytes) -> None:
    rotate(repository, Role.ROLLOUT, site.keys / Keep.ONLINE)
    repository.sign()
    repository.settle()


def _add(_site: Any, repository: Repository, data: bytes) -> None:
    add(repository, read_bundle(data, "a bundle"), data, ())
    repository.sign()
    repository.settle()


def _roll_out(_site: Any, repository: Repository, _data: bytes) -> None:
    roll_out(repository, "stable", "made/1", phases=[50], spread_s=9, abort_above=10, min_nodes=1)


def _refresh(_site: Any, repository: Repository, _data: bytes) -> None:
    repository.settle(renew=True)


@pytest.mark.parametrize("operation", [_add, _roll_out, _refresh, _rotate_root, _rotate_targets, _rotate_rollout])
def test_repository_power_cut_between_any_two_writes_is_completed_by_the_next_command(
    make_site: MakeSite, bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch, operation: Callable[..., None]
) -> None:
    start = make_site()
    start.release(bundle_of(1))
    data = bundle_of(2)
    for writes in range(20):
        site = start.copy(f"cut-{writes}")
        with monkeypatch.context() as patch:
            _cut_after(writes, patch)
            try:
                operation(site, site.open(), data)
            except PowerCutError:
                done = False
            else:
                done = True
        repository = site.open()
        if repository.files.pending.exists():
            assert repository.sign() == []
        repository.settle()
        assert not list(site.folder.rglob("*.part"))
        client = site.client()
        client.fetch(site.folder)
        assert client.archive(client.look()), f"after {writes} writes"
        shutil.rmtree(site.folder)
        if done:
            assert writes > (0 if operation is _refresh else 2), "each of its writes was the last one once"
            return
    pytest.fail("the operation never came to its end")


def test_repository_half_a_file_is_never_seen(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(28, "No space left")))
    before = (site.folder / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(OSError, match="No space left"):
        site.open().settle(renew=True)
    assert (site.folder / "metadata" / "timestamp.json").read_bytes() == before
    with pytest.raises(ReleaseError, match="No space left"), site.open().files.locked():
        site.open().settle(renew=True)


def test_init_is_all_or_nothing(
    tmp_path: Path, passphrase: Callable[[Keep], str], site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _cut_after(3, patch)
        with pytest.raises(PowerCutError):
            init(tmp_path / "new", passphrase, site.now)
    assert [path for path in tmp_path.iterdir() if "new" in path.name] == []
    init(tmp_path / "new", passphrase, site.now)
    with pytest.raises(ReleaseError, match="is not empty"):
        init(tmp_path / "new", passphrase, site.now)


def test_init_keys_are_encrypted_and_their_owners_alone_and_git_ignores_them(
    tmp_path: Path, site: Any, passphrase: Callable[[Keep], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(keys._SCRYPT, "n", 2**15)
    init(tmp_path / "new", passphrase, site.now)
    made = sorted((tmp_path / "new" / "keys").rglob("*.pem"))
    assert [path.name.partition(".")[0] for path in made] == ["root", "targets", "rollout", "snapshot", "timestamp"]
    for path in made:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    git = ["git", "-C", str(tmp_path / "new")]
    subprocess.run([*git, "init", "--quiet"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"], check=True, capture_output=True, text=True
    ).stdout
    assert "1.root.json" in listed
    assert "pem" not in listed


@pytest.mark.parametrize("said", ["", "short", "elevenchars"])
def test_init_short_passphrase_is_refused(tmp_path: Path, site: Any, said: str) -> None:
    with pytest.raises(SettingsError, match="12 characters or more"):
        init(tmp_path / "new", lambda _keep: said, site.now)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("owners", [{"root_threshold": 2}, {"targets_keys": 0}, {"root_keys": 17}])
def test_init_threshold_that_cannot_be_reached_is_refused(owners: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="allowed are 1 to 16 keys"):
        Owners(**owners)


def test_key_with_the_wrong_passphrase_does_not_open(site: Any) -> None:
    ring = KeyRing([site.keys / Keep.ONLINE], lambda _keep: "not the right one")
    with pytest.raises(SettingsError, match="passphrase of the online keys is wrong") as caught:
        site.open(ring=ring).settle(renew=True)
    assert "not the right one" not in str(caught.value)


def test_key_file_that_holds_another_is_refused(site: Any, tmp_path: Path) -> None:
    snapshot, timestamp = site.keys_of("snapshot")[0], site.keys_of("timestamp")[0]
    shutil.copytree(site.keys / Keep.ONLINE, tmp_path / "keys")
    (tmp_path / "keys" / timestamp.name).write_bytes(snapshot.read_bytes())
    with pytest.raises(SettingsError, match="does not open"):  # its password depends on its id
        site.open(ring=KeyRing([tmp_path / "keys"], site.ring.passphrase)).settle(renew=True)


def test_repository_offline_machine_signs_and_the_online_one_completes(site: Any, bundle_of: MakeBundle) -> None:
    data = bundle_of()
    offline = site.open(ring=KeyRing([site.keys / Keep.OFFLINE], site.ring.passphrase))
    add(offline, read_bundle(data, "a bundle"), data, ())
    assert offline.sign() == []
    with pytest.raises(MissingKeyError, match="no key of snapshot"):
        offline.settle()
    online = site.open(ring=KeyRing([site.keys / Keep.ONLINE], site.ring.passphrase))
    online.settle()
    publish(online, "stable", "made/1")
    client = site.client()
    client.fetch(site.folder)
    assert client.look().release.model == "made/1"


def test_repository_refresh_while_a_bundle_waits_for_signatures_keeps_its_chunks(
    make_site: MakeSite, bundle_of: MakeBundle, tmp_path: Path
) -> None:
    site = make_site(targets_keys=2, targets_threshold=2)
    data = bundle_of()
    holders = []
    for key in site.keys_of("targets"):
        (tmp_path / key.stem).mkdir()
        shutil.copy(key, tmp_path / key.stem)
        holders.append(KeyRing([tmp_path / key.stem], site.ring.passphrase))
    first = site.open(ring=holders[0])
    add(first, read_bundle(data, "a bundle"), data, ())
    assert first.sign() == ["2.targets.json: 1 more signature of targets keys"]
    with pytest.raises(ReleaseError, match="an earlier change waits for signatures"):
        renew_offline(site.open())
    site.open().settle(renew=True)
    assert site.open(ring=holders[1]).sign() == []
    site.open().settle()
    publish(site.open(), "stable", "made/1")
    client = site.client()
    client.fetch(site.folder)
    assert client.archive(client.look()) == data


def test_add_the_same_bundle_again_changes_nothing_and_another_of_its_version_is_refused(
    site: Any, bundle_of: MakeBundle
) -> None:
    site.add(bundle_of(1))
    before = {path.name for path in (site.folder / "metadata").iterdir()}
    site.add(bundle_of(1))
    assert {path.name for path in (site.folder / "metadata").iterdir()} == before
    with pytest.raises(ReleaseError, match="a version is used once"):
        site.add(bundle_of(1, model=b"another"))


def test_remove_takes_the_signature_and_the_chunks_away(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of(1))
    site.add(bundle_of(2))
    for name, words in (("made/1", "is what channel stable names"), ("made/7", "no such release; signed are: made/1")):
        with pytest.raises(ReleaseError, match=words):
            remove(site.open(), name)
    repository = site.open()
    remove(repository, "made/2")
    assert repository.sign() == []
    repository.settle()
    assert list(repository.releases()) == ["made/1"]
    assert len(list((site.folder / "chunks").iterdir())) == 1
    with pytest.raises(ReleaseError, match="made/2 was signed with other content; a version is used once"):
        site.add(bundle_of(2, model=b"another"))
    assert site.add(bundle_of(2)) == "made/2", "the same may come back"
    client = site.client()
    client.fetch(site.folder)
    assert client.look().release.model == "made/1", "a client does not mind what it does not know"


def test_repository_that_outgrows_its_topic_says_what_to_do(site: Any, bundle_of: MakeBundle) -> None:
    repository = site.open()
    site.add(bundle_of(1))
    targets = repository.targets()
    (path, target) = next(iter(targets.signed.targets.items()))
    targets.signed.targets.update({f"{path}{k}": target for k in range(200)})
    with pytest.raises(ReleaseError, match="at most 65,536 fit into its topic; remove releases"):
        repository.propose({Role.TARGETS: targets})
    assert not repository.files.pending.exists()


def test_repository_keeps_roots_and_the_state_before(site: Any) -> None:
    for day in range(5):
        site.open(later=timedelta(days=day * 8)).settle()
    names = sorted(path.name for path in (site.folder / "metadata").iterdir())
    assert names == [
        *("1.root.json", "1.targets.json", "4.rollout.json", "4.snapshot.json", "5.rollout.json", "5.snapshot.json"),
        "timestamp.json",
    ]


def test_settle_signs_nothing_that_holds_for_long_and_renews_what_does_not(site: Any) -> None:
    def look(days: float) -> tuple[int, float]:
        repository = site.open(later=timedelta(days=days))
        repository.settle()
        timestamp = repository.timestamp().signed
        return timestamp.version, days_left(timestamp, repository.now)

    looked = [look(days) for days in (0, 6, 8)]
    assert [version for version, _ in looked] == [1, 1, 2]
    assert [round(days, 1) for _, days in looked] == [14, 8, 14]
    repository = site.open(later=timedelta(days=8))
    repository.settle(renew=True)
    assert (repository.timestamp().signed.version, repository.snapshot().signed.version) == (3, 2)


def test_lock_that_another_command_keeps_is_given_up(site: Any) -> None:
    with (
        site.open().files.locked(),
        pytest.raises(files.BusyError, match="another command works on it; let it end, or end it"),
        files.Files(site.folder).locked(wait_s=0.15),
    ):
        pass
    with files.Files(site.folder).locked(wait_s=0):
        pass


def test_no_repository_is_one_clear_error(tmp_path: Path, site: Any) -> None:
    with pytest.raises(ReleaseError, match="no repository of releases"):
        Repository(tmp_path, site.ring, site.now)
    with pytest.raises(ReleaseError, match="no repository of releases"), files.Files(tmp_path).locked():
        pass
    (site.folder / "settings.toml").write_text("online_days = 0\n")
    with pytest.raises(SettingsError, match="online_days = 0"):
        site.open()
    (site.folder / "settings.toml").write_text("")
    (site.folder / "metadata" / "1.targets.json").write_bytes(b"{")
    with pytest.raises(ReleaseError, match="cannot be read"):
        site.open().targets()


# Channels.


def test_channel_from_publish_to_abort(site: Any, bundle_of: MakeBundle) -> None:
    site.add(bundle_of(1))
    how = {"spread_s": 60, "abort_above": 10, "min_nodes": 20}
    assert publish(site.open(), "stable", "made/1").percent == 0
    begun = roll_out(site.open(), "stable", "made/1", phases=[2, 10, 50, 100], **how)
    assert (begun.percent, begun.phases, begun.spread_s, begun.min_nodes) == (2, (2, 10, 50, 100), 60, 20)
    assert pause(site.open(), "stable", "lunch").paused
    assert resume(site.open(), "stable").percent == 2
    gone = abort(site.open(), "stable", "3 of 20 nodes failed")
    assert (gone.aborted, gone.reason) == (True, "3 of 20 nodes failed")
    assert site.open().channels() == {"stable": gone}
    for order in (pause, abort):
        with pytest.raises(ReleaseError, match="was aborted on channel stable already"):
            order(site.open(), "stable", "")
    with pytest.raises(ReleaseError, match="publish it again"):
        roll_out(site.open(), "stable", "made/1", phases=[2], **how)
    assert not publish(site.open(), "stable", "made/1").aborted


def test_channel_orders_that_make_no_sense_are_refused(site: Any, bundle_of: MakeBundle) -> None:
    how: dict[str, Any] = {"spread_s": 60, "abort_above": 10, "min_nodes": 20}
    site.add(bundle_of(1))
    site.add(bundle_of(2))
    with pytest.raises(ReleaseError, match="names no release yet"):
        pause(site.open(), "stable", "")
    with pytest.raises(ReleaseError, match="made/9: no such release; signed are: made/1, made/2"):
        publish(site.open(), "stable", "made/9")
    with pytest.raises(SettingsError, match="channel"):
        publish(site.open(), "Not a channel", "made/1")
    publish(site.open(), "stable", "made/2")
    with pytest.raises(ReleaseError, match="made/1 is older than made/2"):
        publish(site.open(), "stable", "made/1")
    assert publish(site.open(), "stable", "made/1", downgrade=True).downgrade
    with pytest.raises(ReleaseError, match="channel stable names made/1, not made/2"):
        roll_out(site.open(), "stable", "made/2", phases=[2], **how)
    for change, words in (
        ({"phases": [10, 2]}, "must rise"),
        ({"phases": []}, "at least one"),
        ({"phases": [101]}, "percent"),
        ({"spread_s": -1}, "spread_s"),
        ({"min_nodes": 0}, "min_nodes"),
        ({"abort_above": 101}, "abort_above"),
    ):
        with pytest.raises(SettingsError, match=words):
            roll_out(site.open(), "stable", "made/1", **({"phases": [2]} | how | change))
    with pytest.raises(ReleaseError, match="is not paused"):
        resume(site.open(), "stable")


# Gates.


def _verdicts(new: bytes, active: bytes | None, **limits: Any) -> dict[str, tuple[str, str]]:
    gates = check(read_bundle(new, "new"), None if active is None else read_bundle(active, "active"), Gates(**limits))
    return {gate.what: (gate.verdict.value, gate.detail) for gate in gates if gate.what != "time of a window"}


@pytest.mark.parametrize(
    ("new", "active", "verdict", "words"),
    [
        ({"uar": 0.70}, None, "pass", "70.0%; no release is active"),
        ({"uar": 0.70}, {"uar": 0.71}, "pass", "70.0%, at least 69.0% (made/1 less 2.0%)"),
        ({"uar": 0.70}, {"uar": 0.73}, "FAIL", "70.0%, at least 71.0%"),
        ({"uar": 0.80}, {"uar": 0.73, "figures": {}}, "pass", "made/1 tells none"),
        ({"uar": 0.80, "figures": {}}, {"uar": 0.73}, "FAIL", "no such figure"),
        ({"uar": 0.80, "by": "clip"}, {"uar": 0.73}, "FAIL", "speakers that the weights know"),
        ({"uar": 0.80, "corpora": {"one": {}, "two": {}}}, {"uar": 0.73}, "FAIL", "measured on one, two and one"),
    ],
)
def test_gate_accuracy_against_the_active_release(
    bundle_of: MakeBundle, new: dict[str, Any], active: dict[str, Any] | None, verdict: str, words: str
) -> None:
    model = read_bundle(FACTORY.read_bytes(), "factory").model  # that LiteRT can run
    found = _verdicts(bundle_of(2, model=model, **new), None if active is None else bundle_of(1, model=model, **active))
    for figure in ("corpus-macro UAR", "pooled UAR"):
        assert found[figure][0] == verdict
        assert words in found[figure][1]


def test_gate_size_is_the_models(bundle_of: MakeBundle) -> None:
    assert _verdicts(bundle_of(model=b"x" * 100), None, model_bytes=100)["size of model.tflite"][0] == "pass"
    assert _verdicts(bundle_of(model=b"x" * 101), None, model_bytes=100)["size of model.tflite"][0] == "FAIL"


def test_gate_latency_of_the_factory_model_beside_itself() -> None:
    bundle = read_bundle(FACTORY.read_bytes(), "factory")
    gates = {gate.what: gate for gate in check(bundle, bundle, Gates(latency_ratio=100.0))}
    assert {gate.verdict for gate in gates.values()} == {Verdict.PASSED}
    assert "times that of factory/" in gates["time of a window"].detail


def test_add_what_a_gate_refuses_needs_a_reason_that_is_recorded(site: Any, bundle_of: MakeBundle) -> None:
    large = bundle_of(model=b"x" * 100_001)
    with pytest.raises(ReleaseError, match=r"made/1 is refused: size of model.tflite: 100,001 bytes.*--force REASON"):
        site.add(large)
    assert site.open().releases() == {}
    site.add(large, force="a test of the network")
    _, release = site.open().release("made/1")
    assert release.forced.reason == "a test of the network"
    assert release.forced.gates == ("size of model.tflite: 100,001 bytes, at most 100,000",)
    with pytest.raises(ReleaseError, match="passes every gate: leave out --force"):
        site.add(bundle_of(2), force="because")


def test_gates_are_those_beside_the_channels_release(site: Any) -> None:
    factory = FACTORY.read_bytes()
    site.add(factory)
    name = next(iter(site.open().releases()))
    publish(site.open(), "stable", name)
    better = read_bundle(factory, "factory")
    details = [gate.detail for gate in gates_of(site.open(), better, "stable")]
    assert any(f"({name} less 2.0%)" in detail for detail in details)
    assert any("no release is active" in gate.detail for gate in gates_of(site.open(), better, "beta"))


def test_rotate_needs_to_know_which_key(make_site: MakeSite) -> None:
    site = make_site(root_keys=2)
    ids = site.open().root().signed.roles["root"].keyids
    for old in (None, "zz"):
        with pytest.raises(ReleaseError, match="name one of them with --old"):
            rotate(site.open(), Role.ROOT, site.keys / Keep.OFFLINE, old)
    rotate(site.open(), Role.ROOT, site.keys / Keep.OFFLINE, ids[0][:8])
    with pytest.raises(ReleaseError, match="an earlier change waits"):
        rotate(site.open(), Role.TARGETS, site.keys / Keep.OFFLINE)
    assert site.open().sign() == []
    assert set(site.open().root().signed.roles["root"].keyids) > set(ids[1:])

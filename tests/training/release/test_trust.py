"""What a client believes: the life of a repository as a story, with an attacker at every turn.

The attacker may own the broker, and where a test says so the online keys as well. Each attack is refused by its own
word, and what the client knew before stays.
"""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tuf.api.metadata import Metadata, TargetFile

from broker.contract.errors import Refusal, TrustError
from broker.contract.release import Rollout, bundle_target, channel_target
from broker.verify import check_archive
from training.release.channels import publish
from training.release.keys import KeyRing
from training.release.repository import Repository
from training.release.roles import Role
from training.release.rotation import renew_offline, rotate
from training.release.signed import meta_of, to_bytes

MakeBundle = Callable[..., bytes]
MakeSite = Callable[..., Any]
Steal = Callable[[Any], Repository]


def _republish(repository: Repository, role: Role, data: bytes, version: int) -> None:
    """Let the online keys vouch for a file, whatever it is."""
    snapshot, timestamp = repository.snapshot(), repository.timestamp()
    snapshot.signed.meta[f"{role}.json"] = meta_of(data, version)
    repository.sign_online(snapshot, Role.SNAPSHOT, repository.root().signed)
    newest = (repository.files.metadata / f"{snapshot.signed.version}.snapshot.json").read_bytes()
    timestamp.signed.snapshot_meta = meta_of(newest, snapshot.signed.version)
    repository.sign_online(timestamp, Role.TIMESTAMP, repository.root().signed)


def _rollout_target(rollout: Rollout) -> TargetFile:
    path = channel_target(rollout.channel)
    target = TargetFile.from_data(path, msgspec.json.encode(rollout), ["sha256"])
    target.unrecognized_fields["custom"] = msgspec.to_builtins(rollout)
    return target


def test_trust_fresh_client_gets_the_release_whole(site: Any, bundle_of: MakeBundle) -> None:
    data = bundle_of(1, model=np.random.default_rng(1).bytes(90_000))
    assert len(data) > 65_536, "several chunks"
    site.release(data, percent=25)
    client = site.client()
    client.fetch(site.folder)
    offer = client.look()
    assert (offer.rollout.release, offer.rollout.percent, offer.release.model) == ("made/1", 25, "made/1")
    assert client.archive(offer) == data
    assert client.look() == offer, "the same again changes nothing"


def test_trust_client_follows_from_release_to_release(site: Any, bundle_of: MakeBundle) -> None:
    client = site.client()
    for version in (1, 2, 3):
        site.release(bundle_of(version))
        client.fetch(site.folder)
        assert client.look().release.model == f"made/{version}"


def test_trust_channel_that_nobody_published_is_unknown(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    assert client.refusal("beta") == Refusal.UNKNOWN_CHANNEL
    assert client.refusal("../stable") == Refusal.UNKNOWN_CHANNEL


def test_trust_file_that_has_not_come_yet_is_incomplete(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    for name in sorted(path.name for path in client.mirror.iterdir() if "root" not in path.name):
        if name == "timestamp.json" or any(name.startswith(f"{n}.") for n in (2, 3, 4)):
            held = (client.mirror / name).read_bytes()
            (client.mirror / name).unlink()
            fresh = site.client()
            shutil.copytree(client.mirror, fresh.mirror, dirs_exist_ok=True)
            needed = {"timestamp.json", "4.snapshot.json", "2.targets.json", "3.rollout.json"}
            if name in needed:
                assert fresh.refusal() == Refusal.INCOMPLETE, name
            else:
                assert fresh.look(), name
            (client.mirror / name).write_bytes(held)
    assert client.look()


def test_trust_older_state_played_again_is_a_rollback(site: Any, bundle_of: MakeBundle, tmp_path: Path) -> None:
    site.release(bundle_of(1))
    old = shutil.copytree(site.folder, tmp_path / "old")
    site.release(bundle_of(2))
    client = site.client()
    client.fetch(site.folder)
    client.look()
    client.fetch(old)
    assert client.refusal() == Refusal.ROLLBACK
    client.fetch(site.folder)
    assert client.look().release.model == "made/2", "it recovers by itself"


def test_trust_state_that_is_withheld_expires(make_site: MakeSite, bundle_of: MakeBundle) -> None:
    site = make_site(ago=timedelta(days=13))
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    assert client.look(), "a day is left"
    late = make_site("late", ago=timedelta(days=15))
    late.release(bundle_of())
    client = late.client()
    client.fetch(late.folder)
    assert client.refusal() == Refusal.EXPIRED
    late.open(later=timedelta(days=15)).settle(renew=True)
    client.fetch(late.folder)
    assert client.look(), "refreshed, it goes on"


def test_trust_root_that_nobody_renewed_expires(make_site: MakeSite, bundle_of: MakeBundle) -> None:
    site = make_site(ago=timedelta(days=366))
    site.release(bundle_of())
    site.open(later=timedelta(days=366)).settle(renew=True)
    client = site.client()
    client.fetch(site.folder)
    assert client.refusal() == Refusal.EXPIRED
    repository = site.open(later=timedelta(days=366))
    renew_offline(repository)
    assert repository.sign() == []
    repository.settle()
    client.fetch(site.folder)
    assert client.look()


def test_trust_parts_of_two_states_are_mix_and_match(site: Any, bundle_of: MakeBundle) -> None:
    other = site.copy("other")
    site.release(bundle_of(1))
    other.release(bundle_of(2))
    for name in ("2.targets.json", "3.rollout.json", "4.snapshot.json"):
        client = site.client()
        client.fetch(site.folder)
        (client.mirror / name).write_bytes((other.folder / "metadata" / name).read_bytes())
        # a file that is longer than what belongs there is given up before its digest is known
        assert client.refusal() in {Refusal.MIX_AND_MATCH, Refusal.ENDLESS_DATA}, name
    client = site.client()
    client.fetch(site.folder)
    targets = bytearray((client.mirror / "2.targets.json").read_bytes())
    targets[-3] ^= 1
    (client.mirror / "2.targets.json").write_bytes(targets)
    assert client.refusal() == Refusal.MIX_AND_MATCH


@pytest.mark.parametrize("name", ["timestamp.json", "4.snapshot.json", "2.targets.json", "3.rollout.json"])
def test_trust_endless_data_is_given_up(site: Any, bundle_of: MakeBundle, name: str) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    with (client.mirror / name).open("ab") as file:
        file.truncate(10**10)  # a sparse file: it takes no room, and whoever read all of it would notice
    assert client.refusal() == Refusal.ENDLESS_DATA


def test_trust_endless_root_is_given_up(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    with (client.mirror / "2.root.json").open("wb") as file:
        file.truncate(10**10)
    assert client.refusal() == Refusal.ENDLESS_DATA


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b"[" * 60_000, b'{"signed":{},"signatures":[]}'])
def test_trust_what_is_no_metadata_is_malformed(site: Any, bundle_of: MakeBundle, content: bytes) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    (client.mirror / "timestamp.json").write_bytes(content)
    assert client.refusal() == Refusal.MALFORMED


def test_trust_repository_of_a_stranger_has_the_wrong_key(
    site: Any, make_site: MakeSite, bundle_of: MakeBundle
) -> None:
    stranger = make_site("stranger", root_keys=2)  # other keys, as it is another kind
    site.release(bundle_of())
    stranger.release(bundle_of(9))
    client = site.client()
    client.fetch(stranger.folder)
    assert client.refusal() == Refusal.WRONG_KEY
    client.fetch(site.folder)
    assert client.look().release.model == "made/1"


def test_trust_targets_with_too_few_signatures_are_refused(
    make_site: MakeSite, bundle_of: MakeBundle, steal: Steal
) -> None:
    site = make_site(targets_keys=2, targets_threshold=2)
    site.release(bundle_of())
    repository = steal(site)
    targets = repository.targets()
    targets.signed.version += 1
    targets.signatures.clear()
    (one, *_) = site.keys_of("targets")
    lonely = KeyRing([one.parent], site.ring.passphrase)
    (signer, *_) = lonely.signers(Role.TARGETS, [repository.root().signed.roles["targets"].keyids[0]])
    targets.sign(signer)
    repository.files.write(f"{targets.signed.version}.targets.json", to_bytes(targets))
    _republish(repository, Role.TARGETS, to_bytes(targets), targets.signed.version)
    client = site.client()
    client.fetch(site.folder)
    assert client.refusal() == Refusal.TOO_FEW_SIGNATURES


def test_trust_stolen_online_keys_cannot_sign_a_bundle(site: Any, bundle_of: MakeBundle, steal: Steal) -> None:
    site.release(bundle_of(1))
    targets = steal(site).targets()
    evil = TargetFile.from_data(bundle_target("evil/1"), b"evil", ["sha256"])
    evil.unrecognized_fields["custom"] = targets.signed.targets["bundle/made/1"].custom | {"model": "evil/1"}

    fork = site.copy("as a channel's bundle")
    repository = steal(fork)
    rollout = repository.rollout()
    rollout.signed.targets[evil.path] = evil
    rollout.signed.targets["channel/stable"] = _rollout_target(Rollout(channel="stable", release="evil/1", percent=100))
    repository.sign_online(rollout, Role.ROLLOUT, repository.targets().signed)
    repository.settle()
    client = fork.client()
    client.fetch(fork.folder)
    assert client.refusal() == Refusal.UNSIGNED_RELEASE, "the rollout role is asked about channels alone"

    fork = site.copy("as targets")
    repository = steal(fork)
    metadata = repository.targets()
    metadata.signed.targets[evil.path] = evil
    metadata.signed.version += 1
    metadata.signatures.clear()
    for role in (Role.SNAPSHOT, Role.TIMESTAMP):
        for signer in repository.ring.signers(role, repository.root().signed.roles[role].keyids):
            metadata.sign(signer, append=True)
    repository.files.write(f"{metadata.signed.version}.targets.json", to_bytes(metadata))
    _republish(repository, Role.TARGETS, to_bytes(metadata), metadata.signed.version)
    client = fork.client()
    client.fetch(fork.folder)
    assert client.refusal() == Refusal.WRONG_KEY


def test_trust_stolen_online_keys_can_move_nodes_among_signed_bundles_only(
    site: Any, bundle_of: MakeBundle, steal: Steal
) -> None:
    """What is possible is written down (docs/ota.md), and `remove` narrows it."""
    site.release(bundle_of(1))
    site.release(bundle_of(2))
    publish(steal(site), "stable", "made/1", downgrade=True)
    client = site.client()
    client.fetch(site.folder)
    assert client.look().rollout.release == "made/1"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"percent": 200}, Refusal.MALFORMED),
        ({"schema": 2}, Refusal.MALFORMED),
        ({"channel": "beta"}, Refusal.MALFORMED),
        ({"release": "made/7"}, Refusal.UNSIGNED_RELEASE),
        ({"novelty": [1, 2]}, None),
    ],
)
def test_trust_document_that_was_signed_wrongly(
    site: Any, bundle_of: MakeBundle, change: dict[str, Any], refusal: Refusal | None
) -> None:
    site.release(bundle_of())
    repository = site.open()
    rollout = repository.rollout()
    rollout.signed.targets["channel/stable"].unrecognized_fields["custom"].update(change)
    repository.sign_online(rollout, Role.ROLLOUT, repository.targets().signed)
    data = repository.files.read(Role.ROLLOUT)
    assert data is not None
    _republish(repository, Role.ROLLOUT, data, rollout.signed.version)
    client = site.client()
    client.fetch(site.folder)
    if refusal is None:
        assert client.look()
    else:
        assert client.refusal() == refusal


def test_trust_archive_that_is_not_what_was_signed_is_refused(site: Any, bundle_of: MakeBundle) -> None:
    data = bundle_of()
    site.release(data)
    client = site.client()
    client.fetch(site.folder)
    offer = client.look()
    for altered in (data[:-1], data + b"x", b"x" + data[1:], b""):
        with pytest.raises(TrustError, match="mix and match: made/1"):
            check_archive(offer, altered)


@pytest.mark.parametrize("role", Role)
def test_trust_client_follows_the_rotation_of_any_key(site: Any, bundle_of: MakeBundle, role: Role) -> None:
    site.release(bundle_of(1))
    client, anchored_at_first = site.client(), site.client()
    client.fetch(site.folder)
    client.look()
    repository = site.open()
    before = {path.name for path in site.keys_of(role)}
    new, _ = rotate(repository, role, site.keys_of(role)[0].parent)
    assert repository.sign() == []
    repository.settle()
    assert {path.name for path in site.keys_of(role)} - before == {f"{role}.{new[:16]}.pem"}
    for each in (client, anchored_at_first):
        each.fetch(site.folder)
        assert each.look().release.model == "made/1"
    site.release(bundle_of(2))
    client.fetch(site.folder)
    assert client.look().release.model == "made/2", "and what comes after is signed by the new one"


def test_trust_key_that_was_rotated_out_counts_no_longer(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of(1))
    thief = site.copy("thief")
    repository = site.open()
    rotate(repository, Role.TIMESTAMP, site.keys_of("timestamp")[0].parent)
    repository.sign()
    repository.settle()
    client = site.client()
    client.fetch(site.folder)
    client.look()
    for _ in range(5):
        thief.open().settle(renew=True)
    shutil.copy(thief.folder / "metadata" / "timestamp.json", client.mirror)
    assert client.refusal() == Refusal.WRONG_KEY


def test_trust_root_rotation_needs_the_threshold_of_old_and_new(
    make_site: MakeSite, bundle_of: MakeBundle, tmp_path: Path
) -> None:
    site = make_site(root_keys=3, root_threshold=2)
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    client.look()
    holders = []
    for key_id in site.open().root().signed.roles["root"].keyids:
        key = site.ring.path(Role.ROOT, key_id)
        (tmp_path / key.stem).mkdir()
        shutil.copy(key, tmp_path / key.stem)
        holders.append(tmp_path / key.stem)
    fresh = tmp_path / "new"
    repository = site.open(ring=KeyRing([holders[0], fresh], site.ring.passphrase))
    rotate(repository, Role.ROOT, fresh, old=holders[2].name.split(".")[1])
    # two keys of the new root have signed, which is its threshold, but only one of the old
    assert repository.sign() == ["2.root.json: 1 more signature of root keys"]
    assert repository.sign() == ["2.root.json: 1 more signature of root keys"], "signing twice counts once"
    shutil.copy(repository.files.pending / "2.root.json", client.mirror)
    assert client.refusal() == Refusal.TOO_FEW_SIGNATURES, "the broker was given what is not finished"
    (client.mirror / "2.root.json").unlink()
    assert client.look()
    done = site.open(ring=KeyRing([holders[1]], site.ring.passphrase))
    assert done.sign() == []
    assert not done.files.pending.exists()
    assert done.root().signed.version == 2
    client.fetch(site.folder)
    assert client.look()


def test_trust_root_signed_by_new_keys_alone_is_refused(site: Any, make_site: MakeSite, bundle_of: MakeBundle) -> None:
    """Who owns the broker and makes root keys of their own gets nowhere."""
    site.release(bundle_of())
    stranger = make_site("stranger", root_keys=2)
    root: Metadata[Any] = stranger.open().root()
    root.signed.version = 2
    root.signatures.clear()
    for signer in stranger.ring.signers(Role.ROOT, root.signed.roles["root"].keyids):
        root.sign(signer, append=True)
    client = site.client()
    client.fetch(site.folder)
    (client.mirror / "2.root.json").write_bytes(to_bytes(root))
    assert client.refusal() == Refusal.WRONG_KEY


def test_trust_old_root_under_a_new_name_is_a_rollback(site: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of())
    client = site.client()
    client.fetch(site.folder)
    shutil.copy(client.mirror / "1.root.json", client.mirror / "2.root.json")
    assert client.refusal() == Refusal.ROLLBACK

"""Whoever owns the broker, or the online keys: python-tuf really verifies, and the node keeps the model that it has.

What the client believes is tested where releases are made; here is what the node makes of each refusal: the update
waits or ends, the report has the attack's own word, and nothing happens to the model that runs.
"""

import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tuf.api.metadata import TargetFile

from broker.contract.release import Rollout, bundle_target, channel_target
from broker.contract.topics import METADATA
from broker.contract.updates import UpdateState
from training.release.bundles import remove
from training.release.channels import abort, publish, roll_out
from training.release.keys import KeyRing
from training.release.roles import Role
from training.release.rotation import rotate
from training.release.signed import meta_of, to_bytes

S = UpdateState
Files = dict[str, bytes]


@pytest.fixture
def node(signers: Any, trusting: Any) -> Any:
    """A node that has taken up made/1 from these signers, and rests."""
    world = trusting(signers)
    signers.release(1)
    world.shelf.hold_exactly(signers.files())
    world.start()
    world.wait(60)
    assert (world.state, world.model) == (S.IDLE, "made/1")
    world.states.clear()
    world.shelf.said.clear()
    world.bench.counts.clear()
    return world


def _assert_untouched(node: Any, word: str) -> None:
    """Nothing has come of it but a word."""
    assert (node.states, node.state, node.model) == ([], S.IDLE, "made/1")
    assert node.report.reason.startswith(f"{word}: "), node.report.reason
    assert node.bench.counts["prove"] == node.bench.counts["trial"] == node.bench.counts["activate"] == 0
    assert node.bench.counts["verify"] < 40, "and not at any price"


def _assert_recovers(node: Any, signers: Any) -> None:
    """Once the broker sends what is right, the next release is taken up."""
    node.shelf.hold_exactly(signers.files())
    node.wait(120)
    assert (node.state, node.model, node.report.reason) == (S.IDLE, "made/2", "")


def _vouch(repository: Any, role: Role, data: bytes, version: int) -> None:
    """Let the online keys vouch for a file, whatever it is."""
    snapshot, timestamp = repository.snapshot(), repository.timestamp()
    snapshot.signed.meta[f"{role}.json"] = meta_of(data, version)
    repository.sign_online(snapshot, Role.SNAPSHOT, repository.root().signed)
    newest = (repository.files.metadata / f"{snapshot.signed.version}.snapshot.json").read_bytes()
    timestamp.signed.snapshot_meta = meta_of(newest, snapshot.signed.version)
    repository.sign_online(timestamp, Role.TIMESTAMP, repository.root().signed)


def _document(repository: Any, **changes: Any) -> None:
    """Sign a channel's document with these changes, by the online keys."""
    rollout = repository.rollout()
    rollout.signed.targets["channel/stable"].unrecognized_fields["custom"].update(changes)
    repository.sign_online(rollout, Role.ROLLOUT, repository.targets().signed)
    data = repository.files.read(Role.ROLLOUT)
    assert data is not None
    _vouch(repository, Role.ROLLOUT, data, rollout.signed.version)


def _newest(files: Files, role: str) -> str:
    names = [topic for topic in files if topic.endswith(f".{role}.json")]
    return max(names, key=lambda topic: int(topic.rpartition("/")[2].partition(".")[0]))


def _withheld(files: Files) -> Files:
    return {topic: data for topic, data in files.items() if topic != _newest(files, "targets")}


def _lengthened(role: str) -> Callable[[Files], Files]:
    return lambda files: files | {_newest(files, role): files[_newest(files, role)] + b" " * 20_000}


def _altered(role: str) -> Callable[[Files], Files]:
    def alter(files: Files) -> Files:
        data = files[_newest(files, role)]
        return files | {_newest(files, role): data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]}

    return alter


def _timestamp(data: bytes) -> Callable[[Files], Files]:
    return lambda files: files | {METADATA.at("timestamp.json"): data}


@pytest.mark.parametrize(
    ("attack", "word"),
    [
        (_withheld, "incomplete"),
        (_lengthened("snapshot"), "endless data"),
        (_lengthened("targets"), "endless data"),
        (_lengthened("rollout"), "endless data"),
        (_altered("snapshot"), "mix and match"),
        (_altered("targets"), "mix and match"),
        (_altered("rollout"), "mix and match"),
        (_timestamp(b"\0" * 65_536), "malformed"),
        (_timestamp(b"{}"), "malformed"),
        (_timestamp(b"[" * 60_000), "malformed"),
        (_timestamp(b'{"signed":{},"signatures":[]}'), "malformed"),
        (_timestamp(b"\xff\xfe"), "malformed"),
        (_timestamp(b"x" * 65_537), "endless data"),
        (lambda files: files | {METADATA.at("2.root.json"): b"{}"}, "malformed"),
        (lambda files: files | {METADATA.at("2.root.json"): files[METADATA.at("1.root.json")]}, "rollback"),
    ],
)
def test_attack_by_the_broker_alone_ends_in_a_word(
    node: Any, signers: Any, attack: Callable[[Files], Files], word: str
) -> None:
    signers.release(2)
    node.shelf.hold_exactly(attack(signers.files()))
    node.wait(3_600)
    _assert_untouched(node, word)
    _assert_recovers(node, signers)


def test_attack_that_plays_an_old_state_again_is_a_rollback(node: Any, signers: Any) -> None:
    old = signers.files()
    publish(signers.open(), "stable", "made/1")
    node.shelf.hold_exactly(signers.files())
    node.wait(60)
    node.shelf.hold_exactly(old)
    node.wait(60)
    _assert_untouched(node, "rollback")
    signers.release(2)
    _assert_recovers(node, signers)


def test_attack_that_mixes_two_states_is_refused(node: Any, signers: Any) -> None:
    other = signers.fork("other")
    other.release(3)
    signers.release(2)
    files, theirs = signers.files(), other.files()
    node.shelf.hold_exactly(files | {_newest(files, "rollout"): theirs[_newest(theirs, "rollout")]})
    node.wait(60)
    assert node.report.reason.split(": ")[0] in {"mix and match", "endless data"}  # it may be longer than it should
    assert (node.states, node.model) == ([], "made/1")
    _assert_recovers(node, signers)


def test_attack_that_freezes_a_node_is_noticed_when_the_signatures_expire(make_signers: Any, trusting: Any) -> None:
    signers = make_signers(ago=timedelta(days=15))
    world = trusting(signers)
    signers.release(1)
    world.shelf.hold_exactly(signers.files())
    world.start()
    world.wait(3_600)
    assert (world.states, world.model) == ([S.IDLE], "factory/1")
    assert world.report.reason.startswith("expired: ")
    signers.open(later=timedelta(days=15)).settle(renew=True)
    world.shelf.hold_exactly(signers.files())
    world.wait(60)
    assert world.model == "made/1", "signed again, it goes on"


def test_attack_with_keys_of_the_attackers_own_has_the_wrong_key(node: Any, signers: Any, make_signers: Any) -> None:
    stranger = make_signers("stranger", targets_keys=2)
    stranger.release(9)
    signers.release(2)
    node.shelf.hold_exactly(signers.files() | stranger.files())
    node.wait(60)
    _assert_untouched(node, "wrong key")
    _assert_recovers(node, signers)


def test_attack_with_one_of_two_keys_has_too_few_signatures(make_signers: Any, trusting: Any) -> None:
    signers = make_signers(targets_keys=2)
    world = trusting(signers)
    signers.release(1)
    repository = signers.fork("attacked").steal()
    targets = repository.targets()
    targets.signed.version += 1
    targets.signatures.clear()
    lonely = KeyRing([signers.keys / "offline"], signers.ring.passphrase)
    (signer, *_) = lonely.signers(Role.TARGETS, [repository.root().signed.roles["targets"].keyids[0]])
    targets.sign(signer)
    repository.files.write(f"{targets.signed.version}.targets.json", to_bytes(targets))
    _vouch(repository, Role.TARGETS, to_bytes(targets), targets.signed.version)
    world.shelf.hold_exactly(
        {METADATA.at(path.name): path.read_bytes() for path in repository.files.metadata.iterdir()}
    )
    world.start()
    world.wait(60)
    assert (world.states, world.model) == ([S.IDLE], "factory/1")
    assert world.report.reason == "too few signatures: targets was signed by 1/2 keys"


def test_attack_with_the_online_keys_can_sign_no_bundle(node: Any, signers: Any) -> None:
    targets = signers.open().targets()
    evil = TargetFile.from_data(bundle_target("evil/1"), b"evil", ["sha256"])
    evil.unrecognized_fields["custom"] = targets.signed.targets["bundle/made/1"].custom | {"model": "evil/1"}
    thief = signers.fork("in the rollout role's name")
    repository = thief.steal()
    rollout = repository.rollout()
    document = Rollout(channel="stable", release="evil/1", percent=100)
    channel = TargetFile.from_data(channel_target("stable"), msgspec.json.encode(document), ["sha256"])
    channel.unrecognized_fields["custom"] = msgspec.to_builtins(document)
    rollout.signed.targets |= {evil.path: evil, "channel/stable": channel}
    repository.sign_online(rollout, Role.ROLLOUT, repository.targets().signed)
    repository.settle()
    node.shelf.hold_exactly(thief.files())
    node.wait(60)
    _assert_untouched(node, "unsigned release")


def test_attack_with_the_online_keys_cannot_sign_targets(node: Any, signers: Any) -> None:
    repository = signers.fork("in the targets role's name").steal()
    targets = repository.targets()
    targets.signed.version += 1
    targets.signatures.clear()
    for role in (Role.SNAPSHOT, Role.TIMESTAMP):
        for signer in repository.ring.signers(role, repository.root().signed.roles[role].keyids):
            targets.sign(signer, append=True)
    repository.files.write(f"{targets.signed.version}.targets.json", to_bytes(targets))
    _vouch(repository, Role.TARGETS, to_bytes(targets), targets.signed.version)
    node.shelf.hold_exactly({METADATA.at(path.name): path.read_bytes() for path in repository.files.metadata.iterdir()})
    node.wait(60)
    _assert_untouched(node, "wrong key")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"release": "made/7"}, "unsigned release"),
        ({"percent": 200}, "malformed"),
        ({"channel": "beta"}, "malformed"),
        ({"schema": 2}, "malformed"),
        ({"release": "../../etc/passwd"}, "malformed"),
        ({"reason": "x" * 300}, "malformed"),
    ],
)
def test_attack_with_the_online_keys_can_say_nothing_that_makes_no_sense(
    node: Any, signers: Any, changes: dict[str, Any], word: str
) -> None:
    thief = signers.fork("thief")
    _document(thief.steal(), **changes)
    node.shelf.hold_exactly(thief.files())
    node.wait(60)
    _assert_untouched(node, word)


def test_attack_with_the_online_keys_moves_nodes_among_signed_bundles_until_one_is_removed(
    node: Any, signers: Any
) -> None:
    """What is possible is written in the guide, and what narrows it."""
    signers.release(2)
    _assert_recovers(node, signers)
    thief = signers.fork("thief")
    publish(thief.steal(), "stable", "made/1", downgrade=True)
    roll_out(thief.steal(), "stable", "made/1", phases=[100], spread_s=0, abort_above=10, min_nodes=1)
    node.shelf.hold_exactly(thief.files())
    node.wait(60)
    assert node.model == "made/1"
    for percent in (1, 2, 3, 100):  # the signers must be ahead of whoever signed in their name
        roll_out(signers.open(), "stable", "made/2", phases=[percent], spread_s=0, abort_above=10, min_nodes=1)
    remove(signers.open(), "made/1")
    repository = signers.open()
    assert repository.sign() == []
    repository.settle()
    node.shelf.hold_exactly(signers.files())
    node.wait(60)
    assert node.model == "made/2"
    _document(signers.steal(), release="made/1", downgrade=True, percent=100)
    node.shelf.hold_exactly(signers.files())
    node.wait(60)
    assert (node.state, node.model) == (S.IDLE, "made/2")
    assert node.report.reason.startswith("unsigned release: ")


def test_attack_on_a_channel_that_nobody_published(signers: Any, trusting: Any) -> None:
    world = trusting(signers)
    world.shelf.hold_exactly(signers.files())
    world.start()
    world.wait(60)
    assert world.report.reason == "unknown channel: nothing is signed for channel 'stable'"
    assert world.states == [S.IDLE]


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.VERIFYING, S.TRIAL, S.COMMITTING])
def test_attack_on_an_update_under_way_does_not_get_past_the_next_gate(node: Any, signers: Any, state: S) -> None:
    signers.release(2)
    files = signers.files()
    node.shelf.hold_exactly(files)
    node.until(state)
    node.hold = {"last", "trial"}
    node.shelf.hold_exactly(files | {METADATA.at("timestamp.json"): b"{}"})
    node.wait(3_600)
    if state in {S.DOWNLOADING, S.VERIFYING}:
        assert (node.state, node.bench.counts["prove"]) == (S.VERIFYING, 0), "the gate is closed"
        assert node.report.reason.startswith("malformed: ")
    else:
        assert node.state is state
    node.go_on()
    node.shelf.hold_exactly(files)
    node.wait(900)
    assert (node.state, node.model) == (S.IDLE, "made/2")


@pytest.mark.parametrize("seed", range(8))
def test_metadata_in_any_order_lead_to_the_same_end(signers: Any, trusting: Any, seed: int) -> None:
    world = trusting(signers)
    world.start()
    signers.release(1)
    signers.release(2)
    topics = list(signers.files().items())
    random.Random(seed).shuffle(topics)
    for (topic, payload), pause_s in zip(topics, itertools.cycle([0.0, 0.2, 1.5, 0.0]), strict=False):
        world.shelf.publish(topic, payload)
        world.wait(pause_s)
    world.wait(120)
    assert (world.state, world.model) == (S.IDLE, "made/2")
    assert world.bench.counts["prove"] == 1


def test_rotated_keys_are_followed(node: Any, signers: Any) -> None:
    for role in (Role.ROOT, Role.TIMESTAMP):
        repository = signers.open()
        rotate(repository, role, next(signers.keys.glob(f"*/{role}.*.pem")).parent)
        assert repository.sign() == []
        repository.settle()
    signers.release(2)
    _assert_recovers(node, signers)


@pytest.mark.parametrize("state", [S.TRIAL, S.COMMITTING])
def test_release_that_is_aborted_and_removed_under_way_does_not_stay(node: Any, signers: Any, state: S) -> None:
    signers.release(2)
    node.shelf.hold_exactly(signers.files())
    node.hold = {"trial" if state is S.TRIAL else "last"}
    node.wait(30)
    assert node.state is state
    abort(signers.open(), "stable", "it is wrong")
    node.shelf.hold_exactly(signers.files())
    node.wait(30)
    assert node.model == "made/1"
    assert node.report.reason == "aborted: it is wrong"
    publish(signers.open(), "stable", "made/1", downgrade=True)
    remove(signers.open(), "made/2")
    repository = signers.open()
    assert repository.sign() == []
    repository.settle()
    node.shelf.hold_exactly(signers.files())
    node.wait(30)
    assert (node.state, node.model, node.report.reason) == (S.IDLE, "made/1", "")

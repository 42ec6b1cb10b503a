"""What all virtual nodes find alike is found out once, by the real verifier, and only where it is the same."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.contract.errors import Refusal, TrustError
from broker.contract.offer import Offer
from deploy.fleet.releases import Releases, make_bundle
from edge_node.simulate.verdicts import Verdicts
from edge_node.simulate.work import Behaviour

Files = Mapping[str, bytes]


def _read(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Files]]:
    """The anchor, and the metadata when the release was published, and when it was rolled out."""
    folder = tmp_path_factory.mktemp("releases")
    releases = Releases.new(folder / "releases", None)
    name, data = make_bundle(1, Behaviour.GOOD)
    (folder / "made.bundle").write_bytes(data)
    releases.add(folder / "made.bundle")
    releases.publish(name)
    published = _read(folder / "releases" / "metadata")
    releases.run("rollout", name, "--channel", "rehearsal", "--percent", "50", "--detach")
    return releases.anchor, [published, _read(folder / "releases" / "metadata")]


@pytest.fixture
def verdicts(states: tuple[bytes, list[Files]]) -> Iterator[Verdicts]:
    made = Verdicts(states[0], "rehearsal")
    yield made
    made.close()


def test_verdict_on_the_same_files_is_found_once(verdicts: Verdicts, states: tuple[bytes, list[Files]]) -> None:
    published, rolled_out = states[1]
    first = verdicts.offer(published, {}).result()
    assert verdicts.offer(dict(sorted(published.items(), reverse=True)), {}).result() is first
    assert isinstance(first.outcome, Offer)
    assert first.outcome.rollout.percent == 0
    second = verdicts.offer(rolled_out, first.trusted).result()
    assert isinstance(second.outcome, Offer)
    assert second.outcome.rollout.percent == 50
    assert verdicts.looked == 2


def test_verdict_depends_on_what_a_node_has_trusted_before(
    verdicts: Verdicts, states: tuple[bytes, list[Files]]
) -> None:
    published, rolled_out = states[1]
    newer = verdicts.offer(rolled_out, {}).result().trusted
    replayed = verdicts.offer(published, newer).result()
    assert isinstance(replayed.outcome, TrustError)
    assert replayed.outcome.refusal is Refusal.ROLLBACK
    assert isinstance(verdicts.offer(published, {}).result().outcome, Offer)


def test_verdict_without_an_anchor_trusts_the_first_root_that_the_broker_has(
    states: tuple[bytes, list[Files]],
) -> None:
    verdicts = Verdicts(None, "rehearsal")
    assert isinstance(verdicts.offer(states[1][0], {}).result().outcome, Offer)
    nothing = verdicts.offer({}, {}).result().outcome
    assert isinstance(nothing, TrustError)
    assert nothing.refusal is Refusal.INCOMPLETE
    verdicts.close()


def test_proof_is_the_real_one_and_is_run_once(verdicts: Verdicts) -> None:
    for kind, words in ((Behaviour.GOOD, None), (Behaviour.CORRUPT, "golden vectors: ")):
        _, data = make_bundle(1, kind)
        first = verdicts.proof(data, _sha256(data))
        assert verdicts.proof(data, _sha256(data)) is first
        refusal = first.result()
        assert refusal is None if words is None else str(refusal).startswith(words)


def test_proof_of_other_bytes_than_were_signed_is_a_refusal(verdicts: Verdicts) -> None:
    assert str(verdicts.proof(b"other bytes", _sha256(b"bytes")).result()).startswith("digest: ")


def _sha256(data: bytes) -> str:

    return hashlib.sha256(data).hexdigest()

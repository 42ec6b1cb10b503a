"""Who takes up what, and when: rules over values, the same on every node and in the release program."""

import hashlib
from typing import Any

import msgspec
import pytest
from securesystemslib.formats import encode_canonical  # what TUF signs: it refuses fractions

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Bundle, write_bundle
from broker.contract.errors import MessageError
from broker.contract.features import PAPER_FEATURES, FeatureSpec
from broker.contract.release import (
    CONTRACT,
    Course,
    Forced,
    Release,
    Rollout,
    bundle_target,
    channel_target,
    course,
    cut,
    describe,
    family,
    incompatibility,
    is_in,
    read_release,
    read_rollout,
    start_delay_s,
)
from broker.contract.topics import NodeId

KITCHEN = NodeId("home", "kitchen")
FLEET = [NodeId(f"site-{k % 7}", f"node-{k}") for k in range(2_000)]


def _rollout(**changes: Any) -> Rollout:
    return msgspec.structs.replace(Rollout(channel="stable", release="factory/3", percent=100), **changes)


@pytest.fixture
def release(bundle: Bundle) -> Release:
    return describe(bundle.manifest, write_bundle(bundle))


def test_release_describes_a_bundle_and_survives_canonical_json(bundle: Bundle) -> None:
    data = write_bundle(bundle)
    forced = Forced(reason="a demonstration", gates=("pooled UAR 50.0 %, 55.0 % wanted",))
    release = describe(bundle.manifest, data, forced)
    assert (release.model, release.family, release.litert_at_least) == ("made/3", "mfcc", "2.1.0")
    assert (release.bytes, release.contract, release.forced) == (len(data), CONTRACT, forced)
    custom = msgspec.to_builtins(release)
    assert encode_canonical(custom)
    assert read_release(msgspec.json.decode(msgspec.json.encode(custom)), "here") == release


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 200_000, LARGEST_BUNDLE_BYTES])
def test_release_chunks_are_at_most_64_kib_and_make_the_archive_again(bundle: Bundle, size: int) -> None:
    data = bytes(k % 251 for k in range(size))
    release = describe(bundle.manifest, data)
    assert b"".join(cut(data)) == data
    assert max(chunk.bytes for chunk in release.chunks) <= 65_536
    assert [chunk.sha256 for chunk in release.chunks] == [hashlib.sha256(part).hexdigest() for part in cut(data)]
    assert read_release(msgspec.to_builtins(release), "here") == release


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"model": "factory"}, "model"),
        ({"model": "factory/0"}, "model"),
        ({"model": "factory/1\n"}, "model"),
        ({"model": "../x/1"}, "model"),
        ({"contract": "1"}, "contract"),
        ({"chunks": []}, "chunks"),
        ({"chunks": [{"sha256": "a" * 64, "bytes": 65_537}]}, "bytes"),
        ({"chunks": [{"sha256": "a" * 64, "bytes": 0}]}, "bytes"),
        ({"chunks": [{"sha256": "../etc", "bytes": 1}]}, "sha256"),
        ({"chunks": [{"sha256": "a" * 64, "bytes": 1}] * 63}, "chunks"),
        ({"forced": {"reason": "", "gates": ["x"]}}, "reason"),
        ({"forced": {"reason": "x", "gates": []}}, "gates"),
        ({"litert_at_least": 2}, "litert_at_least"),
    ],
)
def test_release_bad_field_is_named(release: Release, change: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=f"^here: .*{words}"):
        read_release(msgspec.to_builtins(release) | change, "here")


@pytest.mark.parametrize("custom", [None, [], "x", 1, {}])
def test_release_that_is_none_is_refused(custom: object) -> None:
    for read in (read_release, read_rollout):
        with pytest.raises(MessageError, match=r"^here: "):
            read(custom, "here")


def test_documents_with_fields_of_a_later_version_are_read(release: Release) -> None:
    assert read_release(msgspec.to_builtins(release) | {"novelty": 1}, "here") == release
    assert read_rollout(msgspec.to_builtins(_rollout()) | {"novelty": 1}, "here") == _rollout()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"percent": 101}, "percent"),
        ({"percent": -1}, "percent"),
        ({"percent": 2.5}, "percent"),
        ({"spread_s": -1}, "spread_s"),
        ({"spread_s": 604_801}, "spread_s"),
        ({"paused": 1}, "paused"),
        ({"channel": "Stable"}, "channel"),
        ({"channel": "a/b"}, "channel"),
        ({"release": "factory/01"}, "release"),
        ({"phases": [2, 10, 10]}, "must rise"),
        ({"phases": [10, 2]}, "must rise"),
        ({"phases": [0, 2]}, "phases"),
        ({"min_nodes": 0}, "min_nodes"),
        ({"reason": "x" * 201}, "reason"),
        ({"schema": 2}, "schema"),
    ],
)
def test_rollout_bad_field_is_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        read_rollout(msgspec.to_builtins(_rollout()) | change, "here")


def test_targets_have_the_paths_that_roles_are_delegated() -> None:
    assert (bundle_target("factory/3"), channel_target("stable")) == ("bundle/factory/3", "channel/stable")


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (FeatureSpec(), "mfcc"),
        (PAPER_FEATURES, "mfcc centred top"),
        (FeatureSpec(kind="log-mel", coefficients=40, mel_bands=40), "log-mel"),
        (
            FeatureSpec(pitch=True, window_range_db=50, mean_removed=0.5, delta_frames=2),
            "mfcc pitch range mean delta",
        ),
    ],
)
def test_family_names_what_the_front_end_must_be_able_to_do(features: FeatureSpec, words: str) -> None:
    assert family(features) == words


@pytest.mark.parametrize(
    ("change", "litert", "words"),
    [
        ({}, "2.1.0", None),
        ({}, "2.1", None),
        ({}, "2.10.0", None),
        ({"litert_at_least": "2.1"}, "2.1.0", None),
        ({"litert_at_least": "2.1.0.dev3"}, "2.1.0", None),
        ({}, "2.0.9", "needs LiteRT 2.1.0, here is 2.0.9"),
        ({}, "nonsense", "needs LiteRT 2.1.0, here is nonsense"),
        ({"contract": CONTRACT + 1}, "2.1.0", "made for contract 2, this program has 1"),
        ({"family": "mfcc wavelets"}, "2.1.0", "what this program lacks: wavelets"),
        ({"family": ""}, "2.1.0", "lacks: a name"),
        ({"labels": ("pleasant", "neutral")}, "2.1.0", "labels pleasant, neutral, this program knows"),
        ({"labels": ("neutral", "pleasant", "unpleasant")}, "2.1.0", "labels neutral"),
    ],
)
def test_incompatibility_is_told_before_the_download(
    release: Release, change: dict[str, Any], litert: str, words: str | None
) -> None:
    told = incompatibility(msgspec.structs.replace(release, **change), litert)
    assert told is None if words is None else words in str(told)


def test_rollout_node_that_is_in_stays_in_when_the_percentage_rises() -> None:
    for node in FLEET[:200]:
        course_of_percents = [is_in(node, _rollout(percent=percent)) for percent in range(101)]
        assert course_of_percents == sorted(course_of_percents)
        assert (course_of_percents[0], course_of_percents[100]) == (False, True)


@pytest.mark.parametrize("percent", [2, 10, 50])
@pytest.mark.parametrize("release", ["factory/3", "factory/4", "mine/1"])
def test_rollout_share_of_a_fleet_is_the_percentage(percent: int, release: str) -> None:
    share = sum(is_in(node, _rollout(percent=percent, release=release)) for node in FLEET) / len(FLEET)
    deviation = (percent / 100 * (1 - percent / 100) / len(FLEET)) ** 0.5
    assert abs(share - percent / 100) < 4 * deviation


def test_rollout_first_nodes_of_one_release_are_not_those_of_another() -> None:
    first = {node for node in FLEET if is_in(node, _rollout(percent=10))}
    second = {node for node in FLEET if is_in(node, _rollout(percent=10, release="factory/4"))}
    assert len(first & second) < len(first) / 3


def test_rollout_starts_are_spread_evenly_and_not_by_place() -> None:
    canary = [start_delay_s(node, _rollout(spread_s=100)) for node in FLEET if is_in(node, _rollout(percent=10))]
    assert all(0 <= delay < 100 for delay in canary)
    assert abs(sum(canary) / len(canary) - 50) < 10
    assert sum(delay < 25 for delay in canary) == pytest.approx(len(canary) / 4, abs=25)
    assert start_delay_s(KITCHEN, _rollout(spread_s=0)) == 0


def test_rollout_place_of_a_node_is_the_same_for_ever() -> None:
    """Nodes of different versions must agree: whoever changes the hash changes who is in."""
    assert [is_in(KITCHEN, _rollout(percent=percent)) for percent in (6, 7)] == [False, True]
    assert start_delay_s(KITCHEN, _rollout(spread_s=1_000)) == pytest.approx(286.766, abs=0.001)


@pytest.mark.parametrize(
    ("active", "change", "expected", "words"),
    [
        ("factory/2", {}, Course.TAKE_UP, "among the first 100 %"),
        ("factory/3", {}, Course.STAY, "runs it"),
        ("factory/3", {"paused": True, "aborted": True}, Course.STAY, "runs it"),
        ("factory/4", {}, Course.REFUSE, "factory/3 is older than factory/4, and no downgrade is ordered"),
        ("factory/4", {"downgrade": True}, Course.TAKE_UP, ""),
        ("factory/4", {"downgrade": True, "percent": 0}, Course.WAIT, "not among the first 0 %"),
        ("factory/10", {"release": "factory/9"}, Course.REFUSE, "older"),
        ("mine/7", {}, Course.TAKE_UP, ""),
        ("factory/2", {"percent": 0}, Course.WAIT, "not among the first 0 %"),
        ("factory/2", {"paused": True}, Course.WAIT, "paused"),
        ("factory/2", {"paused": True, "reason": "lunch"}, Course.WAIT, "paused: lunch"),
        ("factory/2", {"aborted": True, "reason": "3 of 20 failed"}, Course.STAY, "aborted: 3 of 20 failed"),
        ("factory/2", {"aborted": True, "paused": True}, Course.STAY, "aborted"),
        ("nonsense", {}, Course.TAKE_UP, ""),
    ],
)
def test_course_of_a_node(active: str, change: dict[str, Any], expected: Course, words: str) -> None:
    found, why = course(KITCHEN, active, _rollout(**change))
    assert found == expected
    assert words in why

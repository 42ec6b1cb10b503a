"""What a release is, who is to take it up, and when: the signed documents, and the rules that need no clock.

Two documents travel as the `custom` part of TUF targets:

    bundle/<name>/<version>   Release   what a bundle holds and of which chunks it is made; signed by the offline key
    channel/<channel>         Rollout   which release a channel's nodes run, and how many of them yet; signed online

Both ignore fields that they do not know, so that an older node reads what a newer release program writes; a change
that an older node must not overlook raises `schema`. Canonical JSON, which TUF signs, has no fractions: all numbers are
whole. (Over 300 lines, half of them docstrings: the two documents and what follows from them are one agreement.)
"""

import enum
import hashlib
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Manifest
from broker.contract.decision import CLASSES
from broker.contract.errors import MessageError, SettingsError
from broker.contract.features import FeatureSpec
from broker.contract.topics import LARGEST_RETAINED_BYTES, NodeId

__all__ = [
    "CONTRACT",
    "Chunk",
    "Course",
    "Forced",
    "Release",
    "Rollout",
    "bundle_target",
    "channel_target",
    "course",
    "cut",
    "describe",
    "family",
    "incompatibility",
    "is_in",
    "read_release",
    "read_rollout",
    "start_delay_s",
]

CONTRACT: Final = 1
"""Version of what trainer and node compute alike. Raised when an equal manifest comes to mean another computation."""

T = TypeVar("T", bound=msgspec.Struct)

_HASH_RANGE: Final = 2**64
_MOST_CHUNKS: Final = -(-LARGEST_BUNDLE_BYTES // LARGEST_RETAINED_BYTES)

Identity = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}/[1-9][0-9]{0,9}\Z")]
Channel = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Percent = Annotated[int, Meta(ge=0, le=100)]
Reason = Annotated[str, Meta(max_length=200)]


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a bundle; its name on the wire is its digest."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Annotated[int, Meta(gt=0, le=LARGEST_RETAINED_BYTES)]


class Forced(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody released a bundle although a gate refused it."""

    reason: Annotated[str, Meta(min_length=1, max_length=200)]
    """What that person said."""
    gates: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(min_length=1, max_length=16)]
    """What was not reached or not measured, each with its figure."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a bundle before it is fetched."""

    schema: Literal[1] = 1
    model: Identity
    """`<name>/<version>`, as messages carry it."""
    contract: Annotated[int, Meta(ge=1, le=1_000)]
    """`CONTRACT` of the program that made it."""
    family: Annotated[str, Meta(max_length=100)]
    """Abilities that the front-end must have, as `family` words them."""
    labels: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=16)]
    """Meaning of the model's outputs, in their order."""
    litert_at_least: Annotated[str, Meta(max_length=32)]
    """Oldest LiteRT release that the model was proved on."""
    chunks: Annotated[tuple[Chunk, ...], Meta(min_length=1, max_length=_MOST_CHUNKS)]
    """The archive's parts, in their order."""
    forced: Forced | None = None

    @property
    def bytes(self) -> int:
        """Size of the whole archive."""
        return sum(chunk.bytes for chunk in self.chunks)


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel's nodes are to run, and how many of them yet."""

    schema: Literal[1] = 1
    channel: Channel
    release: Identity
    percent: Percent
    """Nodes whose place is below this are in."""
    spread_s: Annotated[int, Meta(ge=0, le=604_800)] = 0
    """Nodes that are in begin at a moment of their own within this time, so that an abort comes before most have."""
    paused: bool = False
    """Nobody begins; who has begun goes on."""
    aborted: bool = False
    """Nobody begins; who has begun goes back; who has finished stays."""
    downgrade: bool = False
    """Whether a node whose model of the same name is newer is to go back to this release."""
    phases: Annotated[tuple[Annotated[int, Meta(ge=1, le=100)], ...], Meta(max_length=16)] = ()
    """Percentages that the controller steps through, rising; empty: nobody steps."""
    abort_above: Percent = 10
    """The controller aborts when more than this percentage of the nodes that have executed failed ..."""
    min_nodes: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """... once this many have."""
    reason: Reason = ""
    """Why it is paused or aborted, in words."""

    def __post_init__(self) -> None:
        """Refuse phases that do not rise.

        Raises:
            SettingsError: naming them.
        """
        if list(self.phases) != sorted(set(self.phases)):
            msg = f"phases {', '.join(map(str, self.phases))}: percentages must rise"
            raise SettingsError(msg)


class Course(enum.StrEnum):
    """What a rollout means to one node."""

    STAY = "stay"
    """There is nothing to do, and there will not be until the document changes."""
    WAIT = "wait"
    """The node's turn has not come."""
    REFUSE = "refuse"
    """It would be a step back that nobody ordered."""
    TAKE_UP = "take up"


def bundle_target(release: str) -> str:
    """Return the TUF target path of a release, given as `<name>/<version>`."""
    return f"bundle/{release}"


def channel_target(channel: str) -> str:
    """Return the TUF target path of a channel's document."""
    return f"channel/{channel}"


def cut(data: bytes) -> tuple[bytes, ...]:
    """Return an archive in parts of at most 64 KiB."""
    return tuple(data[at : at + LARGEST_RETAINED_BYTES] for at in range(0, len(data), LARGEST_RETAINED_BYTES))


def describe(manifest: Manifest, data: bytes, forced: Forced | None = None) -> Release:
    """Return what is signed about a bundle.

    Args:
        manifest: of the bundle.
        data: the archive.
        forced: if a gate refused it and somebody insisted.
    """
    return Release(
        model=manifest.identity,
        contract=CONTRACT,
        family=family(manifest.features),
        labels=tuple(map(str, manifest.labels)),
        litert_at_least=manifest.litert_at_least,
        chunks=tuple(Chunk(sha256=hashlib.sha256(part).hexdigest(), bytes=len(part)) for part in cut(data)),
        forced=forced,
    )


def family(features: FeatureSpec) -> str:
    """Return the abilities that a front-end needs for these settings, such as `mfcc pitch range mean delta`.

    A node whose program lacks one of them would refuse the manifest after it has fetched the whole bundle; by this word
    it refuses before.
    """
    return " ".join(name for name, used in _abilities(features).items() if used)


def incompatibility(release: Release, litert: str) -> str | None:
    """Return why this program cannot run a release, in words; None when it can.

    Args:
        release: what is offered.
        litert: version of the LiteRT at hand, such as `2.3.0`.
    """
    unknown = sorted(set(release.family.split()) - _abilities(FeatureSpec()).keys())
    if release.contract != CONTRACT:
        return f"made for contract {release.contract}, this program has {CONTRACT}"
    if unknown or not release.family:
        return f"front-end {release.family!r} needs what this program lacks: {', '.join(unknown) or 'a name'}"
    if release.labels != CLASSES:
        return f"labels {', '.join(release.labels)}, this program knows {', '.join(CLASSES)}"
    if _numbers(litert) < _numbers(release.litert_at_least):
        return f"needs LiteRT {release.litert_at_least}, here is {litert}"
    return None


def is_in(node: NodeId, rollout: Rollout) -> bool:
    """Return whether a node's place, which its name and the release's decide, is below the percentage.

    A node that is in at some percentage is in at every higher one; another release shuffles the nodes anew.
    """
    place = int.from_bytes(_hash(node, rollout.release)[:8])
    return place * 100 < rollout.percent * _HASH_RANGE


def start_delay_s(node: NodeId, rollout: Rollout) -> float:
    """Return how long a node waits from when it first reads that it is in, in [0, spread_s), independent of its place.

    It counts from that moment, not from the signing, so that nodes which were away do not all begin when they return.
    """
    return rollout.spread_s * (int.from_bytes(_hash(node, rollout.release)[8:16]) / _HASH_RANGE)


def course(node: NodeId, active: str, rollout: Rollout) -> tuple[Course, str]:
    """Return what a rollout means to a node, and why, in words.

    Args:
        node: which one.
        active: the model that it runs, as `<name>/<version>`.
        rollout: of its channel.
    """
    name, version = _parts(active)
    new_name, new_version = _parts(rollout.release)
    if active == rollout.release:
        return Course.STAY, "runs it"
    if rollout.aborted:
        return Course.STAY, f"aborted: {rollout.reason}" if rollout.reason else "aborted"
    if name == new_name and new_version < version and not rollout.downgrade:
        return Course.REFUSE, f"{rollout.release} is older than {active}, and no downgrade is ordered"
    if rollout.paused:
        return Course.WAIT, f"paused: {rollout.reason}" if rollout.reason else "paused"
    if not is_in(node, rollout):
        return Course.WAIT, f"not among the first {rollout.percent} %"
    return Course.TAKE_UP, f"among the first {rollout.percent} %"


def read_release(custom: object, where: str) -> Release:
    """Return a release from a target's `custom`.

    Raises:
        MessageError: it is none, or a later schema's.
    """
    return _read(custom, Release, where)


def read_rollout(custom: object, where: str) -> Rollout:
    """Return a rollout from a target's `custom`.

    Raises:
        MessageError: it is none, or a later schema's.
    """
    return _read(custom, Rollout, where)


def _read(custom: object, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(custom, kind)
    except (msgspec.ValidationError, SettingsError) as error:
        msg = f"{where}: {error}"
        raise MessageError(msg) from error


def _abilities(features: FeatureSpec) -> dict[str, bool]:
    return {
        "mfcc": features.kind == "mfcc",
        "log-mel": features.kind == "log-mel",
        "centred": features.centred,
        "top": features.top_db is not None,
        "pitch": features.pitch,
        "range": features.window_range_db is not None,
        "mean": features.mean_removed > 0,
        "delta": features.delta_frames > 0,
    }


def _hash(node: NodeId, release: str) -> bytes:
    return hashlib.sha256(f"{node}\n{release}".encode()).digest()


def _parts(identity: str) -> tuple[str, int]:
    name, _, version = identity.rpartition("/")
    return name, int(version) if version.isdecimal() else 0


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.3.0.dev1 counts as 2.3.0, and that as 2.3."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)

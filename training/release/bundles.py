"""`add` and `remove`: which bundles the offline key signs."""

import hashlib
from typing import Final

import msgspec
from tuf.api.metadata import Metadata, TargetFile, Targets

from broker.contract.bundle import Bundle, read_bundle
from broker.contract.errors import ReleaseError
from broker.contract.release import Forced, Release, bundle_target, cut, describe
from training.release.gates import Gate, Verdict, check
from training.release.repository import Repository
from training.release.roles import Role

__all__ = ["active_bundle", "add", "gates_of", "remove"]

_REMOVED: Final = "x-sottovoce-removed"


def active_bundle(repository: Repository, channel: str) -> Bundle | None:
    """Return the bundle that a channel names; None if it names none."""
    rollout = repository.channels().get(channel)
    return None if rollout is None else read_bundle(repository.archive(rollout.release), rollout.release)


def gates_of(repository: Repository, bundle: Bundle, channel: str) -> tuple[Gate, ...]:
    """Return how a bundle stands beside the one that a channel names."""
    return check(bundle, active_bundle(repository, channel), repository.settings.gates)


def add(
    repository: Repository, bundle: Bundle, data: bytes, gates: tuple[Gate, ...], force: str | None = None
) -> Release:
    """Propose a bundle to be signed; `Repository.sign` goes on from here.

    Args:
        repository: where to.
        bundle: what is in `data`.
        data: the archive.
        gates: how it stands.
        force: why it is to be signed although a gate refuses it; recorded for everyone to read.

    Returns:
        What will be signed about it; the same as what is signed, where this very bundle is.

    Raises:
        ReleaseError: a gate refuses it, there is nothing to force, or its version was used for other content.
    """
    failed = [gate for gate in gates if gate.verdict == Verdict.FAILED]
    name = bundle.manifest.identity
    if failed and force is None:
        msg = f"{name} is refused: {'; '.join(map(str, failed))}; --force REASON signs it nevertheless and says so"
        raise ReleaseError(msg)
    if force is not None and not failed:
        msg = f"{name} passes every gate: leave out --force"
        raise ReleaseError(msg)
    forced = None if force is None else Forced(reason=force[:200], gates=tuple(str(gate)[:200] for gate in failed))
    known = repository.releases().get(name)
    digest = hashlib.sha256(data).hexdigest()
    targets = repository.targets()
    before = _removed(targets).get(name) if known is None else known[0].hashes.get("sha256")
    if before not in {None, digest}:  # nodes know releases by their names
        msg = f"{name} was signed with other content; a version is used once: raise --version when you bundle"
        raise ReleaseError(msg)
    if known is not None:
        return known[1]
    release = describe(bundle.manifest, data, forced)
    for part in cut(data):
        repository.files.write_chunk(part)
    path = bundle_target(name)
    custom = {"custom": msgspec.to_builtins(release)}
    targets.signed.targets[path] = TargetFile(len(data), {"sha256": digest}, path, custom)
    repository.propose({Role.TARGETS: targets})
    return release


def remove(repository: Repository, name: str) -> None:
    """Propose that a bundle is signed no longer: from then on no online key, stolen or not, can send nodes to it.

    Raises:
        ReleaseError: there is no such release, or a channel names it.
    """
    repository.release(name)
    users = [channel for channel, rollout in repository.channels().items() if rollout.release == name]
    if users:
        msg = f"{name} is what channel {', '.join(users)} names; publish another release there first"
        raise ReleaseError(msg)
    targets = repository.targets()
    gone = targets.signed.targets.pop(bundle_target(name))
    _removed(targets)[name] = gone.hashes["sha256"]
    repository.propose({Role.TARGETS: targets})


def _removed(targets: Metadata[Targets]) -> dict[str, str]:
    """Return the digests of what was signed once, by release: a field of ours, which TUF's clients ignore."""
    removed: dict[str, str] = targets.signed.unrecognized_fields.setdefault(_REMOVED, {})
    return removed

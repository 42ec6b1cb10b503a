"""`rotate-key` and `refresh --offline`: other keys, or the same ones for longer."""

from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from broker.contract.errors import ReleaseError
from training.release.repository import Repository
from training.release.roles import Role
from training.release.signed import key_ids

__all__ = ["renew_offline", "rotate"]


def rotate(repository: Repository, role: Role, folder: Path, old: str | None = None) -> tuple[str, str]:
    """Make a key and propose that it counts instead of an old one; `Repository.sign` goes on from here.

    Args:
        repository: where.
        role: whose.
        folder: where the new key's file goes; one of those that the repository's keys are looked for in.
        old: the first letters of the old key's id; None: the role has one key only.

    Returns:
        The ids of the new key and of the old one.

    Raises:
        MissingKeyError: not one key that must sign it is at hand; no new one is made then.
        ReleaseError: the old key is not named clearly, or another change waits for signatures.
    """
    if repository.files.pending.exists():
        msg = f"{repository.files.pending}: an earlier change waits: `sottovoce-release sign`, or delete it"
        raise ReleaseError(msg)
    root, targets = repository.root(), repository.targets()
    delegator = targets if role == Role.ROLLOUT else root
    known = key_ids(delegator.signed, role)
    matching = [each for each in known if old is None or each.startswith(old)]
    if len(matching) != 1:
        msg = f"{role} has the keys {', '.join(each[:16] for each in known)}; name one of them with --old"
        raise ReleaseError(msg)
    changed: dict[Role, Metadata[Any]] = {Role.ROOT: root, Role.TARGETS: targets}
    if role == Role.ROLLOUT:
        del changed[Role.ROOT]
    elif role != Role.TARGETS:
        del changed[Role.TARGETS]
    repository.check_keys(*changed)
    new = repository.ring.make(folder, role)
    delegator.signed.revoke_key(matching[0], role)
    delegator.signed.add_key(new, role)
    repository.propose(changed)
    return new.keyid, matching[0]


def renew_offline(repository: Repository) -> None:
    """Propose root and targets as they are, to be signed for another term."""
    repository.propose({Role.ROOT: repository.root(), Role.TARGETS: repository.targets()})

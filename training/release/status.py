"""How a repository stands: who signs what and for how long, which bundles there are, what each channel is told."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from tuf.api.metadata import Metadata

from broker.contract.release import Rollout
from training.release.repository import Repository
from training.release.roles import ONLINE, Role
from training.release.signed import days_left, key_ids, threshold

__all__ = ["ReleaseStatus", "RoleStatus", "Status", "status_of"]

_ONLINE_WARN: Final = 0.4
"""Share of their time below which online signatures are a sign that nobody refreshes: that renews them at a half."""
_OFFLINE_WARN_DAYS: Final = 30


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One role's newest metadata."""

    role: Role
    version: int
    keys: tuple[str, ...]
    """The first letters of their ids, those at hand marked by a star."""
    threshold: int
    days_left: float
    """Until it expires; below 0: it has."""


class ReleaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One signed bundle."""

    release: str
    bytes: int
    chunks: int
    channels: tuple[str, ...]
    """That name it."""
    forced: str | None
    """Why it was signed although a gate refused it."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole repository."""

    repository: str
    roles: tuple[RoleStatus, ...]
    releases: tuple[ReleaseStatus, ...]
    channels: tuple[Rollout, ...]
    pending: tuple[str, ...]
    """Signatures that a change waits for."""
    warnings: tuple[str, ...]
    """What somebody must do soon."""


def status_of(repository: Repository, pending: list[str]) -> Status:
    """Return how a repository stands.

    Args:
        repository: which one.
        pending: what `Repository.accept` says is missing.
    """
    channels = repository.channels()
    roles = tuple(_role(repository, role) for role in Role)
    return Status(
        repository=str(repository.files.folder),
        roles=roles,
        releases=tuple(
            ReleaseStatus(
                release=name,
                bytes=release.bytes,
                chunks=len(release.chunks),
                channels=tuple(channel for channel, rollout in channels.items() if rollout.release == name),
                forced=release.forced.reason if release.forced else None,
            )
            for name, (_, release) in repository.releases().items()
        ),
        channels=tuple(channels.values()),
        pending=tuple(pending),
        warnings=tuple(warning for each in roles if (warning := _warning(repository, each))),
    )


def _role(repository: Repository, role: Role) -> RoleStatus:
    read: dict[Role, Callable[[], Metadata[Any]]] = {
        Role.ROOT: repository.root,
        Role.TARGETS: repository.targets,
        Role.SNAPSHOT: repository.snapshot,
        Role.TIMESTAMP: repository.timestamp,
        Role.ROLLOUT: repository.rollout,
    }
    metadata = read[role]().signed
    delegator = repository.targets().signed if role == Role.ROLLOUT else repository.root().signed
    ids = key_ids(delegator, role)
    return RoleStatus(
        role=role,
        version=metadata.version,
        keys=tuple(f"{each[:8]}{'*' if repository.ring.has(role, each) else ''}" for each in ids),
        threshold=threshold(delegator, role),
        days_left=round(days_left(metadata, repository.now), 1),
    )


def _warning(repository: Repository, each: RoleStatus) -> str | None:
    online = each.role in ONLINE
    least = repository.settings.online_days * _ONLINE_WARN if online else _OFFLINE_WARN_DAYS
    if each.days_left >= least:
        return None
    what = "has expired: nodes take up nothing" if each.days_left < 0 else f"expires in {each.days_left:g} days"
    return f"{each.role} {what}; run `sottovoce-release refresh{'' if online else ' --offline'}`"

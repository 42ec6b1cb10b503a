"""Signed metadata as values: reading, writing, and who has signed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from broker.contract.errors import MessageError, ReleaseError
from broker.contract.release import Release, Rollout
from training.release.roles import Role

__all__ = ["days_left", "described", "is_signed", "key_ids", "meta_of", "parse", "threshold", "to_bytes"]

R = TypeVar("R", Release, Rollout)


def to_bytes(metadata: Metadata[Any]) -> bytes:
    """Return metadata as they are written and mirrored."""
    return metadata.to_bytes(JSONSerializer(compact=True))


def key_ids(delegator: Root | Targets, role: Role) -> list[str]:
    """Return the ids of the keys that count for a role."""
    return list(delegator.get_delegated_role(role).keyids)


def threshold(delegator: Root | Targets, role: Role) -> int:
    """Return how many of them must sign."""
    return int(delegator.get_delegated_role(role).threshold)


def days_left(signed: Root | Targets | Snapshot | Timestamp, now: datetime) -> float:
    """Return for how many days a signature still holds; below 0: it has expired."""
    return (signed.expires - now) / timedelta(days=1)


def is_signed(metadata: Metadata[Any], role: Role, delegator: Root | Targets) -> bool:
    """Return whether enough of the keys that count for a role have signed."""
    return bool(delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures))


def meta_of(data: bytes, version: int) -> MetaFile:
    """Return what a snapshot or a timestamp says about a file; always with its digest."""
    return MetaFile.from_data(version, data, ["sha256"])


def parse(data: bytes, where: str) -> Metadata[Any]:
    """Return the metadata in a file.

    Raises:
        ReleaseError: there are none.
    """
    try:
        return Metadata.from_bytes(data)
    except RepositoryError as error:
        msg = f"{where}: cannot be read ({error}); restore the folder from a copy"
        raise ReleaseError(msg) from error


def described(read: Callable[[object, str], R], target: TargetFile) -> R:
    """Return the document in a target's `custom`.

    Args:
        read: the reader of such documents.
        target: as signed.

    Raises:
        ReleaseError: it holds none.
    """
    try:
        return read(target.custom, target.path)
    except MessageError as error:
        msg = f"{error}; written by another version of this program?"
        raise ReleaseError(msg) from error

"""What a store holds as text, as values of the contract. A newer version may have filled it, or somebody else."""

import enum
from collections.abc import Iterable
from typing import TypeVar

from broker.contract.errors import SettingsError, StoreError
from broker.contract.topics import NodeId

__all__ = ["known", "node_id"]

E = TypeVar("E", bound=enum.StrEnum)


def known(kind: type[E], value: str) -> E:
    """Return a stored word as a member of its enumeration.

    Raises:
        StoreError: it is none that this version knows.
    """
    try:
        return kind(value)
    except ValueError as error:
        msg = f"the store holds {value!r}, this version knows {', '.join(kind)}; upgrade the console"
        raise StoreError(msg) from error


def node_id(parts: Iterable[object]) -> NodeId:
    """Return a stored node's site and name.

    Raises:
        StoreError: they are impossible ones.
    """
    try:
        return NodeId(*(str(part) for part in parts))
    except (SettingsError, TypeError) as error:
        msg = f"the store holds an impossible node: {error}"
        raise StoreError(msg) from error

"""Who signs what, and where the keys for it are kept."""

from enum import StrEnum
from typing import Final

__all__ = ["OFFLINE", "ONLINE", "Keep", "Role"]


class Role(StrEnum):
    """Who signs what."""

    ROOT = "root"
    """Which keys count for the other roles."""
    TARGETS = "targets"
    """Which bundles there are."""
    SNAPSHOT = "snapshot"
    """Which versions of all the rest belong together."""
    TIMESTAMP = "timestamp"
    """That the snapshot is still the newest."""
    ROLLOUT = "rollout"
    """Which release a channel's nodes run, and how many of them."""


OFFLINE: Final = (Role.ROOT, Role.TARGETS)
"""Whose keys belong on a medium that is put away."""
ONLINE: Final = (Role.SNAPSHOT, Role.TIMESTAMP, Role.ROLLOUT)
"""Whose keys a machine needs day and night."""


class Keep(StrEnum):
    """Where keys are kept; each place has a passphrase of its own."""

    OFFLINE = "offline"
    ONLINE = "online"

    @classmethod
    def of(cls, role: Role) -> "Keep":
        """Return where the keys of a role are kept."""
        return cls.OFFLINE if role in OFFLINE else cls.ONLINE

"""What comes of verified metadata: apart from the verifier, so that a node which only acts on it loads no TUF."""

import msgspec

from broker.contract.release import Release, Rollout

__all__ = ["Offer"]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What the signers want a channel's nodes to run."""

    rollout: Rollout
    release: Release
    """Of `rollout.release`."""
    bytes: int
    """Size of the archive."""
    sha256: str
    """Digest of the archive."""

"""What signed metadata offers a channel, or a TrustError: TUF's client workflow on a folder of mirrored files.

python-tuf does the work; this says where files are, how large they may be, and what each refusal is called. It takes
its time from the system, so whoever calls this on a device without a clock asks first whether the clock can be right.
The node, the simulator of a fleet and the release program, which looks at its own work as a node would, stand on it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from broker.contract.bundle import LARGEST_BUNDLE_BYTES
from broker.contract.errors import MessageError, Refusal, TrustError
from broker.contract.offer import Offer
from broker.contract.release import Rollout, bundle_target, channel_target, read_release, read_rollout
from broker.contract.topics import LARGEST_RETAINED_BYTES

__all__ = ["Offer", "check_archive", "verify"]

_BLOCK_BYTES: Final = 16_384
_NOT_FOUND: Final = 404
_BASE: Final = "mirror:/"
_SIGNED_BY: Final = re.compile(r"was signed by (\d+)/(\d+) keys")

_WORDS: Final = (
    (DownloadLengthMismatchError, Refusal.ENDLESS_DATA),
    (DownloadError, Refusal.INCOMPLETE),
    (ExpiredMetadataError, Refusal.EXPIRED),
    (BadVersionNumberError, Refusal.ROLLBACK),
    (LengthOrHashMismatchError, Refusal.MIX_AND_MATCH),
    (RepositoryError, Refusal.MALFORMED),
)


class _Mirror(FetcherInterface):
    """Files of a folder for python-tuf, which asks for them by address; a missing one is a 404."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._blocks(url.removeprefix(f"{_BASE}"))

    def _blocks(self, name: str) -> Iterator[bytes]:
        """Yield a file's content; what fails in here python-tuf does not wrap, so it is wrapped here."""
        try:
            with (self._folder / name).open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
        except FileNotFoundError as error:
            msg = f"{name} is not in the mirror"
            raise DownloadHTTPError(msg, _NOT_FOUND) from error
        except OSError as error:
            msg = f"{name}: {error}"
            raise DownloadError(msg) from error


def verify(mirror: Path, trusted: Path, anchor: bytes, channel: str) -> Offer:
    """Return what is offered to a channel, after every signature, version, digest and date has been checked.

    Args:
        mirror: folder with the files of `release/metadata/`, as they came.
        trusted: folder where this client keeps what it has verified, to notice a rollback; made when missing.
        anchor: the root metadata that this client was set up with.
        channel: which one.

    Raises:
        TrustError: with the refusal; what was verified before stays.
        OSError: `trusted` cannot be written.
    """
    trusted.mkdir(parents=True, exist_ok=True)
    config = UpdaterConfig(
        root_max_length=LARGEST_RETAINED_BYTES,
        timestamp_max_length=LARGEST_RETAINED_BYTES,
        snapshot_max_length=LARGEST_RETAINED_BYTES,
        targets_max_length=LARGEST_RETAINED_BYTES,
        max_delegations=2,
    )
    try:
        updater = Updater(str(trusted), _BASE, fetcher=_Mirror(mirror), config=config, bootstrap=anchor)
        updater.refresh()
        document = updater.get_targetinfo(channel_target(channel))
        if document is None:
            raise TrustError(Refusal.UNKNOWN_CHANNEL, f"nothing is signed for channel {channel!r}")
        rollout = read_rollout(document.custom, channel_target(channel))
        target = updater.get_targetinfo(bundle_target(rollout.release))
    except (RepositoryError, DownloadError) as error:
        raise TrustError(_refusal(error), str(error)) from error
    except MessageError as error:
        raise TrustError(Refusal.MALFORMED, str(error)) from error
    if target is None:
        msg = f"channel {channel!r} names {rollout.release}, which the offline key has not signed"
        raise TrustError(Refusal.UNSIGNED_RELEASE, msg)
    if rollout.channel != channel:
        raise TrustError(Refusal.MALFORMED, f"the document of channel {channel!r} is made for {rollout.channel!r}")
    return _offer(rollout, target)


def check_archive(offer: Offer, data: bytes) -> None:
    """Check that an archive put together from its chunks is the one that was signed.

    Raises:
        TrustError: it is not.
    """
    target = TargetFile(offer.bytes, {"sha256": offer.sha256}, bundle_target(offer.release.model))
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise TrustError(Refusal.MIX_AND_MATCH, f"{offer.release.model}: {error}") from error


def _offer(rollout: Rollout, target: TargetFile) -> Offer:
    try:
        release = read_release(target.custom, target.path)
    except MessageError as error:
        raise TrustError(Refusal.MALFORMED, str(error)) from error
    digest = target.hashes.get("sha256")
    if digest is None or release.model != rollout.release or release.bytes != target.length:
        raise TrustError(Refusal.MALFORMED, f"{target.path}: what is signed about it contradicts itself")
    if target.length > LARGEST_BUNDLE_BYTES:
        raise TrustError(Refusal.ENDLESS_DATA, f"{target.path}: {target.length} bytes")
    return Offer(rollout=rollout, release=release, bytes=target.length, sha256=digest)


def _refusal(error: RepositoryError | DownloadError) -> Refusal:
    """Return the word for what python-tuf raised.

    Our metadata list digests everywhere, so that a file of another state fails by its digest before its version is
    looked at: a version that does not fit is an older one, played again.
    """
    if isinstance(error, UnsignedMetadataError):
        counted = _SIGNED_BY.search(str(error))
        return Refusal.TOO_FEW_SIGNATURES if counted and int(counted[1]) else Refusal.WRONG_KEY
    return next(word for kind, word in _WORDS if isinstance(error, kind))

"""A channel's document on the disk, which is the truth: read anew each time, and signed under the lock."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from broker.contract.errors import ReleaseError
from broker.contract.release import Rollout
from training.release import channels
from training.release.files import Files
from training.release.keys import KeyRing
from training.release.mirror import Mirrored, mirror_all
from training.release.repository import Repository
from training.release.roles import ONLINE, Role
from training.release.signed import key_ids

__all__ = ["Document"]

_MIRROR_WAIT_S: Final = 10.0
"""Shorter than a command's: a controller tries again."""
_LONGEST_REASON: Final = 200


class Document:
    """What one channel is told; other programs may change it at any time, so nothing of it is kept here."""

    def __init__(self, folder: Path, ring: KeyRing, channel: str) -> None:
        """Name it; nothing is read yet.

        Args:
            folder: of the repository.
            ring: the online keys, which ask for their passphrase once.
            channel: whose document.
        """
        self.channel = channel
        self._folder = folder
        self._ring = ring

    def read(self) -> Rollout:
        """Return it as it is now.

        Raises:
            ReleaseError: it cannot be read, or the channel names no release.
            SettingsError: the repository's settings are wrong.
        """
        try:
            return channels.document(self._open(), self.channel)
        except OSError as error:
            msg = f"{error.filename or self._folder}: {error.strerror}"
            raise ReleaseError(msg) from error

    def unlock(self) -> None:
        """Open every key that a change of it needs, so that nothing is asked later.

        Raises:
            MissingKeyError: one is not at hand.
            SettingsError: the passphrase is wrong.
        """
        repository = self._open()
        for role in ONLINE:
            delegator = repository.targets().signed if role == Role.ROLLOUT else repository.root().signed
            if not self._ring.signers(role, key_ids(delegator, role)):
                raise self._ring.lacks(role)

    def step(self, judged: Rollout, percent: int) -> bool:
        """Sign another percentage, unless the document is not the judged one any more; `mirror` sends it.

        Returns:
            Whether it was signed.

        Raises:
            BusyError: another command works on the repository.
            ReleaseError: it cannot be signed.
            SettingsError: the passphrase is wrong.
        """
        return self._change(judged, lambda repository: channels.step(repository, self.channel, percent))

    def abort(self, judged: Rollout, reason: str) -> bool:
        """Sign that it is aborted, unless the document is not the judged one any more; returns and raises as `step`."""
        return self._change(
            judged, lambda repository: channels.abort(repository, self.channel, reason[:_LONGEST_REASON])
        )

    def mirror(self) -> Mirrored | None:
        """Make the broker retain what is signed; None: the settings name no broker.

        What an interrupted step has left half signed is completed before.

        Raises:
            BusyError: another command works on the repository.
            LinkError: the broker cannot be reached, or refuses.
            ReleaseError: a node would refuse what is signed.
        """
        with Files(self._folder).locked(wait_s=0):
            repository = self._open()
            repository.settle()
            broker = repository.settings.broker
            if broker is None:
                return None
            return mirror_all(repository.files, list(repository.channels()), broker, wait_s=_MIRROR_WAIT_S)

    def _change(self, judged: Rollout, change: Callable[[Repository], Rollout]) -> bool:
        with Files(self._folder).locked(wait_s=0):
            repository = self._open()
            if repository.channels().get(self.channel) != judged:
                return False
            change(repository)
            return True

    def _open(self) -> Repository:
        return Repository(self._folder, self._ring, datetime.now(UTC))

"""A repository of releases: what is signed now, how a change becomes signed, and what the online keys keep up.

A change of root or targets is proposed as a whole, collects signatures until it has enough, and is then accepted.
Whatever the online roles say follows from that: `settle` signs what is missing, so that a command which was interrupted
between two files is completed by the next one.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from broker.contract.errors import ReleaseError
from broker.contract.release import Release, Rollout, read_release, read_rollout
from broker.files import write_whole
from broker.settings import read_settings
from training.release.files import Files, file_name
from training.release.keys import KeyRing
from training.release.roles import OFFLINE, Role
from training.release.settings import ReleaseSettings
from training.release.signed import described, is_signed, key_ids, meta_of, parse, threshold, to_bytes

__all__ = ["Repository"]

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)

_SNAPSHOT_LISTS: Final = ("targets.json", "rollout.json")
_STALE: Final = 0.5
"""Share of its time after which a signature is renewed."""


class Repository:
    """The signed state in a folder; the clock is passed in, and read once for each command."""

    def __init__(self, folder: Path, ring: KeyRing, now: datetime) -> None:
        """Open a folder.

        Args:
            folder: of the repository.
            ring: the private keys at hand.
            now: the time that signatures are dated by, UTC.

        Raises:
            ReleaseError: it is no repository.
            SettingsError: its settings are wrong.
        """
        self.files = Files(folder)
        self.files.check_there()
        self.ring = ring
        self.now = now.astimezone(UTC).replace(microsecond=0)
        self.settings = read_settings(self.files.settings, ReleaseSettings, "every repository has one")

    def root(self) -> Metadata[Root]:
        """Return the newest root."""
        return self._read(Role.ROOT, Root)

    def targets(self) -> Metadata[Targets]:
        """Return what the offline key signed about bundles."""
        return self._read(Role.TARGETS, Targets)

    def rollout(self) -> Metadata[Targets]:
        """Return what the online key signed about channels."""
        return self._read(Role.ROLLOUT, Targets)

    def snapshot(self) -> Metadata[Snapshot]:
        """Return which versions belong together."""
        return self._read(Role.SNAPSHOT, Snapshot)

    def timestamp(self) -> Metadata[Timestamp]:
        """Return which snapshot is the newest."""
        return self._read(Role.TIMESTAMP, Timestamp)

    def releases(self) -> dict[str, tuple[TargetFile, Release]]:
        """Return the signed bundles by `<name>/<version>`."""
        targets = self.targets().signed.targets
        read = ((target, described(read_release, target)) for target in targets.values())
        return {release.model: (target, release) for target, release in read}

    def channels(self) -> dict[str, Rollout]:
        """Return the channels' documents by channel."""
        targets = self.rollout().signed.targets
        return {each.channel: each for each in (described(read_rollout, target) for target in targets.values())}

    def archive(self, name: str) -> bytes:
        """Return a signed bundle, put together from its chunks.

        Raises:
            ReleaseError: there is no such release, or a chunk is missing.
        """
        _, release = self.release(name)
        try:
            return b"".join((self.files.chunks / chunk.sha256).read_bytes() for chunk in release.chunks)
        except FileNotFoundError as error:
            msg = f"{error.filename}: a chunk of {name} is missing; add its bundle again"
            raise ReleaseError(msg) from error

    def release(self, name: str) -> tuple[TargetFile, Release]:
        """Return what is signed about one bundle.

        Raises:
            ReleaseError: nothing is.
        """
        releases = self.releases()
        if name not in releases:
            known = ", ".join(releases) or "none"
            msg = f"{name}: no such release; signed are: {known}"
            raise ReleaseError(msg)
        return releases[name]

    def check_keys(self, *roles: Role) -> None:
        """Check that somebody is here who may sign for one of these offline roles; the others may be elsewhere.

        Raises:
            MissingKeyError: not one of their keys is at hand.
        """
        root = self.root().signed
        if not any(self.ring.has(role, each) for role in roles for each in key_ids(root, role)):
            raise self.ring.lacks(*roles)

    def propose(self, changed: Mapping[Role, Metadata[Any]]) -> None:
        """Propose new versions of root or targets; `sign` goes on from here.

        Raises:
            MissingKeyError: as `check_keys`.
            ReleaseError: another change waits for signatures.
        """
        self.check_keys(*changed)
        new = {}
        for role, metadata in changed.items():
            metadata.signed.version += 1
            metadata.signed.expires = self.now + timedelta(days=self.settings.offline_days)
            metadata.signatures.clear()
            new[file_name(role, metadata.signed.version)] = to_bytes(metadata)
        self.files.propose(new)

    def sign(self) -> list[str]:
        """Add the signatures of the keys at hand to what is pending, and accept it if they are enough.

        Returns:
            What is still missing, a line for each file; nothing if the change was accepted, or there was none.

        Raises:
            SettingsError: the passphrase is wrong.
        """
        waiting = self._pending()
        for role, metadata in waiting.items():
            for signer in self.ring.signers(role, self._who_may_sign(role, waiting)):
                if signer.public_key.keyid not in metadata.signatures:
                    metadata.sign(signer, append=True)
            pending = self.files.pending / file_name(role, metadata.signed.version)
            write_whole(pending, to_bytes(metadata), durable=True)
        return self.accept()

    def accept(self) -> list[str]:
        """Accept what is pending if enough have signed it; this needs no key.

        Returns:
            As `sign`.
        """
        waiting = self._pending()
        names = {role: file_name(role, metadata.signed.version) for role, metadata in waiting.items()}
        missing = [
            f"{names[role]}: {count} more signature{'s' * (count != 1)} of {role} keys"
            for role, count in self.missing().items()
        ]
        if not missing and self.files.pending.exists():
            self.files.accept(names[role] for role in OFFLINE if role in names)
        return missing

    def missing(self) -> dict[Role, int]:
        """Return how many signatures what is pending still lacks; roles that have enough are left out."""
        waiting = self._pending()
        counts = {role: self._missing(role, metadata, waiting) for role, metadata in waiting.items()}
        return {role: count for role, count in counts.items() if count}

    def sign_online(self, metadata: Metadata[S], role: Role, delegator: Root | Targets) -> None:
        """Sign and write the next version of an online role's metadata.

        Raises:
            MissingKeyError: too few of its keys are at hand.
        """
        ids, needed = key_ids(delegator, role), threshold(delegator, role)
        if sum(self.ring.has(role, each) for each in ids) < needed:
            raise self.ring.lacks(role)
        metadata.signed.version += 1
        metadata.signed.expires = self.now + timedelta(days=self.settings.online_days)
        metadata.signatures.clear()
        for signer in self.ring.signers(role, ids):
            metadata.sign(signer, append=True)
        self.files.write(file_name(role, metadata.signed.version), to_bytes(metadata))

    def settle(self, *, renew: bool = False) -> None:
        """Make snapshot and timestamp say what the newest files are; nothing is written if they do.

        Args:
            renew: whether the timestamp is signed anew even so.

        Raises:
            MissingKeyError: an online key that is needed is not at hand.
            ReleaseError: a file is missing or not signed by whom it should be.
        """
        root, targets = self.root().signed, self.targets()
        if not is_signed(targets, Role.TARGETS, root):
            msg = f"{self.files.metadata}: the newest targets are not signed by the keys that the newest root names"
            raise ReleaseError(msg)
        rollout = self.rollout()
        if not is_signed(rollout, Role.ROLLOUT, targets.signed) or self._is_stale(rollout.signed):
            self.sign_online(rollout, Role.ROLLOUT, targets.signed)
        wanted = {
            name: meta_of(self._newest(role), metadata.signed.version)
            for name, role, metadata in zip(
                _SNAPSHOT_LISTS, (Role.TARGETS, Role.ROLLOUT), (targets, rollout), strict=True
            )
        }
        snapshot = self.snapshot()
        if (
            snapshot.signed.meta != wanted
            or not is_signed(snapshot, Role.SNAPSHOT, root)
            or self._is_stale(snapshot.signed)
        ):
            snapshot.signed.meta = wanted
            self.sign_online(snapshot, Role.SNAPSHOT, root)
        newest = meta_of(self._newest(Role.SNAPSHOT), snapshot.signed.version)
        timestamp = self.timestamp()
        changed = timestamp.signed.snapshot_meta != newest or not is_signed(timestamp, Role.TIMESTAMP, root)
        if renew or changed or self._is_stale(timestamp.signed):
            timestamp.signed.snapshot_meta = newest
            self.sign_online(timestamp, Role.TIMESTAMP, root)
        self.files.tidy(chunk.sha256 for release in self._kept() for chunk in release.chunks)

    def _kept(self) -> list[Release]:
        """Return the releases that are signed or wait for signatures."""
        kept = [release for _, release in self.releases().values()]
        if (waiting := self._pending().get(Role.TARGETS)) is not None:
            kept += [described(read_release, target) for target in waiting.signed.targets.values()]
        return kept

    def _pending(self) -> dict[Role, Metadata[Any]]:
        if not self.files.pending.exists():
            return {}
        found = {}
        for path in sorted(self.files.pending.glob("*.json")):
            metadata: Metadata[Any] = parse(path.read_bytes(), str(path))
            found[Role(metadata.signed.type)] = metadata
        return found

    def _who_may_sign(self, role: Role, waiting: Mapping[Role, Metadata[Any]]) -> Sequence[str]:
        delegators = [self.root().signed]
        if Role.ROOT in waiting:
            delegators = [waiting[Role.ROOT].signed, *(delegators if role == Role.ROOT else [])]
        return list(dict.fromkeys(each for root in delegators for each in key_ids(root, role)))

    def _missing(self, role: Role, metadata: Metadata[Any], waiting: Mapping[Role, Metadata[Any]]) -> int:
        """Return how many signatures a pending file lacks; a root needs those of the root before it as well."""
        new = waiting[Role.ROOT].signed if Role.ROOT in waiting else self.root().signed
        judges = [self.root().signed, new] if role == Role.ROOT else [new]
        results = [each.get_verification_result(role, metadata.signed_bytes, metadata.signatures) for each in judges]
        return max(result.missing for result in results)

    def _is_stale(self, signed: Targets | Snapshot | Timestamp) -> bool:
        return signed.expires - self.now < timedelta(days=self.settings.online_days) * _STALE

    def _newest(self, role: Role) -> bytes:
        data = self.files.read(role)
        if data is None:
            msg = f"{self.files.metadata}: no metadata of {role}; restore the folder from a copy"
            raise ReleaseError(msg)
        return data

    def _read(self, role: Role, kind: type[S]) -> Metadata[S]:
        metadata: Metadata[Any] = parse(self._newest(role), f"{self.files.metadata}: {role}")
        if not isinstance(metadata.signed, kind):
            msg = f"{self.files.metadata}: the metadata of {role} are another role's; restore the folder from a copy"
            raise ReleaseError(msg)
        return metadata

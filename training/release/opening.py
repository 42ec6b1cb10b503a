"""`init`: a new repository with its keys, all of it or nothing."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from broker.contract.errors import ReleaseError, SettingsError
from broker.files import write_whole
from training.release.files import file_name
from training.release.keys import Key, KeyRing, Passphrase
from training.release.roles import Keep, Role
from training.release.settings import TEMPLATE, ReleaseSettings
from training.release.signed import to_bytes

__all__ = ["Owners", "init"]

_IGNORED: Final = (
    "# Private keys and what a command leaves behind when it is killed.\nkeys/\n.lock\n.*.part\n.pending.part/\n"
)


class Owners(msgspec.Struct, frozen=True, kw_only=True):
    """How many keys the offline roles get, and how many of them must sign."""

    root_keys: int = 1
    root_threshold: int = 1
    targets_keys: int = 1
    targets_threshold: int = 1

    def __post_init__(self) -> None:
        """Refuse a threshold that could never be reached.

        Raises:
            SettingsError: naming it.
        """
        for role, keys, needed in (
            (Role.ROOT, self.root_keys, self.root_threshold),
            (Role.TARGETS, self.targets_keys, self.targets_threshold),
        ):
            if not 1 <= needed <= keys <= 16:  # noqa: PLR2004 -- more would not fit the size of a retained root
                msg = f"{role}: {needed} of {keys} keys; allowed are 1 to 16 keys, and a threshold of 1 to their number"
                raise SettingsError(msg)


def init(
    folder: Path,
    passphrase: Passphrase,
    now: datetime,
    owners: Owners | None = None,
    elsewhere: dict[Keep, Path] | None = None,
) -> None:
    """Make a repository; nothing is left of it when this fails, but for keys in folders elsewhere.

    Args:
        folder: of the repository; empty, or not there yet.
        passphrase: asks for one of the two.
        now: the time that signatures are dated by, UTC.
        owners: of the offline keys; None: one each.
        elsewhere: folders for keys that are not to be kept in the repository's own.

    Raises:
        ReleaseError: there is something, or it cannot be written.
        SettingsError: a passphrase is too short.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder}: is not empty; name a folder that is not there yet"
        raise ReleaseError(msg)
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        for each in (part, part / "metadata", part / "chunks"):
            each.mkdir(mode=0o700 if each == part else 0o755)
        places = {keep: (elsewhere or {}).get(keep, part / "keys" / keep) for keep in Keep}
        _write(part, places, passphrase, now.astimezone(UTC).replace(microsecond=0), owners or Owners())
        part.rename(folder)
    except OSError as error:
        msg = f"{folder}: cannot be written ({error.strerror}); name a folder that you can write"
        raise ReleaseError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, places: dict[Keep, Path], passphrase: Passphrase, now: datetime, owners: Owners) -> None:
    settings = ReleaseSettings()
    (part / "settings.toml").write_text(TEMPLATE, encoding="utf-8")
    (part / ".gitignore").write_text(_IGNORED, encoding="utf-8")
    count = {Role.ROOT: owners.root_keys, Role.TARGETS: owners.targets_keys}
    ring = KeyRing(list(places.values()), passphrase)
    keys: dict[Role, list[Key]] = {
        role: [ring.make(places[Keep.of(role)], role) for _ in range(count.get(role, 1))] for role in Role
    }
    offline, online = (now + timedelta(days=days) for days in (settings.offline_days, settings.online_days))
    root = Root(expires=offline, consistent_snapshot=True)
    for role in (Role.ROOT, Role.TARGETS, Role.SNAPSHOT, Role.TIMESTAMP):
        for key in keys[role]:
            root.add_key(key, role)
    root.roles[Role.ROOT].threshold = owners.root_threshold
    root.roles[Role.TARGETS].threshold = owners.targets_threshold
    targets = Targets(expires=offline)
    # terminating: what this role says about a channel is the last word, and it is asked about nothing else
    delegated = DelegatedRole(Role.ROLLOUT, [], 1, terminating=True, paths=["channel/*"])
    targets.delegations = Delegations(keys={}, roles={Role.ROLLOUT: delegated})
    targets.add_key(keys[Role.ROLLOUT][0], Role.ROLLOUT)

    def signed(role: Role, content: Root | Targets | Snapshot | Timestamp) -> bytes:
        metadata: Metadata[Any] = Metadata(content)
        for signer in ring.signers(role, [key.keyid for key in keys[role]]):
            metadata.sign(signer, append=True)
        data = to_bytes(metadata)
        write_whole(part / "metadata" / file_name(role, 1), data, durable=True)
        return data

    signed(Role.ROOT, root)
    listed = {
        "targets.json": MetaFile.from_data(1, signed(Role.TARGETS, targets), ["sha256"]),
        "rollout.json": MetaFile.from_data(1, signed(Role.ROLLOUT, Targets(expires=online)), ["sha256"]),
    }
    snapshot = signed(Role.SNAPSHOT, Snapshot(expires=online, meta=listed))
    signed(Role.TIMESTAMP, Timestamp(expires=online, snapshot_meta=MetaFile.from_data(1, snapshot, ["sha256"])))

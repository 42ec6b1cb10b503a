"""The release of a rehearsal: a bundle, and the real `sottovoce-release` that signs, publishes and rolls it out."""

import os
import random
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from broker.contract.bundle import read_bundle, write_bundle
from broker.contract.errors import ReleaseError, SettingsError
from broker.contract.topics import RELEASE_USER, WATCHER_USER
from broker.local import LocalBroker
from edge_node.models import factory_bundle
from edge_node.simulate.work import Behaviour

__all__ = ["Releases", "make_bundle", "rename_factory"]

_OFFLINE: Final = "SOTTOVOCE_FLEET_OFFLINE"
_ONLINE: Final = "SOTTOVOCE_FLEET_ONLINE"
_RELEASE: Final = "SOTTOVOCE_FLEET_RELEASE"
_WATCHER: Final = "SOTTOVOCE_FLEET_WATCHER"
_WAIT_S: Final = 300.0
_NAME: Final = "rehearsal"
_REASON: Final = "rehearsal by sottovoce-fleet"
_SETTINGS: Final = """
[{section}]
host = "127.0.0.1"
port = {port}
tls = false
username = "{user}"
password_env = "{variable}"
"""


class _Known(msgspec.Struct):
    release: str
    channels: list[str]


class _Status(msgspec.Struct):
    """What is needed of `sottovoce-release status --json`."""

    releases: list[_Known]


class Releases:
    """A repository of releases, worked on by the real program. Secrets go by the environment."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, offline: str, online: str, channel: str
    ) -> None:
        """Take the repository as it is.

        Args:
            folder: of the repository.
            environment: of the program, with what it must know in secret.
            offline: name of the variable with the passphrase of the offline keys.
            online: likewise.
            channel: that is to name the release.
        """
        self.folder, self.channel = folder, channel
        self._environment = environment
        self._keys = ("--offline-passphrase-env", offline, "--online-passphrase-env", online)

    @classmethod
    def new(cls, folder: Path, broker: LocalBroker | None, channel: str = "rehearsal") -> Self:
        """Return a new repository with keys of its own, mirrored to a broker if there is one.

        Raises:
            ReleaseError: it could not be made.
        """
        environment = os.environ | {_OFFLINE: secrets.token_urlsafe(24), _ONLINE: secrets.token_urlsafe(24)}
        if broker is not None:
            environment |= {_RELEASE: broker.passwords[RELEASE_USER], _WATCHER: broker.passwords[WATCHER_USER]}
        made = cls(folder, environment, offline=_OFFLINE, online=_ONLINE, channel=channel)
        made.run("init")
        if broker is not None:
            users = (("broker", RELEASE_USER, _RELEASE), ("watch", WATCHER_USER, _WATCHER))
            settings = "".join(
                _SETTINGS.format(section=section, port=broker.port, user=user, variable=variable)
                for section, user, variable in users
            )
            (folder / "settings.toml").write_text(settings, encoding="utf-8")
        return made

    @property
    def anchor(self) -> bytes:
        """The root that nodes are set up with.

        Raises:
            SettingsError: the folder is no repository.
        """
        path = self.folder / "metadata" / "1.root.json"
        try:
            return path.read_bytes()
        except OSError as error:
            msg = f"{path}: {error.strerror}; name a folder that `sottovoce-release init` made"
            raise SettingsError(msg) from error

    def add(self, bundle: Path) -> None:
        """Sign a bundle; what a gate refuses is signed by force, with the reason beside it.

        Raises:
            ReleaseError: it could not be signed.
        """
        try:
            self.run("add", str(bundle), "--channel", self.channel)
        except ReleaseError as error:
            if "--force REASON" not in str(error):
                raise
            self.run("add", str(bundle), "--channel", self.channel, "--force", _REASON)

    def publish(self, release: str) -> None:
        """Let the channel name a release; nobody takes it up yet.

        Raises:
            ReleaseError: it could not, or the channel is one that real nodes may follow.
        """
        known = msgspec.json.decode(self.run("status", "--json"), type=_Status).releases
        others = [each.release for each in known if self.channel in each.channels and not _is_rehearsed(each.release)]
        if others:
            msg = (
                f"channel {self.channel} names {others[0]}, so real nodes may follow it and would take it up; "
                "name another by --channel"
            )
            raise ReleaseError(msg)
        self.run("publish", release, "--channel", self.channel)

    def roll_out(self, release: str, options: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """Return the controller, which has begun to step through the phases; what it says goes into a file."""
        command = self._command("rollout", release, "--channel", self.channel, *options)
        with log.open("wb") as out:
            return subprocess.Popen(  # noqa: S603 -- our own program
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._environment,
                start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str) -> str:
        """Return what a command of the release program printed.

        Raises:
            ReleaseError: it failed; with its last line.
        """
        done = subprocess.run(  # noqa: S603 -- our own program
            self._command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self._environment,
            timeout=_WAIT_S, check=False, start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            msg = lines[-1].removeprefix("sottovoce-release: error: ")
            raise ReleaseError(msg)
        return done.stdout

    def _command(self, command: str, *words: str) -> list[str]:
        return [
            sys.executable, "-m", "training.release", command, *words, "--repository", str(self.folder), *self._keys,
        ]  # fmt: skip


def make_bundle(seed: int, kind: Behaviour) -> tuple[str, bytes]:
    """Return a release's name, and its archive: the factory model under a name and version that the seed draws.

    Which nodes are in first depends on that name, so it is drawn before anything is known of them.
    """
    rng = random.Random(f"{seed} release")  # noqa: S311 -- repeatable is what is wanted
    identity = f"{_NAME}-{rng.getrandbits(24):06x}/{rng.randint(1, 999_999)}"
    return identity, rename_factory(identity, is_corrupt=kind is Behaviour.CORRUPT)


def rename_factory(identity: str, *, is_corrupt: bool = False) -> bytes:
    """Return the factory model's archive under another `<name>/<version>`.

    Args:
        identity: the new one.
        is_corrupt: whether its golden vectors are to be those of another model, which every node notices.

    Raises:
        BundleError: no bundle may have that name or version.
    """
    bundle = read_bundle(factory_bundle(), "the factory model")
    name, _, version = identity.rpartition("/")
    manifest, golden = msgspec.structs.replace(bundle.manifest, name=name, version=int(version)), bundle.golden
    if is_corrupt:
        golden = msgspec.structs.replace(golden, probabilities=golden.probabilities[:, ::-1].copy())
    return write_bundle(msgspec.structs.replace(bundle, manifest=manifest, golden=golden))


def _is_rehearsed(release: str) -> bool:
    """Return whether a release is one that `make_bundle` has made."""
    return re.fullmatch(rf"{_NAME}-[0-9a-f]{{6}}/[0-9]+", release) is not None

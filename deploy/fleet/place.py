"""Where a fleet runs: on a broker, with a repository and a collector of its own, or on a broker that is there."""

import argparse
import os
import ssl
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import SettingsError
from broker.contract.topics import RELEASE_USER, WATCHER_USER, NodeId
from broker.local import LocalBroker
from broker.settings import BrokerSettings
from deploy.demo.programs import COLLECTOR, Programs
from deploy.fleet.address import identity_there, settings_of
from deploy.fleet.releases import Releases
from edge_node.simulate.call import Identity
from edge_node.simulate.fleet import names
from edge_node.simulate.work import Behaviour

__all__ = ["Place", "open_place"]

_RECONNECT_MOST_S: Final = 10.0
"""Of a rehearsal's nodes; a real node's default is a minute, which a rehearsal of minutes has no time for."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet needs to know."""

    settings: BrokerSettings
    tls: ssl.SSLContext | None
    identity: Callable[[NodeId], Identity]
    anchor: bytes | None
    """None: the first root that the broker retains."""
    releases: Releases | None
    """None: nothing is published from here."""
    folder: Path
    """For files of the rehearsal; gone when it ends."""
    broker: LocalBroker | None = None
    programs: Programs | None = None


@contextmanager
def open_place(args: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Place]:
    """Start what the arguments ask for, and end it again.

    Args:
        args: of the command.
        say: tells a person what happens.

    Raises:
        SottovoceError: it cannot be started, or the arguments contradict each other.
    """
    with tempfile.TemporaryDirectory(prefix="sottovoce-fleet-") as name:
        if args.broker is not None:
            yield _there(args, Path(name))
        else:
            if args.repository is not None:
                msg = "--repository goes with --broker; without them a repository is made for the rehearsal"
                raise SettingsError(msg)
            with _own(args, Path(name), say) as place:
                yield place


@contextmanager
def _own(args: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Iterator[Place]:
    (folder / "broker").mkdir()
    nodes = names(args.nodes)
    broker = LocalBroker(folder / "broker", [*map(str, nodes), RELEASE_USER, WATCHER_USER, COLLECTOR], kind="mosquitto")
    programs = Programs(folder, broker)
    try:
        broker.start()
        say(f"broker: Mosquitto on 127.0.0.1:{broker.port}, with passwords and the production ACL")
        releases = Releases.new(folder / "releases", broker, args.channel)
        programs.start_collector()
        passwords = broker.passwords

        def identity(node: NodeId) -> Identity:
            return Identity(client_id=f"{node.site}.{node.node}", username=str(node), password=passwords[str(node)])

        yield Place(
            settings=BrokerSettings(host="127.0.0.1", port=broker.port, tls=False, reconnect_most_s=_RECONNECT_MOST_S),
            tls=None,
            identity=identity,
            anchor=releases.anchor,
            releases=releases,
            folder=folder,
            broker=broker,
            programs=programs,
        )
    finally:
        programs.stop()
        broker.stop()


def _there(args: argparse.Namespace, folder: Path) -> Place:
    settings = settings_of(args.broker, args.ca_file, is_owned=args.i_own_this_broker)
    releases = None
    if args.repository is not None:
        _must_control(args.repository / "settings.toml")
        releases = Releases(
            args.repository,
            os.environ,
            offline=args.offline_passphrase_env,
            online=args.online_passphrase_env,
            channel=args.channel,
        )
    elif args.release is Behaviour.CORRUPT:
        msg = "--release corrupt needs a bundle of its own: name the --repository to publish it from"
        raise SettingsError(msg)
    return Place(
        settings=settings,
        tls=_tls(settings) if settings.tls else None,
        identity=identity_there(settings),
        anchor=None if releases is None else releases.anchor,
        releases=releases,
        folder=folder,
    )


def _must_control(path: Path) -> None:
    """Raise unless a repository's settings name a broker to mirror to, and one to watch at.

    Raises:
        SettingsError: they do not, or cannot be read.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: {getattr(error, 'strerror', None) or error}; name a folder that `sottovoce-release init` made"
        raise SettingsError(msg) from error
    missing = [f"[{section}]" for section in ("broker", "watch") if section not in settings]
    if missing:
        msg = f"{path}: names no {' and no '.join(missing)}, so that nobody would publish or step through the phases"
        raise SettingsError(msg)


def _tls(settings: BrokerSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        msg = f"--ca-file {settings.ca_file}: {error}; name a PEM file that this user can read"
        raise SettingsError(msg) from error

"""What each command of `sottovoce-release` does, in the order in which it does it."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, read_bundle
from broker.contract.errors import BundleError, ReleaseError, SettingsError
from broker.contract.release import Release
from broker.settings import BrokerSettings
from training.release import channels, fleet_commands
from training.release.bundles import add, gates_of, remove
from training.release.keys import KeyRing, MissingKeyError
from training.release.mirror import mirror_all
from training.release.opening import Owners, init
from training.release.passphrase import passphrases
from training.release.repository import Repository
from training.release.roles import Keep, Role
from training.release.rotation import renew_offline, rotate
from training.release.show import after_abort, open_console, say, show_gates, show_release, show_rollout, show_status
from training.release.signed import threshold
from training.release.status import status_of

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Run the command that the arguments name and return its exit code."""
    if args.command == "init":
        return _init(args)
    variables = {Keep.OFFLINE: args.offline_passphrase_env, Keep.ONLINE: args.online_passphrase_env}
    folder: Path = args.repository
    places = [*args.keys, *(folder / "keys" / keep for keep in Keep)]
    if args.command == "rotate-key":
        args.into = args.into or folder / "keys" / Keep.of(args.role)
        places.append(args.into)
    ring = KeyRing(places, passphrases(variables, new=args.command == "rotate-key"))
    repository = Repository(folder, ring, datetime.now(UTC))
    if args.command in _WITHOUT_LOCK:
        return _WITHOUT_LOCK[args.command](args, repository)
    with repository.files.locked():
        pending = repository.accept()
        if args.command == "status":
            return _status(args, repository, pending)
        code = _COMMANDS[args.command](args, repository)
        if repository.settings.broker is not None:
            _mirror(repository, repository.settings.broker)
    return _end(args, repository, code)


def _init(args: argparse.Namespace) -> int:
    variables = {Keep.OFFLINE: args.offline_passphrase_env, Keep.ONLINE: args.online_passphrase_env}
    owners = Owners(
        root_keys=args.root_keys,
        root_threshold=args.root_threshold,
        targets_keys=args.targets_keys,
        targets_threshold=args.targets_threshold,
    )
    elsewhere = {
        keep: path for keep, path in ((Keep.OFFLINE, args.offline_keys), (Keep.ONLINE, args.online_keys)) if path
    }
    init(args.repository, passphrases(variables, new=True), datetime.now(UTC), owners, elsewhere)
    console = open_console()
    for keep in Keep:
        say(console, f"{keep} keys: {elsewhere.get(keep, args.repository / 'keys' / keep)}")
    say(
        console,
        f"{args.repository}: ready. Move the offline keys to a medium that you put away, and keep a copy of it.",
        f"Nodes are set up with {args.repository / 'metadata' / '1.root.json'}: give it to them over a way you trust.",
    )
    return 0


def _add(args: argparse.Namespace, repository: Repository) -> int:
    data = _read(args.bundle)
    bundle = read_bundle(data, str(args.bundle))
    console = open_console()
    known = bundle.manifest.identity in repository.releases()
    if not known:
        repository.check_keys(Role.TARGETS)  # before the gates, which take their time
    gates = () if known else gates_of(repository, bundle, args.channel)
    show_gates(console, gates)
    release: Release = add(repository, bundle, data, gates, args.force)
    show_release(console, release)
    return _finish(repository, f"next: sottovoce-release publish {release.model} --channel {args.channel}")


def _remove(args: argparse.Namespace, repository: Repository) -> int:
    remove(repository, args.release)
    return _finish(repository, f"{args.release} is signed no longer")


def _rotate(args: argparse.Namespace, repository: Repository) -> int:
    new, old = rotate(repository, args.role, args.into, args.old)
    path = repository.ring.path(args.role, old)
    gone = f"; destroy {path} and every copy" if path else ""
    return _finish(repository, f"{args.role}: key {new[:8]} (in {args.into}) counts instead of {old[:8]}{gone}")


def _sign(_args: argparse.Namespace, repository: Repository) -> int:
    if not repository.files.pending.exists():
        msg = "nothing waits for signatures"
        raise ReleaseError(msg)
    return _finish(repository, "the change is accepted")


def _refresh(args: argparse.Namespace, repository: Repository) -> int:
    if args.offline:
        renew_offline(repository)
        return _finish(repository, "root and targets are signed for another term", renew=True)
    repository.settle(renew=True)
    days = repository.settings.online_days
    say(open_console(), f"timestamp {repository.timestamp().signed.version} holds for {days} days")
    return 0


def _publish(args: argparse.Namespace, repository: Repository) -> int:
    release = args.release or _newest(repository)
    show_rollout(open_console(), channels.publish(repository, args.channel, release, downgrade=args.downgrade))
    say(open_console(), f"next: sottovoce-release rollout {release} --channel {args.channel} --percent 2,10,50,100")
    return 0


def _rollout(args: argparse.Namespace, repository: Repository) -> int:
    begun = channels.roll_out(
        repository,
        args.channel,
        args.release,
        phases=args.percent,
        spread_s=args.spread,
        abort_above=args.abort_above,
        min_nodes=args.min_nodes,
    )
    show_rollout(open_console(), begun, with_limits=True)
    return 0


def _pause(args: argparse.Namespace, repository: Repository) -> int:
    show_rollout(open_console(), channels.pause(repository, args.channel, args.reason or ""))
    return 0


def _resume(args: argparse.Namespace, repository: Repository) -> int:
    show_rollout(open_console(), channels.resume(repository, args.channel))
    return 0


def _abort(args: argparse.Namespace, repository: Repository) -> int:
    show_rollout(open_console(), channels.abort(repository, args.channel, args.reason or ""))
    return 0


def _end(args: argparse.Namespace, repository: Repository, code: int) -> int:
    """Say or do what comes after the broker has it."""
    if args.command == "rollout":
        return fleet_commands.attend(args, repository)
    if args.command == "abort":
        say(open_console(), after_abort(args.channel))
    return code


def _status(args: argparse.Namespace, repository: Repository, pending: list[str]) -> int:
    status = status_of(repository, pending)
    if args.json:
        print(msgspec.json.encode(status).decode())  # noqa: T201 -- the command's answer
    else:
        show_status(open_console(), status)
    return 1 if args.check and status.warnings else 0


def _reseed(_args: argparse.Namespace, repository: Repository) -> int:
    """Mirror and nothing else, which `run` does after every command."""
    if repository.settings.broker is None:
        msg = f"{repository.files.settings}: names no [broker] to mirror to"
        raise SettingsError(msg)
    return 0


def _mirror(repository: Repository, broker: BrokerSettings) -> None:
    done = mirror_all(repository.files, list(repository.channels()), broker, say_waits=_say_waits)
    told = f"sent {done.sent}, removed {done.removed}, read back all {done.messages}"
    say(open_console(), f"broker {broker.host}:{broker.port}: {told}")


def _say_waits(line: str) -> None:
    sys.stderr.write(f"sottovoce-release: {line}\n")
    sys.stderr.flush()


def _finish(repository: Repository, done: str, *, renew: bool = False) -> int:
    """Sign what was proposed, let the online roles follow, and say what is still to do."""
    console = open_console()
    waiting = repository.sign()
    if waiting:
        root = repository.root().signed
        is_shared = any(threshold(root, role) > 1 for role in repository.missing())
        who = "by the other holders" if is_shared else "with the keys that are missing: name their folder with --keys"
        say(console, *(f"waits: {line}" for line in waiting), f"next: `sottovoce-release sign` {who}")
        return 0
    try:
        repository.settle(renew=renew)
    except MissingKeyError as error:
        say(console, f"signed; {error}; or run `sottovoce-release refresh` where the online keys are")
        return 0
    say(console, done)
    return 0


def _newest(repository: Repository) -> str:
    names = [name.rpartition("/") for name in repository.releases()]
    if len({name for name, _, _ in names}) != 1:
        msg = f"name the release: signed are {', '.join(repository.releases()) or 'none'}"
        raise SettingsError(msg)
    name, _, version = max(names, key=lambda parts: int(parts[2]))
    return f"{name}/{version}"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BUNDLE_BYTES + 1)  # one more than `read_bundle` accepts
    except OSError as error:
        msg = f"{path}: {error.strerror}; name a bundle file"
        raise BundleError(msg) from error


_COMMANDS: Final = {
    "add": _add,
    "remove": _remove,
    "rotate-key": _rotate,
    "sign": _sign,
    "refresh": _refresh,
    "publish": _publish,
    "rollout": _rollout,
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "reseed": _reseed,
}
_WITHOUT_LOCK: Final = {"watch": fleet_commands.watch, "rollback": fleet_commands.rollback}
"""What changes nothing itself, or locks the repository for moments only."""

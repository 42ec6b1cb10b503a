"""First start of docker-compose.yml: certificates, the ACL, random secrets, each where only its reader mounts it.

    docker compose run --rm setup password            Grafana's password for `admin`
    docker compose run --rm -T setup client operator  the certificate of who mutes nodes, as a tar archive
    docker compose run --rm -T setup node home/bedroom --context home --no-employees-present
                                                      a new node's files, as a tar archive

`prepare` runs by itself before every other service. What exists is kept; the ACL and the broker's names follow
the environment. The folder `private` holds the authority's key and is mounted by this service alone, which has
no network. A new node gets the anchor of the releases, if the service `release` has a repository by then.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.condition import Context
from broker.contract.errors import SettingsError, exit_with_one_line
from broker.contract.generate import access_rules
from broker.contract.topics import HOME_ASSISTANT_USER, OPERATOR_USER, RELEASE_USER, WATCHER_USER, NodeId
from deploy.certificates import file_stem, issue_client, issue_server, make_authority
from deploy.docker.enrolment import ANCHOR, node_settings, read_anchor, write_archive
from edge_node.deployment import DeploymentSettings

__all__ = ["READERS", "Reader", "main"]

_SECRETS: Final = (
    "influxdb-password",
    "influxdb-token",
    "influxdb-reader-password",
    "grafana-password",
    "release-passphrase",
)
_HEALTH: Final = "health"
_OTHER_USERS: Final = (_HEALTH, RELEASE_USER, WATCHER_USER, OPERATOR_USER, HOME_ASSISTANT_USER)
_ELSEWHERE: Final = (OPERATOR_USER, HOME_ASSISTANT_USER, WATCHER_USER)
"""Users whose programs run on other machines, too."""
_INFLUXDB_UID: Final = 1000
_OWN_UID: Final = 10001


class Reader(msgspec.Struct, frozen=True):
    """A service, the user that it runs as, and what it may read: its own names by the names they have in `private`."""

    name: str
    uid: int
    files: dict[str, str]


READERS: Final = (
    Reader(
        "mosquitto",
        1883,
        {
            **{name: name for name in ("acl", "ca.crt", "server.crt", "server.key")},
            "health.crt": f"{_HEALTH}.crt",
            "health.key": f"{_HEALTH}.key",
        },
    ),
    Reader("influxdb", _INFLUXDB_UID, {name: f"influxdb-{name}" for name in ("password", "token", "reader-password")}),
    Reader("grafana", 472, {"password": "grafana-password", "reader-password": "influxdb-reader-password"}),
    Reader(
        "release",
        _OWN_UID,
        {
            "ca.crt": "ca.crt",
            "client.crt": f"{RELEASE_USER}.crt",
            "client.key": f"{RELEASE_USER}.key",
            "watcher.crt": f"{WATCHER_USER}.crt",
            "watcher.key": f"{WATCHER_USER}.key",
            "online-passphrase": "release-passphrase",
        },
    ),
)
"""Services that read other things; users are those of their images. Other clients of the broker are found by folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="setup", description="First start of the containers, and new nodes.")
    parser.add_argument("--private", type=Path, default=Path("/private"), help="the authority and all secrets")
    parser.add_argument("--out", type=Path, default=Path("/out"), help="one folder for each reader")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    commands.add_parser("prepare", help="make what is missing and hand it out")
    commands.add_parser("password", help="print Grafana's password for admin")
    node = commands.add_parser("node", help="write a node's settings and certificate to stdout, as a tar archive")
    node.add_argument("name", metavar="SITE/NODE")
    node.add_argument("--context", required=True, choices=[each.value for each in Context], help="what kind of place")
    node.add_argument(
        "--employees-present", action=argparse.BooleanOptionalAction, help="whether people work where it listens"
    )
    node.add_argument("--exemption", choices=["medical", "safety"], help="why it may listen to people at work")
    node.add_argument("--exemption-reference", metavar="WORDS", help="where that reason is written down")
    node.add_argument(
        "--anchor", type=Path, metavar="FILE", help="first root of the releases that it may run (default: `release`'s)"
    )
    client = commands.add_parser("client", help="write another program's certificate to stdout, as a tar archive")
    client.add_argument("name", choices=_ELSEWHERE, help="its MQTT user name")
    chosen = parser.parse_args(arguments)
    run = {"prepare": _prepare, "password": _password, "node": _node, "client": _client}[chosen.command]
    return exit_with_one_line("setup", lambda: run(chosen))


def _prepare(chosen: argparse.Namespace) -> int:
    private: Path = chosen.private
    collectors, nodes = _listed("SOTTOVOCE_COLLECTORS"), _listed("SOTTOVOCE_NODES")
    if taken := set(collectors) & set(_OTHER_USERS):
        msg = f"SOTTOVOCE_COLLECTORS: {min(taken)!r} is another program's user name; name the collector otherwise"
        raise SettingsError(msg)
    if not (private / "ca.crt").exists():
        make_authority(private)
    _certify_broker(private, _listed("SOTTOVOCE_BROKER_NAMES"))
    for name in (*_OTHER_USERS, *collectors, *nodes):
        if not (private / f"{file_stem(name)}.crt").exists():
            issue_client(private, name)
    for name in _SECRETS:
        if not (private / name).exists():
            _write(private / name, secrets.token_hex(24).encode(), 0)
    _write(private / "acl", access_rules(collectors).encode(), 0)
    _hand_out(private, chosen.out, [file_stem(name) for name in (*collectors, *nodes)])
    return 0


def _hand_out(private: Path, out: Path, clients: Sequence[str]) -> None:
    """Put what each reader may read into its folder."""
    certificates = [
        Reader(stem, _OWN_UID, {"ca.crt": "ca.crt", "client.crt": f"{stem}.crt", "client.key": f"{stem}.key"})
        for stem in clients
    ]
    for reader in (*READERS, *certificates):
        folder = out / reader.name
        if folder.is_dir():  # a client that runs elsewhere has none
            for name, source in reader.files.items():
                _write(folder / name, (private / source).read_bytes(), reader.uid)
            sys.stdout.write(f"{reader.name}: {', '.join(reader.files)}\n")
    for folder in sorted(out.glob("*-token")):  # InfluxDB's init script puts a token into each
        _give(folder, _INFLUXDB_UID)


def _certify_broker(private: Path, names: Sequence[str]) -> None:
    """Issue the broker's certificate, anew when its names have changed."""
    known = private / "server.names"
    wanted = "\n".join(names).encode()
    if known.exists() and known.read_bytes() == wanted:
        return
    for name in ("server.crt", "server.key", "server.names"):
        (private / name).unlink(missing_ok=True)
    issue_server(private, names)
    _write(known, wanted, 0)


def _password(chosen: argparse.Namespace) -> int:
    sys.stdout.write(f"{_prepared(chosen.private, 'grafana-password').decode()}\n")
    return 0


def _node(chosen: argparse.Namespace) -> int:
    private: Path = chosen.private
    _prepared(private, "ca.crt")
    stem = file_stem(chosen.name)
    site, _, name = chosen.name.partition("/")
    node = NodeId(site, name)
    deployment = DeploymentSettings(
        context=Context(chosen.context),
        employees_present=chosen.employees_present,
        exemption=chosen.exemption,
        exemption_reference=chosen.exemption_reference,
    )
    anchor = _anchor(chosen.anchor)
    if not (private / f"{stem}.crt").exists():
        issue_client(private, chosen.name)
    host = _listed("SOTTOVOCE_BROKER_NAMES")[-1]
    settings = node_settings(node, deployment, host, updates=anchor is not None)
    files = _identity(private, stem) | {"node.toml": settings.encode()}
    if anchor is None:
        sys.stderr.write(f"setup: {node} takes no model updates: no repository of releases yet, and no --anchor FILE\n")
    else:
        files["root.json"] = anchor
    write_archive(sys.stdout.buffer, stem, files)
    return 0


def _client(chosen: argparse.Namespace) -> int:
    stem = file_stem(chosen.name)
    _prepared(chosen.private, f"{stem}.crt")
    write_archive(sys.stdout.buffer, stem, _identity(chosen.private, stem))
    return 0


def _identity(private: Path, stem: str) -> dict[str, bytes]:
    """Return what a client of the broker needs to be let in, by the names that its settings give them."""
    return {
        "ca.crt": (private / "ca.crt").read_bytes(),
        "client.crt": (private / f"{stem}.crt").read_bytes(),
        "client.key": (private / f"{stem}.key").read_bytes(),
    }


def _anchor(named: Path | None) -> bytes | None:
    """Return the anchor in the file that was named, else that of the service `release`; None: it has none yet."""
    try:
        return read_anchor(named or ANCHOR)
    except FileNotFoundError as error:
        if named is None:
            return None
        msg = f"--anchor {named}: no such file; name the first root of the releases, metadata/1.root.json"
        raise SettingsError(msg) from error


def _prepared(private: Path, name: str) -> bytes:
    try:
        return (private / name).read_bytes()
    except OSError as error:
        msg = f"{private / name}: {error.strerror}; run `docker compose up -d` first"
        raise SettingsError(msg) from error


def _listed(variable: str) -> tuple[str, ...]:
    """Return the names in an environment variable, between commas.

    Raises:
        SettingsError: there is none.
    """
    names = tuple(part for each in os.environ.get(variable, "").split(",") if (part := each.strip()))
    if not names:
        msg = f"{variable} is empty; docker-compose.yml sets it"
        raise SettingsError(msg)
    return names


def _write(path: Path, content: bytes, uid: int) -> None:
    """Put a file in its place at once, readable by one user; needs no right to read what was there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    if uid:
        _give(fresh, uid)
    fresh.replace(path)


def _give(path: Path, uid: int) -> None:
    try:
        os.chown(path, uid, uid)
    except PermissionError as error:
        msg = f"{path}: cannot be given to user {uid}; this program runs as root, in its container"
        raise SettingsError(msg) from error


if __name__ == "__main__":
    sys.exit(main())

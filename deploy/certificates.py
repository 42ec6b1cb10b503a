"""A small certificate authority of one's own: for the broker, every node, every collector and the release program.

    python -m deploy.certificates --out certs --server broker.lan,192.0.2.7 --client home/kitchen --client collector
    python -m deploy.certificates --out certs --client home/bedroom        (later, by the same authority)
    python -m deploy.certificates --out certs --client release --client watcher        (for model updates)
    python -m deploy.certificates --out certs --client operator        (for `sottovoce-console mute` and `threshold`)
    python -m deploy.certificates --out certs --client homeassistant        (for Home Assistant)

    certs/ca.crt        everybody's copy: whom to trust
    certs/ca.key        signs; whoever has it can be any node. Keep it away from the broker and the nodes
    certs/server.*      the broker's
    certs/home.kitchen.*, certs/collector.*     one pair for each client; its common name is its MQTT user name

Keys are P-256, mode 0600, without a passphrase. The program `openssl` does the cryptography: it is on every system
that has Mosquitto, and no package has to be installed. Nothing is ever overwritten.
"""

import argparse
import datetime as dt
import ipaddress
import os
import re
import secrets
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.contract.errors import SettingsError, exit_with_one_line
from broker.contract.topics import NodeId

__all__ = ["AUTHORITY_DAYS", "CERTIFICATE_DAYS", "file_stem", "issue_client", "issue_server", "make_authority"]

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 825

_AUTHORITY_NAME: Final = "Sottovoce private authority"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_LONGEST_COMMON_NAME: Final = 64
"""RFC 5280, appendix A.1, ub-common-name."""
_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")
_AUTHORITY_EXTENSIONS: Final = """
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""
_LEAF_EXTENSIONS: Final = """
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_authority(folder: Path) -> Path:
    """Return the certificate of a new authority in a folder, which is made when missing.

    Raises:
        SettingsError: there is one already, or the folder or openssl cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: {error.strerror}; name a folder that can be written"
        raise SettingsError(msg) from error
    return _make(folder, "ca", _AUTHORITY_NAME, _AUTHORITY_EXTENSIONS, AUTHORITY_DAYS)


def issue_server(folder: Path, names: Sequence[str], days: int = CERTIFICATE_DAYS) -> Path:
    """Return the broker's new certificate, by the authority in the folder.

    Args:
        folder: where `make_authority` was.
        names: host names and IP addresses by which clients reach the broker.
        days: how long it is valid.

    Raises:
        SettingsError: a name is not valid, the files are there already, or the authority cannot be used.
    """
    alternatives = ",".join(_alternative(name) for name in names)
    extensions = f"{_LEAF_EXTENSIONS}extendedKeyUsage = serverAuth\nsubjectAltName = {alternatives}\n"
    return _make(folder, "server", names[0][:_LONGEST_COMMON_NAME], extensions, days)


def issue_client(folder: Path, name: str, days: int = CERTIFICATE_DAYS) -> Path:
    """Return the new certificate of one of the broker's clients, by the authority in the folder.

    Args:
        folder: where `make_authority` was.
        name: MQTT user name: `<site>/<node>`, a collector's name, `release`, `watcher`, `operator` or `homeassistant`.
        days: how long it is valid.

    Raises:
        SettingsError: the name is none, the files are there already, or the authority cannot be used.
    """
    return _make(folder, file_stem(name), name, f"{_LEAF_EXTENSIONS}extendedKeyUsage = clientAuth\n", days)


def file_stem(name: str) -> str:
    """Return what a client's files are called: its user name with a dot for the slash.

    Raises:
        SettingsError: this is no user name.
    """
    parts = name.split("/")
    try:
        NodeId(parts[0], parts[-1])
    except SettingsError as error:
        msg = f"client {name!r}: {error}"
        raise SettingsError(msg) from error
    if len(parts) > 2 or name in {"ca", "server"}:  # noqa: PLR2004 -- site and node
        msg = f"client {name!r}: <site>/<node>, or a collector's name other than 'ca' and 'server'"
        raise SettingsError(msg)
    return ".".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.certificates", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the authority and all files are")
    parser.add_argument("--server", metavar="NAME[,NAME]", help="the broker's host names and IP addresses")
    parser.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME",
        help="<site>/<node>, a collector, release, watcher, operator, homeassistant",
    )
    parser.add_argument("--days", type=int, default=CERTIFICATE_DAYS, help="validity (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    return exit_with_one_line("sottovoce-certificates", lambda: _run(chosen))


def _run(chosen: argparse.Namespace) -> int:
    if not 1 <= chosen.days < AUTHORITY_DAYS:
        msg = f"--days {chosen.days}: at least 1, and less than the {AUTHORITY_DAYS} that the authority lasts"
        raise SettingsError(msg)
    if not (chosen.server or chosen.client):
        msg = "nothing to make; name the broker with --server, nodes and collectors with --client"
        raise SettingsError(msg)
    names = chosen.server.split(",") if chosen.server else []
    for name in names:
        _alternative(name)
    for stem in [*(["server"] if names else []), *(file_stem(client) for client in chosen.client)]:
        _refuse_existing(chosen.out, stem)
    if names and not (chosen.out / "ca.crt").exists():
        _say("authority", make_authority(chosen.out))
    if names:
        _say("broker", issue_server(chosen.out, names, chosen.days))
    for client in chosen.client:
        _say(client, issue_client(chosen.out, client, chosen.days))
    return 0


def _say(what: str, certificate: Path) -> None:
    told = _openssl("x509", "-in", certificate, "-noout", "-enddate")
    ends = ssl.cert_time_to_seconds(told.strip().partition("=")[2])
    until = dt.datetime.fromtimestamp(ends, dt.UTC).date()
    sys.stdout.write(f"{what}: {certificate} and {certificate.with_suffix('.key').name}, until {until}\n")


def _make(folder: Path, stem: str, common_name: str, extensions: str, days: int) -> Path:
    """Make a key and its certificate beside the final place, then move both there."""
    _refuse_existing(folder, stem)
    is_authority = stem == "ca"
    if not is_authority:
        _check_authority(folder, days)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        scratch = Path(temporary)
        key, certificate, request, settings = (scratch / name for name in ("key", "crt", "csr", "cnf"))
        settings.write_text(
            f"[req]\nprompt = no\nstring_mask = utf8only\ndistinguished_name = subject\n"
            f"[subject]\nCN = {common_name}\n[extensions]\n{extensions}",
            encoding="utf-8",
        )
        valid = ("-days", str(days), "-set_serial", str(secrets.randbits(127) + 1), "-extensions", "extensions")
        new = ("req", "-new", *_NEW_KEY, "-config", settings, "-keyout", key)
        if is_authority:
            _openssl(*new, "-x509", *valid, "-out", certificate)
        else:
            _openssl(*new, "-out", request)
            signer = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-sha256")
            _openssl("x509", "-req", "-in", request, *signer, *valid, "-extfile", settings, "-out", certificate)
        certificate.chmod(0o644)
        try:  # a link, unlike a rename, never replaces what somebody else has put there meanwhile
            os.link(key, folder / f"{stem}.key")
            os.link(certificate, folder / f"{stem}.crt")
        except OSError as error:
            msg = f"{folder}: cannot write {stem}.key and {stem}.crt: {error.strerror}"
            raise SettingsError(msg) from error
    return folder / f"{stem}.crt"


def _refuse_existing(folder: Path, stem: str) -> None:
    for path in (folder / f"{stem}.key", folder / f"{stem}.crt"):
        if path.exists():
            msg = f"{path} exists, and is not overwritten; move it away to make another"
            raise SettingsError(msg)


def _check_authority(folder: Path, days: int) -> None:
    certificate = folder / "ca.crt"
    if not (certificate.exists() and (folder / "ca.key").exists()):
        msg = f"{folder}: no authority (ca.crt, ca.key) here; the first call names the broker with --server"
        raise SettingsError(msg)
    answer = subprocess.run(  # noqa: S603 -- our own command
        ["openssl", "x509", "-in", certificate, "-noout", "-checkend", str(days * 86_400)],  # noqa: S607 -- by PATH
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        msg = f"{certificate}: ends within {days} days, or is no certificate; use a smaller --days or a new authority"
        raise SettingsError(msg)


def _alternative(name: str) -> str:
    """Return a subject alternative name in OpenSSL's words."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        if not _HOST.fullmatch(name):
            msg = f"server {name!r}: a host name or an IP address"
            raise SettingsError(msg) from None
        return f"DNS:{name}"


def _openssl(*arguments: str | Path) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 -- our own command; every name in it was checked
            ["openssl", *arguments],  # noqa: S607 -- by PATH, as everything on a user's machine
            capture_output=True,
            text=True,
            check=True,
            umask=0o077,
        )
    except FileNotFoundError as error:
        msg = "the program openssl is missing: sudo apt install openssl"
        raise SettingsError(msg) from error
    except subprocess.CalledProcessError as error:
        words = str(error.stderr).strip().splitlines() or ["no reason given"]
        msg = f"openssl {arguments[0]}: {words[-1]}"
        raise SettingsError(msg) from error
    return answer.stdout


if __name__ == "__main__":
    sys.exit(main())

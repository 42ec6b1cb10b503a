"""Certificates: readable, whose, by whom, and for how long; the key: whose business it is."""

import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.contract.errors import SettingsError
from broker.settings import BrokerSettings, secret
from edge_node.doctor.finding import Fact, Finding, Stage, fail, ok, skip, warn

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["examine", "public_parts"]

_WARN_DAYS: Final = 30
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_RENEW: Final = "make a new one where the authority is (docs/deployment.md), and put it in this one's place"


def examine(settings: BrokerSettings, user: str, now: datetime) -> Finding:
    """Return how this node can prove who it is.

    Args:
        settings: the broker's.
        user: the MQTT user name that the node must have, `<site>/<node>`.
        now: time zone aware.
    """
    if not settings.tls:
        return skip(Stage.CERTIFICATES, "none: the broker is on this machine, without TLS")
    if settings.cert_file is None:
        return _without(settings)
    try:
        from cryptography import x509  # noqa: PLC0415 -- a node that runs needs none of it
    except ImportError:
        return skip(Stage.CERTIFICATES, "the package cryptography is missing: pip install 'sottovoce[node]'")
    found: dict[str, list[Certificate]] = {}
    for name, path in (("ca_file", settings.ca_file), ("cert_file", settings.cert_file)):
        try:
            found[name] = [] if path is None else x509.load_pem_x509_certificates(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no certificate in PEM form"
            advice = f"name a PEM file in broker.{name} that this user can read"
            return fail(Stage.CERTIFICATES, f"broker.{name} {path}: {why}", advice)
    leaf = found["cert_file"][0]
    key = Path(settings.key_file or "")
    problem = _key_problem(key, leaf) or _chain_problem(found["cert_file"], found["ca_file"], user)
    if problem is not None:
        words, advice = problem
        return fail(Stage.CERTIFICATES, words, advice, **_facts(leaf, now))
    return _valid(leaf, found["ca_file"], key, now)


def public_parts(path: str | None) -> list[dict[str, str]]:
    """Return what everybody may know of the certificates in a file; nothing where they cannot be read."""
    try:
        from cryptography import x509  # noqa: PLC0415 -- likewise

        found = [] if path is None else x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (ImportError, OSError, ValueError):
        return []
    return [
        {
            "subject": each.subject.rfc4514_string(),
            "issuer": each.issuer.rfc4514_string(),
            "from": each.not_valid_before_utc.isoformat(),
            "until": each.not_valid_after_utc.isoformat(),
        }
        for each in found
    ]


def _without(settings: BrokerSettings) -> Finding:
    if settings.username is None:
        advice = "name broker.cert_file and broker.key_file, or broker.username and a password"
        return warn(Stage.CERTIFICATES, "none, and no user name: most brokers let nobody in so", advice)
    try:
        is_there = secret(settings.password_env) is not None
    except SettingsError as error:
        return fail(Stage.CERTIFICATES, str(error), "let this user read the file with the password")
    if not is_there:
        advice = f"set {settings.password_env} here as the service has it, or {settings.password_env}_FILE"
        words = f"none; user {settings.username!r}, and no password in this environment"
        return warn(Stage.CERTIFICATES, words, advice)
    return ok(Stage.CERTIFICATES, f"none; user {settings.username!r} with a password")


def _key_problem(path: Path, leaf: "Certificate") -> tuple[str, str] | None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 -- likewise

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        advice = "run the doctor as the node's user: sudo -u sottovoce ..., and let the key belong to it"
        return f"broker.key_file {path}: {error.strerror}", advice
    except TypeError:
        return f"broker.key_file {path}: has a passphrase, for which nobody can be asked", _RENEW
    except ValueError:
        return f"broker.key_file {path}: no private key in PEM form", "name the key that goes with broker.cert_file"
    if key.public_key() != leaf.public_key():
        return f"broker.key_file {path}: belongs to another certificate", "name the key that goes with broker.cert_file"
    return None


def _chain_problem(
    chain: Sequence["Certificate"], authorities: Sequence["Certificate"], user: str
) -> tuple[str, str] | None:
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 -- likewise

    leaf, named = chain[0], chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(named[0].value) if named else ""
    if name != user:
        advice = f"use the certificate of {user}, or set site and node to what this one says"
        return (
            f"broker.cert_file is of {name!r}, and this node is {user!r}: the broker would refuse its messages",
            advice,
        )
    if authorities and not any(_signed(leaf, each) for each in (*chain[1:], *authorities)):
        advice = "use the ca_file and the certificate of one and the same authority"
        return "broker.cert_file is not signed by broker.ca_file", advice
    return None


def _signed(certificate: "Certificate", authority: "Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- likewise

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _valid(leaf: "Certificate", authorities: Sequence["Certificate"], key: Path, now: datetime) -> Finding:
    facts = _facts(leaf, now)
    for what, each in (("certificate", leaf), *(("authority", each) for each in authorities)):
        if now < each.not_valid_before_utc:
            words = f"this node's {what} is valid from {each.not_valid_before_utc:%Y-%m-%d} only"
            return fail(Stage.CERTIFICATES, words, "see whether this machine's clock is right", **facts)
        if now > each.not_valid_after_utc:
            words = f"this node's {what} has ended on {each.not_valid_after_utc:%Y-%m-%d}"
            return fail(Stage.CERTIFICATES, words, _RENEW, **facts)
    ends = min(each.not_valid_after_utc for each in (leaf, *authorities))
    days = (ends - now).days
    words = f"of {leaf.subject.rfc4514_string()}, valid for {days} more days, until {ends:%Y-%m-%d}"
    if days < _WARN_DAYS:
        return warn(Stage.CERTIFICATES, words, _RENEW, **facts)
    if key.stat().st_mode & _OTHERS:
        advice = f"chmod 600 {key}: whoever reads it can be this node"
        return warn(Stage.CERTIFICATES, f"{words}; others can read the key", advice, **facts)
    return ok(Stage.CERTIFICATES, words, **facts)


def _facts(leaf: "Certificate", now: datetime) -> dict[str, Fact]:
    ends = leaf.not_valid_after_utc.astimezone(UTC)
    return {"subject": leaf.subject.rfc4514_string(), "until": ends.isoformat(), "days": (ends - now).days}

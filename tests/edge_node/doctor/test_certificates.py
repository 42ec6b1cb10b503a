"""Certificates as the doctor sees them, made by the project's own authority."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from broker.settings import BrokerSettings
from deploy.certificates import make_authority
from edge_node.doctor.certificates import examine, public_parts
from edge_node.doctor.finding import Finding, Verdict

pytest.importorskip("cryptography")


def _examined(folder: Path, stem: str = "home.kitchen", *, now: datetime | None = None, **changes: str) -> Finding:
    files = {"ca_file": folder / "ca.crt", "cert_file": folder / f"{stem}.crt", "key_file": folder / f"{stem}.key"}
    named = {name: str(path) for name, path in files.items()} | changes
    settings = msgspec.convert({"host": "broker.lan", **named}, BrokerSettings)
    return examine(settings, stem.replace(".", "/"), now or datetime.now(UTC))


def test_certificate_in_order_tells_its_days(certificates: Path) -> None:
    finding = _examined(certificates)
    assert finding.verdict is Verdict.OK, finding
    assert finding.facts["days"] == 824
    assert "CN=home/kitchen" in finding.words


def test_certificate_that_ends_soon_warns_and_then_fails(certificates: Path) -> None:
    finding = _examined(certificates, "home.short")
    assert (finding.verdict, finding.facts["days"]) == (Verdict.WARN, 9)
    ended = _examined(certificates, "home.short", now=datetime.now(UTC) + timedelta(days=11))
    assert ended.verdict is Verdict.FAIL
    assert "has ended" in ended.words


def test_certificate_before_its_time_blames_the_clock(certificates: Path) -> None:
    finding = _examined(certificates, now=datetime(1970, 1, 1, tzinfo=UTC))
    assert finding.verdict is Verdict.FAIL
    assert "clock" in str(finding.advice)


def test_certificate_of_another_name_fails(certificates: Path) -> None:
    bedroom = certificates / "home.bedroom.crt"
    finding = _examined(certificates, cert_file=str(bedroom), key_file=str(bedroom.with_suffix(".key")))
    assert finding.verdict is Verdict.FAIL
    assert "is of 'home/bedroom', and this node is 'home/kitchen'" in finding.words


def test_certificate_with_another_key_fails(certificates: Path) -> None:
    finding = _examined(certificates, key_file=str(certificates / "home.bedroom.key"))
    assert finding.verdict is Verdict.FAIL
    assert "belongs to another certificate" in finding.words


def test_certificate_of_another_authority_fails(certificates: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other")
    finding = _examined(certificates, ca_file=str(tmp_path / "other" / "ca.crt"))
    assert finding.verdict is Verdict.FAIL
    assert "not signed by broker.ca_file" in finding.words


def test_key_that_others_can_read_warns(certificates: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    shutil.copy(certificates / "home.kitchen.key", key)
    key.chmod(0o640)
    finding = _examined(certificates, key_file=str(key))
    assert finding.verdict is Verdict.WARN
    assert f"chmod 600 {key}" in str(finding.advice)


def test_key_with_a_passphrase_fails(certificates: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:word", "-in", certificates / "home.kitchen.key", "-out", key],
        check=True,
        capture_output=True,
    )
    finding = _examined(certificates, key_file=str(key))
    assert finding.verdict is Verdict.FAIL
    assert "passphrase" in finding.words


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM", b"\xff\xfe"])
def test_files_that_are_none_are_named(certificates: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    finding = _examined(certificates, now=None, **{name: str(path)})
    assert finding.verdict is Verdict.FAIL
    assert f"broker.{name} {path}: " in finding.words


def test_password_instead_of_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    monkeypatch.delenv("SOTTOVOCE_BROKER_PASSWORD", raising=False)
    settings = BrokerSettings(host="broker.lan", username="home/kitchen")
    assert examine(settings, "home/kitchen", now).verdict is Verdict.WARN
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", "word")
    assert examine(settings, "home/kitchen", now).verdict is Verdict.OK
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD_FILE", "/nowhere")
    assert examine(settings, "home/kitchen", now).verdict is Verdict.FAIL
    assert examine(BrokerSettings(host="broker.lan"), "home/kitchen", now).verdict is Verdict.WARN
    assert examine(BrokerSettings(tls=False), "home/kitchen", now).verdict is Verdict.SKIPPED


def test_public_parts_hold_no_key(certificates: Path) -> None:
    (parts,) = public_parts(str(certificates / "home.kitchen.crt"))
    assert set(parts) == {"subject", "issuer", "from", "until"}
    assert public_parts(str(certificates / "home.kitchen.key")) == []
    assert public_parts(None) == []

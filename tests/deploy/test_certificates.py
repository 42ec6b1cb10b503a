"""Certificates: who they are for, who may read the keys, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.contract.topics import OPERATOR_USER, RELEASE_USER, WATCHER_USER

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "deploy.certificates", "--out", str(tmp_path / "certs"), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    run("--server", "broker.lan,192.0.2.7,localhost", "--client", "home/kitchen", "--client", "collector")
    return tmp_path / "certs"


def _openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def test_certificates_name_their_client_and_its_only_purpose(made: Path) -> None:
    for stem, name in (("home.kitchen", "home/kitchen"), ("collector", "collector")):
        subject = _openssl("x509", "-in", made / f"{stem}.crt", "-noout", "-subject", "-nameopt", "RFC2253")
        assert subject == f"subject=CN={name}\n"
        assert "TLS Web Client Authentication\n" in _openssl("x509", "-in", made / f"{stem}.crt", "-noout", "-text")
    _openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", made / "ca.crt", made / "collector.crt")


def test_certificates_server_answers_to_every_name(made: Path) -> None:
    told = _openssl("x509", "-in", made / "server.crt", "-noout", "-ext", "subjectAltName")
    assert told.splitlines()[-1].strip() == "DNS:broker.lan, IP Address:192.0.2.7, DNS:localhost"
    _openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", made / "ca.crt", made / "server.crt")


def test_certificates_keys_are_their_owners_alone(made: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in made.glob("*.key")} == {0o600}
    assert len(list(made.iterdir())) == 8, "four pairs, and nothing left over"


def test_certificates_later_client_is_of_the_same_authority(made: Path, run: Run) -> None:
    authority = (made / "ca.crt").read_bytes()
    done = run("--client", "home/bedroom", "--days", "30")
    assert done.returncode == 0
    assert done.stdout.startswith(f"home/bedroom: {made / 'home.bedroom.crt'} and home.bedroom.key, until ")
    assert (made / "ca.crt").read_bytes() == authority
    _openssl("verify", "-x509_strict", "-CAfile", made / "ca.crt", made / "home.bedroom.crt")
    with pytest.raises(subprocess.CalledProcessError):
        _openssl("x509", "-in", made / "home.bedroom.crt", "-noout", "-checkend", str(31 * 86_400))


def test_certificates_are_made_for_every_user_of_the_broker(made: Path, run: Run) -> None:
    done = run(*(f"--client={user}" for user in (RELEASE_USER, WATCHER_USER, OPERATOR_USER)))
    assert done.returncode == 0
    for user in (RELEASE_USER, WATCHER_USER, OPERATOR_USER):
        subject = _openssl("x509", "-in", made / f"{user}.crt", "-noout", "-subject", "-nameopt", "RFC2253")
        assert subject == f"subject=CN={user}\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--client", "home/kitchen"), "home.kitchen.key exists, and is not overwritten"),
        (("--server", "broker.lan"), "server.key exists, and is not overwritten"),
        (("--client", "Home/kitchen"), "client 'Home/kitchen': site 'Home': 1 to 32 of a-z"),
        (("--client", "home/kitchen/lamp"), "client 'home/kitchen/lamp': "),
        (("--client", "ca"), "client 'ca': "),
        (("--client", "../x"), "client '../x': "),
        (("--client", "x", "--days", "3650"), "--days 3650: at least 1, and less than the 3650"),
        (("--client", "x", "--days", "0"), "--days 0: "),
        ((), "nothing to make"),
    ],
)
def test_certificates_mistake_is_one_line_and_changes_nothing(
    made: Path, run: Run, arguments: tuple[str, ...], word: str
) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


@pytest.mark.parametrize("name", ["bad_name", "a..b", "", "x\ny", "x,IP:1.2.3.4\nbasicConstraints=CA:true"])
def test_certificates_impossible_host_name_makes_no_authority(run: Run, tmp_path: Path, name: str) -> None:
    done = run("--server", f"good.lan,{name}")
    assert done.returncode == 2
    assert not (tmp_path / "certs").exists()


def test_certificates_client_before_the_broker_is_refused(run: Run) -> None:
    done = run("--client", "collector")
    assert done.returncode == 2
    assert "the first call names the broker with --server" in done.stderr

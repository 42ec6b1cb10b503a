"""The first start of the containers, on ordinary folders: what each reader gets, and what a second start keeps."""

import io
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.generate import access_rules
from edge_node.settings import NodeSettings

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "SOTTOVOCE_BROKER_NAMES": "mosquitto,localhost,broker.lan",
    "SOTTOVOCE_COLLECTORS": "collector",
    "SOTTOVOCE_NODES": "demo/simulated",
}
FOLDERS = ("mosquitto", "influxdb", "grafana", "collector", "demo.simulated", "collector-token", "console-token")
Setup = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Return a function that runs the program with this environment on top of the compose file's."""
    if os.geteuid() != 0:
        pytest.skip("gives files to other users, as root in its container")  # no ordinary user may
    (tmp_path / "private").mkdir()
    for name in FOLDERS:
        (tmp_path / "out" / name).mkdir(parents=True)

    def start(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        folders = ("--private", str(tmp_path / "private"), "--out", str(tmp_path / "out"))
        return subprocess.run(
            [sys.executable, "-m", "deploy.docker.setup", *folders, *arguments],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | environment,
            capture_output=True,
            check=True,
        )

    return start


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_setup_gives_each_reader_its_own_and_nothing_else(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    out = tmp_path / "out"
    certificate = {"ca.crt", "client.crt", "client.key"}
    for folder, uid, names in (
        ("mosquitto", 1883, {"acl", "ca.crt", "server.crt", "server.key", "health.crt", "health.key"}),
        ("influxdb", 1000, {"password", "token", "reader-password"}),
        ("grafana", 472, {"password", "reader-password"}),
        ("collector", 10001, certificate),
        ("demo.simulated", 10001, certificate),
    ):
        found = list((out / folder).iterdir())
        assert {path.name for path in found} == names
        assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in found} == {(uid, 0o600)}
    assert [(out / name).stat().st_uid for name in ("collector-token", "console-token")] == [1000, 1000]
    assert (out / "mosquitto" / "acl").read_bytes() == (ROOT / "broker" / "mosquitto" / "acl").read_bytes()


def test_setup_secrets_are_random_and_all_different(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    secrets = [*(tmp_path / "private").glob("influxdb-*"), tmp_path / "private" / "grafana-password"]
    assert len({path.read_bytes() for path in secrets}) == 4
    assert min(len(path.read_bytes()) for path in secrets) == 48
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert setup("password").stdout.strip() == (tmp_path / "out" / "grafana" / "password").read_bytes()


def test_setup_again_changes_nothing(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    before = _contents(tmp_path)
    setup("prepare")
    assert _contents(tmp_path) == before


def test_setup_another_name_of_the_broker_renews_its_certificate_alone(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    before = _contents(tmp_path / "out")
    setup("prepare", SOTTOVOCE_BROKER_NAMES="mosquitto,localhost,192.0.2.9")
    after = _contents(tmp_path / "out")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"mosquitto/server.crt", "mosquitto/server.key"}


def test_setup_another_collector_enters_the_acl_and_gets_a_certificate(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    (tmp_path / "out" / "collector-b").mkdir()
    setup("prepare", SOTTOVOCE_COLLECTORS="collector, collector-b")
    acl = (tmp_path / "out" / "mosquitto" / "acl").read_text()
    assert acl == access_rules(("collector", "collector-b"))
    assert len(list((tmp_path / "out" / "collector-b").iterdir())) == 3


def test_setup_new_node_is_an_archive_that_the_node_accepts(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    archives = [setup("node", "home/bedroom", "--context", "home").stdout for _ in range(2)]
    assert archives[0] == archives[1], "asked again, the same certificate"
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        assert {entry.mode for entry in archive.getmembers()} == {0o600}
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "home.bedroom"
    assert {path.name for path in folder.iterdir()} == {"ca.crt", "client.crt", "client.key", "node.toml"}
    raw = tomllib.loads((folder / "node.toml").read_text())
    settings = msgspec.convert(raw, NodeSettings)
    assert str(settings.identity) == "home/bedroom"
    assert (settings.broker.host, settings.broker.port, settings.broker.tls) == ("broker.lan", 8883, True)


def test_setup_asked_before_the_first_start_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.docker.setup", "--private", tmp_path, "password"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"setup: error: {tmp_path / 'grafana-password'}: No such file or directory; run `docker compose up -d` first\n"
    )

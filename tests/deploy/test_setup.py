"""The first start of the containers, on ordinary folders: what each reader gets, and what a second start keeps."""

import io
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from broker.contract.condition import Exemption
from broker.contract.errors import SettingsError
from broker.contract.generate import access_rules
from deploy.docker.enrolment import read_anchor
from edge_node.settings import NodeSettings

ROOT = Path(__file__).parents[2]
CAPABILITIES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["setup"]["cap_add"]
ENVIRONMENT = {
    "SOTTOVOCE_BROKER_NAMES": "mosquitto,localhost,broker.lan",
    "SOTTOVOCE_COLLECTORS": "collector",
    "SOTTOVOCE_NODES": "demo/simulated",
}
FOLDERS = (
    "mosquitto",
    "influxdb",
    "grafana",
    "collector",
    "release",
    "demo.simulated",
    "collector-token",
    "console-token",
)
Setup = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Return a function that runs the program with this environment on top of the compose file's."""
    if os.geteuid() != 0:
        pytest.skip("gives files to other users, as root in its container")  # no ordinary user may
    (tmp_path / "private").mkdir()
    for name in FOLDERS:
        (tmp_path / "out" / name).mkdir(parents=True)

    def start(
        *arguments: str | Path, by: tuple[str, ...] = (), check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[bytes]":
        folders = ("--private", str(tmp_path / "private"), "--out", str(tmp_path / "out"))
        return subprocess.run(
            [*by, sys.executable, "-m", "deploy.docker.setup", *folders, *arguments],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | environment,
            capture_output=True,
            check=check,
        )

    return start


def _unpacked(archive: bytes, folder: Path) -> tuple[set[str], NodeSettings]:
    """Return the names of a node's files, and its settings."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert {entry.mode for entry in opened.getmembers()} == {0o600}
        opened.extractall(folder, filter="data")
    (made,) = folder.iterdir()
    raw = tomllib.loads((made / "node.toml").read_text())
    return {path.name for path in made.iterdir()}, msgspec.convert(raw, NodeSettings)


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
        ("release", 10001, certificate | {"watcher.crt", "watcher.key", "online-passphrase"}),
    ):
        found = list((out / folder).iterdir())
        assert {path.name for path in found} == names
        assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in found} == {(uid, 0o600)}
    assert [(out / name).stat().st_uid for name in ("collector-token", "console-token")] == [1000, 1000]
    assert (out / "mosquitto" / "acl").read_bytes() == (ROOT / "broker" / "mosquitto" / "acl").read_bytes()


def test_setup_secrets_are_random_and_all_different(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    private = tmp_path / "private"
    secrets = [*private.glob("influxdb-*"), private / "grafana-password", private / "release-passphrase"]
    assert len({path.read_bytes() for path in secrets}) == 5
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
    done = [setup("node", "home/bedroom", "--context", "home", "--no-employees-present") for _ in range(2)]
    archives = [each.stdout for each in done]
    assert archives[0] == archives[1], "asked again, the same certificate"
    told = "setup: home/bedroom takes no model updates: no repository of releases yet, and no --anchor FILE\n"
    assert done[0].stderr.decode() == told
    names, settings = _unpacked(archives[0], tmp_path / "unpacked")
    assert names == {"ca.crt", "client.crt", "client.key", "node.toml"}
    assert str(settings.identity) == "home/bedroom"
    assert (settings.broker.host, settings.broker.port, settings.broker.tls) == ("broker.lan", 8883, True)
    assert settings.update is None


def test_setup_new_node_where_people_work_needs_an_exemption(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    asked = ("node", "care/ward-3", "--context", "care")
    for answer, word in ((), b"employees_present"), (("--employees-present",), b"Article 5(1)(f)"):
        refused = setup(*asked, *answer, check=False)
        assert (refused.returncode, refused.stdout) == (2, b"")
        assert word in refused.stderr
    stated = ("--employees-present", "--exemption", "medical", "--exemption-reference", 'file "12"')
    _, settings = _unpacked(setup(*asked, *stated).stdout, tmp_path / "unpacked")
    assert settings.deployment.exempted == Exemption(reason="medical", reference='file "12"')
    assert settings.deployment.employees_present


@pytest.mark.parametrize("name", ["operator", "homeassistant", "watcher"])
def test_setup_client_elsewhere_gets_a_certificate_of_its_name(setup: Setup, tmp_path: Path, name: str) -> None:
    setup("prepare")
    with tarfile.open(fileobj=io.BytesIO(setup("client", name).stdout)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = tmp_path / "unpacked" / name
    assert {each.name for each in folder.iterdir()} == {"ca.crt", "client.crt", "client.key"}
    ssl.create_default_context(cafile=folder / "ca.crt").load_cert_chain(folder / "client.crt", folder / "client.key")
    shown = subprocess.run(
        ["openssl", "x509", "-in", folder / "client.crt", "-noout", "-subject"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split("=")[-1].strip() == name


def test_setup_new_node_gets_the_anchor_of_the_releases(setup: Setup, tmp_path: Path, releases: Path) -> None:
    setup("prepare")
    anchor = releases / "metadata" / "1.root.json"
    done = setup("node", "home/bedroom", "--context", "home", "--no-employees-present", "--anchor", anchor)
    assert done.stderr == b""
    names, settings = _unpacked(done.stdout, tmp_path / "unpacked")
    assert names == {"ca.crt", "client.crt", "client.key", "node.toml", "root.json"}
    assert (tmp_path / "unpacked" / "home.bedroom" / "root.json").read_bytes() == anchor.read_bytes()
    assert settings.update is not None
    assert Path(settings.update.anchor) == Path(settings.broker.ca_file or "").with_name("root.json")
    assert Path(settings.update.folder).parent == Path(settings.outbox.path).parent


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("metadata/timestamp.json", "is no root metadata of TUF"),
        ("settings.toml", "is no root metadata of TUF"),
        ("metadata", "Is a directory"),
    ],
)
def test_setup_anchor_that_is_none_is_one_line(releases: Path, name: str, word: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_anchor(releases / name)
    told = f"{releases / name}: {word}; name the first root of the releases, metadata/1.root.json"
    assert str(caught.value) == told


@pytest.mark.parametrize("content", [b"", b"{}", b'{"signed": {"_type": "ro\xff"}}', b"[" * 100_000])
def test_setup_anchor_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "root.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is no root metadata of TUF"):
        read_anchor(path)


def test_setup_anchor_that_is_missing_enrols_nobody(setup: Setup, tmp_path: Path) -> None:
    setup("prepare")
    before = _contents(tmp_path / "private")
    path = tmp_path / "nowhere.json"
    done = setup("node", "home/bedroom", "--context", "home", "--no-employees-present", "--anchor", path, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    told = f"setup: error: --anchor {path}: no such file; name the first root of the releases, metadata/1.root.json\n"
    assert done.stderr.decode() == told
    assert _contents(tmp_path / "private") == before


def test_setup_needs_no_right_beyond_its_container_s(setup: Setup, releases: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is missing: it is a part of util-linux")
    for path in (releases, *releases.rglob("*")):  # as the service `release` makes it, for itself alone
        os.chown(path, 10001, 10001)
    node = (
        "node",
        "home/bedroom",
        "--context",
        "home",
        "--no-employees-present",
        "--anchor",
        releases / "metadata" / "1.root.json",
    )

    def rights(*names: str) -> tuple[str, ...]:
        return (setpriv, f"--bounding-set={','.join(['-all', *(f'+{name.lower()}' for name in names)])}")

    setup("prepare", by=rights(*CAPABILITIES))
    setup(*node, by=rights(*CAPABILITIES))
    told = setup(*node, by=rights("chown"), check=False).stderr.decode()
    assert "Permission denied" in told, "root reads by right alone what another keeps for itself"


def test_setup_collector_of_a_program_s_name_is_refused(setup: Setup, tmp_path: Path) -> None:
    done = setup("prepare", check=False, SOTTOVOCE_COLLECTORS="collector,release")
    assert done.returncode == 2
    assert b"'release' is another program's user name" in done.stderr
    assert _contents(tmp_path) == {}


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

"""docker-compose.yml and what it mounts: nothing open, nothing secret inline, nothing our programs would refuse."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from broker.contract.topics import RELEASE_USER, WATCHER_USER
from broker.settings import read_settings
from dashboard.collector.settings import CollectorSettings
from dashboard.console.settings import ConsoleSettings
from deploy.docker.enrolment import ANCHOR
from deploy.docker.setup import READERS
from edge_node.settings import NodeSettings
from training.release.settings import TEMPLATE, ReleaseSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
ONE_SHOT = "setup"
CAPABILITIES = {"CHOWN", "DAC_READ_SEARCH"}
LONG_RUNNING = sorted(set(SERVICES) - {ONE_SHOT})

every_service = pytest.mark.parametrize("name", sorted(SERVICES))
every_long_running_service = pytest.mark.parametrize("name", LONG_RUNNING)


def _mounts(name: str) -> list[tuple[str, str, str]]:
    """Return (source, target, mode) of a service's mounts."""
    found = []
    for mount in SERVICES[name].get("volumes", ()):
        source, target, *mode = mount.split(":")
        found.append((source, target, mode[0] if mode else "rw"))
    return found


def _stage(name: str) -> str | None:
    """Return the Dockerfile's stage of an image of ours."""
    build = SERVICES[name].get("build")
    return None if build is None else STAGES[build["target"]]


def _user(name: str) -> str:
    """Return the user and group that a service runs as."""
    user: str = SERVICES[name].get("user") or re.findall(r"^USER (.+)$", _stage(name) or "", re.MULTILINE)[-1]
    return user


@every_service
def test_compose_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert service.get("network_mode") == ("none" if name == ONE_SHOT else None)
    assert set(service.get("cap_add", ())) == (CAPABILITIES if name == ONE_SHOT else set())
    assert "docker.sock" not in str(service)
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@every_long_running_service
def test_compose_service_is_no_root(name: str) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", _user(name))


@every_long_running_service
def test_compose_service_comes_back_and_tells_its_health(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    health = service.get("healthcheck", {})
    assert health.get("test") or re.search(r"^HEALTHCHECK .*CMD \[", _stage(name) or "", re.MULTILINE)
    assert "disable" not in health


def test_compose_setup_runs_once_before_everything_that_reads_from_it() -> None:
    assert SERVICES[ONE_SHOT]["restart"] == "no"
    assert "HEALTHCHECK NONE" in STAGES[ONE_SHOT]
    after = {name for name, service in SERVICES.items() if ONE_SHOT in service.get("depends_on", {})}
    for name in LONG_RUNNING:  # directly, or after somebody who is
        assert name in after or after & set(SERVICES[name]["depends_on"])
    for service in SERVICES.values():
        for other, condition in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == ONE_SHOT else "service_healthy"
            assert condition == {"condition": expected}


@every_service
def test_compose_image_is_pinned_by_tag(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    if "build" in SERVICES[name]:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        assert (image.partition("/")[0], tag) == ("sottovoce", version)


@every_service
def test_compose_publishes_on_loopback_except_the_broker(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port == "8883:8883" if name == "mosquitto" else port.startswith("127.0.0.1:")


def test_compose_influxdb_has_no_way_out() -> None:
    assert SERVICES["influxdb"]["networks"] == ["store"]
    assert COMPOSE["networks"]["store"] == {"internal": True}


@every_service
def test_compose_environment_holds_no_secret(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|PASSPHRASE|TOKEN|SECRET|KEY", variable):
            assert variable.endswith("_FILE")
            assert value.startswith("/run/")


@every_service
def test_compose_mounts_exist_and_what_is_ours_is_read_only(name: str) -> None:
    for source, target, mode in _mounts(name):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == "ro", target
        else:
            assert source in COMPOSE["volumes"]
    for source, _, _ in _mounts(name):
        if source.endswith(".sh"):
            assert (ROOT / source).stat().st_mode & 0o111, f"{source} is executable"


def test_compose_identity_is_mounted_by_its_reader_alone() -> None:
    mounted: dict[str, set[str]] = {}
    for name in SERVICES:
        for source, _, mode in _mounts(name):
            mounted.setdefault(source, set()).add(name)
            if source.endswith("-identity") and name != ONE_SHOT:
                assert mode == "ro"
    assert mounted["private"] == {ONE_SHOT}
    assert mounted["releases"] == {ONE_SHOT, "release"}
    for volume in COMPOSE["volumes"]:
        if volume.endswith("-identity"):
            assert mounted[volume] == {ONE_SHOT, volume.removesuffix("-identity")}
        if volume.endswith("-token"):
            assert mounted[volume] == {ONE_SHOT, "influxdb", volume.removesuffix("-token")}


def test_compose_setup_hands_out_what_the_others_expect() -> None:
    handed = {target.removeprefix("/out/") for _, target, _ in _mounts(ONE_SHOT) if target.startswith("/out/")}
    assert {reader.name for reader in READERS} < handed
    users = {reader.name: f"{reader.uid}:{reader.uid}" for reader in READERS}
    assert users == {name: _user(name) for name in users}
    files = {reader.name: set(reader.files) for reader in READERS}
    told = str(SERVICES["influxdb"]) + (ROOT / "deploy/docker/influxdb-init.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"/run/identity/([a-z-]+)", told)) == files["influxdb"]
    told = str(SERVICES["grafana"]) + (ROOT / "deploy/docker/grafana-start.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"/run/identity/([a-z-]+)", told)) == files["grafana"]
    told = str(SERVICES["mosquitto"]) + (ROOT / "broker/mosquitto/mosquitto.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"/mosquitto/identity/([a-z.]+)", told)) == files["mosquitto"]
    told = str(SERVICES["release"]) + (ROOT / "deploy/docker/release.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"/run/identity/([a-z.-]+)", told)) == files["release"]


def test_compose_setup_reads_the_anchor_where_the_release_service_keeps_its_repository() -> None:
    ((_, kept, _),) = [mount for mount in _mounts("release") if mount[0] == "releases"]
    ((_, read, mode),) = [mount for mount in _mounts(ONE_SHOT) if mount[0] == "releases"]
    assert (kept, mode) == (read, "ro")
    (folder,) = re.findall(r"^ENV SOTTOVOCE_RELEASES=(.+)$", STAGES["release"], re.MULTILINE)
    assert Path(folder).parent == Path(kept), "`init` renames a folder into place, which no mount point can be"
    assert Path(folder, "metadata", "1.root.json") == ANCHOR
    assert STAGES["base"].count(f"--mode=0750 {kept}"), "a new volume is its user's, as the folder in the image is"


def test_compose_release_settings_name_the_broker_as_both_users() -> None:
    text = (ROOT / "deploy/docker/release.toml").read_text(encoding="utf-8")
    settings = msgspec.convert(tomllib.loads(TEMPLATE + text), ReleaseSettings)
    files = {reader.name: reader.files for reader in READERS}["release"]
    for broker, user in ((settings.broker, RELEASE_USER), (settings.watch, WATCHER_USER)):
        assert broker is not None
        assert set(SERVICES[broker.host]["networks"]) & set(SERVICES["release"]["networks"])
        assert [files[Path(path or "").name] for path in (broker.cert_file, broker.key_file)] == [
            f"{user}.crt",
            f"{user}.key",
        ]


def test_compose_release_service_has_no_offline_key() -> None:
    """They are named on the command line of a container that a person starts, and mounted into that one alone."""
    told = f"{SERVICES['release']} {STAGES['release']} {READERS}"
    assert "offline" not in told
    assert not [source for source, _, _ in _mounts("release") if source.startswith(("/", "~", ".."))]


@pytest.mark.parametrize(
    ("service", "kind"),
    [("collector", CollectorSettings), ("console", ConsoleSettings), ("simulated-node", NodeSettings)],
)
def test_compose_settings_are_accepted_and_name_what_is_mounted(service: str, kind: type[msgspec.Struct]) -> None:
    ((source, target, _),) = [mount for mount in _mounts(service) if mount[0].endswith(".toml")]
    assert target in (_stage(service) or "")
    settings = read_settings(ROOT / source, kind)
    text = (ROOT / source).read_text(encoding="utf-8")
    folders = [target for _, target, _ in _mounts(service)]
    for path in re.findall(r'"(/[^"]+)"', text):
        assert any(path.startswith(folder) for folder in folders), path
    for host in re.findall(r'(?:^host = "|http://)([a-z]+)', text, re.MULTILINE):
        assert set(SERVICES[host]["networks"]) & set(SERVICES[service]["networks"]), f"{service} reaches {host}"
    if isinstance(settings, NodeSettings):
        assert SERVICES[ONE_SHOT]["environment"]["SOTTOVOCE_NODES"] == str(settings.identity)
        assert settings.update is None, "whoever looks at the simulation has no releases yet"
    if isinstance(settings, CollectorSettings):
        assert settings.name in SERVICES[ONE_SHOT]["environment"]["SOTTOVOCE_COLLECTORS"]


def test_compose_readers_name_the_bucket_that_is_made() -> None:
    influxdb = SERVICES["influxdb"]["environment"]
    collector = read_settings(ROOT / "deploy/docker/collector.toml", CollectorSettings).influxdb
    console = read_settings(ROOT / "deploy/docker/console.toml", ConsoleSettings).influxdb
    assert collector is not None
    assert console is not None
    assert collector.bucket == console.bucket == influxdb["DOCKER_INFLUXDB_INIT_BUCKET"]
    assert collector.org == influxdb["DOCKER_INFLUXDB_INIT_ORG"]
    assert SERVICES["grafana"]["environment"]["SOTTOVOCE_INFLUXDB_DATABASE"] == collector.bucket


def test_compose_grafana_sets_every_variable_of_its_provisioning() -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "dashboard/grafana/provisioning").rglob("*.yaml"))
    start = (ROOT / "deploy/docker/grafana-start.sh").read_text(encoding="utf-8")
    for variable in set(re.findall(r"\$__env\{(\w+)\}", text)):
        assert variable in SERVICES["grafana"]["environment"] or f"export {variable}" in start
    assert "/etc/grafana/dashboards" in text


def test_compose_is_accepted_by_docker_itself() -> None:
    docker = shutil.which("docker")
    compose = docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    if not docker or not compose or compose.returncode:
        pytest.skip("there is no `docker compose` here")
    done = subprocess.run(
        [docker, "compose", "--profile", "simulation", "--profile", "release", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

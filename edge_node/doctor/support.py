"""A file for whoever helps from afar: what the doctor found, and nothing that is nobody's business.

    never in it     passwords, keys, what waits in the outbox, sound, features, and what people were heard to feel
    taken out       who operates the node, the reference of an exemption, this user's home folder
    left in         names of the node, of the broker, of users and files; certificates, of which all is public

What is secret is not copied to begin with. All texts are then searched for the secrets that are known.
"""

import contextlib
import io
import os
import platform
import re
import sys
import zipfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.contract.errors import AudioError, SettingsError, StoreError
from broker.settings import BrokerSettings, secret
from edge_node.doctor.certificates import public_parts
from edge_node.doctor.examine import Examined
from edge_node.doctor.show import as_text
from edge_node.local.messages import Remark, Report
from edge_node.settings import NodeSettings
from edge_node.sound.portaudio import as_json, list_devices

__all__ = ["collect", "known_secrets", "write"]

_REMOVED: Final = "[removed]"
_GIVEN: Final = "[given]"
_SHORTEST: Final = 4
"""Letters of a secret that can be looked for: a shorter one stands everywhere."""
_LOOKS_SECRET: Final = re.compile(
    r"""^\s*[\w."-]*(?:pass|secret|token)[\w."-]*\s*=\s*(?:"([^"]+)"|'([^']+)')""", re.IGNORECASE | re.MULTILINE
)
_PACKAGES: Final = (
    "ai-edge-litert",
    "msgspec",
    "numpy",
    "paho-mqtt",
    "rich",
    "sounddevice",
    "soundfile",
    "soxr",
    "tuf",
)
_MEMORY: Final = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
_PARTS: Final[Mapping[str, str]] = {
    "diagnosis.txt": "what the doctor found, for people",
    "diagnosis.json": "the same, for programs",
    "settings.json": "the settings as they were understood; no operator, no reference of an exemption",
    "service.json": "what the running node says of itself; no labels",
    "certificates.json": "subjects, issuers and dates",
    "devices.json": "microphones",
    "machine.json": "versions, processor, memory, load",
    "log.txt": "the last warnings, of the node and of the doctor",
}


def collect(examined: Examined, config: Path, remarks: Collection[Remark]) -> dict[str, str]:
    """Return the texts of the file, by name, `contents.txt` first.

    Args:
        examined: what was found.
        config: the settings file, which may hold a secret where none belongs.
        remarks: what the doctor itself has warned of.
    """
    settings, report = examined.settings, examined.report
    parts: dict[str, Any] = {
        "diagnosis.txt": as_text(examined.diagnosis),
        "diagnosis.json": msgspec.to_builtins(examined.diagnosis),
        "machine.json": _machine(),
        "devices.json": _devices(),
        "log.txt": "".join(map(_line, (*(() if report is None else report.remarks), *remarks))) or "no warnings\n",
    }
    if settings is not None:
        parts["settings.json"] = _settings(settings)
        parts["certificates.json"] = {
            name: public_parts(getattr(settings.broker, name)) for name in ("ca_file", "cert_file")
        }
    if report is not None:
        parts["service.json"] = _service(report)
    secrets = known_secrets(config, None if settings is None else settings.broker)
    texts = {name: _scrubbed(_text(parts[name]), secrets) for name in _PARTS if name in parts}
    listing = "".join(f"{name:<18} {_PARTS[name]}\n" for name in texts)
    when = datetime.fromtimestamp(examined.diagnosis.time_us / 1e6, UTC)
    head = (
        f"Support file of {examined.diagnosis.node or 'a node'}, {when:%Y-%m-%d %H:%M:%S} UTC\n\n{listing}\n"
        "Never in here: passwords, keys, what waits in the outbox, sound, features, labels.\n"
        f"Taken out: who operates the node and references ({_GIVEN}), secrets that stood in a text ({_REMOVED}), this\n"
        "user's home folder (~). Left in: names of node, broker, users and files. Read it before you pass it on.\n"
    )
    return {"contents.txt": head, **texts}


def write(path: Path, texts: Mapping[str, str]) -> None:
    """Write the file whole, for this user alone.

    Raises:
        StoreError: it cannot be written.
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(whole.getvalue())
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):  # renamed, it is gone
                part.unlink()
    except OSError as error:
        msg = f"{path}: {error.strerror}; name a file in a folder that can be written"
        raise StoreError(msg) from error


def known_secrets(config: Path, broker: BrokerSettings | None) -> list[str]:
    """Return what must not stand in any text, longest first: a password, a key, what looks like one in the settings."""
    found: set[str] = set()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for match in _LOOKS_SECRET.finditer(config.read_text(encoding="utf-8")):
            if "password_env" not in match.group(0):  # the name of a variable
                found.add(match.group(1) or match.group(2))
    if broker is not None:
        with contextlib.suppress(SettingsError):
            found.add(secret(broker.password_env) or "")
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if broker.key_file is not None:
                lines = Path(broker.key_file).read_text(encoding="ascii").splitlines()
                found.update(line for line in lines if not line.startswith("-----"))
    return sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True)


def _scrubbed(text: str, secrets: Collection[str]) -> str:
    for each in secrets:
        text = text.replace(each, _REMOVED)
        text = text.replace(msgspec.json.encode(each).decode()[1:-1], _REMOVED)  # as JSON writes it
    home = str(Path.home())
    return text if len(home) < _SHORTEST else text.replace(f"{home}/", "~/")


def _text(part: Any) -> str:  # noqa: ANN401 -- JSON
    return part if isinstance(part, str) else msgspec.json.format(msgspec.json.encode(part), indent=2).decode() + "\n"


def _settings(settings: NodeSettings) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(settings)
    for name in ("operator", "information_url", "exemption_reference"):
        if found["deployment"].get(name) is not None:
            found["deployment"][name] = _GIVEN
    return found


def _service(report: Report) -> dict[str, Any]:
    """Return the report without what people were heard to feel, and without the reference of an exemption."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    found.pop("remarks")
    if found["status"].get("exemption"):
        found["status"]["exemption"]["reference"] = _GIVEN
    if telemetry := found.get("telemetry"):
        telemetry["windows"] = sum(telemetry["windows"].values())
        telemetry.pop("drift", None)
    if (update := found.get("update")) and (trial := update.get("trial")):
        trial.pop("labels", None)
        trial.pop("scores", None)
    return found


def _machine() -> dict[str, Any]:
    versions = {}
    for name in ("sottovoce", *_PACKAGES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    memory = [line.split(":") for line in _read("/proc/meminfo").splitlines() if ":" in line]
    processor = re.findall(r"^(?:model name|Model)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "python": sys.version,
        "system": platform.platform(),
        "release": "".join(re.findall(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release"), re.MULTILINE)),
        "processors": os.cpu_count(),
        "processor": processor[0] if processor else platform.machine(),
        "memory": {name: value.strip() for name, value in memory if name in _MEMORY},
        "load": _read("/proc/loadavg").split()[:3],
        "uptime_s": _read("/proc/uptime").split()[:1],
        "user_id": os.geteuid(),
        "versions": versions,
    }


def _devices() -> Any:  # noqa: ANN401 -- JSON
    try:
        return as_json(list_devices())
    except AudioError as error:
        return str(error)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _line(remark: Remark) -> str:
    when = datetime.fromtimestamp(remark.time_us / 1e6, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%SZ} {remark.level} {remark.logger}: {remark.words}\n"

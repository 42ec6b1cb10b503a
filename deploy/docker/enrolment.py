"""What a new node is given: settings, its certificate and, where there are releases, the first root that it trusts."""

import io
import json
import tarfile
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from broker.contract.errors import SettingsError
from broker.contract.topics import NodeId
from edge_node.deployment import DeploymentSettings

__all__ = ["ANCHOR", "node_settings", "read_anchor", "write_archive"]

ANCHOR: Final = Path("/var/lib/sottovoce/releases/metadata/1.root.json")
"""Where the service `release` of docker-compose.yml keeps its repository's first root."""

_SETTINGS: Final = """\
site = "{site}"
node = "{node}"

[deployment]
{deployment}
[broker]
host = "{host}"
ca_file = "/etc/sottovoce/ca.crt"
cert_file = "/etc/sottovoce/client.crt"
key_file = "/etc/sottovoce/client.key"

[outbox]
path = "/var/lib/sottovoce/outbox.sqlite"
"""
_UPDATE: Final = """
[update]
anchor = "/etc/sottovoce/root.json"
folder = "/var/lib/sottovoce/update"
"""


class _Root(msgspec.Struct, frozen=True):
    kind: Literal["root"] = msgspec.field(name="_type")


class _Metadata(msgspec.Struct, frozen=True):
    """As much of TUF's root metadata as tells it from another role's, and from any other file."""

    signed: _Root


def read_anchor(path: Path) -> bytes:
    """Return the root metadata in a file.

    Raises:
        FileNotFoundError: there is none.
        SettingsError: it cannot be read, or is something else.
    """
    try:
        data = path.read_bytes()
        msgspec.json.decode(data, type=_Metadata)
    except FileNotFoundError:
        raise
    except OSError as error:
        msg = f"{path}: {error.strerror}; name the first root of the releases, metadata/1.root.json"
        raise SettingsError(msg) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{path}: is no root metadata of TUF; name the first root of the releases, metadata/1.root.json"
        raise SettingsError(msg) from error
    return data


def node_settings(node: NodeId, deployment: DeploymentSettings, host: str, *, updates: bool) -> str:
    """Return a node's settings file.

    Args:
        node: whose.
        deployment: what kind of place.
        host: the broker's name, as nodes reach it.
        updates: whether it takes model updates, by an anchor beside its certificate.
    """
    stated = {
        key: value for key, value in msgspec.to_builtins(deployment).items() if value is not None and value is not False
    }
    if deployment.employees_present is not None:
        stated["employees_present"] = deployment.employees_present
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in stated.items())  # TOML's scalars are JSON's
    settings = _SETTINGS.format(site=node.site, node=node.node, deployment=lines, host=host)
    return settings + _UPDATE if updates else settings


def write_archive(stream: BinaryIO, folder: str, files: dict[str, bytes]) -> None:
    """Write a tar archive of one folder; its files are for their owner alone."""
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))

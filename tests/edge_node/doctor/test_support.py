"""The support file: what is in it, and above all what is not."""

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from broker.contract.condition import Drift, Exemption
from broker.contract.decision import Label
from broker.contract.errors import StoreError
from broker.contract.messages import Telemetry
from broker.contract.topics import EMOTION
from broker.settings import read_settings
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox
from edge_node.doctor.examine import Examined, examine
from edge_node.doctor.support import collect, write
from edge_node.local.messages import Remark, Report
from edge_node.settings import NodeSettings

pytest.importorskip("sounddevice")
Write = Callable[..., Path]
PASSWORD = 'Tr0ub4dor&3 "quoted"'  # noqa: S105 -- planted, to be looked for
MISPLACED = "correct horse battery staple"
OPERATOR = "Ada Operator"
REFERENCE = "file 1234"


@pytest.fixture
def planted(write_config: Write, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a node that has secrets of each kind, and an outbox with an event in it."""
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", PASSWORD)
    return write_config(
        deployment=(
            f'context = "care"\nemployees_present = true\nexemption = "medical"\nexemption_reference = "{REFERENCE}"\n'
            f'operator = "{OPERATOR}"\n'
        ),
        broker=(
            f'host = "127.0.0.1"\nport = 1\nusername = "home/kitchen"\nca_file = "{certificates / "ca.crt"}"\n'
            f'cert_file = "{certificates / "home.kitchen.crt"}"\nkey_file = "{certificates / "home.kitchen.key"}"\n'
        ),
    )


def _report(make_report: Callable[..., Report], certificates: Path, telemetry: Telemetry) -> Report:
    key = (certificates / "home.kitchen.key").read_text(encoding="ascii").splitlines()[1]
    words = f"the broker said {PASSWORD} and {MISPLACED}, {key}"
    status = msgspec.structs.replace(
        make_report().status, exemption=Exemption(reason="medical", reference=REFERENCE), employees_present=True
    )
    return make_report(
        status=status,
        telemetry=telemetry,
        remarks=(Remark(time_us=1, level="WARNING", logger="broker.link", words=words),),
    )


def _everything(path: Path) -> tuple[dict[str, str], str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    return texts, "\n".join(texts.values())


def test_support_file_holds_no_secret(
    planted: Path,
    certificates: Path,
    make_report: Callable[..., Report],
    make_telemetry: Callable[..., Telemetry],
    draft: Callable[..., object],
    tmp_path: Path,
) -> None:
    drift = Drift(mean_confidence=0.5, mean_entropy=0.5, divergence=None)
    settings = read_settings(planted, NodeSettings)
    outbox = Outbox(settings.outbox, WallClock(trusted=True), alone=True)
    outbox.put(EMOTION, settings.identity, draft)  # type: ignore[arg-type]
    outbox.close()
    with planted.open("a", encoding="utf-8") as file:
        file.write(f"password = '{MISPLACED}'\n")
    found = examine(planted, {})
    assert found.settings is None, "a password has no place in the settings"
    examined = Examined(
        diagnosis=found.diagnosis,
        settings=settings,
        report=_report(make_report, certificates, make_telemetry(drift=drift)),
    )
    target = tmp_path / "support.zip"
    write(target, collect(examined, planted, ()))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".support*"))
    texts, whole = _everything(target)
    key_lines = (certificates / "home.kitchen.key").read_text(encoding="ascii").splitlines()[1:-1]
    as_json = msgspec.json.encode(PASSWORD).decode()[1:-1]
    for secret in (PASSWORD, as_json, MISPLACED, OPERATOR, REFERENCE, "PRIVATE KEY", *key_lines):
        assert secret not in whole, secret
    assert "[removed]" in texts["log.txt"]
    assert "[given]" in texts["settings.json"]
    assert '"windows": 8' in texts["service.json"]
    for word in (*Label, "mean_confidence"):
        assert f'"{word}"' not in whole, "what people were heard to feel is not for support"
    assert str(certificates / "home.kitchen.key") in whole, "where the key is, is no secret"
    assert "CN=home/kitchen" in texts["certificates.json"]


def test_support_file_lists_what_is_in_it(write_config: Write) -> None:
    config = write_config()
    texts = collect(examine(config, {}), config, ())
    for name in texts:
        assert name == "contents.txt" or f"\n{name} " in texts["contents.txt"]
    assert set(texts) == {
        "contents.txt",
        "diagnosis.txt",
        "diagnosis.json",
        "settings.json",
        "certificates.json",
        "devices.json",
        "machine.json",
        "log.txt",
    }
    machine = json.loads(texts["machine.json"])
    assert machine["versions"]["sottovoce"]
    assert machine["memory"]["MemTotal"]
    assert json.loads(texts["settings.json"])["site"] == "home"


def test_support_file_of_settings_that_cannot_be_read_holds_none_of_them(write_config: Write) -> None:
    config = write_config(f'secret_thing = "{MISPLACED}"\n')
    texts = collect(examine(config, {}), config, ())
    assert "settings.json" not in texts
    assert "unknown key secret_thing" in texts["diagnosis.txt"].replace("\n", " ")
    assert MISPLACED not in "".join(texts.values())


def test_support_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="name a file in a folder that can be written"):
        write(tmp_path / "nowhere" / "support.zip", {"a": "b"})
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        write(tmp_path / "folder", {"a": "b"})
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_support_file_replaces_an_older_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "support.zip"
    target.write_bytes(b"old")
    write(target, {"a.txt": "b"})
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as archive:
        assert archive.namelist() == ["a.txt"]

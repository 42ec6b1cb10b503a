"""Settings files, and certificates of an authority of the test's own."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.contract.condition import Quantiles
from broker.contract.decision import Label
from broker.contract.messages import Stage as Timed
from broker.contract.messages import Telemetry
from broker.settings import read_settings
from deploy.certificates import issue_client, make_authority
from edge_node.settings import NodeSettings

Write = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path, recording: Path) -> Write:
    """Write a node's settings that can be used; what is named replaces a table, or comes before all tables."""

    def write(top: str = "", **tables: str) -> Path:
        given = {
            "deployment": 'context = "home"\nemployees_present = false\nnotice_acknowledged = true\n',
            "source": f'kind = "replay"\npaths = ["{recording}"]\nreal_time = false\n',
            "broker": 'host = "127.0.0.1"\nport = 1\ntls = false\n',
            "outbox": f'path = "{tmp_path / "outbox.sqlite"}"\n',
            "clock": "trust = true\n",
        } | tables
        path = tmp_path / "node.toml"
        text = f'site = "home"\nnode = "kitchen"\nsocket = "{tmp_path / "n.sock"}"\n{top}'
        path.write_text(text + "".join(f"[{name}]\n{content}" for name, content in given.items()), encoding="utf-8")
        return path

    return write


@pytest.fixture
def settings(write_config: Write) -> NodeSettings:
    return read_settings(write_config(), NodeSettings)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.*`, `home.kitchen.*`, `home.bedroom.*`, and `short.*`, which lasts for ten days."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it makes the certificates")
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder)
    issue_client(folder, "home/kitchen")
    issue_client(folder, "home/bedroom")
    issue_client(folder, "home/short", days=10)
    return folder


@pytest.fixture(scope="session")
def make_telemetry() -> Callable[..., Telemetry]:
    """Make what a node says every ten seconds; what is named is changed."""

    def make(**changes: Any) -> Telemetry:
        took = Quantiles(count=20, p50=1_500, p95=2_000, p99=3_000)
        telemetry = Telemetry(
            boot_id="0123456789abcdef",
            time_us=1_790_000_000_000_000,
            seq=1,
            outbox_id="0123456789abcdef",
            mono_us=1,
            clock_synced=True,
            interval_us=10_000_000,
            windows=dict.fromkeys(Label, 2),
            silent_windows=10,
            gated_windows=2,
            level_dbfs=-40.0,
            latency_us=dict.fromkeys((Timed.FEATURES, Timed.INFERENCE, Timed.PUBLISH), took),
            emitted=5,
            outbox_dropped=0,
            outbox_depth=0,
            outbox_age_us=0,
            refused_events=0,
            dropped_blocks=0,
            reconnects=0,
            rss_bytes=70_000_000,
            cpu_share=0.01,
            temperature_c=None,
        )
        return msgspec.structs.replace(telemetry, **changes)

    return make

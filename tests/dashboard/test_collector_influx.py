"""The collector's program between a real broker and a real InfluxDB."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker.local import LocalBroker

if TYPE_CHECKING:
    Server = Any  # of tests/dashboard/influx_server.py, which is no package

NODE = "home/kitchen"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Mosquitto: apt-get install mosquitto")
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
    (tmp_path / "broker").mkdir()
    started = LocalBroker(tmp_path / "broker", [NODE, "collector"], kind="mosquitto")
    started.start()
    yield started
    started.kill()


def _start(module: str, config: Path, text: str, **environment: str) -> "subprocess.Popen[str]":
    config.write_text(text)
    with config.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, "run", "--config", config],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def test_collector_outage_of_influxdb_loses_no_event_of_a_running_node(
    broker: LocalBroker, influx: "Server", tmp_path: Path, recording: Path, wait_until: Callable[..., None]
) -> None:
    def connection(user: str) -> str:
        return f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\ntls = false\nusername = "{user}"\n'

    def stored() -> int:
        rows = influx.rows('SELECT count("seq") AS n FROM emotion')
        return int(rows[0]["n"]) if rows else 0

    collector = _start(
        "dashboard.collector",
        tmp_path / "collector.toml",
        f'{connection("collector")}[influxdb]\nurl = "{influx.url}"\nbucket = "{influx.bucket}"\n'
        f'spool_path = "{tmp_path / "spool.sqlite"}"\n',
        SOTTOVOCE_BROKER_PASSWORD=broker.passwords["collector"],
        SOTTOVOCE_INFLUXDB_TOKEN=influx.token,
    )
    assert collector.stdout is not None
    assert collector.stdout.readline() == "ready\n"
    node = _start(
        "edge_node",
        tmp_path / "node.toml",
        f'site = "home"\nnode = "kitchen"\ndeployment = {{context = "home", employees_present = false}}\n'
        f"drain_s = 20\n{connection(NODE)}"
        f'[source]\nkind = "replay"\npaths = ["{recording}"]\nreal_time = false\n'
        f'[gate]\nenabled = false\n[clock]\ntrust = true\n[outbox]\npath = "{tmp_path / "outbox.sqlite"}"\n'
        "[telemetry]\ninterval_s = 1\n",
        SOTTOVOCE_BROKER_PASSWORD=broker.passwords[NODE],
    )
    try:
        wait_until(lambda: stored() > 20)
        influx.stop(hard=True)
        spooled = tmp_path / "spool.sqlite-wal"
        size = spooled.stat().st_size
        wait_until(lambda: spooled.stat().st_size != size)  # it goes on taking events
        influx.start()
        before = stored()
        wait_until(lambda: stored() > before + 20)
        node.send_signal(signal.SIGTERM)
        assert node.wait(30) == 0
        wait_until(lambda: influx.rows('SELECT last("reason") AS reason FROM status')[0]["reason"] == "stopped")
        (sent,) = influx.rows('SELECT max("emitted") AS emitted, max("outbox_dropped") AS dropped FROM telemetry')
        wait_until(lambda: stored() >= sent["emitted"])
        assert (stored(), sent["dropped"]) == (sent["emitted"], 0)
    finally:
        for process in (node, collector):
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
    assert influx.token not in (tmp_path / "collector.log").read_text()

"""The way to the broker, stage by stage, with a real broker and with none."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker.contract.errors import LinkError
from broker.contract.topics import NodeId
from broker.local import LocalBroker, free_port
from broker.settings import BrokerSettings
from deploy.certificates import issue_server, make_authority
from edge_node.doctor.broker import connect_as_node, reach
from edge_node.doctor.finding import Finding, Stage, Verdict

NODE = NodeId("home", "kitchen")
LOOPBACK = "127.0.0.1"


def _verdicts(findings: list[Finding]) -> dict[Stage, Verdict]:
    return {each.stage: each.verdict for each in findings}


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[LocalBroker]:
    try:
        broker = LocalBroker(tmp_path, [str(NODE), "home/bedroom"], kind="mosquitto")
    except LinkError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs it: {error}")
        pytest.skip(str(error))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    issue_server(folder, ["localhost"])
    return folder


@pytest.fixture(params=[False])
def tls_port(authority: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """Something that shakes hands, and then says nothing, for `localhost` alone; True: with who has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    if request.param:
        context.load_verify_locations(authority / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        held = []
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                break
            try:
                held.append(context.wrap_socket(client, server_side=True))
            except OSError:
                client.close()
        for each in held:
            each.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def test_name_that_nobody_knows_ends_it() -> None:
    findings = reach(BrokerSettings(host="no-such-host.invalid"))
    assert _verdicts(findings) == {
        Stage.NAME: Verdict.FAIL,
        Stage.TCP: Verdict.SKIPPED,
        Stage.TLS: Verdict.SKIPPED,
    }


def test_port_at_which_nothing_listens_ends_it() -> None:
    findings = reach(BrokerSettings(host=LOOPBACK, port=free_port(), tls=False))
    assert _verdicts(findings) == {Stage.NAME: Verdict.OK, Stage.TCP: Verdict.FAIL, Stage.TLS: Verdict.SKIPPED}
    assert "nothing listens" in findings[1].words


def test_tls_in_order_tells_the_days(authority: Path, tls_port: int) -> None:
    findings = reach(BrokerSettings(host="localhost", port=tls_port, ca_file=str(authority / "ca.crt")))
    assert set(_verdicts(findings).values()) == {Verdict.OK}, findings
    assert findings[2].facts["days"] == 824


def test_tls_of_another_authority_is_told(tls_port: int, certificates: Path) -> None:
    findings = reach(BrokerSettings(host="localhost", port=tls_port, ca_file=str(certificates / "ca.crt")))
    assert findings[2].verdict is Verdict.FAIL
    assert "broker.ca_file must be the authority" in str(findings[2].advice)


def test_tls_of_another_name_is_told(authority: Path, tls_port: int) -> None:
    findings = reach(BrokerSettings(host=LOOPBACK, port=tls_port, ca_file=str(authority / "ca.crt")))
    assert findings[2].verdict is Verdict.FAIL
    assert "make the broker's certificate for the name '127.0.0.1'" in str(findings[2].advice)


@pytest.mark.parametrize("tls_port", [True], indirect=True)
def test_tls_certificate_that_the_broker_refuses_is_told(authority: Path, tls_port: int, certificates: Path) -> None:
    """The broker says so after the handshake, in TLS 1.3."""
    own = certificates / "home.kitchen"
    for files in ({}, {"cert_file": f"{own}.crt", "key_file": f"{own}.key"}):
        named = {"host": "localhost", "port": tls_port, "ca_file": str(authority / "ca.crt"), **files}
        findings = reach(msgspec.convert(named, BrokerSettings))
        assert findings[2].verdict is Verdict.FAIL, findings
        assert "trusts the authority of broker.cert_file" in str(findings[2].advice)


def test_tls_where_there_is_none_is_told(mosquitto: LocalBroker) -> None:
    findings = reach(BrokerSettings(host=LOOPBACK, port=mosquitto.port))
    assert findings[2].verdict is Verdict.FAIL
    assert "speaks TLS" in str(findings[2].advice)


def _settings(broker: LocalBroker, user: str) -> BrokerSettings:
    return BrokerSettings(host=LOOPBACK, port=broker.port, tls=False, username=user)


def test_broker_takes_the_node_and_a_message(mosquitto: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", mosquitto.passwords[str(NODE)])
    findings = connect_as_node(_settings(mosquitto, str(NODE)), NODE)
    assert _verdicts(findings) == {Stage.MQTT: Verdict.OK, Stage.PUBLISH: Verdict.OK}, findings


def test_broker_refuses_a_wrong_password(mosquitto: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", "wrong")
    findings = connect_as_node(_settings(mosquitto, str(NODE)), NODE)
    assert _verdicts(findings) == {Stage.MQTT: Verdict.FAIL, Stage.PUBLISH: Verdict.SKIPPED}
    assert "refused: " in findings[0].words
    assert "let the broker know this node" in str(findings[0].advice)


def test_broker_refuses_a_message_of_another_node(mosquitto: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", mosquitto.passwords["home/bedroom"])
    findings = connect_as_node(_settings(mosquitto, "home/bedroom"), NODE)
    assert _verdicts(findings)[Stage.PUBLISH] is Verdict.FAIL
    assert "PUBACK 0x87" in findings[1].words

"""The way to the broker, in stages: its name, TCP, TLS, MQTT, a message.

The first three are tried whoever runs: they carry no name of ours. The other two are tried by the doctor only when no
node runs. It then connects as the node would, by the same certificate and client id, leaves its session as it is (kept,
with what waits in it unacknowledged), and says nothing when it goes: there is no will.

The message goes to the node's topic of replies: the ACL lets every node write there, nothing is retained, no collector
reads it, and whoever waits for a reply knows it by the id of a command, of which this one names none that there was.
"""

import contextlib
import errno
import queue
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from broker.connection import Acknowledged, Connection, Event, Opened
from broker.contract.commands import Reply
from broker.contract.errors import SettingsError
from broker.contract.messages import encode
from broker.contract.topics import REPLY, NodeId
from broker.link import Link
from broker.outage import link_words
from broker.settings import BrokerSettings
from edge_node.doctor.finding import Finding, Stage, Verdict, fail, ok, skip, warn

__all__ = ["connect_as_node", "reach"]

_WAIT_S: Final = 5.0
_ANSWER_S: Final = 10.0
_ALERT_S: Final = 0.5
"""After a handshake of TLS 1.3 the server says only then what it thinks of our certificate."""
_RIVAL_S: Final = 2.0
"""Another program with our name comes back within a second, and throws us out."""
_WARN_DAYS: Final = 30
_REFUSED: Final = 0x80
_LOOK_S: Final = 0.1
_AFTER: Final = "not tried: the stage before failed"


def reach(settings: BrokerSettings) -> list[Finding]:
    """Return how far one comes without a name: address, TCP, TLS."""
    where = f"{settings.host}:{settings.port}"
    try:
        addresses, took_ms = _resolve(settings.host, settings.port)
    except OSError as error:
        advice = "see that broker.host is right, and that this machine has a name server (`resolvectl query ...`)"
        found = fail(Stage.NAME, f"{settings.host}: {error.strerror or error}", advice)
        return [found, skip(Stage.TCP, _AFTER), skip(Stage.TLS, _AFTER)]
    findings = [ok(Stage.NAME, f"{settings.host} is {', '.join(addresses)}", took_ms=took_ms)]
    began_s = time.monotonic()
    try:
        connection = socket.create_connection((settings.host, settings.port), timeout=_WAIT_S)
    except OSError as error:
        findings.append(_no_tcp(where, error))
        return [*findings, skip(Stage.TLS, _AFTER)]
    with connection:
        findings.append(ok(Stage.TCP, f"{where} accepts connections", took_ms=_ms(began_s)))
        if not settings.tls:
            return [*findings, skip(Stage.TLS, "none: the broker is on this machine, broker.tls = false")]
        return [*findings, _shake_hands(settings, connection)]


def connect_as_node(settings: BrokerSettings, node: NodeId) -> list[Finding]:
    """Return how the broker takes this node: its connection, and a message that means nothing to anybody."""
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    client_id = f"{node.site}.{node.node}"
    try:
        link = Link(settings, client_id, events=events)
    except SettingsError as error:
        return [fail(Stage.MQTT, str(error), "mend [broker]"), skip(Stage.PUBLISH, _AFTER)]
    with link_words(client_id) as words:
        began_s = time.monotonic()
        link.start()
        try:
            connection = _opened(events, lambda: bool(words))
            if connection is None:
                return [_no_mqtt(words[0] if words else "no answer"), skip(Stage.PUBLISH, _AFTER)]
            took_ms = _ms(began_s)
            published = _publish(connection, events, node)
            rival = _wait_for_rival(link) if published.verdict is Verdict.OK else None
        finally:
            link.stop()
    if rival is not None:
        return [rival, published]
    return [ok(Stage.MQTT, f"the broker takes this node as {node}", took_ms=took_ms), published]


def _resolve(host: str, port: int) -> tuple[list[str], float]:
    """Return a host's addresses and how long it took, in ms; a name server that hangs is not waited for.

    Raises:
        OSError: there are none, or not in time.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError("this is no name of a host"))

    began_s = time.monotonic()
    threading.Thread(target=look_up, name="name server", daemon=True).start()
    try:
        answer = answers.get(timeout=_WAIT_S)
    except queue.Empty:
        msg = f"no name server has answered within {_WAIT_S:g} s"
        raise OSError(msg) from None
    if isinstance(answer, OSError):
        raise answer
    return answer, _ms(began_s)


def _no_tcp(where: str, error: OSError) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        advice = "start the broker there, or mend broker.port; in its own settings it may listen on 127.0.0.1 alone"
        return fail(Stage.TCP, f"{where}: the machine is there, and nothing listens", advice)
    if isinstance(error, TimeoutError):
        advice = "look at the network and the firewalls on the way (`ping`, and the broker's port)"
        return fail(Stage.TCP, f"{where}: no answer within {_WAIT_S:g} s", advice)
    return fail(Stage.TCP, f"{where}: {error.strerror or error}", "look at this machine's network (`ip route`)")


def _shake_hands(settings: BrokerSettings, connection: socket.socket) -> Finding:
    where = f"{settings.host}:{settings.port}"
    began_s = time.monotonic()
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        return skip(Stage.TLS, f"the files of [broker] cannot be used: {error}; see `{Stage.CERTIFICATES}`")
    try:
        with context.wrap_socket(connection, server_hostname=settings.host) as secured:
            took_ms = _ms(began_s)
            secured.settimeout(_ALERT_S)
            with contextlib.suppress(TimeoutError):  # it waits for our CONNECT, as it should
                if not secured.recv(1):
                    raise ConnectionResetError(errno.ECONNRESET, "closed after the handshake")
            certificate, version = secured.getpeercert() or {}, secured.version()
    except ssl.SSLCertVerificationError as error:
        return fail(Stage.TLS, f"{where}: {error.verify_message}", _verification_advice(settings, error.verify_code))
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or error.strerror or str(error)
        advice = "see that this port speaks TLS, and that the broker trusts the authority of broker.cert_file"
        return fail(Stage.TLS, f"{where}: {str(why).replace('_', ' ').lower()}", advice)
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    days = (ends - datetime.now(UTC)).days
    words = f"{version}; the broker's certificate is valid for {days} more days"
    if days < _WARN_DAYS:
        return warn(Stage.TLS, words, "renew the broker's certificate", took_ms=took_ms, days=days)
    return ok(Stage.TLS, words, took_ms=took_ms, days=days)


def _verification_advice(settings: BrokerSettings, code: int) -> str:
    if code in {9, 10}:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        return "renew the broker's certificate; if it is in order, this machine's clock is wrong"
    if code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return f"make the broker's certificate for the name {settings.host!r}, or set broker.host to a name that it has"
    return "broker.ca_file must be the authority that signed the broker's certificate"


def _opened(events: "queue.SimpleQueue[Event | None]", has_failed: Callable[[], bool]) -> Connection | None:
    """Return the first connection; None: the first attempt failed, or took too long."""
    until_s = time.monotonic() + _ANSWER_S
    while time.monotonic() < until_s:
        try:
            event = events.get(timeout=0.1)
        except queue.Empty:
            if has_failed():
                return None
            continue
        if isinstance(event, Opened):
            return event.connection
    return None


def _no_mqtt(why: str) -> Finding:
    advice = "look at the broker's log"
    if "Not authorized" in why or "Bad user name or password" in why:
        advice = "let the broker know this node: its certificate's common name, or its user name and password"
    elif "tls" in why.lower() or "ssl" in why.lower() or "certificate" in why.lower():
        advice = "see that the broker trusts the authority of broker.cert_file"
    return fail(Stage.MQTT, why, advice)


def _publish(connection: Connection, events: "queue.SimpleQueue[Event | None]", node: NodeId) -> Finding:
    reply = Reply(
        boot_id=secrets.token_hex(8),
        time_us=time.time_ns() // 1000,
        command=secrets.token_hex(8),
        done=False,
        words="sottovoce-node doctor: no command; this shows whether the broker takes messages",
    )
    began_s = time.monotonic()
    packet_id = connection.publish(REPLY.at(node), encode(reply, REPLY.largest_bytes))
    until_s = began_s + _ANSWER_S
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            event = events.get(timeout=left_s)
        except queue.Empty:
            break
        if not isinstance(event, Acknowledged) or event.connection is not connection or event.packet_id != packet_id:
            continue
        if event.reason >= _REFUSED:
            advice = f"give the broker the ACL of broker/mosquitto/acl; it must let {node} write below its own name"
            return fail(Stage.PUBLISH, f"refused, PUBACK 0x{event.reason:02x}", advice)
        return ok(Stage.PUBLISH, "a message that means nothing was acknowledged", took_ms=_ms(began_s))
    advice = "look at the broker's log: it took the connection, and not the message"
    return fail(Stage.PUBLISH, f"no PUBACK within {_ANSWER_S:g} s", advice)


def _wait_for_rival(link: Link) -> Finding | None:
    """Return what is to be said when the broker ends a connection that it had taken; None: it does not.

    Not every broker says why; Mosquitto 2.0 does not.
    """
    until_s = time.monotonic() + _RIVAL_S
    while time.monotonic() < until_s:
        if link.problem is not None:
            words = "the broker took this connection and soon ended it: another program seems to have the same name"
            advice = "look for a second node with a copy of this certificate; each needs one of its own"
            return fail(Stage.MQTT, words, advice)
        time.sleep(_LOOK_S)
    return None


def _ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1e3, 1)

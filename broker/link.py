"""One MQTT 5 session that survives outages. The node and the collector both stand on it.

Three rules, each measured to be necessary (docs/adr/0006):

- A connection is an object. Every reconnect makes a new paho client, so whatever was pending on the old
  connection (packet ids, acknowledgements, in-flight messages) is dropped with it. A broker that lost its state
  numbers its packets from 1 again, and an old acknowledgement would discard a new message.
- The session persists on the broker (clean_start off, long expiry), and every connect subscribes anew.
- The wait before an attempt doubles and is drawn at random, so that a fleet does not return all at once.
"""

import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.connection import Attempt, Event, Failed, Lost
from broker.contract.errors import SettingsError
from broker.contract.topics import LARGEST_RETAINED_BYTES
from broker.settings import BrokerSettings, secret

__all__ = ["Link", "Will"]

_log = logging.getLogger(__name__)

_CONNACK_WAIT_S: Final = 10.0
_STEADY_S: Final = 20.0
"""A connection that lasted this long was a good one. Mosquitto closes a connection after it refused a message: to
begin anew with the shortest wait each time would be a storm."""
_STOP_WAIT_S: Final = 3.0
"""A name server that does not answer holds a thread for longer; it ends with the program."""
_LOOK_S: Final = 5.0
_SESSION_EXPIRY_S: Final = 7 * 24 * 3600
_LARGEST_PACKET_BYTES: Final = 2 * LARGEST_RETAINED_BYTES
"""The broker drops what is larger. Well above what our own broker lets in: Mosquitto 2.0.11 counts a message that it
drops as in flight until the next connection, so that as many as the receive maximum would stop all others."""


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker publishes when this program goes silent."""

    topic: str
    payload: bytes
    delay_s: int


class Link:
    """Keeps a session open from `start` to `stop` and reports what happens on it, in order, in a queue."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        *,
        events: "queue.SimpleQueue[Event | None]",
        subscribe_to: Sequence[str] = (),
        will: Callable[[], Will] | None = None,
        receive_at_most: int = 64,
        session_expiry_s: int = _SESSION_EXPIRY_S,
    ) -> None:
        """Prepare a session.

        Args:
            settings: where the broker is.
            client_id: stable name of the session.
            events: receives every `Event`; the owner may put None into it to wake itself.
            subscribe_to: topic filters, subscribed at QoS 1 on each connection, whether its session is new or not.
            will: makes the will for each connection.
            receive_at_most: messages that the broker may send before it waits for acknowledgements.
            session_expiry_s: for how long the broker keeps the session of an absent program; 0: not at all.

        Raises:
            SettingsError: a certificate, a key or the file with the password cannot be used.
        """
        self._settings = settings
        self._password = None if settings.username is None else secret(settings.password_env)
        self._client_id = client_id
        self._events = events
        self._filters = [(each, SubscribeOptions(qos=1)) for each in subscribe_to]
        self._will = will
        self._receive_at_most = receive_at_most
        self._session_expiry_s = session_expiry_s
        self._tls = _tls_context(settings) if settings.tls else None
        self._stopping = threading.Event()
        self.wait: Callable[[float], object] = self._stopping.wait
        """Lets the seconds between two attempts pass; another one may be put in before `start`."""
        self._client: paho.Client | None = None
        self._thread = threading.Thread(target=self._run, name=f"link {client_id}", daemon=True)
        self.where = f"{settings.host}:{settings.port}"
        """Of the broker: host and port."""
        self._said: set[str] = set()
        self.connects = 0
        """Connections so far."""
        self.attempts = 0
        """To connect, since the last one that succeeded."""
        self.connected_s: float | None = None
        """Monotonic time at which the present connection began, in s; None: there is none."""
        self.problem: str | None = None
        """Why the last connection, or the last attempt at one, ended; None: nothing has gone wrong yet."""

    def start(self) -> None:
        """Begin to connect, and keep trying until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect in order (no will) and end. What is unacknowledged stays with whoever keeps it."""
        self._stopping.set()
        if (client := self._client) is not None:
            client.disconnect()
        self._thread.join(timeout=_STOP_WAIT_S)

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:  # noqa: BLE001 -- a defect of ours: the owner's thread raises it
            self._events.put(Failed(error))

    def _keep_connected(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self.attempts += 1
            self.problem = problem = self._connect_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= _STEADY_S:
                failures = 0
                self._said.clear()
            failures += 1
            most_s = self._settings.reconnect_most_s
            self._say(logging.WARNING, f"{problem}; trying again, at most {most_s:g} s apart")
            self.wait(_wait_s(failures, self._settings))

    def _say(self, level: int, what: str) -> None:
        """Log what happened, once until a connection has lasted: an outage and a quarrel fill no disk."""
        if what not in self._said:
            self._said.add(what)
            _log.log(level, "broker %s: %s", self.where, what)

    def _connect_once(self) -> str:
        """Hold one connection until it is lost; return why it ended."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        attempt = Attempt(client, self._events, self._filters)
        client.max_inflight_messages_set(0)  # the owner bounds what is in flight
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._password)
        if self._will is not None:
            will = self._will()
            delay = Properties(PacketTypes.WILLMESSAGE)
            delay.WillDelayInterval = will.delay_s
            client.will_set(will.topic, will.payload, qos=1, retain=True, properties=delay)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = self._session_expiry_s
        session.ReceiveMaximum = self._receive_at_most
        session.MaximumPacketSize = _LARGEST_PACKET_BYTES
        self._client = client
        try:
            client.connect(
                self._settings.host,
                self._settings.port,
                keepalive=self._settings.keepalive_s,
                clean_start=False,
                properties=session,
            )
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            attempt.let_go()
            return str(error) or type(error).__name__
        client.loop_start()
        try:
            if not attempt.answered.wait(_CONNACK_WAIT_S):
                return "no answer to CONNECT"
            if attempt.connection is None or self._stopping.is_set():  # `stop` may have met an earlier client
                return attempt.problem
            self.connects += 1
            self.attempts, self.connected_s = 0, time.monotonic()
            self._say(logging.INFO, f"connected as {self._client_id}")
            return self._watch(client, attempt)
        finally:
            self.connected_s = None
            client.disconnect()
            client.loop_stop()
            attempt.let_go()
            if attempt.connection is not None:  # also when it opened after we gave up; nothing of it comes after this
                self._events.put(Lost(attempt.connection))

    def _watch(self, client: paho.Client, attempt: Attempt) -> str:
        """Look after a connection until it ends; return why it did."""
        while not attempt.ended.wait(_LOOK_S):
            if attempt.unheard:
                self._say(logging.WARNING, "messages come at QoS 0, which no program of ours sends; none is taken")
            if client._thread is None:  # noqa: SLF001 -- paho's thread died of a packet that it cannot read
                return "paho failed"
        return attempt.problem


def _wait_s(failures: int, settings: BrokerSettings) -> float:
    """Return a random wait whose upper bound doubles with each failure in a row."""
    bound = min(settings.reconnect_most_s, settings.reconnect_first_s * 2.0 ** min(failures - 1, 16))
    return random.uniform(bound / 2, bound)  # noqa: S311 -- jitter, not a secret


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    named = {"ca_file": settings.ca_file, "cert_file": settings.cert_file, "key_file": settings.key_file}
    files = {key: path for key, path in named.items() if path is not None}
    for key, path in files.items():
        try:
            Path(path).open("rb").close()
        except (OSError, ValueError) as error:  # ValueError: a null byte
            msg = f"broker.{key} {path}: {getattr(error, 'strerror', error)}; name a PEM file that this user can read"
            raise SettingsError(msg) from error
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        said = ", ".join(f"{key} {path}" for key, path in files.items())
        msg = f"broker: {said}: {error}; name PEM files that go together"
        raise SettingsError(msg) from error
    return context

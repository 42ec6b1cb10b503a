"""The one message by which Home Assistant knows a node, made from what the node is.

Home Assistant reads the topics that are there for everybody: templates in this message take its entities' values out of
status, events, telemetry and update reports. Nothing is published for it besides this.
Names and rules: home-assistant/core, homeassistant/components/mqtt/{discovery,schemas,sensor,switch,update}.py.
"""

from typing import Final

import msgspec

from broker.contract.condition import CaptureState
from broker.contract.decision import Label
from broker.contract.device import Availability, Component, Device, DeviceDiscovery, Origin
from broker.contract.messages import SCHEMA, Versions
from broker.contract.topics import (
    DISCOVERY,
    EMOTION,
    HOME_ASSISTANT_PREFIX,
    HOME_ASSISTANT_STATUS,
    MUTE,
    STATUS,
    TELEMETRY,
    UPDATE,
    NodeId,
    NodeTopic,
)
from broker.contract.updates import UpdateState

__all__ = ["FRESH_S", "birth_topic", "describe", "discovery_topic"]

FRESH_S: Final = 30
"""An event older than this says nothing of now: the sensors expire, and what an outbox delivers late is not shown.
Six times the interval at which events are repeated while speech lasts."""

_TELEMETRY_INTERVALS: Final = 6
"""Telemetry that is older than so many of its intervals is not shown either."""
_NAME: Final = "Sottovoce"


def discovery_topic(prefix: str = HOME_ASSISTANT_PREFIX) -> NodeTopic:
    """Return the table's row of the discovery message, where Home Assistant looks under another prefix."""
    template = prefix + DISCOVERY.template.removeprefix(HOME_ASSISTANT_PREFIX)
    return msgspec.structs.replace(DISCOVERY, template=template)


def birth_topic(prefix: str = HOME_ASSISTANT_PREFIX) -> str:
    """Return where Home Assistant says `online` when it has started."""
    return prefix + HOME_ASSISTANT_STATUS.removeprefix(HOME_ASSISTANT_PREFIX)


def describe(node: NodeId, versions: Versions, *, takes_updates: bool, telemetry_s: float = 10.0) -> DeviceDiscovery:
    """Return the message that makes Home Assistant show a node.

    Args:
        node: which.
        versions: what runs on it.
        takes_updates: whether it publishes update reports.
        telemetry_s: interval of its telemetry, s.
    """
    components = {
        **_heard(node),
        "mute": _mute(node),
        **_condition(node),
        **_measured(node, telemetry_s),
        **(_updates(node) if takes_updates else {}),
    }
    return DeviceDiscovery(
        device=Device(
            identifiers=(_unique(node),),
            name=f"{_NAME} {node.site} {node.node}",
            manufacturer=_NAME,
            model="Node for the tone of speech",
            sw_version=versions.sottovoce,
        ),
        origin=Origin(name=_NAME, sw_version=versions.sottovoce),
        availability=(_available(node, "value_json.online"),),
        components=components,
    )


def _unique(node: NodeId, *parts: str) -> str:
    return "_".join((_NAME.lower(), node.site, node.node, *parts))  # neither site nor node can hold an underscore


def _available(node: NodeId, condition: str) -> Availability:
    return Availability(topic=STATUS.at(node), value_template=f"{{{{ 'online' if {condition} else 'offline' }}}}")


def _fresh(value: str, most_s: float) -> str:
    """Return a template that gives a value while the message that holds it is young, and else nothing is known."""
    young = f"now().timestamp() - value_json.time_us / 1000000 < {most_s:g}"
    return f"{{{{ {value} if {young} else 'None' }}}}"


def _heard(node: NodeId) -> dict[str, Component]:
    """Return what events tell; while the node is muted, or when nobody has spoken for a while, it is unavailable."""
    topic = EMOTION.at(node)
    listening = (_available(node, "value_json.online and not value_json.muted"),)
    return {
        "emotion": Component(
            platform="sensor",
            unique_id=_unique(node, "emotion"),
            name="Emotion",
            icon="mdi:account-voice",
            device_class="enum",
            options=tuple(Label),
            state_topic=topic,
            value_template=_fresh("value_json.label", FRESH_S),
            availability=listening,
            expire_after=FRESH_S,
        ),
        "confidence": Component(
            platform="sensor",
            unique_id=_unique(node, "confidence"),
            name="Confidence",
            icon="mdi:percent-outline",
            unit_of_measurement="%",
            state_class="measurement",
            suggested_display_precision=0,
            entity_category="diagnostic",
            state_topic=topic,
            value_template=_fresh("(value_json.confidence * 100) | round(1)", FRESH_S),
            availability=listening,
            expire_after=FRESH_S,
        ),
        "latency": Component(
            platform="sensor",
            unique_id=_unique(node, "latency"),
            name="Latency",
            device_class="duration",
            unit_of_measurement="ms",
            state_class="measurement",
            suggested_display_precision=0,
            entity_category="diagnostic",
            state_topic=topic,
            value_template=_fresh("(value_json.latency_us.total / 1000) | round(1)", FRESH_S),
            availability=listening,
            expire_after=FRESH_S,
        ),
    }


def _mute(node: NodeId) -> Component:
    """Return the switch. Its command is everybody's: with an id, and a time, so that a late one is known as such."""
    # the id is the time again: a constant given to `random` may be folded, and a node carries each id out once
    now_us = "{% set us = (now().timestamp() * 1000000) | int %}"
    identifier = '"id":"{{ "%016x" | format(us) }}","issued_us":{{ us }}'
    muted = '"muted":{{ "true" if value == "ON" else "false" }}'
    return Component(
        platform="switch",
        unique_id=_unique(node, "mute"),
        name="Mute",
        icon="mdi:microphone-off",
        state_topic=STATUS.at(node),
        value_template="{{ 'ON' if value_json.muted else 'OFF' }}",
        json_attributes_topic=STATUS.at(node),
        json_attributes_template="{{ {'muted_by': value_json.muted_by | default([])} | tojson }}",
        command_topic=MUTE.at(node),
        command_template=f'{now_us}{{"schema":{SCHEMA},{identifier},{muted} }}',
        qos=1,
    )


def _condition(node: NodeId) -> dict[str, Component]:
    """Return what the status tells."""
    topic = STATUS.at(node)
    return {
        "microphone": Component(
            platform="sensor",
            unique_id=_unique(node, "microphone"),
            name="Microphone",
            icon="mdi:microphone",
            device_class="enum",
            options=tuple(CaptureState),
            entity_category="diagnostic",
            state_topic=topic,
            value_template="{{ value_json.capture }}",
        ),
        "problem": Component(
            platform="binary_sensor",
            unique_id=_unique(node, "problem"),
            name="Problem",
            device_class="problem",
            entity_category="diagnostic",
            state_topic=topic,
            value_template="{{ 'ON' if value_json.problem or not value_json.clock_synced else 'OFF' }}",
            json_attributes_topic=topic,
            json_attributes_template=(
                "{{ {'microphone': value_json.problem, 'clock_synced': value_json.clock_synced} | tojson }}"
            ),
        ),
        "model": Component(
            platform="sensor",
            unique_id=_unique(node, "model"),
            name="Model",
            icon="mdi:brain",
            entity_category="diagnostic",
            state_topic=topic,
            value_template="{{ value_json.model }}",
        ),
    }


def _measured(node: NodeId, telemetry_s: float) -> dict[str, Component]:
    """Return what telemetry tells."""
    topic, most_s = TELEMETRY.at(node), max(FRESH_S, round(_TELEMETRY_INTERVALS * telemetry_s))
    return {
        "level": Component(
            platform="sensor",
            unique_id=_unique(node, "level"),
            name="Input level",
            icon="mdi:volume-medium",
            unit_of_measurement="dB",
            state_class="measurement",
            suggested_display_precision=0,
            entity_category="diagnostic",
            state_topic=topic,
            value_template=_fresh("value_json.level_dbfs", most_s),
            expire_after=most_s,
        ),
        "temperature": Component(
            platform="sensor",
            unique_id=_unique(node, "temperature"),
            name="Processor temperature",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            suggested_display_precision=0,
            entity_category="diagnostic",
            enabled_by_default=False,
            state_topic=topic,
            value_template=_fresh("value_json.temperature_c", most_s),
            expire_after=most_s,
        ),
    }


def _updates(node: NodeId) -> dict[str, Component]:
    """Return what update reports tell: what runs, what is offered, and how far the node is. There is no button."""
    return {
        "update": Component(
            platform="update",
            unique_id=_unique(node, "update"),
            name="Model update",
            entity_category="diagnostic",
            state_topic=STATUS.at(node),
            value_template="{{ {'installed_version': value_json.model} | tojson }}",
            latest_version_topic=UPDATE.at(node),
            latest_version_template="{{ value_json.release or '' }}",
        ),
        "update_state": Component(
            platform="sensor",
            unique_id=_unique(node, "update", "state"),
            name="Model update state",
            icon="mdi:progress-download",
            device_class="enum",
            options=tuple(UpdateState),
            entity_category="diagnostic",
            state_topic=UPDATE.at(node),
            value_template="{{ value_json.state }}",
            json_attributes_topic=UPDATE.at(node),
            json_attributes_template=(
                "{{ {'release': value_json.release, 'reason': value_json.reason,"
                " 'progress_percent': (value_json.progress * 100) | round | int} | tojson }}"
            ),
        ),
    }

"""The discovery message against Home Assistant's own rules, and its templates against what a node really publishes.

The rules are written after home-assistant/core, homeassistant/components/mqtt, as of 2024.11 (device discovery) and,
where they have become stricter, as of 2026: discovery.py (topic, abbreviations), schemas.py (`DEVICE_DISCOVERY_SCHEMA`,
`SHARED_OPTIONS`, `check_unique_id`), sensor.py (`validate_sensor_state_and_device_class_config`, `_update_state`),
switch.py, binary_sensor.py and update.py (platform schemas, `MqttUpdate`), components/sensor/const.py
(`DEVICE_CLASS_UNITS`), entity.py (`MQTT_ATTRIBUTES_BLOCKED`). Templates run in jinja2's sandbox, as they do there.
"""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no stubs
import msgspec
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from broker.contract.commands import MuteCommand
from broker.contract.condition import CaptureProblem, CaptureState, MuteSource
from broker.contract.decision import Label
from broker.contract.generate import access_rules, schema
from broker.contract.home_assistant import FRESH_S, birth_topic, describe, discovery_topic
from broker.contract.messages import Versions, decode, encode
from broker.contract.topics import (
    DISCOVERY,
    EMOTION,
    HOME_ASSISTANT_STATUS,
    HOME_ASSISTANT_USER,
    MUTE,
    STATUS,
    TELEMETRY,
    UPDATE,
    NodeId,
    find,
)
from broker.contract.updates import UpdateState

NODE = NodeId("home", "kitchen")
VERSIONS = Versions(sottovoce="0.5.0", python="3.11.2", litert="2.3.0")
TOPIC = re.compile(  # discovery.py: TOPIC_MATCHER
    r"(?P<component>\w+)/(?:(?P<node_id>[a-zA-Z0-9_-]+)/)?(?P<object_id>[a-zA-Z0-9_-]+)/config"
)
COMMON = {
    *("unique_id", "name", "icon", "entity_category", "enabled_by_default", "availability", "availability_mode"),
    *("availability_topic", "availability_template", "payload_available", "payload_not_available", "qos", "encoding"),
    *("json_attributes_topic", "json_attributes_template", "device_class", "platform"),
}
READ = {"state_topic", "value_template"}
KEYS = {
    "sensor": COMMON
    | READ
    | {"expire_after", "force_update", "last_reset_value_template", "options", "state_class"}
    | {"suggested_display_precision", "unit_of_measurement"},
    "binary_sensor": COMMON | READ | {"expire_after", "force_update", "off_delay", "payload_on", "payload_off"},
    "switch": COMMON
    | READ
    | {"command_topic", "command_template", "optimistic", "retain"}
    | {"payload_on", "payload_off", "state_on", "state_off"},
    "update": COMMON
    | READ
    | {"command_topic", "payload_install", "retain", "latest_version_topic", "latest_version_template"}
    | {"entity_picture", "release_summary", "release_url", "title", "display_precision"},
}
CLASSES: dict[str, dict[str, set[str | None]]] = {
    "sensor": {"enum": {None}, "duration": {"d", "h", "min", "s", "ms"}, "temperature": {"°C", "°F", "K"}},
    "binary_sensor": {"problem": {None}},
    "switch": {},
    "update": {},
}
BLOCKED = {
    *("assumed_state", "available", "device_class", "device_info", "entity_category", "entity_picture"),
    *("entity_registry_enabled_default", "extra_state_attributes", "force_update", "icon", "friendly_name"),
    *("should_poll", "state", "supported_features", "unique_id", "unit_of_measurement"),
}
TEMPLATES = {"value_template", "json_attributes_template", "command_template", "latest_version_template"}


def document(node: NodeId = NODE, *, takes_updates: bool = True) -> dict[str, Any]:
    """Return the message as Home Assistant reads it."""
    made = describe(node, VERSIONS, takes_updates=takes_updates)
    read: dict[str, Any] = json.loads(encode(made, DISCOVERY.largest_bytes))
    return read


def render(template: str, message: msgspec.Struct | None = None, *, later_s: float = 0, **names: object) -> str:
    """Return what a template makes of a message that is read some time after it was made."""
    values: dict[str, Any] = {} if message is None else msgspec.to_builtins(message, str_keys=True)
    now = datetime.fromtimestamp(values.get("time_us", 1_700_000_000_000_000) / 1e6, UTC) + timedelta(seconds=later_s)
    environment = ImmutableSandboxedEnvironment()
    environment.globals["now"] = lambda: now
    return environment.from_string(template).render(value_json=values, **names).strip()


def test_discovery_topic_is_one_that_home_assistant_takes() -> None:
    match = TOPIC.fullmatch(DISCOVERY.at(NodeId("a-1", "9" * 32)).removeprefix("homeassistant/"))
    assert match is not None
    assert match.groupdict() == {"component": "device", "node_id": "a-1", "object_id": "9" * 32}
    assert find(DISCOVERY.at(NODE)) == (DISCOVERY, NODE)
    assert (discovery_topic(), birth_topic()) == (DISCOVERY, HOME_ASSISTANT_STATUS)
    assert discovery_topic("ha/two").at(NODE) == "ha/two/device/home/kitchen/config"
    assert birth_topic("ha/two") == "ha/two/status"


@pytest.mark.parametrize("takes_updates", [True, False])
def test_discovery_message_keeps_home_assistants_rules(*, takes_updates: bool) -> None:
    message = document(takes_updates=takes_updates)
    assert {*message} == {"device", "origin", "availability", "components"}, "its outer schema is closed"
    assert {*message["device"]} <= {"identifiers", "connections", "manufacturer", "model", "model_id", "name"} | {
        *("hw_version", "serial_number", "sw_version", "via_device", "suggested_area", "configuration_url")
    }
    assert message["device"]["identifiers"] == ["sottovoce_home_kitchen"]
    assert message["origin"] == {"name": "Sottovoce", "sw_version": "0.5.0"}
    assert all({*each} == {"topic", "value_template"} for each in message["availability"])
    identities = [component["unique_id"] for component in message["components"].values()]
    assert len({*identities}) == len(identities) == (11 if takes_updates else 9)
    for name, component in message["components"].items():
        platform, device_class = component["platform"], component.get("device_class")
        assert {*component} <= KEYS[platform], name
        assert " " not in name, "it is split at spaces when a device is removed"
        assert component["unique_id"] == f"sottovoce_home_kitchen_{name}"
        assert component["state_topic"] in {row.at(NODE) for row in (STATUS, EMOTION, TELEMETRY, UPDATE)}
        units = CLASSES[platform][device_class] if device_class else {component.get("unit_of_measurement")}
        assert component.get("unit_of_measurement") in units, name
        assert ("options" in component) == (device_class == "enum"), name
        assert not ("options" in component and {"state_class", "unit_of_measurement"} & {*component}), name
        assert component.get("entity_category", "diagnostic") == "diagnostic", "a sensor may not be `config`"
        assert component.get("icon", "mdi:x").startswith("mdi:")


def test_discovery_message_says_what_can_be_seen_and_done() -> None:
    components = document()["components"]
    assert components["emotion"]["options"] == [*Label]
    assert components["microphone"]["options"] == [*CaptureState]
    assert components["update_state"]["options"] == [*UpdateState]
    assert components["mute"]["command_topic"] == MUTE.at(NODE)
    assert components["mute"]["qos"] == 1, "a node takes no command at QoS 0"
    assert not components["mute"].get("retain"), "nor one that is retained"
    assert "command_topic" not in components["update"], "releases are signed elsewhere"
    assert not {"update", "update_state"} & {*document(takes_updates=False)["components"]}


def test_discovery_message_of_the_longest_names_fits_its_topic() -> None:
    longest = NodeId("s" * 32, "n" * 32)
    versions = Versions(sottovoce="v" * 64, python="3", litert="2")
    made = describe(longest, versions, takes_updates=True, telemetry_s=600)
    assert decode(encode(made, DISCOVERY.largest_bytes), DISCOVERY.message, DISCOVERY.largest_bytes) == made
    jsonschema.validate(json.loads(encode(made, DISCOVERY.largest_bytes)), schema(DISCOVERY))


def test_discovery_message_is_the_same_each_time() -> None:
    assert describe(NODE, VERSIONS, takes_updates=True) == describe(NODE, VERSIONS, takes_updates=True)


def test_discovery_message_every_template_can_be_rendered(messages: dict[str, Any]) -> None:
    rows = {row.at(NODE): messages[row.name] for row in (STATUS, EMOTION, TELEMETRY, UPDATE)}
    for component in document()["components"].values():
        for key in TEMPLATES & {*component}:
            topic = component.get(key.replace("_template", "_topic"), component["state_topic"])
            if key == "command_template":
                continue
            text = render(component[key], rows[topic])
            if key == "json_attributes_template":
                assert not {*json.loads(text)} & BLOCKED
            elif "options" in component:
                assert text in component["options"], component["name"]
            elif "unit_of_measurement" in component:
                assert text == "None" or math.isfinite(float(text)), component["name"]
            elif component["platform"] == "binary_sensor":
                assert text in {"ON", "OFF"}


def test_event_is_shown_while_it_is_young_and_else_nothing_is_known(messages: dict[str, Any]) -> None:
    components, event = document()["components"], messages["emotion"]
    shown = {"emotion": "pleasant", "confidence": "62.5", "latency": "1.7"}
    for name, text in shown.items():
        template = components[name]["value_template"]
        assert render(template, event, later_s=1) == text
        assert render(template, event, later_s=-60) == text, "a clock that is behind is no reason to show nothing"
        assert render(template, event, later_s=FRESH_S + 1) == "None", "what an outbox delivers late"
        assert components[name]["expire_after"] == FRESH_S


def test_telemetry_is_shown_while_it_is_young(messages: dict[str, Any]) -> None:
    telemetry = msgspec.structs.replace(messages["telemetry"], level_dbfs=-41.5)
    level = document()["components"]["level"]
    assert render(level["value_template"], telemetry) == "-41.5"
    assert render(level["value_template"], messages["telemetry"]) == "None"
    assert render(level["value_template"], telemetry, later_s=level["expire_after"] + 1) == "None"
    rare = describe(NODE, VERSIONS, takes_updates=False, telemetry_s=600).components["level"]
    assert rare.expire_after == 3_600


@pytest.mark.parametrize(
    ("changes", "node", "emotion"),
    [
        ({}, "online", "online"),
        ({"muted": True}, "online", "offline"),
        ({"online": False}, "offline", "offline"),
    ],
)
def test_availability_follows_the_status(
    messages: dict[str, Any], changes: dict[str, object], node: str, emotion: str
) -> None:
    status = msgspec.structs.replace(messages["status"], **changes)
    message = document()
    for found, expected in (
        (message["availability"], node),
        (message["components"]["emotion"]["availability"], emotion),
    ):
        assert [each["topic"] for each in found] == [STATUS.at(NODE)]
        assert [render(each["value_template"], status) for each in found] == [expected]


def test_status_is_shown_as_switch_problem_and_model(messages: dict[str, Any]) -> None:
    components = document()["components"]
    well = msgspec.structs.replace(messages["status"], clock_synced=True)
    ill = msgspec.structs.replace(well, problem=CaptureProblem.LOST, capture=CaptureState.RECOVERING)
    quiet = msgspec.structs.replace(
        well, muted=True, muted_by=(MuteSource.BUTTON, MuteSource.QUIET_HOURS), capture=CaptureState.MUTED
    )
    no_clock = msgspec.structs.replace(well, clock_synced=False)
    problem = components["problem"]["value_template"]
    assert [render(problem, each) for each in (well, ill, quiet, no_clock)] == ["OFF", "ON", "OFF", "ON"]
    attributes = json.loads(render(components["problem"]["json_attributes_template"], ill))
    assert attributes == {"microphone": "device lost", "clock_synced": True}
    assert [render(components["mute"]["value_template"], each) for each in (well, quiet)] == ["OFF", "ON"]
    muted_by = json.loads(render(components["mute"]["json_attributes_template"], quiet))
    assert muted_by == {"muted_by": ["button", "quiet hours"]}
    assert render(components["microphone"]["value_template"], ill) == "recovering"
    assert render(components["model"]["value_template"], well) == "factory/1"


def test_update_shows_what_runs_what_is_offered_and_how_far_it_is(messages: dict[str, Any]) -> None:
    components, report = document()["components"], messages["update"]
    installed = json.loads(render(components["update"]["value_template"], messages["status"]))
    assert installed == {"installed_version": "factory/1"}, "keys of update.py's payload"
    assert components["update"]["latest_version_topic"] == UPDATE.at(NODE)
    assert render(components["update"]["latest_version_template"], report) == "factory/2"
    unknown = msgspec.structs.replace(report, release=None, state=UpdateState.IDLE)
    assert render(components["update"]["latest_version_template"], unknown) == "", "an empty one is ignored"
    refused = msgspec.structs.replace(report, state=UpdateState.REJECTED, reason='it says "no" & <stops>', progress=1)
    attributes = json.loads(render(components["update_state"]["json_attributes_template"], refused))
    assert attributes == {"release": "factory/2", "reason": 'it says "no" & <stops>', "progress_percent": 100}


@pytest.mark.parametrize(("payload", "muted"), [("ON", True), ("OFF", False)])
def test_mute_switch_sends_the_command_that_every_operator_sends(payload: str, *, muted: bool) -> None:
    template = document()["components"]["mute"]["command_template"]
    first, second = (
        decode(render(template, value=payload, later_s=after).encode(), MuteCommand, MUTE.largest_bytes)
        for after in (0, 0.001)
    )
    assert (first.muted, first.issued_us) == (muted, 1_700_000_000_000_000)
    assert first.id != second.id, "a node carries each id out once"


def test_access_rules_let_home_assistant_read_nodes_and_mute_them_and_nothing_else() -> None:
    lines = access_rules().splitlines()
    own = lines[lines.index(f"user {HOME_ASSISTANT_USER}") + 1 :]
    assert own == [
        "topic write homeassistant/status",
        "topic write sottovoce/v1/command/+/+/mute",
        *(f"topic read {row.every_node}" for row in (STATUS, EMOTION, TELEMETRY, UPDATE, DISCOVERY)),
    ]
    assert "pattern write homeassistant/device/%u/config" in lines
    assert "pattern read homeassistant/status" in lines

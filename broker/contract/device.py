"""What Home Assistant is told of a node: one device, and the entities that it is to show.

The names are those of Home Assistant's MQTT device discovery (2024.11 and later), written out, not abbreviated:
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. Its own check of the outer object knows no
further key, so that this message alone carries no `schema`. It holds names and templates, and nothing that was heard.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["Availability", "Component", "Device", "DeviceDiscovery", "Origin"]

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Topic = Annotated[str, Meta(min_length=1, max_length=256)]
Template = Annotated[str, Meta(min_length=1, max_length=512)]


class Availability(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to read whether an entity can be relied on; the template makes `online` or `offline` of it."""

    topic: Topic
    value_template: Template


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node, as it stands in the list of devices."""

    identifiers: tuple[Name, ...]
    name: Name
    manufacturer: Name
    model: Name
    sw_version: Name


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sends this message; it stands in Home Assistant's log."""

    name: Name
    sw_version: Name


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entity. What is None is not sent."""

    platform: Literal["sensor", "binary_sensor", "switch", "update"]
    unique_id: Name
    name: Name
    state_topic: Topic
    value_template: Template
    availability: tuple[Availability, ...] | None = None
    """In place of the device's."""
    icon: Name | None = None
    device_class: Literal["enum", "duration", "problem", "temperature"] | None = None
    options: tuple[Name, ...] | None = None
    """What an `enum` can be."""
    unit_of_measurement: Literal["%", "ms", "dB", "°C"] | None = None
    state_class: Literal["measurement"] | None = None
    suggested_display_precision: Annotated[int, Meta(ge=0, le=6)] | None = None
    entity_category: Literal["diagnostic"] | None = None
    enabled_by_default: bool = True
    expire_after: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    """Seconds after the last message at which the entity becomes unavailable."""
    json_attributes_topic: Topic | None = None
    json_attributes_template: Template | None = None
    command_topic: Topic | None = None
    command_template: Template | None = None
    qos: Literal[1] | None = None
    """Of what Home Assistant sends; it would be 0."""
    latest_version_topic: Topic | None = None
    latest_version_template: Template | None = None


class DeviceDiscovery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Retained: the device and its entities, by the last part of their unique id."""

    device: Device
    origin: Origin
    availability: tuple[Availability, ...]
    """Of every entity that names none of its own."""
    components: dict[Name, Component]

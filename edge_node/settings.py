"""The node's settings file."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.contract.errors import SettingsError
from broker.contract.scalars import UncertainBelow
from broker.contract.topics import HOME_ASSISTANT_PREFIX, NodeId
from broker.settings import BrokerSettings
from edge_node.clock import ClockSettings
from edge_node.control.mute import MuteSettings
from edge_node.delivery.outbox import OutboxSettings
from edge_node.deployment import DeploymentSettings
from edge_node.sound.gate import GateSettings

__all__ = [
    "DecisionSettings",
    "HomeAssistantSettings",
    "NodeSettings",
    "SourceSettings",
    "TelemetrySettings",
    "UpdateSettings",
]


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[source]`: what the node listens to."""

    kind: Literal["microphone", "replay"] = "microphone"
    device: str | int | None = None
    """Microphone: part of its name, or its number; None: the system's default."""
    channel: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Which channel to hear, from 1; None: a microphone's first, a recording's mix."""
    gain_db: Annotated[float, Meta(ge=-20, le=60)] = 0.0
    """Microphone: amplification, in dB."""
    remove_dc: bool = True
    """Microphone: take a constant offset away, as I2S microphones have it."""
    paths: tuple[str, ...] = ()
    """Replay: recordings, and folders of recordings."""
    name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """Replay: what to call it in the status; None: by the files' names."""
    repeat: bool = True
    """Replay: begin again after the last."""
    real_time: bool = True
    """Replay: as long as the audio lasts; false: as fast as the machine can."""

    def __post_init__(self) -> None:
        """Refuse a replay of nothing.

        Raises:
            SettingsError: naming the key.
        """
        if self.kind == "replay" and not self.paths:
            msg = 'source.paths: name at least one recording or folder for kind = "replay"'
            raise SettingsError(msg)


class DecisionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[decision]`: what to decide otherwise than the bundle says."""

    uncertain_below: UncertainBelow | None = None
    """A smoothed probability below this is `uncertain`; None: the bundle's."""


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`."""

    interval_s: Annotated[float, Meta(ge=1, le=600)] = 10.0


class HomeAssistantSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[home_assistant]`: whether Home Assistant is told of this node (docs/home-assistant.md)."""

    enabled: bool = True
    prefix: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\Z")] = HOME_ASSISTANT_PREFIX
    """Where it looks for devices; another than its own needs rules of its own at the broker."""


class UpdateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[update]`: where new models come from, and what they must show on this device before they run."""

    anchor: Annotated[str, Meta(min_length=1)]
    """Path of the first root, `1.root.json`, which came with this node's certificate."""
    channel: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")] = "stable"
    folder: Annotated[str, Meta(min_length=1)] = "sottovoce-update"
    """Where models, metadata and the record of updates are kept; made when missing."""
    budget_ms: Annotated[float, Meta(gt=0, le=10_000)] = 100.0
    """Longest time of one window, features and inference, that a new model may take on this device."""
    memory_mib: Annotated[int, Meta(ge=16, le=65_536)] = 256
    """What a child process that runs a new model may take, beyond its libraries."""
    trial_windows: Annotated[int, Meta(ge=1, le=1_000_000)] = 120
    """Windows that a new model judges beside the one in use before it may take over."""
    trial_most_s: Annotated[float, Meta(gt=0, le=604_800)] = 900.0
    """The trial ends after this long with what was heard by then."""
    agreement_at_least: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """Share of the trial's windows on which a new model must agree with the old one, where there were enough."""
    lasting_windows: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    """Windows that a model must judge by itself before it counts as one that works."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node."""

    site: str
    """Where: a building, a fleet. 1 to 32 of a-z, 0-9 and '-'."""
    node: str
    """Which: a room, a vehicle. Likewise."""
    deployment: DeploymentSettings
    bundle: str | None = None
    """Path of the model bundle; None: the one that comes with the program."""
    drain_s: Annotated[float, Meta(ge=0, le=60)] = 4.0
    """On stop: how long to wait for the broker to take what is left; the rest stays in the outbox."""
    source: SourceSettings = SourceSettings()
    broker: BrokerSettings = BrokerSettings()
    outbox: OutboxSettings = OutboxSettings()
    clock: ClockSettings = ClockSettings()
    gate: GateSettings = GateSettings()
    decision: DecisionSettings = DecisionSettings()
    mute: MuteSettings = MuteSettings()
    state_file: Annotated[str, Meta(min_length=1)] | None = None
    """What was commanded, and lasts across restarts; None: beside the outbox, under its name with `.state.json`."""
    telemetry: TelemetrySettings = TelemetrySettings()
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()
    update: UpdateSettings | None = None
    """None: this node takes no updates."""
    socket: str | None = None
    """Where `sottovoce-node doctor` and `mute` reach the running node; None: in the folder that systemd makes for the
    service, or in this user's runtime folder, or else beside the outbox. Empty: nowhere."""

    def __post_init__(self) -> None:
        """Refuse impossible names.

        Raises:
            SettingsError: naming the part.
        """
        _ = self.identity

    @property
    def state_path(self) -> Path:
        """Where the node remembers what it was told."""
        return Path(self.state_file or f"{self.outbox.path}.state.json")

    @property
    def identity(self) -> NodeId:
        """Site and node together."""
        return NodeId(self.site, self.node)

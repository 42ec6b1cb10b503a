"""The one table of topics. The ACL, the AsyncAPI document, the schemas and the docs are generated from it.

MQTT 5 throughout, QoS 1. A node's MQTT user name is `<site>/<node>`, and the broker lets it write below
`sottovoce/v1/node/<site>/<node>/`, its replies and its message to Home Assistant only. What the release program retains
is read by all and written by it alone. (Over 300 lines because it is one table.)
"""

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from broker.contract.commands import COMMAND_EXPIRY_S, Command, CommandName, MuteCommand, Reply, ThresholdCommand
from broker.contract.device import DeviceDiscovery
from broker.contract.errors import MessageError, SettingsError
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry
from broker.contract.updates import UpdateReport

__all__ = [
    "CHUNK",
    "COMMAND_TOPICS",
    "DISCOVERY",
    "EMOTION",
    "HOME_ASSISTANT_PREFIX",
    "HOME_ASSISTANT_STATUS",
    "HOME_ASSISTANT_USER",
    "LARGEST_RETAINED_BYTES",
    "METADATA",
    "MUTE",
    "NODE_TOPICS",
    "OPERATOR_USER",
    "RELEASE_TOPICS",
    "RELEASE_USER",
    "REPLY",
    "ROLLBACK",
    "STATUS",
    "TABLE",
    "TELEMETRY",
    "THRESHOLD",
    "UPDATE",
    "WATCHER_USER",
    "WILL_DELAY_S",
    "CommandTopic",
    "NodeId",
    "NodeTopic",
    "ReleaseTopic",
    "Topic",
    "every_command",
    "find",
    "find_command",
]

PREFIX: Final = "sottovoce/v1"
RELEASE_USER: Final = "release"
"""MQTT user name of the one program that may write what nodes update from, and send a node back to its last model."""
OPERATOR_USER: Final = "operator"
"""MQTT user name of whoever mutes nodes and sets their thresholds."""
HOME_ASSISTANT_USER: Final = "homeassistant"
"""MQTT user name of Home Assistant: it reads what nodes say, and mutes them."""
HOME_ASSISTANT_PREFIX: Final = "homeassistant"
"""Where Home Assistant looks for devices, unless it was told otherwise."""
HOME_ASSISTANT_STATUS: Final = f"{HOME_ASSISTANT_PREFIX}/status"
"""Where Home Assistant says `online` when it has started. In no row of the table: no program of ours sends it."""
WATCHER_USER: Final = "watcher"
"""MQTT user name of whoever watches how a fleet takes a release up; a connection of its own, open for hours."""
LARGEST_RETAINED_BYTES: Final = 65_536
"""Of one file of metadata and of one chunk: every broker at hand takes them, AWS IoT's 128 KiB included."""
WILL_DELAY_S: Final = 15
"""The broker waits this long before it publishes a lost node's will, so that a short outage raises no alarm."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class NodeId(msgspec.Struct, frozen=True, order=True):
    """A node's site and name: its place in the topic tree and its MQTT user name."""

    site: str
    node: str

    def __post_init__(self) -> None:
        """Refuse what could not stand in a topic, an ACL pattern or a certificate's name.

        Raises:
            SettingsError: a part is not 1 to 32 of a-z, 0-9 and -, beginning with a letter or digit.
        """
        for part, value in (("site", self.site), ("node", self.node)):
            if not _NAME.fullmatch(value):
                msg = f"{part} {value!r}: 1 to 32 of a-z, 0-9 and '-', beginning with a letter or digit"
                raise SettingsError(msg)

    def __str__(self) -> str:
        """Return `<site>/<node>`."""
        return f"{self.site}/{self.node}"


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    template: str
    retained: bool
    largest_bytes: int
    """Payloads above this are refused by sender and receiver."""
    rate: str
    """How often it is sent, in words."""
    meaning: str
    qos: Literal[1] = 1


class NodeTopic(Topic, frozen=True, kw_only=True):
    """What a node says of itself; `{site}` and `{node}` are in the template."""

    message: type[EmotionEvent | NodeStatus | Telemetry | UpdateReport | Reply | DeviceDiscovery]
    is_collected: bool = True
    """Whether collectors read it."""
    is_optional: bool = False
    """Whether a node does without it where the broker refuses it."""
    read_by: tuple[str, ...] = ()
    """MQTT users who read it beside them."""

    def at(self, node: NodeId) -> str:
        """Return the topic of one node."""
        return self.template.format(site=node.site, node=node.node)

    @property
    def every_node(self) -> str:
        """The subscription filter that matches every node's topic."""
        return self.template.format(site="+", node="+")


class CommandTopic(Topic, frozen=True, kw_only=True):
    """What one node is told; `{site}` and `{node}` are in the template."""

    message: type[Command]
    command: CommandName
    """The last part of the template."""
    sent_by: str
    """MQTT user who may tell it."""
    also_sent_by: tuple[str, ...] = ()
    """Others who may."""
    largest_bytes: int = 1024
    retained: bool = False
    rate: str = f"when an operator asks for it; expires after {COMMAND_EXPIRY_S} s"
    expiry_s: int = COMMAND_EXPIRY_S
    """The broker drops it when it could not be delivered for so long."""

    def at(self, node: NodeId) -> str:
        """Return the topic of this command to one node."""
        return self.template.format(site=node.site, node=node.node)

    @property
    def every_node(self) -> str:
        """The filter of this command to any node, as the ACL needs it."""
        return self.template.format(site="+", node="+")


class ReleaseTopic(Topic, frozen=True, kw_only=True):
    """What the release program retains for all nodes; one part of the template is a name."""

    part: str
    """The word in braces in the template."""
    pattern: Annotated[str, Meta(min_length=1)]
    """Regular expression of the names that may stand there."""
    content: Literal["application/json", "application/octet-stream"]

    def at(self, name: str) -> str:
        """Return the topic of one file or chunk.

        Raises:
            MessageError: no such name may stand in this topic.
        """
        if not re.fullmatch(self.pattern, name):
            msg = f"{self.template}: {name!r} is no such name"
            raise MessageError(msg)
        return self.template.format(**{self.part: name})

    def name_in(self, topic: str) -> str | None:
        """Return the name in a concrete topic; None when it is none of this row."""
        name = topic.removeprefix(self.template.partition("{")[0])
        return name if re.fullmatch(self.pattern, name) and self.at(name) == topic else None

    @property
    def every(self) -> str:
        """The subscription filter that matches all of them."""
        return self.template.format(**{self.part: "+"})


STATUS: Final = NodeTopic(
    name="status",
    template=f"{PREFIX}/node/{{site}}/{{node}}/status",
    message=NodeStatus,
    retained=True,
    largest_bytes=2048,
    rate=f"on connect, on change, on stop; will, delayed {WILL_DELAY_S} s",
    meaning="what the node is and whether it is there",
    read_by=(WATCHER_USER, HOME_ASSISTANT_USER),
)
EMOTION: Final = NodeTopic(
    name="emotion",
    template=f"{PREFIX}/node/{{site}}/{{node}}/emotion",
    message=EmotionEvent,
    retained=False,
    largest_bytes=1024,
    rate="on every change of the label and every 5 s while speech lasts; at most one a second",
    meaning="the decided label, its confidence and the latency of each stage",
    read_by=(HOME_ASSISTANT_USER,),
)
TELEMETRY: Final = NodeTopic(
    name="telemetry",
    template=f"{PREFIX}/node/{{site}}/{{node}}/telemetry",
    message=Telemetry,
    retained=False,
    largest_bytes=8192,
    rate="every 10 s unless set otherwise, at start and on stop",
    meaning="latency, windows by label, capture, drift, outbox, losses, load",
    read_by=(HOME_ASSISTANT_USER,),
)

UPDATE: Final = NodeTopic(
    name="update",
    template=f"{PREFIX}/node/{{site}}/{{node}}/update",
    message=UpdateReport,
    retained=True,
    largest_bytes=4096,
    rate="on every change of the state, and at most once a second while it downloads",
    meaning="which release the node is taking up, how far it is, and why it refused",
    read_by=(WATCHER_USER, HOME_ASSISTANT_USER),
)
REPLY: Final = NodeTopic(
    name="reply",
    template=f"{PREFIX}/reply/{{site}}/{{node}}",
    message=Reply,
    retained=False,
    largest_bytes=1024,
    rate="once for each command",
    meaning="what the node makes of a command",
    is_collected=False,
    read_by=(RELEASE_USER, OPERATOR_USER),
)
DISCOVERY: Final = NodeTopic(
    name="discovery",
    template=f"{HOME_ASSISTANT_PREFIX}/device/{{site}}/{{node}}/config",
    message=DeviceDiscovery,
    retained=True,
    largest_bytes=8192,
    rate="on connect, and when Home Assistant says that it has started; not where it is switched off",
    meaning="which entities Home Assistant is to show of the node; empty: none any more",
    is_collected=False,
    is_optional=True,
    read_by=(HOME_ASSISTANT_USER,),
)
ROLLBACK: Final = CommandTopic(
    name="rollback",
    template=f"{PREFIX}/command/{{site}}/{{node}}/{CommandName.ROLLBACK}",
    command=CommandName.ROLLBACK,
    message=Command,
    sent_by=RELEASE_USER,
    meaning="go back to the model that ran before",
)
MUTE: Final = CommandTopic(
    name="mute",
    template=f"{PREFIX}/command/{{site}}/{{node}}/{CommandName.MUTE}",
    command=CommandName.MUTE,
    message=MuteCommand,
    sent_by=OPERATOR_USER,
    also_sent_by=(HOME_ASSISTANT_USER,),
    meaning="close the microphone, or open it again",
)
THRESHOLD: Final = CommandTopic(
    name="threshold",
    template=f"{PREFIX}/command/{{site}}/{{node}}/{CommandName.THRESHOLD}",
    command=CommandName.THRESHOLD,
    message=ThresholdCommand,
    sent_by=OPERATOR_USER,
    meaning="change what counts as speech, or as certain",
)
METADATA: Final = ReleaseTopic(
    name="metadata",
    template=f"{PREFIX}/release/metadata/{{file}}",
    part="file",
    pattern=r"timestamp\.json|[1-9][0-9]{0,8}\.(root|targets|snapshot|rollout)\.json",
    content="application/json",
    retained=True,
    largest_bytes=LARGEST_RETAINED_BYTES,
    rate="on publishing and every few days; `timestamp.json` last",
    meaning="signed TUF metadata: which bundles there are, and who is to run which",
)
CHUNK: Final = ReleaseTopic(
    name="chunk",
    template=f"{PREFIX}/release/chunk/{{sha256}}",
    part="sha256",
    pattern=r"[0-9a-f]{64}",
    content="application/octet-stream",
    retained=True,
    largest_bytes=LARGEST_RETAINED_BYTES,
    rate="on publishing",
    meaning="a part of a bundle, named by its digest; empty once it is withdrawn",
)

NODE_TOPICS: Final = (STATUS, EMOTION, TELEMETRY, UPDATE, REPLY, DISCOVERY)
COMMAND_TOPICS: Final = (ROLLBACK, MUTE, THRESHOLD)
RELEASE_TOPICS: Final = (METADATA, CHUNK)
TABLE: Final[tuple[Topic, ...]] = (*NODE_TOPICS, *COMMAND_TOPICS, *RELEASE_TOPICS)
"""Every topic that a Sottovoce program publishes. Nothing else may be published."""

_MATCHERS: Final = tuple(
    (topic, re.compile(re.escape(topic.template).replace(r"\{site\}", "([^/]+)").replace(r"\{node\}", "([^/]+)")))
    for topic in NODE_TOPICS
)


def find(topic: str) -> tuple[NodeTopic, NodeId]:
    """Return the row that a node's concrete topic belongs to, and the node in it.

    Raises:
        MessageError: the topic is in no row of a node, or names an impossible site or node.
    """
    for row, matcher in _MATCHERS:
        if match := matcher.fullmatch(topic):
            try:
                return row, NodeId(*match.groups())
            except SettingsError as error:
                msg = f"topic {topic!r}: {error}"
                raise MessageError(msg) from error
    msg = f"topic {topic!r} is not among the table's topics of nodes"
    raise MessageError(msg)


def every_command(node: NodeId) -> str:
    """Return the subscription filter that matches every command to one node."""
    return f"{PREFIX}/command/{node.site}/{node.node}/+"


def find_command(topic: str, node: NodeId) -> CommandTopic | None:
    """Return the row of a command to this node; None: the topic is none."""
    return next((row for row in COMMAND_TOPICS if row.at(node) == topic), None)

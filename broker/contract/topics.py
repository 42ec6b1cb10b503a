"""The one table of topics. The ACL, the AsyncAPI document, the schemas and the docs are generated from it.

MQTT 5 throughout, QoS 1. A node's MQTT user name is `<site>/<node>`, and the broker lets it write below
`sottovoce/v1/node/<site>/<node>/` only.
"""

import re
from typing import Final, Literal

import msgspec

from broker.contract.errors import MessageError, SettingsError
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry

__all__ = ["EMOTION", "STATUS", "TABLE", "TELEMETRY", "WILL_DELAY_S", "NodeId", "Topic", "find"]

PREFIX: Final = "sottovoce/v1"
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
    """Topic with `{site}` and `{node}` in it."""
    message: type[EmotionEvent | NodeStatus | Telemetry]
    retained: bool
    largest_bytes: int
    """Payloads above this are refused by sender and receiver."""
    rate: str
    """How often a node sends, in words."""
    meaning: str
    qos: Literal[1] = 1

    def at(self, node: NodeId) -> str:
        """Return the topic of one node."""
        return self.template.format(site=node.site, node=node.node)

    @property
    def every_node(self) -> str:
        """The subscription filter that matches every node's topic."""
        return self.template.format(site="+", node="+")


STATUS: Final = Topic(
    name="status",
    template=f"{PREFIX}/node/{{site}}/{{node}}/status",
    message=NodeStatus,
    retained=True,
    largest_bytes=1024,
    rate=f"on connect, on change, on stop; will, delayed {WILL_DELAY_S} s",
    meaning="what the node is and whether it is there",
)
EMOTION: Final = Topic(
    name="emotion",
    template=f"{PREFIX}/node/{{site}}/{{node}}/emotion",
    message=EmotionEvent,
    retained=False,
    largest_bytes=1024,
    rate="on every change of the label and every 5 s while speech lasts; at most one a second",
    meaning="the decided label, its confidence and the latency of each stage",
)
TELEMETRY: Final = Topic(
    name="telemetry",
    template=f"{PREFIX}/node/{{site}}/{{node}}/telemetry",
    message=Telemetry,
    retained=False,
    largest_bytes=4096,
    rate="every 10 s",
    meaning="latency quantiles, windows by label, outbox, losses, load",
)

TABLE: Final = (STATUS, EMOTION, TELEMETRY)
"""Every topic that a Sottovoce program publishes. Nothing else may be published."""

_MATCHERS: Final = tuple(
    (topic, re.compile(re.escape(topic.template).replace(r"\{site\}", "([^/]+)").replace(r"\{node\}", "([^/]+)")))
    for topic in TABLE
)


def find(topic: str) -> tuple[Topic, NodeId]:
    """Return the row that a concrete topic belongs to, and the node in it.

    Raises:
        MessageError: the topic is in no row, or names an impossible site or node.
    """
    for row, matcher in _MATCHERS:
        if match := matcher.fullmatch(topic):
            try:
                return row, NodeId(*match.groups())
            except SettingsError as error:
                msg = f"topic {topic!r}: {error}"
                raise MessageError(msg) from error
    msg = f"topic {topic!r} is not in the table of topics"
    raise MessageError(msg)

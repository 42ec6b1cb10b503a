"""What the page says about the models of all nodes together: which run, who takes one up, who refused and why. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from broker.contract.topics import NodeId
from dashboard.console.readings import Node, Presence, presence
from dashboard.console.updates import Standing, standing
from dashboard.console.words import update_words

__all__ = ["MODELS_SHOWN", "ROWS_SHOWN", "Fleet", "FleetRow", "ModelCount", "fleet"]

MODELS_SHOWN: Final = 8
ROWS_SHOWN: Final = 25
_ORDER: Final = tuple(Standing)
_NONE: Final = "no update under way"


class ModelCount(msgspec.Struct, frozen=True, kw_only=True):
    """A model, and on how many nodes it runs."""

    model: str
    words: str
    share: float
    """Of all nodes, 0 to 1."""


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is worth a word."""

    node: NodeId
    standing: Standing
    model: str
    """That it runs meanwhile; empty: it has not said."""
    words: str
    reported_us: int


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All the words of the section."""

    summary: str
    models: tuple[ModelCount, ...]
    """The most frequent first."""
    rows: tuple[FleetRow, ...]
    """Those who update, then those who refused, then those who say why they wait."""
    left_out: str
    """What is not shown, in words; empty: nothing."""


def fleet(nodes: Sequence[Node], now_us: int) -> Fleet:
    """Return what is to be said about all nodes together at this moment."""
    here = {node.id for node in nodes if presence(node, now_us) is Presence.ONLINE}
    running = Counter(node.model for node in nodes if node.model is not None)
    online = Counter(node.model for node in nodes if node.model is not None and node.id in here)
    ranked = sorted(running.items(), key=lambda item: (-item[1], item[0]))
    rows = sorted(
        (row for node in nodes if (row := _row(node, is_here=node.id in here)) is not None),
        key=lambda row: (_ORDER.index(row.standing), row.node),
    )
    left_out = [
        f"{more} more {what}{'s' if more > 1 else ''}"
        for more, what in ((len(ranked) - MODELS_SHOWN, "model"), (len(rows) - ROWS_SHOWN, "node"))
        if more > 0
    ]
    return Fleet(
        summary=_summary(rows),
        models=tuple(
            ModelCount(model=model, words=_count(count, online[model]), share=count / len(nodes))
            for model, count in ranked[:MODELS_SHOWN]
        ),
        rows=tuple(rows[:ROWS_SHOWN]),
        left_out=f"And {' and '.join(left_out)}." if left_out else "",
    )


def _row(node: Node, *, is_here: bool) -> FleetRow | None:
    if node.update is None or (about := standing(node.update)) is None:
        return None
    return FleetRow(
        node=node.id,
        standing=about,
        model=node.model or "",
        words=update_words(node.update) + ("" if is_here else " (not online)"),
        reported_us=node.update.received_us,
    )


def _summary(rows: Sequence[FleetRow]) -> str:
    """Return how many update, and how many have refused."""
    counted = Counter(row.standing for row in rows)
    said = [f"{counted[each]} {each}" for each in (Standing.UPDATING, Standing.REJECTED) if counted[each]]
    return ", ".join(said) or _NONE


def _count(nodes: int, online: int) -> str:
    words = f"{nodes:,} node{'s' if nodes > 1 else ''}"
    return words if online == nodes else f"{words}, {online:,} online"

"""What the settings say: whether they can be read, and whether the place is one in which a node may listen."""

from pathlib import Path
from typing import Final

from broker.contract.errors import SettingsError
from broker.settings import read_settings
from edge_node.doctor.finding import Finding, Stage, fail, ok, warn
from edge_node.settings import NodeSettings

__all__ = ["of_law", "read"]

_LAW_KEY: Final = "deployment"


def read(path: Path) -> tuple[NodeSettings | None, list[Finding]]:
    """Return the settings, None where they cannot be used, and what can be said of them."""
    try:
        settings = read_settings(path, NodeSettings, "docs/node.md has an example")
    except SettingsError as error:
        if f" {_LAW_KEY}." in str(error):
            advice = "answer the questions about the place, as docs/node.md has them; a node runs nowhere without"
            return None, [ok(Stage.SETTINGS, f"{path} can be read"), fail(Stage.LAW, str(error), advice)]
        return None, [fail(Stage.SETTINGS, str(error), "mend this line of the settings; docs/node.md lists all keys")]
    words = f"{path}: {settings.identity}, listens to {_source(settings)}"
    return settings, [ok(Stage.SETTINGS, words, node=str(settings.identity))]


def of_law(settings: NodeSettings) -> Finding:
    """Return what the settings say of the place, and of whom it concerns."""
    said = settings.deployment
    words = f"{said.context}"
    if said.employees_present is not None:
        words += ", people work there" if said.employees_present else ", nobody works there"
    if said.exemption is not None:
        words += f"; exempted for a {said.exemption} reason"
    facts: dict[str, str | int | float | bool | None] = {
        "context": said.context.value,
        "notice_acknowledged": said.notice_acknowledged,
    }
    if not said.notice_acknowledged:
        advice = (
            "print the page with `sottovoce-node notice --config ... --out notice.pdf`, put it where people read it, "
            "and set deployment.notice_acknowledged = true"
        )
        return warn(Stage.LAW, f"{words}; nobody says that the people there are informed", advice, **facts)
    return ok(Stage.LAW, f"{words}; the people there are informed", **facts)


def _source(settings: NodeSettings) -> str:
    if settings.source.kind == "replay":
        return f"recordings ({settings.source.name or ', '.join(settings.source.paths)})"
    device = settings.source.device
    return "the default microphone" if device is None else f"microphone {device!r}"

"""A source that is opened once, for those who look at it for a while; the node itself uses `capture`."""

from pathlib import Path

from edge_node.settings import SourceSettings
from edge_node.sound.sources import Source

__all__ = ["open_once"]


def open_once(settings: SourceSettings) -> Source:
    """Return the source that the settings name; what goes wrong with it is not mended.

    Raises:
        SourceError: there is no such microphone now.
        AudioError: the source can never be used as it is set.
    """
    if settings.kind == "microphone":
        from edge_node.sound.microphone import Microphone  # noqa: PLC0415 -- what only one of the two needs is not loaded

        return Microphone(
            settings.device, settings.channel or 1, gain_db=settings.gain_db, remove_dc=settings.remove_dc
        )
    from edge_node.sound.replay import Replay  # noqa: PLC0415 -- likewise

    return Replay(
        [Path(each) for each in settings.paths],
        name=settings.name,
        repeat=settings.repeat,
        real_time=settings.real_time,
        channel=settings.channel,
    )

"""Whether a node that does not run would be muted: then nobody else opens its microphone either. Nothing is written."""

from datetime import datetime
from pathlib import Path

import msgspec

from broker.contract.condition import MuteSource
from broker.contract.errors import SettingsError
from edge_node.clock import WallClock
from edge_node.control.button import Button
from edge_node.control.quiet import minutes_left, read_period
from edge_node.control.state import State
from edge_node.settings import NodeSettings

__all__ = ["muted_by", "read_state"]


def muted_by(settings: NodeSettings, clock: WallClock) -> str | None:
    """Return in words who would mute the node; None: nobody.

    What cannot be found out counts as muted, as it does for the node.

    Args:
        settings: the node's.
        clock: for the quiet hours.
    """
    sources = []
    state = read_state(settings.state_path)
    if state is None:
        sources.append(MuteSource.UNREADABLE)
        state = State(form=1, muted=False)
    if state.muted:
        sources.append(MuteSource.COMMAND)
    if _is_held_by_button(settings, state):
        sources.append(MuteSource.BUTTON)
    if _is_quiet(settings, clock):
        sources.append(MuteSource.QUIET_HOURS)
    return " and ".join(sources) or None


def read_state(path: Path) -> State | None:
    """Return what a node that does not run remembers; None: it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (FileNotFoundError, NotADirectoryError):
        return State(form=1, muted=False)  # as at the first start
    except (OSError, msgspec.DecodeError, ValueError, RecursionError):
        return None


def _is_held_by_button(settings: NodeSettings, state: State) -> bool:
    if settings.mute.gpio_pin is None:
        return False
    if settings.mute.gpio_kind == "push":
        return state.pushed
    try:
        button = Button(settings.mute.gpio_pin, mutes_when_open=settings.mute.gpio_mutes_when == "open")
    except SettingsError:
        return True
    try:
        return button.is_muting()
    finally:
        button.close()


def _is_quiet(settings: NodeSettings, clock: WallClock) -> bool:
    periods = [read_period(each) for each in settings.mute.quiet_hours]
    if not periods:
        return False
    now = datetime.fromtimestamp(clock.now_us() / 1e6, settings.mute.zone())
    return not clock.is_known() or minutes_left(periods, now) is not None

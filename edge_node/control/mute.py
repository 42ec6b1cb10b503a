"""Who keeps a node from listening: an operator, whoever is at the device, the hour. One of them is enough.

None of them undoes another. Whatever mutes closes the microphone, not just what is published.
"""

import logging
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from broker.contract.condition import MuteSource
from broker.contract.errors import SettingsError, StoreError
from edge_node.clock import WallClock
from edge_node.control.button import Button
from edge_node.control.quiet import Period, end_words, minutes_left, read_period
from edge_node.control.state import State, StateFile

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ["Mute", "MuteSettings"]

_log = logging.getLogger(__name__)

_US: Final = 1_000_000
Pin = Annotated[int, Meta(ge=0, le=27)]


class MuteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[mute]`."""

    quiet_hours: tuple[str, ...] = ()
    """`22:00-06:30`, or `mon-fri 22:00-06:30` with the days on which it begins."""
    time_zone: str | None = None
    """Of the quiet hours, as `Europe/Berlin`; None: this machine's."""
    gpio_pin: Pin | None = None
    """BCM number of a contact to ground that mutes; None: there is none."""
    gpio_kind: Literal["switch", "push"] = "switch"
    """`switch`: its position counts; `push`: each push mutes, or ends that."""
    gpio_mutes_when: Literal["open", "closed"] = "open"
    """Of a switch. `open`: a torn wire mutes."""
    gpio_led_pin: Pin | None = None
    """Of a light that is on while the node is muted."""

    def __post_init__(self) -> None:
        """Refuse what is no time, no zone, and a light without a contact.

        Raises:
            SettingsError: naming the key.
        """
        for each in self.quiet_hours:
            read_period(each)
        self.zone()
        if self.gpio_led_pin is not None and self.gpio_pin is None:
            msg = "mute.gpio_led_pin: goes with mute.gpio_pin, the contact"
            raise SettingsError(msg)

    def zone(self) -> "ZoneInfo | None":
        """Return the time zone; None: this machine's.

        Raises:
            SettingsError: there is none of that name.
        """
        if self.time_zone is None:
            return None
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 -- most nodes name none

        try:
            return ZoneInfo(self.time_zone)
        except (OSError, ValueError, ZoneInfoNotFoundError) as error:
            msg = f"mute.time_zone {self.time_zone!r}: no such time zone here; `timedatectl list-timezones` lists them"
            raise SettingsError(msg) from error


class Mute:
    """Whether the node is muted. For any thread."""

    def __init__(self, settings: MuteSettings, file: StateFile, clock: WallClock) -> None:
        """Take the contact, if there is one.

        Args:
            settings: `[mute]`.
            file: remembers what was ordered.
            clock: for the quiet hours.

        Raises:
            SettingsError: the contact cannot be used.
        """
        self._file, self._clock = file, clock
        self._periods: list[Period] = [read_period(each) for each in settings.quiet_hours]
        self._zone = settings.zone()
        self._button: Button | None = None
        self._is_push = settings.gpio_kind == "push"
        if settings.gpio_pin is not None:
            mutes_when_open = settings.gpio_mutes_when == "open"
            self._button = Button(settings.gpio_pin, settings.gpio_led_pin, mutes_when_open=mutes_when_open)
            if self._is_push:
                self._button.on_push(self.push)
        self._lock = threading.Lock()
        self._told: tuple[MuteSource, ...] = ()
        self._mutings = 0

    def is_muted(self) -> bool:
        """Return whether the node must not listen."""
        return bool(self.by())

    def mutings(self) -> int:
        """Return how often the node was muted so far: who looks seldom sees that it was, although it is no more."""
        return self._mutings

    def by(self) -> tuple[MuteSource, ...]:
        """Return all that mutes, in the order of their names; a change is logged, and shown by the light."""
        self._file.keep()
        is_known = self._file.is_known  # before the state, which is decided first: or for a moment nothing would mute
        state = self._file.state
        held = {
            MuteSource.COMMAND: state.muted,
            MuteSource.BUTTON: self._is_held_by_button(state),
            MuteSource.QUIET_HOURS: self._quiet() is not None,
            MuteSource.UNREADABLE: not is_known,
        }
        sources = tuple(sorted(source for source, holds in held.items() if holds))
        with self._lock:
            if sources != self._told:
                self._mutings += bool(sources) and not self._told
                self._told = sources
                _log.info("muted by %s" if sources else "no longer muted%s", self._words(sources))
            if self._button is not None:
                self._button.show(muted=bool(sources))
        return sources

    def set(self, *, muted: bool, order: str | None = None) -> str:
        """Mute by command, or end that; at once, and for good if the disk allows it. Return in words what holds now.

        Args:
            muted: whether the command mutes.
            order: id of the command; None: it was given at the device.
        """
        problem = ""
        try:
            self._file.change(lambda state: replace(state, muted=muted).after(order), decides=True)
        except StoreError as error:
            problem = f", but only until this program ends: {error}"
        others = self.by()
        if muted:
            return f"muted{problem}"
        return f"{f'still muted by {self._words(others)}' if others else 'no longer muted'}{problem}"

    def push(self) -> None:
        """Hear that the push-button was pushed: it mutes, or no longer does."""
        try:
            self._file.change(lambda state: replace(state, pushed=not state.pushed))
        except StoreError as error:
            _log.error("the button's push holds only until this program ends: %s", error)
        self.by()

    def close(self) -> None:
        """Let the contact go."""
        if self._button is not None:
            self._button.close()

    def _is_held_by_button(self, state: State) -> bool:
        if self._button is None:
            return False
        return state.pushed if self._is_push else self._button.is_muting()

    def _quiet(self) -> str | None:
        """Return until when it is quiet, in words; None: it is not."""
        if not self._periods:
            return None
        if not self._clock.is_known():
            return "(nobody knows the hour before the clock is synchronised)"
        now = datetime.fromtimestamp(self._clock.now_us() / _US, self._zone)
        left = minutes_left(self._periods, now)
        return None if left is None else end_words(now, left)

    def _words(self, sources: tuple[MuteSource, ...]) -> str:
        named = (
            f"{each} {self._quiet() or ''}".rstrip() if each is MuteSource.QUIET_HOURS else each for each in sources
        )
        return " and ".join(named)

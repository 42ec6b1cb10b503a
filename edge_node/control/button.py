"""A switch or a push-button at the device that mutes it, and a light that shows it: GPIO pins of a Raspberry Pi.

A switch is asked for its position each time, so no change of it can be missed; what cannot be read counts as muted.
"""

import importlib
import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

from broker.contract.errors import SettingsError

__all__ = ["Button"]

_log = logging.getLogger(__name__)

_BOUNCE_S: Final = 0.05


class Button:
    """Pins by their BCM numbers. The contact lies between its pin and ground."""

    def __init__(self, pin: int, led_pin: int | None = None, *, mutes_when_open: bool = True) -> None:
        """Take the pins.

        Args:
            pin: of the contact.
            led_pin: of a light that is on while the node is muted.
            mutes_when_open: of a switch: whether an open contact mutes, as a torn wire then does.

        Raises:
            SettingsError: the package gpiozero is missing, there are no such pins, or another program has them.
        """
        self._name = f"mute.gpio_pin {pin}"
        self._mutes_when_open = mutes_when_open
        self._said: set[str] = set()
        self._parts: list[Any] = []
        try:
            gpiozero = importlib.import_module("gpiozero")  # an optional extra, and half a second on a Pi
        except ImportError as error:
            msg = f"{self._name} needs the package gpiozero: pip install 'sottovoce[node,gpio]'"
            raise SettingsError(msg) from error
        try:
            with warnings.catch_warnings():  # it warns of each way to the pins that it tries in vain
                warnings.simplefilter("ignore")
                self._parts.append(gpiozero.Button(pin, pull_up=True, bounce_time=_BOUNCE_S))
                self._contact = self._parts[0]
                self._led = None
                if led_pin is not None:
                    self._name = f"mute.gpio_led_pin {led_pin}"
                    self._led = gpiozero.LED(led_pin)
                    self._parts.append(self._led)
        except Exception as error:  # each of gpiozero's ways to the pins has errors of its own
            self.close()
            why = " ".join(str(error).split())
            msg = f"{self._name}: {why}; name a free pin of this board (BCM numbers), or leave it out"
            raise SettingsError(msg) from error

    def on_push(self, pushed: Callable[[], None]) -> None:
        """Have each push called, on a thread of gpiozero's."""
        self._contact.when_pressed = pushed

    def is_muting(self) -> bool:
        """Return whether a switch mutes; it does while it cannot be read."""
        try:
            is_open = not self._contact.is_pressed
        except Exception as error:  # noqa: BLE001 -- as above
            self._tell("the switch cannot be read, so this node is muted until it can", error)
            return True
        self._said.clear()
        return is_open is self._mutes_when_open

    def show(self, *, muted: bool) -> None:
        """Light the LED, if there is one, while the node is muted."""
        try:
            if self._led is not None:
                self._led.value = int(muted)
        except Exception as error:  # noqa: BLE001 -- as above
            self._tell("the light cannot be switched", error)

    def _tell(self, what: str, error: Exception) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.error("mute: %s (%s)", what, error)

    def close(self) -> None:
        """Let the pins go."""
        for part in self._parts:
            part.close()

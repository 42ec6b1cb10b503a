"""What a node remembers across restarts, updates and power cuts: whether it is muted, and its thresholds.

One small JSON file. What it says decides whether a room is listened to, so nobody guesses: a file that cannot be read
mutes the node, and only an order to mute or to listen writes it anew.
"""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from broker.contract.condition import Thresholds
from broker.contract.errors import SettingsError, StoreError
from broker.contract.scalars import Identifier, SpeechAbove, UncertainBelow
from broker.files import write_whole
from edge_node.exclusive import hold

__all__ = ["State", "StateFile", "lock_beside"]

_log = logging.getLogger(__name__)

_MOST_BYTES: Final = 65_536
_MOST_ORDERS: Final = 32
"""A node takes fewer in the minute after which the first of them is too old anyway."""
_AGAIN_S: Final = 60.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered. A field of a later version is ignored: what this one knows still holds."""

    form: Literal[1]
    """Like `muted`, without a default: in a file that lost it, nothing else is believed either."""
    muted: bool
    """By command."""
    pushed: bool = False
    """By a push-button."""
    uncertain_below: UncertainBelow | None = None
    """Set by command; None: as the settings and the bundle say."""
    speech_above: SpeechAbove | None = None
    """Likewise."""
    orders: Annotated[tuple[Identifier, ...], Meta(max_length=_MOST_ORDERS)] = ()
    """Ids of the commands that were carried out last, the latest last."""

    def thresholds(self, ground: Thresholds) -> Thresholds:
        """Return what is in force.

        Args:
            ground: what the settings and the bundle say.
        """
        return Thresholds(
            uncertain_below=ground.uncertain_below if self.uncertain_below is None else self.uncertain_below,
            speech_above=ground.speech_above if self.speech_above is None else self.speech_above,
        )

    def after(self, order: str | None) -> "State":
        """Return the state once a command was carried out; None: it was none that has an id."""
        return self if order is None else replace(self, orders=(*self.orders, order)[-_MOST_ORDERS:])


class StateFile:
    """The state of the running node, in memory and on the disk. For any thread."""

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Read the file, if there is one, and keep every other node from it.

        Args:
            path: the file, in a folder that exists.
            clock_s: monotonic, s.

        Raises:
            SettingsError: there is no such folder, or another node has the file.
        """
        if not path.parent.is_dir():
            msg = f"state_file {path}: there is no such folder; make it, or name another (or, without one, outbox.path)"
            raise SettingsError(msg)
        self._path, self._clock_s = path, clock_s
        self._lock = threading.RLock()
        self._hold = hold(lock_beside(path), f"state_file {path}")
        self._again_s = math.inf  # when to try again what the disk did not take
        self._is_kept = True
        self.is_known = True
        """Whether anybody knows if the node is muted; false: the file cannot be read, and nothing was ordered since."""
        self._state = State(form=1, muted=False)
        try:
            self._state = _read(path)
        except FileNotFoundError:  # the first start
            pass
        except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
            self.is_known = False
            _log.error(
                "state_file %s: %s; nobody knows whether this node was muted, so it is. To mute it or to let it listen "
                "(sottovoce-console mute SITE/NODE [--off]) writes the file anew",
                *(path, getattr(error, "strerror", None) or error),
            )

    @property
    def state(self) -> State:
        """What holds now."""
        return self._state

    def change(self, step: Callable[[State], State], *, decides: bool = False) -> None:
        """Let another state hold at once, then write it so that it outlasts a power cut.

        Args:
            step: makes the next state of the one that holds.
            decides: whether this says if the node is muted, so that it is known from now on.

        Raises:
            StoreError: it holds, but only until the program ends.
        """
        with self._lock:
            self._state = step(self._state)
            self.is_known = self.is_known or decides
            if not self.is_known:
                msg = (
                    f"state_file {self._path}: it cannot be read; mute the node or let it listen, which writes it anew"
                )
                raise StoreError(msg)
            self._is_kept = False
            try:
                write_whole(self._path, msgspec.json.encode(self._state), durable=True, for_owner=True)
            except OSError as error:
                self._again_s = self._clock_s() + _AGAIN_S
                msg = f"state_file {self._path}: {error.strerror}; free the disk or mend its rights, and repeat it"
                raise StoreError(msg) from error
            self._is_kept, self._again_s = True, math.inf

    def keep(self) -> None:
        """Write what the disk did not take, if it is time to try again; called often, and by any thread."""
        if self._clock_s() < self._again_s:
            return
        with self._lock:
            if self._clock_s() < self._again_s:  # another thread has tried
                return
            with contextlib.suppress(StoreError):  # it was said when it was ordered
                self.change(lambda state: state)
                _log.info("state_file %s: what was ordered is kept now", self._path)

    def close(self) -> None:
        """Write what could not be written, if it can be now, and let others have the file."""
        with self._lock:
            if not self._is_kept:
                try:
                    self.change(lambda state: state)
                except StoreError as error:
                    _log.error("%s: what was ordered since the start is lost", error)
            if self._hold is not None:
                os.close(self._hold)
                self._hold = None


def lock_beside(path: Path) -> Path:
    """Return what is locked in place of a state file: each new state is a new file, which no lock is on."""
    return path.with_name(f".{path.name}.lock")


def _read(path: Path) -> State:
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        msg = f"larger than {_MOST_BYTES} bytes"
        raise ValueError(msg)
    return msgspec.json.decode(data, type=State)

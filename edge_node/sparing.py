"""Words that anybody can provoke, said sparingly: a broker that sends rubbish fills no log."""

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Sparing"]

_log = logging.getLogger(__name__)

_QUIET_S: Final = 60.0


class Sparing:
    """Warnings by kind: the first at once, the others counted, at most one line a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing said; `clock` is monotonic, s."""
        self._clock = clock
        self._said_s: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def warn(self, kind: str, words: str) -> None:
        """Log these words, or count them.

        Args:
            kind: one of a few words of ours, never what came from elsewhere.
            words: what was wrong this time.
        """
        now_s = self._clock()
        if (said_s := self._said_s.get(kind)) is not None and now_s - said_s < _QUIET_S:
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return
        self._said_s[kind] = now_s
        more = self._kept_back.pop(kind, 0)
        _log.warning("%s%s", words, f" ({more} more of this kind since the last line)" if more else "")

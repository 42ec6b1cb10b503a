"""Why a link has no connection: it says so in the log alone, once, and tries again."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["link_words"]

_LOGGER: Final = "broker.link"
_MOST: Final = 16


@contextmanager
def link_words(client_id: str) -> Iterator[deque[str]]:
    """Collect what the link of one client warns of, the newest last, instead of having it printed.

    Args:
        client_id: the link's.
    """
    logger, words = logging.getLogger(_LOGGER), _Words(f"link {client_id}")
    was = logger.propagate
    logger.addHandler(words)
    logger.propagate = False
    try:
        yield words.said
    finally:
        logger.removeHandler(words)
        logger.propagate = was


class _Words(logging.Handler):
    """What one link, which has a thread of its own, has said."""

    def __init__(self, thread: str) -> None:
        super().__init__(logging.WARNING)
        self.said: deque[str] = deque(maxlen=_MOST)
        self._thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.threadName == self._thread:
            _broker, _, what = record.getMessage().partition(": ")
            self.said.append(what.partition("; trying again, ")[0])

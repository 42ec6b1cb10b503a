"""Parts of what a running node tells at its local socket: its last warnings, and how its connection stands."""

import logging
import time
from collections import deque
from typing import Final

from broker.link import Link
from edge_node.local.messages import BrokerReport, Remark

__all__ = ["RecentWarnings", "report_of_link"]

_MOST_REMARKS: Final = 50
_MOST_WORDS: Final = 300


class RecentWarnings(logging.Handler):
    """Keeps the last warnings and errors of the program, for whoever asks what went wrong."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        super().__init__(logging.WARNING)
        self._remarks: deque[Remark] = deque(maxlen=_MOST_REMARKS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one, shortened; of an exception its kind, not its traceback."""
        try:
            words = record.getMessage()
        except (TypeError, ValueError) as error:  # arguments that do not fit: logging itself complains on stderr
            words = f"{record.msg} ({error})"
        if record.exc_info is not None and record.exc_info[0] is not None:
            words = f"{words} ({record.exc_info[0].__name__})"
        self._remarks.append(
            Remark(
                time_us=int(record.created * 1e6),
                level=record.levelname,
                logger=record.name,
                words=" ".join(words.encode(errors="replace").decode().split())[:_MOST_WORDS],
            )
        )

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was kept, the newest last."""
        self.acquire()
        try:
            return tuple(self._remarks)
        finally:
            self.release()


def report_of_link(link: Link) -> BrokerReport:
    """Return how a connection stands now."""
    since_s = link.connected_s
    return BrokerReport(
        where=link.where,
        connected_s=None if since_s is None else max(0.0, time.monotonic() - since_s),
        connects=link.connects,
        attempts=link.attempts,
        problem=link.problem,
    )

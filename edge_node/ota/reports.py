"""What a node says of its updates: a report whenever it is news, and the log's line, once, about what is in the way."""

import enum
import logging
from typing import Final

from broker.contract.topics import UPDATE
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState
from edge_node.ota.ports import Clock, Me, Wire
from edge_node.ota.record import Record, one_line

__all__ = ["About", "Reports"]

_log = logging.getLogger(__name__)

_PROGRESS_S: Final = 1.0
"""Between two reports that say no more than how far it is."""


class About(enum.Enum):
    """What a note is about; a newer one about the same takes its place."""

    COURSE = enum.auto()
    """Why nothing is to be done."""
    METADATA = enum.auto()
    """Why they are not believed, or not looked at."""
    CHUNKS = enum.auto()
    """Why they do not come."""
    DISK = enum.auto()
    """Why the record cannot be written."""
    DEVICE = enum.auto()
    """Why the bundle cannot be put together, proved or put into its slot."""


class Reports:
    """The reports of one updater."""

    def __init__(self, me: Me, wire: Wire, clock: Clock) -> None:
        """Begin silently, until `is_on`."""
        self._me, self._wire, self._clock = me, wire, clock
        self.is_on = False
        """Whether anything is said."""
        self._notes: dict[About, str] = {}  # the last one is the one to be said
        self._share = 0.0
        self._figures: TrialFigures | None = None
        self._said: UpdateReport | None = None
        self._progress_due_s = 0.0

    def note(self, about: About, words: str, *, level: int = logging.WARNING) -> None:
        """Remember why nothing happens, where the record has no reason, and log it once; no words: it does again."""
        words = one_line(words)
        before = self._notes.pop(about, "")
        if words:
            self._notes[about] = words
        if words not in {before, ""}:
            _log.log(level, "update of %s: %s", self._me.node, words)

    def changed(self) -> None:
        """Hear that the record's state has changed: what was said of the last one is past."""
        self._share, self._figures = 0.0, None
        for about in (About.COURSE, About.CHUNKS, About.DEVICE):
            self.note(about, "")

    def say(self, record: Record, share: float | None = None, figures: TrialFigures | None = None) -> None:
        """Report how things stand, if that is news; mere progress at most once a second.

        Args:
            record: what is so.
            share: of the state under way, if that is what there is to say.
            figures: of the trial under way.
        """
        if share is not None:
            self._share, self._figures = min(1.0, max(0.0, share)), figures
        if not self.is_on:
            return
        model = record.active.release if record.active is not None else self._me.floor
        report = UpdateReport(
            boot_id=self._me.boot_id,
            time_us=self._clock.now_us(),
            channel=self._me.channel,
            release=record.release or model,
            state=record.state,
            reason=record.reason or next(reversed(self._notes.values()), ""),
            progress=1.0 if record.state in {UpdateState.IDLE, UpdateState.REJECTED} else self._share,
            trial=self._figures or record.trial,
        )
        now_s, said = self._clock.monotonic_s(), self._said
        if said is not None and _gist(report) == _gist(said):
            is_further = share is not None and (report.progress, report.trial) != (said.progress, said.trial)
            if not is_further or now_s < self._progress_due_s:
                return
        self._said, self._progress_due_s = report, now_s + _PROGRESS_S
        self._wire.say(UPDATE, report)


def _gist(report: UpdateReport) -> tuple[str | None, UpdateState, str]:
    return report.release, report.state, report.reason
